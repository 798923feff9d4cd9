"""Figures of writing with drafts: speed by paired items, acceptance, identity with a bound."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minicrit.statistics import Ratio, clopper_pearson, cluster_bootstrap

Row = Mapping[str, Any]
#: Ways of writing beside the arms: as these, but without drafts; and greedy, which shares nothing
#: with them and reads the prompt for the verdict and again for the text.
PLAIN, GREEDY = "plain", "greedy"
#: Logits closer than this may be exchanged by another order of summation in float32.
NEAR = 1e-4
_LEVEL = 0.95
_BOTH_SIDES = 2 * _LEVEL - 1  # of an interval whose upper bound is one-sided at that level


def speeds(rows: Sequence[Row], arms: Sequence[str]) -> dict[str, Any]:
    """Of each arm: how many times as fast, tokens a forward, what was drafted and accepted."""
    return {name: _arm(rows, name) for name in arms}


def _arm(rows: Sequence[Row], name: str) -> dict[str, Any]:
    costs = [row["costs"][name] for row in rows]
    forwards, written = (sum(c[key] for c in costs) for key in ("forwards", "written"))
    drafted, accepted = (Counter[str]() for _ in range(2))
    for cost in costs:
        drafted.update(cost["drafted"])
        accepted.update(cost["accepted"])
    drafts = sum(c["drafts"] for c in costs)
    return {
        "n": len(rows),
        "cpu": _ratio(rows, name, "cpu"),
        "wall": _ratio(rows, name, "wall"),
        "tokens_per_forward": written / forwards,
        "forwards_per_token": forwards / written,
        "accepted_per_draft": accepted.total() / drafts if drafts else 0.0,
        "drafted": dict(drafted),
        "accepted": dict(accepted),
    }


def _ratio(rows: Sequence[Row], name: str, clock: str) -> dict[str, float]:
    """Seconds of plain writing over those of an arm, over the same items; resampled by item."""
    plain, other = (np.array([row["costs"][n][clock] for row in rows]) for n in (PLAIN, name))
    found = cluster_bootstrap(Ratio(plain, other), np.arange(len(rows)), level=_LEVEL)
    return {"value": found.value, "low": found.low, "high": found.high,
            "plain_seconds": float(plain.mean()), "seconds": float(other.mean())}  # fmt: skip


def reread(rows: Sequence[Row]) -> dict[str, float]:
    """Seconds of a critique, by each clock, whose prompt is read again for the text."""
    return {f"{clock}_seconds": float(np.mean([row["costs"][GREEDY][clock] for row in rows]))
            for clock in ("cpu", "wall")}  # fmt: skip


def identity(rows: Sequence[Row], checked: Sequence[Row], arms: Sequence[str]) -> dict[str, Any]:
    """Of each arm: texts of n that are the greedy ones; the rate of others that is not excluded."""
    found = {}
    for name in arms:
        flips = [row["flips"].get(name) for row in rows]
        closest = [row["costs"][name]["closest"] for row in rows]
        if name == arms[-1]:
            flips += [row["flip"] for row in checked]
            closest += [row["closest"] for row in checked]
        lost = [flip for flip in flips if flip]
        found[name] = {
            "n": len(flips),
            "identical": len(flips) - len(lost),
            "most_others": clopper_pearson(len(lost), len(flips), _BOTH_SIDES).high,
            "flips": lost,
            "closest": min(closest),
            "near_ties": sum(value < NEAR for value in closest),
        }
    return found


def break_even(batches: Sequence[Row]) -> dict[str, Any]:
    """Speed-up at each batch size, and the largest size up to which drafts gain at every one.

    Sizes are told from the smallest on, in whatever order they were asked for.
    """
    sizes = [{**row, "speedup": row["plain"] / row["drafts"]}
             for row in sorted(batches, key=lambda row: row["batch"])]  # fmt: skip
    gains = [row["batch"] for row in sizes]
    for at, row in enumerate(sizes):
        if row["speedup"] < 1:
            gains = gains[:at]
            break
    return {"sizes": sizes, "pays_up_to": max(gains, default=None)}
