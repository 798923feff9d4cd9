"""Where a critic is worst: all slices by one and by two properties, compared with their rest.

A slice is worse if misses are more frequent in it than among all other items. The p value is the
larger one of two one-sided exact tests of Fisher: over items, and over groups (has it a miss or
not), as twins share their words; Holm's correction makes it hold over all slices at once. Slices
that hold the same items are one slice, under its shortest name. Sorted by p, a slice most of whose
items lie in a worse one is left out: it is bad because that one is.
"""

# mypy: disable-error-code="import-untyped"
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from minicrit.measures import Truth, entry, plain
from minicrit.paired import holm
from minicrit.records import Example
from minicrit.selective import sureness
from minicrit.slices import AXES
from minicrit.statistics import cluster_bootstrap, mean_over, wilson

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Properties = dict[str, list[str | None]]

ALPHA = 0.05  # of all slices together
MOST_SHARED = 0.5  # of a slice's items with a worse one; beyond it says nothing new
SOUND = "sound"  # the flaw type of a valid item
#: Log-odds between p and threshold from which a verdict counts as fairly sure, and as very sure.
SURE = (1.0, 3.0)


@dataclass(frozen=True)
class Slices:
    """Slices as rows: their names and (S, n) who belongs to them."""

    names: list[dict[str, str]]
    masks: Bools

    @classmethod
    def of(cls, properties: Properties, least: int) -> "Slices":
        """All slices by one and two properties with at least `least` items in and outside."""
        found: dict[bytes, tuple[dict[str, str], Bools]] = {}
        for number in (1, 2):
            for axes in combinations(properties, number):
                for name, mask in _cells({axis: properties[axis] for axis in axes}):
                    if least <= mask.sum() <= len(mask) - least:
                        found.setdefault(mask.tobytes(), (name, mask))
        if not found:
            return cls([], np.zeros((0, 0), dtype=bool))
        names, masks = zip(*found.values(), strict=True)
        return cls(list(names), np.array(masks))


def properties_of(examples: Sequence[Example], p: Floats, threshold: float) -> Properties:
    """By axis what each item falls under, None for nothing; length and confidence in thirds."""
    found: Properties = {axis: [name_of(e) for e in examples] for axis, name_of in AXES.items()}
    found["flaw_type"] = [SOUND if e.label == "valid" else e.flaw_type for e in examples]
    found["length"] = _thirds([len(e.rationale.split()) for e in examples])
    found["confidence"] = [_sure(away) for away in sureness(p, threshold)]
    return {axis: names for axis, names in found.items() if len(set(names)) > 1}


def _thirds(words: Sequence[int]) -> list[str | None]:
    low, high = (int(np.quantile(words, share)) for share in (1 / 3, 2 / 3))
    return [
        f"at most {low} words" if n <= low
        else f"{low + 1} to {high} words" if n <= high
        else f"more than {high} words"
        for n in words
    ]  # fmt: skip


def _sure(away: float) -> str:
    return ("unsure verdict", "fairly sure verdict", "very sure verdict")[
        int(np.searchsorted(SURE, away, side="right"))
    ]


def _cells(properties: Properties) -> Iterator[tuple[dict[str, str], Bools]]:
    """Each combination of values that occurs, with its items."""
    keys = list(zip(*properties.values(), strict=True))
    places: dict[tuple[str | None, ...], list[int]] = {}
    for place, key in enumerate(keys):
        if None not in key:
            places.setdefault(key, []).append(place)
    for key, rows in places.items():
        mask = np.zeros(len(keys), dtype=bool)
        mask[rows] = True
        yield dict(zip(properties, map(str, key), strict=True)), mask


def p_values(masks: Bools, missed: Bools, groups: npt.NDArray[np.intp]) -> Floats:
    """(S,) one-sided p that misses are no more frequent in a slice than in its rest.

    Args:
        masks: (S, n).
        missed: (n,).
        groups: (n,) numbers of the groups, from 0.
    """
    inside = _greater(masks @ missed.astype(np.int64), masks.sum(1),
                      (~masks) @ missed.astype(np.int64), (~masks).sum(1))  # fmt: skip
    one_hot = np.zeros((len(missed), int(groups.max()) + 1))
    one_hot[np.arange(len(missed)), groups] = 1
    touched, hit = ((m.astype(float) @ one_hot > 0) for m in (masks, masks & missed))
    others, others_hit = ((m.astype(float) @ one_hot > 0) for m in (~masks, ~masks & missed))
    by_group = _greater(hit.sum(1), touched.sum(1), others_hit.sum(1), others.sum(1))
    return np.maximum(inside, by_group)


def _greater(hits: Any, n: Any, other_hits: Any, other_n: Any) -> Floats:
    """Fisher's exact test, one-sided: P(at least so many hits among the n | all hits)."""
    found = stats.hypergeom.sf(hits - 1, n + other_n, hits + other_hits, n)
    return np.asarray(np.clip(found, 0.0, 1.0), dtype=np.float64)


def worst(
    slices: Slices, missed: Bools, truth: Truth, *, shown: int, seed: int = 0
) -> list[dict[str, Any]]:
    """The worst slices, at most `shown`, worst first: rate and rest with intervals, p, p over all.

    Only slices with a higher rate than their rest; `worse` says whether p over all is below ALPHA.
    """
    if not len(slices.names) or not missed.any() or shown < 1:
        return []
    groups = np.unique(truth.groups, return_inverse=True)[1]
    p = p_values(slices.masks, missed, groups)
    adjusted = holm(p.tolist())
    rates, rest = _rates(slices.masks, missed), _rates(~slices.masks, missed)
    order = sorted(np.flatnonzero(rates > rest), key=lambda at: (p[at], -rates[at], at))
    kept: list[int] = []
    for at in map(int, order):
        shared = [(slices.masks[at] & slices.masks[k]).sum() for k in kept]
        if all(s <= MOST_SHARED * slices.masks[at].sum() for s in shared):
            kept.append(at)
        if len(kept) == shown:
            break
    return [
        {"slice": slices.names[at], **rate_of(missed, slices.masks[at], truth, seed),
         "misses": int(missed[slices.masks[at]].sum()),
         "families": len(set(truth.families[slices.masks[at]])),
         "rest": rate_of(missed, ~slices.masks[at], truth, seed), "p": plain(float(p[at])),
         "p_over_all": plain(adjusted[at]), "worse": bool(adjusted[at] <= ALPHA)}
        for at in kept
    ]  # fmt: skip


def _rates(masks: Bools, missed: Bools) -> Floats:
    return np.asarray((masks @ missed.astype(float)) / masks.sum(1), dtype=np.float64)


def rate_of(missed: Bools, inside: Bools, truth: Truth, seed: int) -> dict[str, Any]:
    """The rate of misses in a slice: Wilson's interval and that by group, the widest as low, high.

    Where all or none of the items are misses Wilson's stands alone.
    """
    hits = missed[inside].astype(np.float64)
    groups = np.unique(truth.groups[inside], return_inverse=True)[1]
    found = {
        "wilson": wilson(int(hits.sum()), len(hits)),
        "by group": cluster_bootstrap(mean_over(hits), groups, seed=seed),
    }
    return entry(float(hits.mean()), len(hits), found)
