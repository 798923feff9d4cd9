"""Every metric of a judge on thousands of resamples at once.

Shapes: n items, G clusters that are drawn as wholes, B draws; counts (B, G) says how often each
draw took each cluster. `metrics_under` gives for each metric what `measures` would give with the
item weights counts[b, code of the item], for all b together: rates and means are ratios of sums
over clusters, a product of matrices; what depends on the order of p is a cumulative sum.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from minicrit import scores
from minicrit.selective import sureness
from minicrit.statistics import Codes, Counts, Floats, chunks

Bools = npt.NDArray[np.bool_]

_MOST_LEFT_OUT = 1000
LINEAR = ("tp", "fp", "fn", "tn", "half_tp", "half_fp", "half_fn", "half_tn", "twins",
          "twins_right", "brier", "nll", "cost", "items")  # fmt: skip


def leave_one_out(clusters: int) -> Counts:
    """(G, clusters): each cluster left out once, for the jackknife; blocks of them beyond 1,000."""
    blocks = min(clusters, _MOST_LEFT_OUT)
    block_of = np.arange(clusters) * blocks // clusters
    kept = block_of[None, :] != np.arange(blocks)[:, None]
    return np.asarray(kept, dtype=np.uint16)


@dataclass(frozen=True)
class Auroc:
    """The area under the ROC curve as a statistic that has all its draws at once.

    Attributes:
        p: (n,) scores.
        flawed: (n,) the truth.
    """

    p: Floats
    flawed: Bools

    def __call__(self, weights: Floats) -> float:  # noqa: D102
        return scores.auroc(self.p, self.flawed, weights=weights)

    def under(self, codes: Codes, counts: Iterable[Counts]) -> Floats:  # noqa: D102
        area = _auroc(self.p, self.flawed, codes)
        return np.concatenate([area(times[rows].astype(np.float64)) for times in counts
                               for rows in chunks(len(times), len(codes))])  # fmt: skip


def metrics_under(
    columns: Mapping[str, Floats], p: Floats, flawed: Bools, threshold: float, codes: Codes,
    counts: Iterable[Counts],
) -> dict[str, Floats]:  # fmt: skip
    """Each metric under each draw, (B,); nan where a draw leaves it undefined.

    Args:
        columns: the LINEAR quantities of each item, (n,).
        p: (n,) p(flawed).
        flawed: (n,) the truth.
        threshold: of the judge.
        codes: (n,) cluster of each item, 0 to G-1.
        counts: (B, G) in parts, so that those of many groups are never in memory at once.
    """
    of_cluster = {
        name: np.bincount(codes, weights=columns[name], minlength=int(codes.max()) + 1)
        for name in LINEAR
    }
    ordered = {
        "auroc": _auroc(p, flawed, codes),
        "ece": _ece(p, flawed, codes),
        "aurc": _aurc(p, flawed, threshold, codes),
    }
    parts = []
    for times in (some[rows].astype(np.float64) for some in counts
                  for rows in chunks(len(some), len(codes))):  # fmt: skip
        sums = {name: times @ column for name, column in of_cluster.items()}
        parts.append(_ratios(sums) | {name: metric(times) for name, metric in ordered.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _ratios(s: Mapping[str, Floats]) -> dict[str, Floats]:
    recall, fpr = _over(s["tp"], s["tp"] + s["fn"]), _over(s["fp"], s["fp"] + s["tn"])
    return {
        "f1": _over(2 * s["tp"], 2 * s["tp"] + s["fp"] + s["fn"]),
        "fpr": fpr,
        "recall": recall,
        "precision": _over(s["tp"], s["tp"] + s["fp"]),
        "accuracy": _over(s["tp"] + s["tn"], s["items"]),
        "twin_consistency": _over(s["twins_right"], s["twins"]),
        "brier": _over(s["brier"], s["items"]),
        "nll": _over(s["nll"], s["items"]),
        "cost": _over(s["cost"], s["items"]),
        **{name: _f1_where(recall, fpr, at) for name, at in scores.PREVALENCES.items()},
        "f1_threshold_half": _over(
            2 * s["half_tp"], 2 * s["half_tp"] + s["half_fp"] + s["half_fn"]
        ),
        "fpr_threshold_half": _over(s["half_fp"], s["half_fp"] + s["half_tn"]),
        "recall_threshold_half": _over(s["half_tp"], s["half_tp"] + s["half_fn"]),
    }


def _f1_where(recall: Floats, fpr: Floats, share: float) -> Floats:
    return _over(2 * share * recall, share * (1 + recall) + (1 - share) * fpr)


def _over(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, math.nan), where=whole != 0)


class _Order:
    """Items in the order of a key; what is equal in it counts together."""

    def __init__(self, key: Floats, codes: Codes) -> None:
        self.items = np.argsort(key, kind="stable")
        self.codes = codes[self.items]
        self.starts = np.unique(key[self.items], return_index=True)[1]

    def weights(self, times: Floats) -> Floats:
        """(B, n) weights of the items, from those of their clusters."""
        return np.take(times, self.codes, axis=1)

    def blocks(self, columns: Floats) -> Floats:
        """(B, n) -> (B, different keys): sums over what is equal."""
        if len(self.starts) == len(self.items):
            return columns
        return np.add.reduceat(columns, self.starts, axis=1)


def _auroc(p: Floats, flawed: Bools, codes: Codes) -> Callable[[Floats], Floats]:
    order = _Order(p, codes)
    truth = flawed[order.items].astype(np.float64)

    def metric(times: Floats) -> Floats:
        weights = order.weights(times)
        positive, both = order.blocks(weights * truth), order.blocks(weights)
        negative = both - positive
        below = np.cumsum(negative, axis=1) - negative / 2
        return _over(np.einsum("bn,bn->b", positive, below), positive.sum(1) * negative.sum(1))

    return metric


def _ece(p: Floats, flawed: Bools, codes: Codes) -> Callable[[Floats], Floats]:
    order = _Order(p, codes)
    gap = (p - flawed)[order.items]

    def metric(times: Floats) -> Floats:
        weights = order.weights(times)
        mass, residual = order.blocks(weights), order.blocks(weights * gap)
        total = mass.sum(1, keepdims=True)
        middle = np.cumsum(mass, axis=1) - mass / 2
        places = (scores.NUM_BINS * middle / total).astype(np.intp)
        bins = np.minimum(places, scores.NUM_BINS - 1)
        flat = (bins + scores.NUM_BINS * np.arange(len(weights))[:, None]).ravel()
        cells = np.bincount(flat, weights=residual.ravel(),
                            minlength=scores.NUM_BINS * len(weights))  # fmt: skip
        return _over(np.abs(cells.reshape(len(weights), -1)).sum(1), total[:, 0])

    return metric


def _aurc(p: Floats, flawed: Bools, threshold: float, codes: Codes) -> Callable[[Floats], Floats]:
    order = _Order(-sureness(p, threshold), codes)
    wrong = ((p > threshold) != flawed)[order.items].astype(np.float64)

    def metric(times: Floats) -> Floats:
        weights = order.weights(times)
        mass = order.blocks(weights)
        errors = np.cumsum(order.blocks(weights * wrong), axis=1)
        covered = np.cumsum(mass, axis=1)
        risk = np.divide(errors, covered, out=np.zeros_like(mass), where=covered > 0)
        return _over(np.einsum("bn,bn->b", mass, risk), mass.sum(1))

    return metric
