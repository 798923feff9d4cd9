"""Which drafted tokens are taken: rules that change nothing of what the model would have written.

A draft of n tokens is read in one forward, which gives the model's logits at each of them and after
the last: n + 1 places. Shapes: V vocabulary.

Drafts from tables are points: no matter how likely a table holds them, they are one guess. For
these, to draw the model's own token at every place and to go on while it is the guessed one is the
rule of speculative sampling (arXiv 2211.17192, 2302.01318) with q a point mass: the guess is taken
with probability p(guess), and otherwise the token comes from p without it, normalised. It even
gives, for the same chances, the same text as plain sampling. Greedy writing is the case without
chance. A draft that was itself drawn from q is taken by the general rule, `weighed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


class Rule(Protocol):
    """Decides what is taken of a draft."""

    def take(
        self, logits: torch.Tensor, draft: Sequence[int], q: torch.Tensor | None, done: int
    ) -> list[int]:
        """The tokens that are written next, at least one.

        Args:
            logits: (n + 1, V) of the model.
            draft: n tokens.
            q: (n, V) probabilities that they were drawn from; None for a guess.
            done: how many tokens the text has already, which numbers the chances.
        """


def agreed(chosen: Sequence[int], draft: Sequence[int]) -> list[int]:
    """The model's own tokens (n + 1), up to the first that is not the drafted one, included."""
    for at, (own, guess) in enumerate(zip(chosen, draft, strict=False)):
        if own != guess:
            return list(chosen[: at + 1])
    return list(chosen)


@dataclass
class Greedy:
    """The likeliest token at every place.

    Attributes:
        closest: smallest distance of the two highest logits at a place that was written; below
            about 1e-4 in float32 another order of summation may exchange the two.
        watch: whether `closest` is kept.
    """

    watch: bool = False
    closest: float = float("inf")

    def take(
        self, logits: torch.Tensor, draft: Sequence[int], q: torch.Tensor | None, done: int
    ) -> list[int]:
        """See `Rule`; q is of no account, as the draft is only a guess."""
        taken = agreed(logits.argmax(-1).tolist(), draft)
        self.note(logits[: len(taken)])
        return taken

    def note(self, logits: torch.Tensor) -> None:
        """Keeps how close to a tie the places of these logits (n, V) are, if that is asked for."""
        if self.watch:
            top = logits.float().topk(2, dim=-1).values
            self.closest = min(self.closest, float((top[:, 0] - top[:, 1]).min()))


@dataclass
class Drawn:
    """Sampling that takes guesses, or drafts from q.

    Attributes:
        chances: (most tokens, 3) uniform numbers, a row a token of the text: for the token itself,
            for a drafted one to be taken, for what comes in its place.
        temperature: above 0.
    """

    chances: torch.Tensor
    temperature: float = 1.0

    def take(
        self, logits: torch.Tensor, draft: Sequence[int], q: torch.Tensor | None, done: int
    ) -> list[int]:
        """See `Rule`."""
        p = heated(logits, self.temperature)
        rows = self.chances[done : done + len(p)].to(p.device)
        if q is None:
            return agreed(drawn(p, rows[:, 0]).tolist(), draft)
        return weighed(p, draft, q, rows)


def heated(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Probabilities (..., V) in float64 of logits at a temperature."""
    return (logits.double() / temperature).softmax(-1)


def drawn(p: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    """The token (n,) of each p (n, V) where the summed probabilities pass its chance (n,)."""
    sums = p.cumsum(-1)
    found = torch.searchsorted(sums, (chances * sums[:, -1])[:, None], right=True)[:, 0]
    return found.clamp(max=p.shape[-1] - 1)


def weighed(
    p: torch.Tensor, draft: Sequence[int], q: torch.Tensor, chances: torch.Tensor
) -> list[int]:
    """Algorithm 1 of arXiv 2211.17192: distributed as p, whatever q is.

    Args:
        p: (n + 1, V) probabilities of the model.
        draft: n tokens, the i-th drawn from q[i].
        q: (n, V).
        chances: (n + 1, 3) uniform numbers, see `Drawn`.
    """
    taken: list[int] = []
    for at, token in enumerate(draft):
        # min(1, p / q) against a uniform number, without the division
        if float(chances[at, 1] * q[at, token]) < float(p[at, token]):
            taken.append(token)
            continue
        rest = (p[at] - q[at]).clamp(min=0)
        return [*taken, int(drawn(rest[None], chances[at, 2:3])[0])]
    return [*taken, int(drawn(p[-1:], chances[-1:, 0])[0])]
