"""The one place where logits become log-probabilities.

Shapes: T tokens, S scored tokens, D width, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from minicrit.fused_steps import frozen_head
from minicrit.packing import PackedBatch

#: Scored tokens of a piece of a frozen head: of 32 to 640 the fastest on a CPU, V = 49,152.
_ROWS = 256


def token_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probability of each target: logits (S, V), targets (S,) -> (S,) in float32 or better.

    `-cross_entropy` is `gather(log_softmax)` in one kernel that never holds a second (S, V).
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return -cross_entropy(wide, targets, reduction="none")


def scored_logprobs(
    model: Callable[..., object], batch: PackedBatch, *, chunk: int = 0, memory: object = None
) -> torch.Tensor:
    """Log-probabilities (S,) of the scored tokens of a packed batch, in their order.

    Args:
        model: a causal LM with `packed` attention.
        batch: see `packing.PackedBatch`.
        chunk: see `head_logprobs`.
        memory: what keeps the keys and values, see `attention.Memory`; then nothing is chunked.
    """
    if memory is not None:
        logits = model(**batch.model_inputs(), memory=memory).logits  # type: ignore[attr-defined]
        return token_logprobs(logits[0], batch.targets)
    return head_logprobs(model, _last_states(model, batch), batch.targets, chunk=chunk)


def hidden_states(model: Callable[..., object], batch: PackedBatch) -> tuple[torch.Tensor, ...]:
    """States (T, D) of a packed batch after the embedding and after each layer, the last normed."""
    states = _body(model, batch, output_hidden_states=True).hidden_states
    return tuple(state[0] for state in states)


def _last_states(model: Callable[..., object], batch: PackedBatch) -> torch.Tensor:
    """Normed states (S, D) from which the scored tokens are read."""
    states: torch.Tensor = _body(model, batch).last_hidden_state
    return states[0][batch.sources]


def _body(model: Callable[..., object], batch: PackedBatch, **kwargs: object) -> Any:
    """What the model makes of a batch below its head."""
    inputs = batch.model_inputs()
    del inputs["logits_to_keep"]
    return model.model(**inputs, **kwargs)  # type: ignore[attr-defined]


def head_logprobs(
    model: Callable[..., object], hidden: torch.Tensor, targets: torch.Tensor, *, chunk: int = 0
) -> torch.Tensor:
    """Log-probabilities (S,) of targets (S,) after last states (S, D).

    Args:
        model: a causal LM.
        hidden: what its head reads.
        targets: token ids.
        chunk: scored tokens whose logits exist at the same time, in the backward pass too, so that
            memory is bounded by chunk x V, not S x V; 0 for as many as are fast, or
            for all of them where the head is trained.
    """
    head = model.lm_head  # type: ignore[attr-defined]
    if _is_frozen(head):
        return frozen_head(hidden, head.weight, targets, chunk or _ROWS)
    if not chunk or targets.numel() <= chunk:
        return token_logprobs(head(hidden), targets)

    def part(rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return token_logprobs(head(rows), wanted)

    pieces = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    return torch.cat([checkpoint(part, h, t, use_reentrant=False) for h, t in pieces])


def _is_frozen(head: nn.Module) -> bool:
    return type(head) is nn.Linear and head.bias is None and not head.weight.requires_grad


def logprobs_beside(
    model: Callable[..., object], batch: PackedBatch, also: Sequence[int], *, chunk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (S,) of the scored tokens, and (S, C) of other ids in their places.

    Args:
        model: a causal LM with `packed` attention.
        batch: see `packing.PackedBatch`.
        also: the other ids (C,).
        chunk: scored tokens whose logits exist at the same time.
    """
    states = _last_states(model, batch)
    own, others = [], []
    for rows, ids in zip(states.split(chunk), batch.targets.split(chunk), strict=True):
        logprobs = torch.log_softmax(model.lm_head(rows).float(), dim=-1)  # type: ignore[attr-defined]
        own.append(logprobs.gather(1, ids[:, None])[:, 0])
        others.append(logprobs[:, list(also)])
    return torch.cat(own), torch.cat(others)


def choice_logprobs(logprobs: torch.Tensor) -> torch.Tensor:
    """Normalises log-likelihoods of alternatives over the last dimension."""
    return torch.log_softmax(logprobs, dim=-1)
