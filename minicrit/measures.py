"""What a benchmark says of one judge, and of two: every metric with n and its intervals.

A judge is anything that gives p(flawed): a critic, the bag of words, a constant. Composed items of
one family are alike, so each metric is resampled by twin group *and* by family; `low` and `high`
are the widest of its intervals, and `intervals` holds each of them. An undefined number is None.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from minicrit import scores
from minicrit.records import Example
from minicrit.statistics import (
    Interval,
    Weights,
    cluster_bootstrap,
    mcnemar_exact,
    paired_bootstrap,
    wilson,
)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Metric = Callable[[Floats, "Truth", Weights], float]

COMPOSER = "composer"
DRAWS = 2000
HALF = 0.5
PREVALENCES = {"f1_at_50": 0.5, "f1_at_10": 0.1}
_DECIMALS = 6


@dataclass(frozen=True)
class Truth:
    """What is known of n items, and which of them belong together."""

    flawed: Bools
    groups: npt.NDArray[np.str_]
    families: npt.NDArray[np.str_]
    """Family of composed items, group of the others; a group lies in one family."""

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Self:
        """The truth about the items, in their order."""
        family: dict[str, str] = {}
        for example in examples:
            family.setdefault(example.group, family_of(example))
        return cls(
            flawed=np.array([e.label == "flawed" for e in examples]),
            groups=np.array([e.group for e in examples]),
            families=np.array([family[e.group] for e in examples]),
        )

    def only(self, mask: Bools) -> "Truth":
        """The items where `mask` is true."""
        return Truth(self.flawed[mask], self.groups[mask], self.families[mask])

    def units(self) -> dict[str, npt.NDArray[np.str_]]:
        """What is resampled as a whole, by name, finest first."""
        if np.array_equal(self.groups, self.families):
            return {"by group": self.groups}
        return {"by group": self.groups, "by family": self.families}

    def num_twins(self) -> int:
        """Groups that hold both labels."""
        return len(set(self.groups[self.flawed]) & set(self.groups[~self.flawed]))


def family_of(example: Example) -> str:
    """`composer/<domain>/<family>` of a composed item, the case of the casebook, else its group."""
    match example.source.split("/"):
        case [origin, domain, family, *_] if origin == COMPOSER:
            return f"{origin}/{domain}/{family}"
        case ["casebook", _]:
            return example.source
    return example.group


def measure(
    p: Floats, truth: Truth, threshold: float, *, seed: int = 0, draws: int = DRAWS
) -> dict[str, dict[str, Any]]:
    """All metrics of one judge on the items that it scored (p without nan).

    Returns:
        By name: value, low, high, n (of what the metric is a mean over), intervals.
    """
    counted = rate_counts(p, truth, threshold)
    found = {}
    for name, metric in _metrics(threshold).items():
        statistic = partial(metric, p, truth)
        intervals = {
            unit: cluster_bootstrap(statistic, clusters, seed=seed, draws=draws)
            for unit, clusters in truth.units().items()
        }
        n = len(p)
        if name in counted:
            intervals = {"wilson": wilson(*counted[name]), **intervals}
            n = counted[name][1]
        found[name] = entry(statistic(np.ones(len(p))), n, intervals)
    return found


def rate_counts(p: Floats, truth: Truth, threshold: float) -> dict[str, tuple[int, int]]:
    """(successes, n) of each metric that is a plain rate."""
    counts = scores.confusion(p, truth.flawed, threshold)
    tp, fp, fn, tn = (int(x) for x in (counts.tp, counts.fp, counts.fn, counts.tn))
    twins = truth.num_twins()
    both = scores.twin_consistency(p, truth.flawed, truth.groups, threshold)
    return {
        "fpr": (fp, fp + tn),
        "recall": (tp, tp + fn),
        "precision": (tp, tp + fp),
        "accuracy": (tp + tn, len(p)),
        "twin_consistency": (round(both * twins) if twins else 0, twins),
    }


def entry(value: float, n: int, intervals: Mapping[str, Interval]) -> dict[str, Any]:
    """One metric for the report; low and high are the widest of the defined intervals."""
    defined = [found for found in intervals.values() if not math.isnan(found.low)]
    return {
        "value": plain(value),
        "low": plain(min((found.low for found in defined), default=math.nan)),
        "high": plain(max((found.high for found in defined), default=math.nan)),
        "n": n,
        "intervals": {k: [plain(v.low), plain(v.high)] for k, v in intervals.items()},
    }


def compare(
    names: tuple[str, str],
    p: tuple[Floats, Floats],
    thresholds: tuple[float, float],
    truth: Truth,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """First judge against second on the items that both scored; swapping them mirrors it all.

    McNemar takes items as independent; the differences of F1 and AUROC are resampled by family.
    """
    both = ~np.isnan(p[0]) & ~np.isnan(p[1])
    a, b, known = p[0][both], p[1][both], truth.only(both)
    right_a = (a > thresholds[0]) == known.flawed
    right_b = (b > thresholds[1]) == known.flawed
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    row: dict[str, Any] = {
        "a": names[0],
        "b": names[1],
        "n": int(both.sum()),
        "only_a_right": only_a,
        "only_b_right": only_b,
        "mcnemar_p": plain(mcnemar_exact(only_a, only_b)),
        "resampled": list(known.units())[-1],
    }
    for name in ("f1", "auroc"):
        gap = paired_bootstrap(
            partial(_metrics(thresholds[0])[name], a, known),
            partial(_metrics(thresholds[1])[name], b, known),
            known.families,
            seed=seed,
            draws=draws,
        )
        bounds = {k: plain(getattr(gap, k)) for k in ("value", "low", "high", "p")}
        row[f"{name}_difference"] = bounds
    return row


def plain(value: float) -> float | None:
    """A JSON number of six decimals; None for what is undefined, and never -0.0."""
    return round(float(value), _DECIMALS) + 0.0 if math.isfinite(value) else None


def _metrics(threshold: float) -> dict[str, Metric]:
    """Every metric as a function of p, truth and weights, in the order of the tables."""

    def at(call: Callable[..., float], limit: float = threshold) -> Metric:
        return lambda p, truth, w: call(p, truth.flawed, limit, weights=w)

    def free(call: Callable[..., float]) -> Metric:
        return lambda p, truth, w: call(p, truth.flawed, weights=w)

    recall, fpr = at(scores.recall), at(scores.false_positive_rate)

    def f1_where(share: float) -> Metric:
        return lambda p, t, w: scores.f1_at_prevalence(recall(p, t, w), fpr(p, t, w), share)

    return {
        "f1": at(scores.f1),
        "fpr": fpr,
        "recall": recall,
        "precision": at(scores.precision),
        "accuracy": at(scores.accuracy),
        "twin_consistency": lambda p, t, w: scores.twin_consistency(
            p, t.flawed, t.groups, threshold, weights=w
        ),
        "auroc": free(scores.auroc),
        "ece": free(scores.expected_calibration_error),
        "brier": free(scores.brier),
        "nll": free(scores.negative_log_likelihood),
        **{name: f1_where(share) for name, share in PREVALENCES.items()},
        **({} if threshold == HALF else {"f1_threshold_half": at(scores.f1, HALF)}),
    }
