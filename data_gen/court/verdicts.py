"""What all comparisons come to: the numbers of the judge's report, and which ones to read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from data_gen.court.comparison import (
    FLIP,
    IDENTICAL,
    LEANING,
    LOSS,
    TIE,
    UNSCORED,
    WIN,
)
from data_gen.court.winning import corrected, length_bias, sign_test, win_rate
from data_gen.public import order_key
from minicrit.measure_config import JudgeConfig
from minicrit.measures import Truth, entry
from minicrit.statistics import wilson

Row = Mapping[str, Any]
#: Outcomes as the report names them, model 1's and model 2's wins apart.
OUTCOMES = {"wins_1": WIN, "wins_2": LOSS, TIE: TIE, IDENTICAL: IDENTICAL, LEANING: LEANING,
            "flips": FLIP, UNSCORED: UNSCORED}  # fmt: skip
#: Comparisons of each outcome that are shown.
SHOWN = 4
_READ = ("wins_1", "wins_2", "flips", LEANING, TIE, UNSCORED)


def figures(
    rows: Sequence[Row], truth: Truth, better_wins: Row, settings: JudgeConfig, seed: int
) -> dict[str, Any]:
    """All numbers of the report.

    Args:
        rows: lines of `<out>.items.jsonl`, in the order of `truth`.
        truth: labels, groups and families of the items.
        better_wins: that rate of the judge's qualification.
        settings: uses `band` and `draws`.
        seed: of the draws.
    """
    points = np.array([np.nan if r["points"] is None else r["points"] for r in rows])
    told: dict[str, Any] = {"seed": seed, "draws": settings.draws}
    units = truth.units()
    lengths = tuple(np.array([_words(r[f"text_{n}"]) for r in rows]) for n in (1, 2))
    right = (float(better_wins["value"] or 0.0), int(better_wins["n"]))
    return {
        "outcomes": outcomes(rows),
        "faults": dict(sorted(Counter(fault for r in rows for fault in r["faults"]).items())),
        "rates": _rates(rows),
        "win_rate": win_rate(points, units, **told),
        "corrected": corrected(points, units, right, **told),
        "sign_test": sign_test(points, truth.groups),
        "slices": {axis: _slices(points, [r[axis] for r in rows], units, told)
                   for axis in ("label", "domain")},
        "length": length_bias(points, (lengths[0], lengths[1]), units, band=settings.band, **told),
    }  # fmt: skip


def outcomes(rows: Sequence[Row]) -> dict[str, int]:
    """How many comparisons came to what."""
    found = Counter(row["outcome"] for row in rows)
    return {name: found[outcome] for name, outcome in OUTCOMES.items()}


def to_read(rows: Sequence[Row], seed: int) -> list[dict[str, Any]]:
    """Some comparisons of each outcome, drawn by seed and item."""
    found = []
    for name in _READ:
        some = [row for row in rows if row["outcome"] == OUTCOMES[name]]
        some.sort(key=lambda row: order_key(f"{seed}/read", row["id"]))
        found += [{"what": name, **row} for row in some[:SHOWN]]
    return found


def _rates(rows: Sequence[Row]) -> dict[str, Any]:
    """Rates of what is neither won nor lost; flips and the like of what was asked about."""
    count = outcomes(rows)
    scored = len(rows) - count[UNSCORED]
    asked = scored - count[IDENTICAL]
    counted = {
        **{name: (count[name], asked) for name in ("flips", LEANING, TIE)},
        IDENTICAL: (count[IDENTICAL], scored), UNSCORED: (count[UNSCORED], len(rows)),
        "judge_agrees_with_label": _agreed(rows),
    }  # fmt: skip
    found = {name: wilson(*pair) for name, pair in counted.items()}
    return {name: entry(rate.value, rate.n, {"wilson": rate}) for name, rate in found.items()}


def _agreed(rows: Sequence[Row]) -> tuple[int, int]:
    """On how many rationales the judge says the same in both orders, and how often the label."""
    said = [row for row in rows if row["judge_calls_rationale"]]
    return sum(row["judge_calls_rationale"] == row["label"] for row in said), len(said)


def _slices(
    points: npt.NDArray[np.float64], values: Sequence[str],
    units: Mapping[str, npt.NDArray[np.str_]], told: Row,
) -> dict[str, Any]:  # fmt: skip
    names = np.array(values)
    return {
        str(name): win_rate(
            points[names == name], {k: c[names == name] for k, c in units.items()}, **told
        )
        for name in np.unique(names)
    }


def _words(text: str | None) -> float:
    return float(len((text or "").split()))
