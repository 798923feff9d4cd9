"""Where a critic is worst: all slices by one and by two properties, compared with their rest.

A slice is worse if misses are more frequent in it than among all other items. The p value is the
larger one of two one-sided exact tests of Fisher: over items, and over groups (has it a miss or
not), as twins share their words; Holm's correction makes it hold over all slices at once. That
holds of these families of scenarios alone, as one hard family makes its domain look hard. Only what
a third p, over families (`p_by_family`), bears out as well is said to be worse beyond chance.
Slices that hold the same items are one slice, under its shortest name. Sorted by p, a slice most of
whose items lie in a worse one is left out: it is bad because that one is.
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
_DRAWS = 2000  # of families at once; as many again for every _EACH slices, so that Holm can reject
_EACH = 10


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
    touched, hit, others, others_hit = (
        np.array([np.count_nonzero(np.bincount(groups[mask])) for mask in side])
        for side in (masks, masks & missed, ~masks, ~masks & missed)
    )
    return np.maximum(inside, _greater(hit, touched, others_hit, others))


def p_by_family(
    inside: Bools, missed: Bools, families: npt.NDArray[np.intp], *, rounds: int = 1, seed: int = 0
) -> float:
    """One-sided p that a slice is no worse than its rest, where families are drawn as well.

    Summed are the misses inside beyond those expected: in a family that lies on both sides by its
    own rate, in the others by their common one. If the slice says nothing, the former's are as
    often too few as too many (so their signs are drawn), and any of the latter could be those
    inside (so which ones are is drawn). k families on both sides give no p below 2^-k, k of n
    others none below one in the ways to choose k of n.

    Args:
        inside: (n,) the slice's items.
        missed: (n,).
        families: (n,) numbers of the families, from 0, all of them taken.
        rounds: of 2000 draws each.
        seed: of the draws.
    """
    n, hits = (
        np.array([np.bincount(families, of * side) for side in (inside, ~inside)])
        for of in (np.ones(len(missed)), missed)
    )
    both = (n > 0).all(axis=0)
    common = hits[:, ~both].sum() / max(1.0, n[:, ~both].sum())
    rate = np.where(both, hits.sum(axis=0) / n.sum(axis=0), common)
    split = (hits[0] - n[0] * rate)[both]
    whole, within = (hits - n * rate).sum(axis=0)[~both], (n[0] > 0)[~both]
    seen = split.sum() + whole[within].sum() - 1e-9  # what is equal counts, however it is summed
    rng, as_far = np.random.default_rng(seed), 0
    for _ in range(rounds):
        signs = rng.choice((-1.0, 1.0), (_DRAWS, len(split)))
        chosen = rng.permuted(np.tile(within, (_DRAWS, 1)), axis=1)
        as_far += int(np.sum(signs @ split + chosen @ whole >= seen))
    return (1 + as_far) / (1 + rounds * _DRAWS)


def _greater(hits: Any, n: Any, other_hits: Any, other_n: Any) -> Floats:
    """Fisher's exact test, one-sided: P(at least so many hits among the n | all hits)."""
    found = stats.hypergeom.sf(hits - 1, n + other_n, hits + other_hits, n)
    return np.asarray(np.clip(found, 0.0, 1.0), dtype=np.float64)


def worst(
    slices: Slices, missed: Bools, truth: Truth, *, shown: int, seed: int = 0
) -> list[dict[str, Any]]:
    """The worst slices, at most `shown`, worst first: rate and rest with intervals, p, p over all.

    Only slices with a higher rate than their rest. `worse_here` says whether p over all is at most
    ALPHA, which holds of these families; only then there is a `p_by_family`, and `worse` says
    whether the larger of both p is at most ALPHA over all slices, too.
    """
    if not len(slices.names) or not missed.any() or shown < 1:
        return []
    groups, families = (np.unique(names, return_inverse=True)[1]
                        for names in (truth.groups, truth.families))  # fmt: skip
    p = p_values(slices.masks, missed, groups)
    adjusted = holm(p.tolist())
    rounds = 1 + len(p) // _EACH
    # No other slice can be worse beyond chance, as a larger p makes none of Holm's smaller.
    drawn = {at: p_by_family(slices.masks[at], missed, families, rounds=rounds, seed=seed)
             for at, one in enumerate(adjusted) if one <= ALPHA}  # fmt: skip
    over_families = holm([max(one, drawn.get(at, 0.0)) for at, one in enumerate(p.tolist())])
    return [
        {"slice": slices.names[at], **rate_of(missed, slices.masks[at], truth, seed),
         "misses": int(missed[slices.masks[at]].sum()),
         "families": len(set(truth.families[slices.masks[at]])),
         "rest": rate_of(missed, ~slices.masks[at], truth, seed), "p": plain(float(p[at])),
         "p_over_all": plain(adjusted[at]), "worse_here": at in drawn,
         "p_by_family": plain(drawn[at]) if at in drawn else None,
         "worse": at in drawn and over_families[at] <= ALPHA}
        for at in _told(slices.masks, missed, p, shown)
    ]  # fmt: skip


def _told(masks: Bools, missed: Bools, p: Floats, shown: int) -> list[int]:
    """Numbers of the slices that are told, in their order."""
    rates, rest = _rates(masks, missed), _rates(~masks, missed)
    order = sorted(np.flatnonzero(rates > rest), key=lambda at: (p[at], -rates[at], at))
    kept: list[int] = []
    for at in map(int, order):
        shared = [(masks[at] & masks[k]).sum() for k in kept]
        if all(s <= MOST_SHARED * masks[at].sum() for s in shared):
            kept.append(at)
        if len(kept) == shown:
            break
    return kept


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
