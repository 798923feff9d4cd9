"""Texts that grow by any number of tokens at a time, and can be cut back, all in one forward.

Each forward lays the new tokens of all texts one behind the other: no padding, whatever each of
them adds. Every text has keys and values of its own, written in place, so that to cut it back is to
forget a length: what is left is bit for bit what was there.

Shapes: H heads, G heads of keys and values, D head size, T new tokens of all texts, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from minicrit.attention import attend
from minicrit.thin import product


class Shelf:
    """Keys and values of several texts, as `packed` attention reads them (`attention.Memory`)."""

    def __init__(self, rooms: Sequence[int]) -> None:
        """`rooms`: most tokens of each text."""
        self.filled = True  # but for one that is to `keep` a packed forward
        self.rooms = list(rooms)
        self.lengths = [0] * len(self.rooms)
        self.coming: dict[int, int] = {}  # new tokens of each text in this forward
        self._masks: dict[int, torch.Tensor] = {}
        self._stores: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def expect(self, coming: Mapping[int, int], device: torch.device) -> None:
        """Says how many tokens of which texts the next forward has, in this order."""
        self.coming = dict(coming)
        # A first reading is causal without a mask, one new token sees everything.
        self._masks = {
            row: torch.ones(n, self.lengths[row] + n, dtype=torch.bool, device=device)
            .tril(self.lengths[row])
            for row, n in coming.items() if n > 1 and self.lengths[row]
        }  # fmt: skip

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Takes over the first `coming` tokens of a packed forward as the first text.

        What stands behind them, (1, G, more, D), are branches of it, which are let go.
        """
        self._write(layer, 0, key[0, :, : self.coming[0]], value[0, :, : self.coming[0]])

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float | None,
    ) -> torch.Tensor:
        """Attention of query (1, H, T, D) over what is held and key, value (1, G, T, D).

        Returns:
            (1, T, H, D).
        """
        counts = list(self.coming.values())
        parts = [x[0].split(counts, dim=1) for x in (query, key, value)]
        out = []
        for row, q, k, v in zip(self.coming, *parts, strict=True):
            keys, values = self._write(layer, row, k, v)
            mask = self._masks.get(row)
            causal = mask is None and q.shape[1] > 1
            out.append(
                attend(q[None], keys[None], values[None], mask=mask, scale=scale, is_causal=causal)
            )
        return torch.cat(out, dim=2).transpose(1, 2)

    def _write(
        self, layer: int, row: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts new (G, n, D) behind what the text has; all of it, (G, length + n, D)."""
        if (layer, row) not in self._stores:
            shape = (key.shape[0], self.rooms[row], key.shape[2])
            self._stores[layer, row] = key.new_empty(shape), value.new_empty(shape)
        start = self.lengths[row]
        stop = start + key.shape[1]
        keys, values = self._stores[layer, row]
        keys[:, start:stop], values[:, start:stop] = key, value
        return keys[:, :stop], values[:, :stop]

    @contextmanager
    def keeping(self, tokens: int) -> Iterator[None]:
        """A packed forward within takes its first `tokens` as the beginning of the first text."""
        self.filled, self.coming = False, {0: tokens}
        yield
        self.filled = True
        self.grow()

    def grow(self) -> None:
        """The forward is over: what came is now held."""
        for row, count in self.coming.items():
            self.lengths[row] += count
        self.coming = {}

    def cut(self, row: int, length: int) -> None:
        """Forgets all but the first `length` tokens of a text."""
        self.lengths[row] = min(length, self.lengths[row])

    def drop(self, row: int) -> None:
        """Lets go of a text and its memory."""
        self.lengths[row] = 0
        for layer, other in [k for k in self._stores if k[1] == row]:
            del self._stores[layer, other]


class FlatDecoder:
    """Next-token logits after any new tokens of any of several texts."""

    def __init__(self, model: PreTrainedModel, rooms: Sequence[int]) -> None:
        """Nothing is read yet.

        Args:
            model: a causal LM with `packed` attention.
            rooms: most tokens of each text, its prompt and rejected ones included.
        """
        self.model, self.shelf = model, Shelf(rooms)

    def read(self, coming: Mapping[int, Sequence[int]], wanted: Mapping[int, int]) -> list[Any]:
        """Reads on in some texts.

        Args:
            coming: new token ids of each text, at least one.
            wanted: after how many of the last of them logits are asked for, at least one.

        Returns:
            Logits (wanted, V) of each text, in the order of `coming`.
        """
        device, shelf = self.model.device, self.shelf
        counts = {row: len(ids) for row, ids in coming.items()}
        shelf.expect(counts, device)
        ends = torch.tensor(list(counts.values())).cumsum(0).tolist()
        kept = [torch.arange(end - wanted[row], end)
                for row, end in zip(counts, ends, strict=True)]  # fmt: skip
        places = [torch.arange(n) + shelf.lengths[row] for row, n in counts.items()]
        inputs: dict[str, Any] = {
            "input_ids": torch.tensor([[i for ids in coming.values() for i in ids]], device=device),
            "position_ids": torch.cat(places)[None].to(device),
            "attention_mask": torch.zeros(1, 1, 1, 1, device=device),
            "use_cache": False,
        }
        with torch.inference_mode():
            states = self.model.model(**inputs, memory=shelf).last_hidden_state[0]
            logits = self._head(states[torch.cat(kept).to(device)])
        shelf.grow()
        return list(logits.split([wanted[row] for row in counts]))

    def _head(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (n, V) after last states (n, width)."""
        head = self.model.lm_head
        plain = type(head) is torch.nn.Linear and head.bias is None
        logits: torch.Tensor = product(states, head.weight) if plain else head(states)
        return logits
