"""Signs that a critic collapses while it learns from itself, and the guards that watch them.

A critic that is fed its own words can end up saying little else: the same phrases, shorter texts,
one way to go on (arXiv 2504.04918 saw it at 8 B parameters). So before and after every round it
writes about the same rationales at temperature 1, and what it writes is compared.

    distinct-n      different n-grams of words over all n-grams, all texts together
    words           mean length of a text
    entropy         of the next token, in nats: the mean surprise of tokens drawn at temperature 1

A sign has fallen if it lies under a share of what it was by more than chance: the upper end of the
95 % interval of `now - share * first`, resampled by group, is under 0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from minicrit import wording
from minicrit.records import Example
from minicrit.sampling import Sample
from minicrit.statistics import Weights, cluster_bootstrap, wilson

DRAWS = 500
_GRAMS = (1, 2, 3)


@dataclass(frozen=True)
class Vitals:
    """What a critic wrote about the probed rationales: one entry a text, in a fixed order.

    Attributes:
        groups: of the rationale. texts: as written.
        tokens: drawn, the end token included. logprobs: of them together, in nats.
    """

    groups: tuple[str, ...]
    texts: tuple[str, ...]
    tokens: npt.NDArray[np.float64]
    logprobs: npt.NDArray[np.float64]

    def to_rows(self) -> list[dict[str, Any]]:
        """The JSON objects."""
        columns = zip(self.groups, self.texts, self.tokens, self.logprobs, strict=True)
        return [{"group": g, "text": t, "tokens": int(n), "logprob": round(float(p), 4)}
                for g, t, n, p in columns]  # fmt: skip

    @classmethod
    def of_rows(cls, rows: Sequence[dict[str, Any]]) -> "Vitals":
        """The way back."""
        groups, texts, tokens, logprobs = (
            tuple(row[name] for row in rows) for name in ("group", "text", "tokens", "logprob")
        )
        return cls(groups, texts, np.array(tokens, float), np.array(logprobs, float))

    def summary(self) -> dict[str, float]:
        """Each sign."""
        alike = np.ones(len(self.texts))
        return {name: round(sign(self)(alike), 4) for name, sign in SIGNS.items()}


def vitals_of(examples: Sequence[Example], samples: Sequence[Sample]) -> Vitals:
    """The vitals of one text about each of some examples."""
    return Vitals.of_rows([
        {"group": e.group, "text": s.text, "tokens": len(s.ids), "logprob": round(s.logprob, 4)}
        for e, s in zip(examples, samples, strict=True)
    ])  # fmt: skip


Sign = Callable[[Vitals], Callable[[Weights], float]]


def distinct(n: int) -> Sign:
    """Different n-grams over all n-grams of texts with a weight; 0 where there is none."""
    return lambda vitals: wording.distinct(vitals.texts, n)


def words(vitals: Vitals) -> Callable[[Weights], float]:
    """Mean number of words."""
    lengths = np.array([len(text.split()) for text in vitals.texts], dtype=float)
    return lambda weights: float(weights @ lengths / weights.sum())


def entropy(vitals: Vitals) -> Callable[[Weights], float]:
    """Nats a token."""
    return lambda weights: float(
        -(weights @ vitals.logprobs) / max(1.0, float(weights @ vitals.tokens))
    )


SIGNS: dict[str, Sign] = {
    **{f"distinct_{n}": distinct(n) for n in _GRAMS}, "words": words, "entropy": entropy,
}  # fmt: skip


def fallen(first: Vitals, now: Vitals, share: float, seed: int) -> list[str]:
    """The signs that have fallen, each with what it was and is.

    Args:
        first: of the critic before the first round.
        now: of another critic, about the same rationales in the same order.
        share: of what it was.
        seed: of the resampling.
    """
    groups = np.array(first.groups)
    found = []
    for name, sign in SIGNS.items():
        before, after = sign(first), sign(now)
        if _under(lambda w: after(w) - share * before(w), groups, seed):  # noqa: B023 - used here
            alike = np.ones(len(groups))
            found.append(_said(name.replace("_", "-"), before(alike), after(alike)))
    return found


def accepted_less(
    first: tuple[int, int], now: tuple[int, int], share: float, level: float = 0.95
) -> str | None:
    """Why the acceptance rate counts as fallen, or None: `fallen` for two independent rates.

    With p = k / n, the upper end of Newcombe's interval of `p - share * p1` is under 0 (1998,
    method 10, from Wilson's of either rate): p - share p1 + sqrt((u - p)^2 + share^2 (p1 - l1)^2).
    A normal error would be 0 for 0 of 3, and few revisions would seem to say much.

    Args:
        first: in the first round, how many revisions were accepted and how many drafts revised.
        now: in this round.
        share: of the first rate.
        level: of the interval.
    """
    if not (now[1] and first[1]):  # nothing was revised, so there is no rate
        return None
    before, after = wilson(*first, level), wilson(*now, level)
    room = math.hypot(after.high - after.value, share * (before.value - before.low))
    if after.value - share * before.value + room >= 0:
        return None
    return _said("acceptance", before.value, after.value)


def rate(k: int, n: int) -> str:
    """A share with its interval, for reports."""
    found = wilson(k, n)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}] n={n}" if n else "-"


def _under(difference: Callable[[Weights], float], groups: npt.NDArray[Any], seed: int) -> bool:
    return cluster_bootstrap(difference, groups, draws=DRAWS, seed=seed).high < 0


def _said(name: str, before: float, after: float) -> str:
    return f"{name} is {after:.3f}, was {before:.3f} ({100 * after / before:.0f} %)"
