"""Which flaw: the likeliest type of every item, read in the forward pass of its verdict.

Two questions. *If flawed*: of flawed items, is the likeliest type the right one, whatever the
verdict. *Over all items*: what callers get, where a valid item that is flagged is a false alarm of
the type named, and a flawed one that passes is a miss of its own. Macro means over the types that
occur in the truth (of a draw: in that draw).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from minicrit.measures import DRAWS, Truth, bounds_of, entry, mean_of
from minicrit.records import Example
from minicrit.statistics import Interval, drawn_sums

Floats = npt.NDArray[np.float64]
VALID = "valid"


@dataclass(frozen=True)
class Named:
    """What n items are and what was said of them: flaw types, or `valid`."""

    true: Sequence[str]
    said: Sequence[str]

    def columns(self) -> dict[str, Floats]:
        """(n, T) what each item adds to hits, said and true of each type that occurs."""
        names = sorted(set(self.true) - {VALID})
        true, said = (np.array(x, dtype=object)[:, None] == names for x in (self.true, self.said))
        return {k: np.asarray(v, dtype=np.float64) for k, v in
                (("hits", true & said), ("said", said), ("true", true))}  # fmt: skip


def macro(sums: Mapping[str, Floats]) -> Floats:
    """Mean F1 over the types with a true item, from sums (..., T); nan without any."""
    there = sums["true"] > 0
    f1 = 2 * sums["hits"] / np.where(there, sums["said"] + sums["true"], 1.0)
    number = there.sum(axis=-1)
    total = np.where(there, f1, 0.0).sum(axis=-1)
    mean = np.divide(total, number, out=np.full(total.shape, math.nan), where=number > 0)
    return np.asarray(mean, dtype=np.float64)


def assess_types(
    types: Sequence[str | None], p: Floats, examples: Sequence[Example], threshold: float, *,
    seed: int = 0, draws: int = DRAWS,
) -> dict[str, Any] | None:  # fmt: skip
    """The part of a judge's report on flaw types; None where it was not asked for them.

    Items without a score, and flawed ones whose type is not known, are left out.
    """
    if not types:
        return None
    rows = [n for n, (e, said) in enumerate(zip(examples, types, strict=True))
            if said and not math.isnan(p[n]) and (e.label == VALID or e.flaw_type)]  # fmt: skip
    asked = [examples[n] for n in rows]
    true = [e.flaw_type or VALID for e in asked]
    likeliest = [str(types[n]) for n in rows]
    said = [name if p[n] > threshold else VALID for n, name in zip(rows, likeliest, strict=True)]
    flawed = [n for n, name in enumerate(true) if name != VALID]
    if not flawed:
        return None
    alone = Named([true[n] for n in flawed], [likeliest[n] for n in flawed])
    right = np.array([a == b for a, b in zip(alone.true, alone.said, strict=True)], dtype=float)
    those = Truth.of([asked[n] for n in flawed])
    settings = {"seed": seed, "draws": draws}
    return {
        "macro_f1": _macro_f1(Named(true, said), Truth.of(asked), **settings),
        "macro_f1_if_flawed": _macro_f1(alone, those, **settings),
        "right_if_flawed": mean_of(right, those, seed=seed),
        "confusion": confusion(true, said),
    }  # fmt: skip


def confusion(true: Sequence[str], said: Sequence[str]) -> dict[str, dict[str, int]]:
    """How often which was said of what is true; rows in the order of names, `valid` last."""
    counts = Counter(zip(true, said, strict=True))
    rows = sorted(set(true), key=lambda name: (name == VALID, name))
    columns = sorted(set(said), key=lambda name: (name == VALID, name))
    return {row: {c: counts[row, c] for c in columns if counts[row, c]} for row in rows}


def _macro_f1(named: Named, truth: Truth, *, seed: int, draws: int) -> dict[str, Any]:
    """The value with an interval for each unit of resampling."""
    columns = named.columns()
    value = float(macro({name: column.sum(axis=0) for name, column in columns.items()}))
    intervals = {}
    for unit, clusters in truth.units().items():
        drawn = _drawn(columns, clusters, seed, draws)
        intervals[unit] = Interval(value, *bounds_of(value, drawn), len(named.true))
    return entry(value, len(named.true), intervals)


def _drawn(
    columns: Mapping[str, Floats], clusters: npt.NDArray[np.str_], seed: int, draws: int
) -> Floats | None:
    """Macro F1 on resamples of whole clusters, (draws,); None if there is only one."""
    codes = np.unique(clusters, return_inverse=True)[1]
    groups = int(codes.max()) + 1
    if groups == 1:
        return None
    of_item = np.concatenate(list(columns.values()), axis=1)
    of_cluster = np.zeros((groups, of_item.shape[1]))
    np.add.at(of_cluster, codes, of_item)
    sums = np.split(drawn_sums(of_cluster, draws, seed), len(columns), axis=1)
    return macro(dict(zip(columns, sums, strict=True)))
