"""What twins teach beyond the verdict word, at every token from where a text departs from its twin.

The verdict word gives one bit a text, at its last token, about two halves that stand far apart in
it; a small model stands still for thousands of examples before it learns anything from that
(docs/results.md). Twins allow more, for no extra forward pass: which way of going on fits
(coherence), and a verdict after every token (running verdict), read from the last layer as the
critic reads it and from middle layers by probes that are thrown away after training (deep
supervision, arXiv 1409.5185).

Shapes: T tokens, M tokens from the departure on, D width, L probed layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from minicrit.encoding import common_length
from minicrit.logprobs import head_logprobs, hidden_states
from minicrit.losses import (
    LossSum,
    coherence_loss,
    running_verdict_loss,
    sft_loss,
    steadiness_loss,
)
from minicrit.packing import Branch, PackedBatch
from minicrit.plan import StepBatch

#: Depths of the probed layers, as shares of all layers.
DEPTHS = (0.6, 0.8)


def with_departures(branches: Sequence[Branch], flawed: Sequence[bool]) -> list[Branch]:
    """Marks in each text of a square where it departs from its nearest twin of the other label.

    The marks end before the verdict word, the first token that is scored. Only squares are marked:
    two sound and two flawed texts, or more of both, that go on in the same ways, so that no way of
    going on, nor its length, says anything by itself. In a pair, the half that was exchanged may
    stand first, and then says nothing yet where it departs; texts that are in one group for another
    reason (answers to one question, rows of one source) would be told apart by their length.

    Args:
        branches: whole sequences of one group.
        flawed: the label of each.
    """
    if min(sum(flawed), len(flawed) - sum(flawed)) < 2:  # noqa: PLR2004
        return list(branches)
    marked = []
    for branch, label in zip(branches, flawed, strict=True):
        others = (b for b, f in zip(branches, flawed, strict=True) if f != label)
        first = max(common_length(branch.ids, other.ids) for other in others)
        end = next(at for at, weight in enumerate(branch.weights) if weight)
        spot = (first, end, -1 if label else 1)
        marked.append(replace(branch, departure=spot) if first < end else branch)
    return marked if _cancel(marked) else list(branches)


def _cancel(branches: Sequence[Branch]) -> bool:
    """Whether the sound texts go on from their marks as the flawed ones do, in whatever order."""
    tails: dict[int, list[tuple[int, ...]]] = {1: [], -1: []}
    for branch in branches:
        if branch.departure:
            first, end, sign = branch.departure
            tails[sign].append(tuple(branch.ids[first:end]))
    return sorted(tails[1]) == sorted(tails[-1])


class VerdictProbes(nn.Module):
    """A linear verdict on each of a few middle layers. They start at zero: p(flawed) = 1/2."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.depths = tuple(max(1, round(layers * depth)) for depth in DEPTHS)
        self.weight = nn.Parameter(torch.zeros(len(self.depths), width))
        self.bias = nn.Parameter(torch.zeros(len(self.depths)))

    def forward(self, states: Sequence[torch.Tensor], at: torch.Tensor) -> torch.Tensor:
        """Log-odds (L, M) of `flawed` from the states (T, D) after each layer, at tokens (M,)."""
        rows = torch.stack([states[depth][at] for depth in self.depths]).to(self.weight.dtype)
        rows = rows * torch.rsqrt(rows.square().mean(-1, keepdim=True) + 1e-6)
        return (rows * self.weight[:, None]).sum(-1) + self.bias[:, None]


@dataclass(frozen=True)
class TwinWeights:
    """Weights of the losses beside that of the critique (whose verdict word has about 1)."""

    coherence: float
    running: float
    deep: float
    steady: float = 0.0


@dataclass(frozen=True)
class TwinLosses:
    """The critique and the other losses of one packed batch, each a sum and its weight."""

    critique: LossSum
    coherence: LossSum
    running: LossSum
    deep: LossSum
    steady: LossSum

    def of_step(self, step: StepBatch, weights: TwinWeights) -> dict[str, torch.Tensor]:
        """What this batch adds to each part of the mean loss of a step, weighted."""
        texts, squares = max(1, step.departures), max(1, step.squares)
        return {
            "critique": self.critique.total / step.weight,
            "coherence": weights.coherence * self.coherence.total / squares,
            "running": weights.running * self.running.total / texts,
            "deep": weights.deep * self.deep.total / texts,
            "steady": weights.steady * self.steady.total / max(1, step.versions),
        }


def twin_losses(
    model: Callable[..., object],
    probes: VerdictProbes,
    batch: PackedBatch,
    words: tuple[int, int],
    *,
    chunk: int = 0,
) -> TwinLosses:
    """One forward pass over a packed batch, read in five ways.

    Args:
        model: a causal LM with `packed` attention.
        probes: one row a probed layer.
        batch: with the departures of `with_departures`.
        words: ids of the first tokens of ` valid` and ` flawed`.
        chunk: see `logprobs.scored_logprobs`.
    """
    states = hidden_states(model, batch)
    last = states[-1]
    targets = torch.cat((batch.targets, batch.input_ids[0, batch.departed]))
    sources = torch.cat((batch.sources, batch.before))
    logprobs = head_logprobs(model, last[sources], targets, chunk=chunk)
    scored, told = logprobs.split((len(batch.sources), len(batch.before)))
    head = model.lm_head  # type: ignore[attr-defined]
    valid, flawed = head.weight[list(words)]
    # Of Phi it has a bias.
    ahead = 0.0 if head.bias is None else head.bias[words[1]] - head.bias[words[0]]

    def log_odds(at: torch.Tensor) -> torch.Tensor:
        heard = last[at] * (flawed - valid).to(last.dtype)
        odds: torch.Tensor = heard.sum(-1, dtype=scored.dtype) + ahead
        return odds

    def verdicts(odds: torch.Tensor) -> LossSum:
        return running_verdict_loss(odds, batch.signs, batch.departed_owners, batch.branches)

    middle = [verdicts(row) for row in probes(states, batch.departed)]
    return TwinLosses(
        critique=sft_loss(scored, batch.weights),
        coherence=coherence_loss(told, batch.signs, batch.departed_owners, batch.trees),
        running=verdicts(log_odds(batch.departed)),
        deep=LossSum(torch.stack([one.total for one in middle]).mean(), middle[0].weight),
        steady=steadiness_loss(log_odds(batch.firsts), batch.keys, batch.trees),
    )
