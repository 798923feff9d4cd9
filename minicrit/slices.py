"""Where a judge is good and where not: rates by slice, the ROC curve, the reliability bins."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from minicrit.measures import COMPOSER, plain
from minicrit.records import Example
from minicrit.statistics import wilson

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NUM_BINS = 10
MAX_POINTS = 101


def mechanism_of(example: Example) -> str | None:
    """The mechanism of a composed item (`composer/<domain>/<family>/<mechanism>`), else None."""
    match example.source.split("/"):
        case [origin, _, _, mechanism, *_] if origin == COMPOSER:
            return mechanism
    return None


def _of_suite(place: int) -> Callable[[Example], str | None]:
    """A field of `adversarial/<part>/<origin>`, the source of an item of the suite, else None."""

    def field(example: Example) -> str | None:
        match example.source.split("/"):
            case ["adversarial", _, _] as fields:
                return fields[place]
        return None

    return field


#: Slices by name: what an item falls under; None leaves it out.
AXES: dict[str, Callable[[Example], str | None]] = {
    "domain": lambda e: e.domain,
    "flaw_type": lambda e: e.flaw_type,
    "kind": lambda e: e.kind,
    "source": lambda e: e.source.split("/")[0],
    "mechanism": mechanism_of,
    "suite_part": _of_suite(1),
    "suite_origin": _of_suite(2),
}


def slice_rates(
    p: Floats, examples: Sequence[Example], threshold: float
) -> dict[str, dict[str, dict[str, Any]]]:
    """Axis -> slice -> n, accuracy, recall and fpr with Wilson intervals, of the scored items.

    Wilson takes items as independent: where many come from one family it is too narrow.
    """
    flawed = np.array([e.label == "flawed" for e in examples])
    right = (p > threshold) == flawed
    scored = ~np.isnan(p)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for axis, name_of in AXES.items():
        members: dict[str, list[int]] = defaultdict(list)
        for row, example in enumerate(examples):
            name = name_of(example)
            if scored[row] and name is not None:
                members[name].append(row)
        found[axis] = {k: _rates(right[rows], flawed[rows]) for k, rows in sorted(members.items())}
    return found


def roc(p: Floats, flawed: Bools) -> list[list[float | None]]:
    """[fpr, tpr] at falling thresholds from [0, 0] to [1, 1]; empty if a class is missing.

    At most 101 points, evenly spread over the distinct p.
    """
    if flawed.all() or not flawed.any():
        return []
    values, codes = np.unique(-p, return_inverse=True)
    tpr = np.cumsum(np.bincount(codes, weights=flawed, minlength=len(values))) / flawed.sum()
    fpr = np.cumsum(np.bincount(codes, weights=~flawed, minlength=len(values))) / (~flawed).sum()
    keep = np.unique(np.linspace(0, len(values) - 1, min(len(values), MAX_POINTS - 1)).astype(int))
    return [[0.0, 0.0], *([plain(x), plain(y)] for x, y in zip(fpr[keep], tpr[keep], strict=True))]


def operating_point(p: Floats, flawed: Bools, threshold: float) -> dict[str, Any]:
    """False-positive rate and recall at the threshold; None where a class is missing."""
    rates = _rates((p > threshold) == flawed, flawed)
    return {"fpr": rates["fpr"], "recall": rates["recall"]}


def reliability(p: Floats, flawed: Bools) -> list[dict[str, Any]]:
    """Ten bins of equal width: mean p against the share flawed; empty bins are left out."""
    bins = np.minimum((p * NUM_BINS).astype(int), NUM_BINS - 1)
    rows = []
    for number in range(NUM_BINS):
        inside = bins == number
        if not inside.any():
            continue
        share = wilson(int(flawed[inside].sum()), int(inside.sum()))
        bounds = {k: plain(getattr(share, k)) for k in ("value", "low", "high")}
        rows.append({"mean_p": plain(float(p[inside].mean())), "n": share.n, **bounds})
    return rows


def _rates(right: Bools, flawed: Bools) -> dict[str, Any]:
    return {
        "n": len(right),
        "accuracy": rate(right),
        "recall": rate(right[flawed]),
        "fpr": rate(~right[~flawed]),
    }


def rate(hits: Bools) -> dict[str, Any] | None:
    """The share of hits (n,) with n and Wilson's interval; None where n is 0."""
    if not len(hits):
        return None
    found = wilson(int(hits.sum()), len(hits))
    bounds = {k: plain(getattr(found, k)) for k in ("value", "low", "high")}
    return {**bounds, "n": found.n}
