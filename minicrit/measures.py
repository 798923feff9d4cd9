"""What a benchmark says of one judge, and of two: every metric with n and its intervals.

A judge is anything that gives p(flawed): a critic, the bag of words, a constant. Composed items of
one family are alike, so each metric is resampled by twin group *and* by family; `low` and `high`
are the widest of its intervals, and `intervals` holds each of them. An undefined number is None.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from minicrit import scores
from minicrit.records import Example
from minicrit.resampling import leave_one_out, metrics_under
from minicrit.selective import aurc
from minicrit.statistics import (
    Codes,
    Counts,
    Interval,
    cluster_bootstrap,
    cluster_counts,
    mean_over,
    percentiles,
    wilson,
)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Metric = Callable[[Floats, "Truth"], float]

COMPOSER = "composer"
DRAWS = 10_000
MEAN_DRAWS = 2000
CHANCE_DRAWS = 1000
HALF = 0.5
#: What a missed flaw costs, in false alarms; a flaw of unknown severity counts as medium.
MISS_COST = {"low": 1.0, "medium": 2.0, "high": 4.0, "critical": 8.0}
FALSE_ALARM = 1.0
_DECIMALS = 6


@dataclass(frozen=True)
class Truth:
    """What is known of n items, and which of them belong together."""

    flawed: Bools
    groups: npt.NDArray[np.str_]
    families: npt.NDArray[np.str_]
    """Family of composed items, group of the others; a group lies in one family."""
    costs: Floats
    """What a wrong verdict on each item costs, in false alarms."""

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
            costs=np.array([cost_of(e) for e in examples]),
        )

    def only(self, mask: Bools) -> "Truth":
        """The items where `mask` is true."""
        return Truth(self.flawed[mask], self.groups[mask], self.families[mask], self.costs[mask])

    def units(self) -> dict[str, npt.NDArray[np.str_]]:
        """What is resampled as a whole, by name, finest first."""
        if np.array_equal(self.groups, self.families):
            return {"by group": self.groups}
        return {"by group": self.groups, "by family": self.families}

    def num_twins(self) -> int:
        """Groups that hold both labels."""
        return len(set(self.groups[self.flawed]) & set(self.groups[~self.flawed]))


def family_of(example: Example) -> str:
    """`composer/<domain>/<family>` of a composed item, the case of the casebook, else its group.

    Composed pairs of the adversarial suite bear the suite as their source, and keep their group.
    """
    for name in (example.source, example.group):
        match name.split("/"):
            case [origin, domain, family, *_] if origin == COMPOSER:
                return f"{origin}/{domain}/{family}"
            case ["casebook", _]:
                return name
    return example.group


def cost_of(example: Example) -> float:
    """What a wrong verdict on it costs, in false alarms."""
    return MISS_COST[example.severity or "medium"] if example.label == "flawed" else FALSE_ALARM


def measure(
    p: Floats, truth: Truth, threshold: float, *, seed: int = 0, draws: int = DRAWS
) -> dict[str, dict[str, Any]]:
    """All metrics of one judge on the items that it scored (p without nan).

    Returns:
        By name: value, low, high, n (of what the metric is a mean over), intervals.
    """
    half = rate_counts(p, truth, HALF)
    counted = {**{f"{name}_threshold_half": count for name, count in half.items()},
               **rate_counts(p, truth, threshold)}  # fmt: skip
    drawn = {unit: draw(p, truth, threshold, clusters, seed=seed, draws=draws)
             for unit, clusters in truth.units().items()}  # fmt: skip
    alone = {"f1": f1_alone(p, truth, threshold), "f1_threshold_half": f1_alone(p, truth, HALF),
             **{name: wilson(*count) for name, count in counted.items()}}  # fmt: skip
    right = scores.chance_calibration_errors(p, seed=seed, draws=min(draws, CHANCE_DRAWS))
    floor = float(np.quantile(right, 0.975))
    found = {}
    for name, metric in metrics(threshold).items():
        value, n = metric(p, truth), len(p)
        bounds = partial(reflected, chance=floor) if name == "ece" else bounds_of
        intervals = {
            unit: Interval(value, *bounds(value, metrics_drawn.get(name)), n)
            for unit, metrics_drawn in drawn.items()
        }
        if name in counted:
            n = counted[name][1]
        if name in alone:
            intervals = {"wilson": alone[name], **intervals}
        found[name] = entry(value, n, intervals)
    return found


def draw(
    p: Floats, truth: Truth, threshold: float, clusters: npt.NDArray[np.str_], *,
    seed: int, draws: int,
) -> dict[str, Floats]:  # fmt: skip
    """Every metric on resamples of whole clusters, (draws,); empty if there is only one.

    The draws depend on seed and clusters alone, so two judges of the same items share them.
    """
    codes = np.unique(clusters, return_inverse=True)[1]
    groups = int(codes.max()) + 1
    if groups == 1:
        return {}
    return _under(p, truth, threshold, codes, cluster_counts(groups, draws, seed))


def without(
    p: Floats, truth: Truth, threshold: float, clusters: npt.NDArray[np.str_]
) -> dict[str, Floats]:
    """Every metric with each cluster left out once; empty if there is only one."""
    codes = np.unique(clusters, return_inverse=True)[1]
    groups = int(codes.max()) + 1
    return {} if groups == 1 else _under(p, truth, threshold, codes, [leave_one_out(groups)])


def _under(
    p: Floats, truth: Truth, threshold: float, codes: Codes, counts: Iterable[Counts]
) -> dict[str, Floats]:
    """Every metric where draw b takes cluster g counts[b, g] times."""
    columns = _columns(p, truth, threshold)
    return metrics_under(columns, p, truth.flawed, threshold, codes, counts)


def bounds_of(value: float, drawn: Floats | None) -> tuple[float, float]:
    """Percentile bounds (95 %); nan where value or draws are undefined."""
    if drawn is None or math.isnan(value):
        return math.nan, math.nan
    return percentiles(drawn, 0.95)


def reflected(value: float, drawn: Floats | None, chance: float) -> tuple[float, float]:
    """Bounds (95 %) of a calibration error: the basic bootstrap's, from 0 where it may be chance.

    Chance makes every bin look miscalibrated, the draws' own once more, so their percentiles lie
    above the truth; reflected at the value they lie below it where there is little but chance.
    Simulated (400 to 3,600 items, errors of 0, 0.015 and 0.03) these hold it in 88 to 100 %.

    Args:
        value: the error.
        drawn: that of resamples.
        chance: what a right forecast stays below in 97.5 % (`chance_calibration_errors`).
    """
    low, high = bounds_of(value, drawn)
    if math.isnan(low):
        return low, high
    least = 2 * value - high if value > chance else 0.0
    return max(0.0, least), max(value, 2 * value - low)


def f1_alone(p: Floats, truth: Truth, threshold: float) -> Interval:
    """F1 with Wilson's interval, items as independent.

    F1 = 2 J / (1 + J), where J = TP / (TP + FP + FN) is a rate: that of the found among all that
    are flawed or flagged.
    """
    counts = scores.confusion(p, truth.flawed, threshold)
    share = wilson(counts.tp, int(counts.tp + counts.fp + counts.fn))
    value, low, high = (2 * j / (1 + j) for j in (share.value, share.low, share.high))
    return Interval(value, low, high, len(p))


def _columns(p: Floats, truth: Truth, threshold: float) -> dict[str, Floats]:
    """What each item adds to the sums that the linear metrics are made of."""
    flawed = truth.flawed
    found: dict[str, npt.NDArray[np.generic]] = {}
    for start, limit in (("", threshold), ("half_", HALF)):
        flagged = p > limit
        found |= {f"{start}tp": flagged & flawed, f"{start}fp": flagged & ~flawed,
                  f"{start}fn": ~flagged & flawed, f"{start}tn": ~flagged & ~flawed}  # fmt: skip
    right = (p > threshold) == flawed
    _, first, codes = np.unique(truth.groups, return_index=True, return_inverse=True)
    size, num_flawed = np.bincount(codes), np.bincount(codes, weights=flawed)
    twins = (num_flawed > 0) & (num_flawed < size)
    leads = np.zeros(len(p), dtype=bool)
    leads[first] = True
    found["twins"] = leads & twins[codes]
    found["twins_right"] = found["twins"] & (np.bincount(codes, weights=right) == size)[codes]
    found["brier"] = (p - flawed) ** 2
    found["nll"] = -np.log(np.maximum(np.where(flawed, p, 1 - p), scores.MIN_LIKELIHOOD))
    found["cost"] = truth.costs * ~right
    found["items"] = np.ones(len(p))
    return {name: np.asarray(column, dtype=np.float64) for name, column in found.items()}


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
    """One metric for the report; low and high are the widest of its intervals.

    One without width is none: a resample in which no draw differs has seen no spread, which does
    not say that there is none.
    """
    known = {k: found if plain(found.low) != plain(found.high)
             else replace(found, low=math.nan, high=math.nan)
             for k, found in intervals.items()}  # fmt: skip
    defined = [found for found in known.values() if not math.isnan(found.low)]
    return {
        "value": plain(value),
        "low": plain(min((found.low for found in defined), default=math.nan)),
        "high": plain(max((found.high for found in defined), default=math.nan)),
        "n": n,
        "intervals": {k: [plain(v.low), plain(v.high)] for k, v in known.items()},
    }


def mean_of(
    values: Floats, truth: Truth, *, seed: int = 0, draws: int = MEAN_DRAWS
) -> dict[str, Any]:
    """A mean over items for the report: resampled by each unit and, if it is a rate, Wilson's.

    Where all groups fare alike only the latter stands (`entry`).
    """
    intervals = {
        unit: cluster_bootstrap(mean_over(values), clusters, seed=seed, draws=draws)
        for unit, clusters in truth.units().items()
    }
    if set(values) <= {0.0, 1.0}:
        intervals = {"wilson": wilson(float(values.sum()), len(values)), **intervals}
    return entry(float(values.mean()), len(values), intervals)


def plain(value: float) -> float | None:
    """A JSON number of six decimals; None for what is undefined, and never -0.0."""
    return round(float(value), _DECIMALS) + 0.0 if math.isfinite(value) else None


def metrics(threshold: float) -> dict[str, Metric]:
    """Every metric as a function of p and truth, in the order of the tables."""

    def at(call: Callable[..., float], limit: float = threshold) -> Metric:
        return lambda p, truth: call(p, truth.flawed, limit)

    def free(call: Callable[..., float]) -> Metric:
        return lambda p, truth: call(p, truth.flawed)

    def f1_where(share: float) -> Metric:
        recall, fpr = at(scores.recall), at(scores.false_positive_rate)
        return lambda p, t: scores.f1_at_prevalence(recall(p, t), fpr(p, t), share)

    half = {
        "f1_threshold_half": at(scores.f1, HALF),
        "fpr_threshold_half": at(scores.false_positive_rate, HALF),
        "recall_threshold_half": at(scores.recall, HALF),
    }
    return {
        "f1": at(scores.f1),
        "fpr": at(scores.false_positive_rate),
        "recall": at(scores.recall),
        "precision": at(scores.precision),
        "accuracy": at(scores.accuracy),
        "twin_consistency": lambda p, t: scores.twin_consistency(p, t.flawed, t.groups, threshold),
        "auroc": free(scores.auroc),
        "ece": free(scores.expected_calibration_error),
        "brier": free(scores.brier),
        "nll": free(scores.negative_log_likelihood),
        "aurc": at(aurc),
        "cost": lambda p, t: float((t.costs * ((p > threshold) != t.flawed)).mean()),
        **{name: f1_where(share) for name, share in scores.PREVALENCES.items()},
        **({} if threshold == HALF else half),
    }
