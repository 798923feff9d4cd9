"""Attention over a packed batch: each segment sees its prefix and itself, nothing else.

Registered with transformers as the attention implementation `packed`. A forward that passes
`segments` runs scaled-dot-product attention segment by segment, with no mask tensor and no padding;
a forward without them (generation, evaluation by others) is plain `sdpa`.

Shapes: B batch (1 when packed), H heads, T tokens, D head size.
"""

from functools import lru_cache
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed"
#: Elements, of a byte each, of the largest mask that is kept; so all that are take 64 MB at most.
_KEPT_ELEMENTS = 1 << 18


class Segment(NamedTuple):
    """The next `length` tokens of the flat sequence; they also see what `parent` sees, and it.

    `parent` is the number of an earlier segment, or -1 for none.
    """

    length: int
    parent: int = -1


class Memory(Protocol):
    """Keys and values of earlier tokens, see `decoding.SharedPrompts`."""

    filled: bool

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Takes keys and values over while it is not yet filled."""

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float | None,
    ) -> torch.Tensor:
        """Attention of new tokens over what it holds and over themselves."""


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    segments: tuple[Segment, ...] | None = None,
    memory: "Memory | None" = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of query (B, H, T, D) over key and value (B, H or fewer, T, D): (B, T, H, D)."""
    if memory is not None:
        layer = cast("int", module.layer_idx)
        if memory.filled:
            return memory.attend(layer, query, key, value, kwargs.get("scaling")), None
        memory.keep(layer, key, value)
    if segments is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    options = {"dropout_p": kwargs.get("dropout", 0.0), "scale": kwargs.get("scaling")}
    given = value.dtype
    # The CPU kernel is slower in bfloat16 than in float32, forward and backward.
    slow = query.device.type == "cpu" and given == torch.bfloat16
    compute = torch.float32 if slow else given
    query, key, value = query.to(compute), key.to(compute), value.to(compute)
    with torch.autocast(query.device.type, enabled=False):
        # Splitting, unlike slicing, joins the gradients backwards without filling zeros.
        lengths = [segment.length for segment in segments]
        queries, keys, values = (t.split(lengths, dim=2) for t in (query, key, value))
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []  # keys and values of each whole path
        parts = []
        for q, k, v, segment in zip(queries, keys, values, segments, strict=True):
            if segment.parent < 0:
                seen.append((k, v))
                parts.append(attend(q, k, v, is_causal=True, **options))
                continue
            above_k, above_v = seen[segment.parent]
            path = torch.cat((above_k, k), dim=2), torch.cat((above_v, v), dim=2)
            seen.append(path)
            mask = _path_mask(q.shape[2], path[0].shape[2], q.device)
            parts.append(attend(q, *path, mask=mask, **options))
    return torch.cat(parts, dim=2).transpose(1, 2).to(given).contiguous(), None


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    **options: Any,
) -> torch.Tensor:
    """Attention of query (B, H, T, D) over key and value (B, H or fewer, S, D): (B, H, T, D).

    `mask` (T, S) is True where a token sees another; `options` are those of torch.
    """
    if not takes_groups(query.device.type, mask):
        each = query.shape[1] // key.shape[1]
        key, value = repeat_kv(key, each), repeat_kv(value, each)
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, enable_gqa=grouped, **options
    )


def takes_groups(device: str, mask: torch.Tensor | None) -> bool:
    """Whether fewer heads of keys than of queries are fast: not with a mask on CUDA."""
    return device != "cuda" or mask is None


def _path_mask(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """(rows, columns): the last `rows` tokens of a path see all that stands before them."""
    # All layers ask for the same masks. Large ones are rare and made anew: kept, those of all
    # lengths of long texts would fill the memory.
    make = _kept_mask if rows * columns <= _KEPT_ELEMENTS else _mask
    return make(rows, columns, device)


def _mask(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    # One that is born in inference mode could not be trained on.
    with torch.inference_mode(mode=False):
        whole = torch.ones(rows, columns, dtype=torch.bool, device=device)
        return whole.tril(columns - rows)


_kept_mask = lru_cache(maxsize=256)(_mask)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
