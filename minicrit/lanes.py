"""Several LoRA adapters on one base at once: each token of a flat sequence by its own.

y = x W' + b + sum over adapters a of m_a * s_a (x A_a') B_a', where m_a is 1 at the tokens of
adapter a. The tokens of one adapter stand together, so no mask is built: the base's product is
computed once for all tokens, and each adapter adds its update to its own slice of it. Batches are
packed without padding, so peft's own way, an adapter a padded row, does not apply.

Shapes: T tokens, I inputs, O outputs, R rank.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from minicrit.accepting import Rule
from minicrit.decoding import Decoder, greedy

#: A run of tokens and the adapter that they belong to; a name that no layer knows is the base.
Run = tuple[str, int]


class Lanes:
    """Which adapter the tokens of a forward belong to; one a model.

    Without runs every layer does what it did before. Forwards of several threads take turns, as
    the layers of a model can only be told one thing at a time.

    Attributes:
        runs: now.
        known: names of the adapters there are; None where nobody keeps count.
    """

    def __init__(self) -> None:
        self.runs: tuple[Run, ...] = ()
        self.known: set[str] | None = None
        self._turn = threading.RLock()

    @contextmanager
    def over(self, runs: Iterable[Run]) -> Iterator[None]:
        """Within the block, tokens belong to adapters in these runs, in the order of the tokens.

        Raises:
            ValueError: for an adapter that is not there (any more): its tokens would silently be
                the base's.
        """
        joined = tuple(
            (name, sum(length for _, length in members))
            for name, members in groupby(runs, key=lambda run: run[0])
        )
        with self._turn:
            lost = {name for name, _ in joined if name} - (self.known or set())
            if self.known is not None and lost:
                raise ValueError(f"expected adapters in memory, got {', '.join(sorted(lost))}, "
                                 "exchanged meanwhile; ask again")  # fmt: skip
            before, self.runs = self.runs, joined
            try:
                yield
            finally:
                self.runs = before


def lay_lanes(model: PeftModel, lanes: Lanes) -> int:
    """Gives every LoRA layer the mixed forward, used where `lanes` has runs; how many there are.

    Raises:
        ValueError: if an adapter does more than add s (x A') B' to plain linear layers.
    """
    layers = [m for m in model.modules() if isinstance(m, LoraLayer)]
    heads = cast("PreTrainedModel", model.get_base_model()).get_output_embeddings()
    for layer in layers:
        plain = type(layer) is LoraLinear and isinstance(layer.base_layer, nn.Linear)  # type: ignore[comparison-overlap]
        if not plain or layer is heads or any(layer.use_dora.values()) or layer.merged:
            raise ValueError("expected adapters of plain linear layers without DoRA, got another; "
                             "serve it by itself")  # fmt: skip
        if not isinstance(vars(layer).get("forward"), _Mixed):
            linear = cast("LoraLinear", layer)
            linear.forward = _Mixed(linear, linear.forward, lanes)  # type: ignore[method-assign]
    return len(layers)


class _Mixed:
    """Forward of one layer: by runs where there are any, else the one it had before."""

    def __init__(self, layer: LoraLinear, before: Any, lanes: Lanes) -> None:
        self.layer, self.before, self.lanes = layer, before, lanes

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not self.lanes.runs:
            return cast("torch.Tensor", self.before(x, *args, **kwargs))
        layer, base = self.layer, cast("nn.Linear", self.layer.base_layer)
        rows = x.reshape(-1, x.shape[-1])
        y = nn.functional.linear(rows, base.weight, base.bias)
        at = 0
        for name, length in self.lanes.runs:
            if name in layer.lora_A:
                a, b = (cast("torch.Tensor", part[name].weight).to(rows.dtype)
                        for part in (layer.lora_A, layer.lora_B))  # fmt: skip
                inner = rows[at : at + length] @ a.t()
                y[at : at + length].addmm_(inner, b.t(), alpha=float(layer.scaling[name]))
            at += length
        assert at == len(rows), f"runs of {at} tokens for {len(rows)}"
        return y.view(*x.shape[:-1], y.shape[-1])


class MixedDecoder(Decoder):
    """Continuations of several prompts, each by its own adapter, in the same forwards."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        copies: int,
        room: int,
        *,
        lanes: Lanes,
        adapters: Sequence[str],
    ) -> None:
        """As `Decoder`; `adapters` (N,) are those of the prompts."""
        self.lanes, self.adapters = lanes, list(adapters)
        lengths = [len(prompt) for prompt in prompts]
        with lanes.over(zip(self.adapters, lengths, strict=True)):
            super().__init__(model, prompts, copies, room)

    def step(self, tokens: torch.Tensor) -> None:
        """See `Decoder`."""
        with self.lanes.over((name, self.memory.copies) for name in self.adapters):
            super().step(tokens)

    def select(self, prompts: torch.Tensor) -> None:
        """See `Decoder`."""
        super().select(prompts)
        self.adapters = [self.adapters[at] for at in prompts.tolist()]


def mixed_greedy(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    adapters: Sequence[str],
    lanes: Lanes,
    *,
    longest: int,
    end: int,
    rules: Sequence[Rule] | None = None,
) -> list[list[int]]:
    """As `decoding.greedy`, each prompt (N,) by its adapter (N,); in the order of the prompts."""
    order = sorted(range(len(prompts)), key=lambda at: adapters[at])
    decoder = partial(MixedDecoder, lanes=lanes, adapters=[adapters[at] for at in order])
    found = greedy(model, [prompts[at] for at in order], longest=longest, end=end, make=decoder,
                   rules=rules and [rules[at] for at in order])  # fmt: skip
    return [row for _, row in sorted(zip(order, found, strict=True))]
