"""From operators' decisions to one label a rationale: majority, or weighed by their error rates.

Operators err, and not all alike. Where several decided on some of the same rationales, the model of
Dawid and Skene (1979, "Maximum likelihood estimation of observer error-rates using the EM
algorithm") estimates each one's error rates and the labels together; else the majority decides.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from minicrit.measures import plain
from minicrit.raters import cohen_kappa, krippendorff_alpha, pairwise_rate

Floats = npt.NDArray[np.float64]
Votes = Sequence[Mapping[str, bool]]

LEAST_SHARED = 10  # rationales with three operators or more, without which nobody is weighed
_OPERATORS = 3
_STEPS = 200
_PRIOR = (2.0, 1.0)  # of being right on a label: two pseudo-decisions right, one wrong


@dataclass(frozen=True)
class Case:
    """A rationale with everything that was said of it.

    Attributes:
        unit: the rationale's hash.
        decisions: of all requests of it, in order.
        votes: each operator's last word, True for flawed.
    """

    unit: str
    decisions: tuple[Mapping[str, Any], ...]
    votes: Mapping[str, bool]

    @property
    def share(self) -> float:
        """Of the operators who say what most say."""
        flawed = sum(self.votes.values())
        return max(flawed, len(self.votes) - flawed) / len(self.votes)

    @property
    def held(self) -> list[Mapping[str, Any]]:
        """The decisions with the label that their operator still says is right."""
        return [row for row in self.decisions
                if (row["label"] == "flawed") == self.votes[row["operator"]]]  # fmt: skip


def cases_of(judged: Iterable[Mapping[str, Any]]) -> list[Case]:
    """Groups the rows of `FeedbackStore.judged` by rationale, in order of the first decision."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in judged:
        rows.setdefault(row["unit"], []).append(row)
    return [Case(unit, tuple(some), {row["operator"]: row["label"] == "flawed" for row in some})
            for unit, some in rows.items()]  # fmt: skip


def can_weigh(votes: Votes) -> bool:
    """Whether enough rationales have three operators, below which error rates are guesses."""
    return sum(len(one) >= _OPERATORS for one in votes) >= LEAST_SHARED


def majority(votes: Votes) -> Floats:
    """1 where most say flawed, 0 where most say valid, 1/2 for a tie."""
    shares = np.array([sum(one.values()) / len(one) for one in votes])
    return np.asarray(np.where(shares == 0.5, 0.5, shares > 0.5), dtype=np.float64)  # noqa: PLR2004


def dawid_skene(votes: Votes) -> tuple[Floats, dict[str, tuple[float, float]]]:
    """P(flawed) of each rationale, and how often each operator calls valid and flawed ones rightly.

    EM of Dawid and Skene with two labels, from the shares of the votes on. A weak prior (three
    pseudo-decisions a label, two of them right) keeps an operator with few decisions from counting
    as perfect; it makes the estimate the most probable one instead of the likeliest.

    Args:
        votes: of each rationale what each operator said, True for flawed; none empty.
    """
    names = sorted({name for one in votes for name in one})
    at = {name: n for n, name in enumerate(names)}
    said = np.full((len(votes), len(names)), np.nan)
    for row, one in enumerate(votes):
        for name, flawed in one.items():
            said[row, at[name]] = flawed
    voted, flawed = ~np.isnan(said), np.nan_to_num(said)
    p = np.array([sum(one.values()) / len(one) for one in votes])
    right = (np.empty(0), np.empty(0))
    for _ in range(_STEPS):
        right = (_rate((1 - p) @ (voted * (1 - flawed)), (1 - p) @ voted),
                 _rate(p @ flawed, p @ voted))  # fmt: skip
        prior = (p.sum() + 1) / (len(p) + 2)
        odds = math.log(prior) - math.log1p(-prior) + flawed @ np.log(right[1] / (1 - right[0]))
        odds += (voted * (1 - flawed)) @ np.log((1 - right[1]) / right[0])
        new = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
        done, p = np.max(np.abs(new - p)) < 1e-9, new  # noqa: PLR2004
        if done:
            break
    return p, {name: (float(right[0][n]), float(right[1][n])) for name, n in at.items()}


def agreement_among(votes: Votes) -> dict[str, Any]:
    """How far operators agree: Krippendorff's alpha, and Cohen's kappa of any two of them.

    Kappa of two is over the rationales on which both decided, if there are at least LEAST_SHARED.
    """
    flawed = np.array([sum(one.values()) for one in votes], dtype=np.float64)
    ratings = np.array([len(one) for one in votes], dtype=np.float64)
    ones = np.ones(len(votes))
    several = int(np.sum(ratings > 1))
    shared: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    for one in votes:  # not every pair of all operators, of whom there may be hundreds
        for pair in combinations(sorted(one), 2):
            shared.setdefault(pair, []).append((one[pair[0]], one[pair[1]]))
    kappas = {}
    for (first, second), both in sorted(shared.items()):
        if len(both) >= LEAST_SHARED:
            a, b = (np.array(side) for side in zip(*both, strict=True))
            kappas[f"{first} / {second}"] = {"kappa": plain(cohen_kappa(a, b, np.ones(len(both)))),
                                             "n": len(both)}  # fmt: skip
    return {
        "rationales": len(votes),
        "decided_by_several": several,
        "operators": dict(Counter(name for one in votes for name in one)),
        "alpha": plain(krippendorff_alpha(flawed, ratings, ones)) if several else None,
        "pairwise": plain(pairwise_rate(flawed, ratings, ones)) if several else None,
        "kappa": kappas,
    }


def met(votes: Votes) -> dict[str, tuple[int, int]]:
    """Of each operator: how often they said what most of the others said, and of how often.

    Their own vote is no witness for them. With it, whoever shares a rationale with one other
    operator would have met every label there is.
    """
    found: dict[str, tuple[int, int]] = {}
    for one in votes:
        flawed = sum(one.values())
        for name, said in one.items():
            others = 2 * (flawed - said) - (len(one) - 1)  # above 0: most of them say flawed
            if others:
                right, seen = found.get(name, (0, 0))
                found[name] = (right + (said == (others > 0)), seen + 1)
    return found


def _rate(part: Floats, whole: Floats) -> Floats:
    return np.asarray((part + _PRIOR[0]) / (whole + sum(_PRIOR)))
