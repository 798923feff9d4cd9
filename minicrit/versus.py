"""One judge against another on the items that both scored.

Swapping the two mirrors every number exactly: a difference is always taken in one order, that of
the judges' scores, and turned round afterwards.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from minicrit import paired, slices
from minicrit.measures import DRAWS, Floats, Truth, draw, metrics, plain, without
from minicrit.records import Example
from minicrit.statistics import mcnemar_exact
from minicrit.unseen import Side, unseen

Bools = npt.NDArray[np.bool_]

#: What is compared, and whether more of it is better. Brier scores in place of calibration errors,
#: which chance raises, each by another amount: of 150 worlds (600 items, one judge calibrated, the
#: other 0.06 off) BCa bounds held the true difference in 3 %, reflected ones in 51 %.
COMPARED = {"f1": True, "fpr": False, "recall": True, "auroc": True, "brier": False, "aurc": False,
            "cost": False}  # fmt: skip
OF_P = ("auroc", "brier", "aurc")  # of p itself; the others are of verdicts
POWER = 0.8


def compare(
    a: Side,
    b: Side,
    truth: Truth,
    examples: Sequence[Example],
    *,
    margin: float,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """The comparison's row of the report.

    McNemar takes items as independent. Differences are resampled by twin group and by family, with
    BCa bounds; `low`, `high` and `p` are the least sure of both. Where all items are of one family
    that is known, every p is 1: no other family speaks for either judge. Items whose family is not
    known are as independent as their groups are.
    """
    both = ~np.isnan(a.p) & ~np.isnan(b.p)
    known = truth.only(both)
    first, second = (replace(side, p=side.p[both]) for side in (a, b))
    right = [(side.p > side.threshold) == known.flawed for side in (first, second)]
    only_a, only_b = int(np.sum(right[0] & ~right[1])), int(np.sum(right[1] & ~right[0]))
    n = int(both.sum())
    discordance = (only_a + only_b) / n if n else 0.0
    asked = [e for e, scored in zip(examples, both, strict=True) if scored]
    return {
        "a": a.name,
        "b": b.name,
        "n": n,
        "only_a_right": only_a,
        "only_b_right": only_b,
        "mcnemar_p": plain(mcnemar_exact(only_a, only_b)),
        "discordance": plain(discordance),
        "detectable": detectable_gap(n, discordance),
        "margin": margin,
        "differences": _differences((first, second), known, margin, seed, draws),
        "slices": slice_tests((right[0], right[1]), asked),
    }


def detectable_gap(n: int, discordance: float) -> float | None:
    """The least difference in accuracy that McNemar's test finds with 80 % power."""
    if not discordance:
        return None
    found = paired.detectable(n, discordance, POWER)
    return None if found is None else plain(found)


def detectable_line(n: int, discordance: float) -> str:
    """What is said before a run: what it can find at all."""
    gap = detectable_gap(n, discordance)
    found = (
        "no difference can be found"
        if gap is None
        else (
            f"a difference in accuracy of {100 * gap:.1f} points or more is found with "
            f"{100 * POWER:.0f} % power"
        )
    )
    return (f"{n} items; if two judges disagree on {100 * discordance:g} % of them, {found} "
            "(items as independent; fewer count where many come from one family)")  # fmt: skip


def slice_tests(right: tuple[Bools, Bools], examples: Sequence[Example]) -> list[dict[str, Any]]:
    """McNemar in every slice, with p values adjusted for all of them together (Holm)."""
    rows: list[dict[str, Any]] = []
    for axis, name_of in slices.AXES.items():
        labels = np.array([name_of(e) or "" for e in examples])
        for name in np.unique(labels):
            inside = labels == name
            if not name or inside.all():
                continue  # one slice of everything is no slice
            a, b = (side[inside] for side in right)
            only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
            rows.append({"axis": axis, "slice": str(name), "n": int(inside.sum()),
                         "only_a_right": only_a, "only_b_right": only_b,
                         "mcnemar_p": mcnemar_exact(only_a, only_b)})  # fmt: skip
    for row, adjusted in zip(rows, paired.holm([r["mcnemar_p"] for r in rows]), strict=True):
        row |= {"mcnemar_p": plain(row["mcnemar_p"]), "holm_p": plain(adjusted)}
    return rows


def _differences(
    sides: tuple[Side, Side], truth: Truth, margin: float, seed: int, draws: int
) -> dict[str, dict[str, Any]]:
    """By metric: A minus B, computed in one order of the two whatever they are called."""
    keys = [(side.threshold, side.p.tobytes()) for side in sides]
    turned = keys[0] > keys[1]
    order = sides[::-1] if turned else sides
    found = {}
    for unit, clusters in truth.units().items():
        drawn = [draw(s.p, truth, s.threshold, clusters, seed=seed, draws=draws) for s in order]
        left = [without(s.p, truth, s.threshold, clusters) for s in order]
        alone = clusters is not truth.groups and not drawn[0]
        found[unit] = {name: _one_family(name, order, truth) if alone else
                       _gap(name, order, truth, clusters, margin, drawn, left)
                       for name in COMPARED}  # fmt: skip
    rows = {
        name: _least_sure({unit: gaps[name] for unit, gaps in found.items()}) for name in COMPARED
    }
    return {name: _turned(row) if turned else row for name, row in rows.items()}


