"""The numbers a critic is judged by: pure functions of p(flawed) and the truth.

Shapes: p (n,) floats in [0, 1], the critic's probability that an item is flawed; flawed (n,) bools,
the truth; weights (n,) >= 0, how often an item counts, so that a whole-number weight equals that
many copies of the item. "Flagged" means p > threshold, strictly, as in the false-positive
guarantee. What the data do not define is nan (the recall where nothing is flawed), never 0 or 1.
Bad input (empty, nan, other shapes) raises ValueError.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from minicrit.statistics import chunks

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
_Doubles = npt.NDArray[np.float64]

NUM_BINS = 15  # of the calibration error; more of them raise its floor on perfect forecasts
#: Shares of flawed items for which F1 is stated, by the metric's name.
PREVALENCES = {"f1_at_50": 0.5, "f1_at_10": 0.1}
MIN_LIKELIHOOD = 1e-12  # keeps one confident error from making the whole mean infinite


@dataclass(frozen=True)
class Confusion:
    """Weight of the items by what was said and what is true; "positive" is "flawed"."""

    tp: float
    fp: float
    fn: float
    tn: float


def confusion(
    p: Floats, flawed: Bools, threshold: float, *, weights: Floats | None = None
) -> Confusion:
    """Counts at one threshold, from which all rates follow."""
    p, flawed, weights = _checked(p, flawed, weights)
    tn, fp, fn, tp = np.bincount(2 * flawed + (p > threshold), weights=weights, minlength=4)
    return Confusion(tp=float(tp), fp=float(fp), fn=float(fn), tn=float(tn))


def precision(
    p: Floats, flawed: Bools, threshold: float, *, weights: Floats | None = None
) -> float:
    """Share of the flagged items that are flawed."""
    c = confusion(p, flawed, threshold, weights=weights)
    return _ratio(c.tp, c.tp + c.fp)


def recall(p: Floats, flawed: Bools, threshold: float, *, weights: Floats | None = None) -> float:
    """Share of the flawed items that are flagged."""
    c = confusion(p, flawed, threshold, weights=weights)
    return _ratio(c.tp, c.tp + c.fn)


def f1(p: Floats, flawed: Bools, threshold: float, *, weights: Floats | None = None) -> float:
    """Harmonic mean of precision and recall; it depends on the prevalence, so state that too."""
    c = confusion(p, flawed, threshold, weights=weights)
    return _ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn)


def false_positive_rate(
    p: Floats, flawed: Bools, threshold: float, *, weights: Floats | None = None
) -> float:
    """Share of the valid items that are flagged."""
    c = confusion(p, flawed, threshold, weights=weights)
    return _ratio(c.fp, c.fp + c.tn)


def accuracy(p: Floats, flawed: Bools, threshold: float, *, weights: Floats | None = None) -> float:
    """Share of the items that are judged right."""
    c = confusion(p, flawed, threshold, weights=weights)
    return _ratio(c.tp + c.tn, c.tp + c.fp + c.fn + c.tn)


def auroc(p: Floats, flawed: Bools, *, weights: Floats | None = None) -> float:
    """Chance that a flawed item gets a higher p than a valid one, ties counting one half."""
    p, flawed, weights = _checked(p, flawed, weights)
    _, codes = np.unique(p, return_inverse=True)
    positive = np.bincount(codes, weights=weights * flawed)
    negative = np.bincount(codes, weights=weights * ~flawed)
    below = np.cumsum(negative) - negative / 2
    return _ratio(float(positive @ below), float(positive.sum() * negative.sum()))


def brier(p: Floats, flawed: Bools, *, weights: Floats | None = None) -> float:
    """Mean squared distance of p from the truth."""
    p, flawed, weights = _checked(p, flawed, weights)
    return _ratio(float(weights @ (p - flawed) ** 2), float(weights.sum()))


def negative_log_likelihood(p: Floats, flawed: Bools, *, weights: Floats | None = None) -> float:
    """Mean of -ln p(truth), in nats; p(truth) is clipped at 1e-12."""
    p, flawed, weights = _checked(p, flawed, weights)
    likelihood = np.maximum(np.where(flawed, p, 1 - p), MIN_LIKELIHOOD)
    return _ratio(float(-(weights @ np.log(likelihood))), float(weights.sum()))


def expected_calibration_error(p: Floats, flawed: Bools, *, weights: Floats | None = None) -> float:
    """Mean |p - share flawed| over 15 bins of equal mass.

    Equal p go to one bin, the one that holds their middle rank: the order of the items cannot
    matter. Perfect forecasts still score sqrt(2/pi) E[sqrt(p (1 - p))] sqrt(15/n), for p spread
    evenly .038 at n = 1,000 and .017 at 5,000; a bootstrap adds its own noise to that floor, so
    its interval lies too high.
    """
    p, flawed, weights = _checked(p, flawed, weights)
    total = float(weights.sum())
    if total == 0:
        return math.nan
    bins = _equal_mass(p, weights)
    return float(np.abs(np.bincount(bins, weights=weights * (p - flawed))).sum() / total)


def chance_calibration_errors(p: Floats, *, seed: int, draws: int) -> Floats:
    """(draws,) calibration errors of a forecast that is right: labels drawn from its own p, (n,).

    The floor of `expected_calibration_error`; what lies within it may be chance.
    """
    rng = np.random.default_rng(seed)
    bins = _equal_mass(p, np.ones(len(p)))
    order = np.argsort(bins, kind="stable")
    starts = np.flatnonzero(np.diff(bins[order], prepend=-1))
    found = []
    for rows in chunks(draws, len(p)):
        apart = (p - (rng.random((rows.stop - rows.start, len(p))) < p))[:, order]
        found.append(np.abs(np.add.reduceat(apart, starts, axis=1)).sum(axis=1) / len(p))
    return np.concatenate(found)


def _equal_mass(p: Floats, weights: Floats) -> npt.NDArray[np.intp]:
    """The bin of each item, (n,)."""
    _, codes = np.unique(p, return_inverse=True)
    mass = np.bincount(codes, weights=weights)
    middle = NUM_BINS * (np.cumsum(mass) - mass / 2) / weights.sum()
    return np.asarray(np.minimum(middle.astype(np.intp), NUM_BINS - 1)[codes])


def twin_consistency(
    p: Floats,
    flawed: Bools,
    groups: npt.NDArray[np.generic],
    threshold: float,
    *,
    weights: Floats | None = None,
) -> float:
    """Share of the groups holding both labels in which every item is judged right.

    A critic that counts suspicious words cannot score here: it treats twins alike. A group counts
    as often as its items do, so within a group all weights must be the same.
    """
    p, flawed, weights = _checked(p, flawed, weights)
    if groups.shape != p.shape:
        raise ValueError(f"expected groups of shape {p.shape}, got {groups.shape}; one per item")
    _, first, codes = np.unique(groups, return_index=True, return_inverse=True)
    weight = weights[first]
    if not np.array_equal(weight[codes], weights):
        raise ValueError("expected one weight per group, got several; resample whole groups")
    size = np.bincount(codes)
    num_flawed = np.bincount(codes, weights=flawed)
    right = np.bincount(codes, weights=(p > threshold) == flawed) == size
    both = (num_flawed > 0) & (num_flawed < size)
    return _ratio(float(weight @ (both & right)), float(weight @ both))


def f1_at_prevalence(recall: float, fpr: float, prevalence: float) -> float:
    """F1 of the same critic where a share `prevalence` of the items is flawed.

    F1 = 2 pi R / (pi (1 + R) + (1 - pi) FPR); R = .90 and FPR = 8 % give .909 at pi = 50 % and .687
    at 10 %. An undefined rate gives nan.
    """
    for name, share in (("recall", recall), ("fpr", fpr), ("prevalence", prevalence)):
        if share < 0 or share > 1:
            raise ValueError(f"expected {name} in [0, 1], got {share}; write 8 % as 0.08")
    flagged_right = prevalence * recall
    return _ratio(2 * flagged_right, prevalence + flagged_right + (1 - prevalence) * fpr)


def macro_f1(predicted: Sequence[str | None], truth: Sequence[str]) -> float:
    """Mean F1 over the types present in truth; None (unparsed, or "valid") is a miss."""
    if not truth or len(predicted) != len(truth) or None in truth:
        raise ValueError(
            f"expected one prediction for each true type, at least one, got {len(predicted)} for "
            f"{len(truth)} (or a truth of None); score types on flawed items only"
        )
    said, true = Counter(predicted), Counter(truth)
    hits = Counter(t for s, t in zip(predicted, truth, strict=True) if s == t)
    return float(np.mean([2 * hits[name] / (said[name] + true[name]) for name in true]))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _checked(p: Floats, flawed: Bools, weights: Floats | None) -> tuple[_Doubles, Bools, _Doubles]:
    """The three arrays in double precision, weights filled in; ValueError if they are unfit."""
    if p.ndim != 1 or not len(p) or flawed.shape != p.shape:
        raise ValueError(
            f"expected p and flawed of one shape (n,), n > 0, got {p.shape} and {flawed.shape}; "
            "give each item one probability and one label"
        )
    if flawed.dtype != np.bool_:
        raise ValueError(f"expected flawed as bools, got {flawed.dtype}; compare with the label")
    if not np.all((p >= 0) & (p <= 1)):  # also false for nan
        raise ValueError(
            "expected every p in [0, 1], got nan, inf or a number outside; count unscored items "
            "apart and give probabilities, not logits"
        )
    counts = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
    if counts.shape != p.shape or not np.all((counts >= 0) & (counts < np.inf)):
        raise ValueError(
            f"expected finite weights >= 0 of shape {p.shape}, got others (shape {counts.shape}); "
            "a weight says how often its item counts"
        )
    return np.asarray(p, dtype=np.float64), flawed, counts
