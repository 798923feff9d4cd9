"""Many continuations of one prompt, whose keys and values are computed and kept once.

Continuations of a prompt differ only in their own tokens, so in each layer one product of all their
queries with the prompt's keys does for all of them (Hydragen, arXiv 2402.05099), joined with each
one's own keys in one softmax. A prompt of P tokens and K continuations of L tokens cost P + K L
tokens of memory instead of K (P + L).

Shapes: N prompts, K continuations each, H heads, G heads of keys and values, D head size, P longest
prompt, L tokens so far.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from minicrit.accepting import Rule
from minicrit.packing import Branch, Tree, pack


class SharedPrompts:
    """Keys and values of N prompts and of K continuations of each.

    First one packed forward over the prompts fills it (`keep`); then every forward over one new
    token of each continuation reads and extends it (`attend`). The model passes it on to `packed`
    attention under the name `memory`.
    """

    def __init__(self, lengths: Sequence[int], copies: int, room: int) -> None:
        """`lengths` (N,) of the prompts in tokens; `room`: most tokens of a continuation."""
        self.lengths = torch.tensor(list(lengths))
        self.copies, self.room = copies, room
        self.filled = False
        self.steps = 0
        self._prompts: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._own: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._hidden = torch.arange(max(lengths)) >= self.lengths[:, None]

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Takes over keys and values (1, G, T, D) of the packed prompts, one behind the other."""
        self._prompts[layer] = self._padded(key), self._padded(value)

    def _padded(self, flat: torch.Tensor) -> torch.Tensor:
        parts = flat[0].transpose(0, 1).split(self.lengths.tolist())
        padded: torch.Tensor = pad_sequence(list(parts), batch_first=True)
        return padded.transpose(1, 2).contiguous()  # (N, G, P, D)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float | None,
    ) -> torch.Tensor:
        """Attention of the newest token: query (N K, H, 1, D), key, value (N K, G, 1, D).

        Returns:
            (N K, 1, H, D).
        """
        old_keys, old_values = self._prompts[layer]
        rows, heads, _, size = query.shape
        prompts, groups = old_keys.shape[:2]
        each = heads // groups
        keys, values = self._extended(layer, key, value)
        scaled = query.view(rows, groups, each, size) * (scale or size**-0.5)
        together = self._by_prompt(scaled, prompts)
        far = together @ old_keys.transpose(2, 3)  # (N, G, K each, P)
        far = far.masked_fill(self._hidden[:, None, None].to(far.device), float("-inf"))
        near = scaled @ keys.transpose(2, 3)  # (N K, G, each, L)
        weights: torch.Tensor = (
            torch.cat((self._by_row(far, rows, each), near), dim=-1).float().softmax(-1)
        )
        weights = weights.to(value.dtype)
        before, own = weights.split((far.shape[-1], near.shape[-1]), dim=-1)
        out: torch.Tensor = self._by_row(self._by_prompt(before, prompts) @ old_values, rows, each)
        out = out + own @ values
        return out.reshape(rows, 1, heads, size)

    def _by_prompt(self, x: torch.Tensor, prompts: int) -> torch.Tensor:
        """(N K, G, each, X) -> (N, G, K each, X)."""
        rows, groups, each, width = x.shape
        split = x.view(prompts, rows // prompts, groups, each, width).transpose(1, 2)
        return split.reshape(prompts, groups, -1, width)

    def _by_row(self, x: torch.Tensor, rows: int, each: int) -> torch.Tensor:
        """The way back."""
        prompts, groups, _, width = x.shape
        split = x.view(prompts, groups, rows // prompts, each, width).transpose(1, 2)
        return split.reshape(rows, groups, each, width)

    def _extended(
        self, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer not in self._own:
            shape = (key.shape[0], key.shape[1], self.room, key.shape[3])
            self._own[layer] = key.new_empty(shape), value.new_empty(shape)
        for store, new in zip(self._own[layer], (key, value), strict=True):
            store[:, :, self.steps : self.steps + 1] = new
        keys, values = (store[:, :, : self.steps + 1] for store in self._own[layer])
        return keys, values

    def select(self, prompts: torch.Tensor) -> None:
        """Keeps only the prompts of these numbers, and their continuations."""
        rows = (prompts[:, None] * self.copies + torch.arange(self.copies)).flatten()
        self.lengths, self._hidden = self.lengths[prompts], self._hidden[prompts]
        for store, kept in ((self._prompts, prompts), (self._own, rows)):
            for layer, (keys, values) in store.items():
                there = kept.to(keys.device)
                store[layer] = keys[there], values[there]


class Decoder:
    """Next-token logits for K continuations of each of N prompts, step by step."""

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], copies: int, room: int
    ) -> None:
        """Reads the prompts; `logits` (N K, V) then are those of each first token.

        Args:
            model: a causal LM with `packed` attention.
            prompts: token ids, at least one each.
            copies: K.
            room: most tokens of a continuation.
        """
        self.model = model
        self.memory = SharedPrompts([len(p) for p in prompts], copies, room)
        trees = [Tree((), (Branch((*p,), (0.0,) * len(p)),)) for p in prompts]
        inputs = pack(trees).to(model.device).model_inputs()
        inputs["logits_to_keep"] = (self.memory.lengths.cumsum(0) - 1).to(model.device)
        with torch.inference_mode():
            logits = model(**inputs, memory=self.memory).logits[0]
        self.memory.filled = True
        self.logits = logits.repeat_interleave(copies, 0)

    def step(self, tokens: torch.Tensor) -> None:
        """Appends one token (N K,) to each continuation; `logits` then are those of the next."""
        memory = self.memory
        lengths = memory.lengths.repeat_interleave(memory.copies)
        device = self.model.device
        inputs: dict[str, Any] = {
            "input_ids": tokens[:, None].to(device),
            "position_ids": (lengths + memory.steps)[:, None].to(device),
            "attention_mask": torch.zeros(1, 1, 1, 1, device=device),
            "use_cache": False,
        }
        with torch.inference_mode():
            self.logits = self.model(**inputs, memory=memory).logits[:, -1]
        memory.steps += 1

    def select(self, prompts: torch.Tensor) -> None:
        """Goes on with the prompts of these numbers (M,) alone."""
        self.memory.select(prompts)
        copies = self.memory.copies
        rows = (prompts[:, None] * copies + torch.arange(copies)).flatten()
        self.logits = self.logits[rows.to(self.logits.device)]


def greedy(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    longest: int,
    end: int,
    make: Callable[..., Decoder] = Decoder,
    rules: Sequence[Rule] | None = None,
) -> list[list[int]]:
    """The likeliest next tokens of each prompt, one after the other, without the end token.

    Args:
        model: a causal LM with `packed` attention.
        prompts: token ids, at least one each.
        longest: most new tokens.
        end: the token at which a continuation is done; it then costs no more forwards.
        make: what takes the steps.
        rules: one a prompt, where another token than the likeliest may be due.
    """
    found: list[list[int]] = [[] for _ in prompts]
    if not prompts or longest < 1:
        return found
    decoder = make(model, prompts, copies=1, room=longest)
    going = list(range(len(prompts)))
    for step in range(longest):
        tokens = decoder.logits.argmax(-1)
        if rules:
            rows = zip(going, decoder.logits, strict=True)
            tokens = torch.tensor([rules[text].take(row[None], (), None, step)[0]
                                   for text, row in rows])  # fmt: skip
        live = [at for at, token in enumerate(tokens.tolist()) if token != end]
        for at in live:
            found[going[at]].append(int(tokens[at]))
        if not live or step + 1 == longest:
            break
        decoder.step(tokens)
        if len(live) < len(going):
            decoder.select(torch.tensor(live))
            going = [going[at] for at in live]
    return found