def _gap(
    name: str,
    sides: Sequence[Side],
    truth: Truth,
    clusters: npt.NDArray[np.str_],
    margin: float,
    drawn: Sequence[dict[str, Floats]],
    left: Sequence[dict[str, Floats]],
) -> dict[str, float]:
    """First minus second of one metric, with bounds and p values for one unit of resampling."""
    value = _value(name, sides, truth)
    if not drawn[0] or math.isnan(value):
        return {"value": value, **dict.fromkeys(("low", "high", "p", "p_below", "p_above"),
                                                math.nan)}  # fmt: skip
    gaps, rest = drawn[0][name] - drawn[1][name], left[0][name] - left[1][name]
    held, apart = _speaking(name, sides, truth, clusters)
    gap = paired.difference(value, gaps, rest, len(truth.flawed), apart=apart)
    hidden = (unseen(name, sides[0], truth), unseen(name, sides[1], truth))
    below, above = paired.one_sided(value, gaps, rest, margin, hidden, held=held)
    return {"value": value, "low": gap.low, "high": gap.high, "p": gap.p,
            "p_below": below, "p_above": above}  # fmt: skip


def _speaking(
    name: str, sides: Sequence[Side], truth: Truth, clusters: npt.NDArray[np.str_]
) -> tuple[int, int]:
    """How many clusters hold items that a metric is over, and in how many the judges differ there.

    An area under the ROC curve holds flawed items against valid ones: the fewer clusters of either.
    One under risk and coverage orders by how far p is from the threshold: judges of two thresholds
    may differ by it anywhere.
    """
    count = partial(_count, clusters)
    first, second = (side.p if name in OF_P else side.p > side.threshold for side in sides)
    over = {"fpr": ~truth.flawed, "recall": truth.flawed}.get(name, np.ones_like(truth.flawed))
    found = count(over), count(over & (first != second))
    if name == "aurc" and sides[0].threshold != sides[1].threshold:
        return found[0], found[0]
    if name != "auroc":
        return found
    fewest = fewer_of_either(truth, clusters)
    return min(found[0], fewest), min(found[1], fewest)


def fewer_of_either(truth: Truth, clusters: npt.NDArray[np.str_]) -> int:
    """Clusters that hold flawed items or valid ones, whichever are fewer."""
    return min(_count(clusters, mask) for mask in (truth.flawed, ~truth.flawed))


def _count(clusters: npt.NDArray[np.str_], mask: Bools) -> int:
    return len(np.unique(clusters[mask]))


def _one_family(name: str, sides: Sequence[Side], truth: Truth) -> dict[str, float]:
    """The difference in a unit of which there is one: no bounds, and nothing is shown."""
    value = _value(name, sides, truth)
    p = math.nan if math.isnan(value) else 1.0
    return {"value": value, "low": math.nan, "high": math.nan,
            **dict.fromkeys(("p", "p_below", "p_above"), p)}  # fmt: skip


def _value(name: str, sides: Sequence[Side], truth: Truth) -> float:
    first, second = (metrics(side.threshold)[name](side.p, truth) for side in sides)
    return first - second


def _least_sure(units: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The widest bounds and the largest p values over the units, and the bounds of each.

    `p_below`: that A is below B by the margin or more; `p_above`: above by as much; `p_apart`, the
    larger of them: that they are not equivalent.
    """

    def over(key: str, pick: Callable[[Iterable[float]], float]) -> float | None:
        known = [row[key] for row in units.values() if not math.isnan(row[key])]
        return plain(pick(known)) if known else None

    first = next(iter(units.values()))
    row = {"value": plain(first["value"]), "low": over("low", min), "high": over("high", max),
           **{key: over(key, max) for key in ("p", "p_below", "p_above")}}  # fmt: skip
    sides = [p for p in (row["p_below"], row["p_above"]) if p is not None]
    intervals = {unit: [plain(r["low"]), plain(r["high"])] for unit, r in units.items()}
    return {**row, "p_apart": max(sides, default=None), "intervals": intervals}


def _turned(row: dict[str, Any]) -> dict[str, Any]:
    """B minus A for A minus B."""
    return {
        **row,
        "value": _minus(row["value"]),
        "low": _minus(row["high"]),
        "high": _minus(row["low"]),
        "p_below": row["p_above"],
        "p_above": row["p_below"],
        "intervals": {k: [_minus(high), _minus(low)] for k, (low, high) in
                      row["intervals"].items()},
    }  # fmt: skip


def _minus(x: float | None) -> float | None:
    return None if x is None else 0.0 - x
