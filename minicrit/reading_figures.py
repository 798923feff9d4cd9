"""What arms that end in a readout say of the labels, of one another, and how far layout moves them.

Every arm is held against the trained prompt on the items that both read: exact McNemar, and the
differences of F1, false-positive rate, AUROC and Brier score with BCa bounds, resampled by
group and by family. The p values of one experiment are adjusted together (Holm).
"""

# mypy: disable-error-code="import-untyped"
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from minicrit import measures, paired, versus
from minicrit.arm_answers import Answers
from minicrit.arms import PLAIN, REFORMATTING, THINKING, THINKING_STYLE, THOUGHT
from minicrit.measures import HALF, Truth, plain
from minicrit.records import Example
from minicrit.statistics import Interval, Statistic, cluster_bootstrap, mean_over
from minicrit.unseen import Side

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

METRICS = ("accuracy", "f1", "fpr", "recall", "auroc", "ece")
TESTED = ("f1", "fpr", "auroc", "brier")
_MARGIN = 0.02  # of the one-sided tests of `versus`, which are not reported here


def column(found: Answers, key: str) -> Floats:
    """One number of each answer, (n,); nan where the item was not read."""
    return np.array([a.get(key, np.nan) for a in found.answers], dtype=np.float64)


def threshold_of(found: Answers, own: float) -> float:
    """The critic's own for the trained prompt and its layouts; 0.5 of what the model says else."""
    return own if found.arm.own else HALF


def arm_row(found: Answers, own: float, *, trained: bool, seed: int, draws: int) -> dict[str, Any]:
    """One arm of the report: metrics with intervals, and what it costs in tokens."""
    p, threshold = column(found, "p"), threshold_of(found, own)
    read = ~np.isnan(p)
    truth = Truth.of(found.examples).only(read)
    every = measures.measure(p[read], truth, threshold, seed=seed, draws=draws)
    row = {
        "experiment": found.arm.experiment,
        "about": found.arm.about,
        "at_once": found.arm.each,
        "trained": trained and found.arm.name == PLAIN,
        "threshold": plain(threshold),
        "n": int(read.sum()),
        "unscored": int((~read).sum()),
        "metrics": {name: every[name] for name in METRICS},
        "tokens_read": plain(float(column(found, "read")[read].mean())),
        "tokens_written": plain(float(column(found, "wrote")[read].mean())),
    }
    if found.arm.experiment == THOUGHT:
        ends = [a["ended"] for _, a in found.known]
        row["ended"] = {end: ends.count(end) for end in sorted(set(ends))}
        row["empty"] = sum(not a["text"].strip() for _, a in found.known)
    return row


def comparisons(
    reading: Sequence[Answers], own: float, *, seed: int, draws: int
) -> list[dict[str, Any]]:
    """Each arm against the trained prompt, and reasoning against the same prompt without it."""
    by_name = {found.arm.name: found for found in reading}
    asked = [(name, PLAIN) for name in by_name if name != PLAIN]
    if THINKING in by_name:
        asked.append((THINKING, THINKING_STYLE))
    rows = [_compared(by_name[a], by_name[b], own, seed, draws) for a, b in asked]
    for experiment in {row["experiment"] for row in rows}:
        adjust([row for row in rows if row["experiment"] == experiment])
    return rows


def _compared(a: Answers, b: Answers, own: float, seed: int, draws: int) -> dict[str, Any]:
    sides = [Side(f.arm.name, column(f, "p"), threshold_of(f, own)) for f in (a, b)]
    found = versus.compare(sides[0], sides[1], Truth.of(a.examples), a.examples, margin=_MARGIN,
                           seed=seed, draws=draws)  # fmt: skip
    kept = ("a", "b", "n", "only_a_right", "only_b_right", "mcnemar_p", "detectable")
    gaps = {
        name: {key: found["differences"][name][key] for key in ("value", "low", "high", "p")}
        for name in TESTED
    }
    return {"experiment": a.arm.experiment, **{k: found[k] for k in kept}, "differences": gaps}


def adjust(rows: Sequence[dict[str, Any]]) -> None:
    """Adds `holm_p` beside every defined p value of some comparisons, adjusted together."""
    places = [(row, "mcnemar_p", "mcnemar_holm_p") for row in rows if "mcnemar_p" in row]
    places += [(gap, "p", "holm_p") for row in rows for gap in row["differences"].values()]
    known = [place for place in places if place[0][place[1]] is not None]
    adjusted = paired.holm([place[0][place[1]] for place in known])
    for entry, _, key in places:
        entry[key] = None
    for (entry, _, key), p in zip(known, adjusted, strict=True):
        entry[key] = plain(p)


def spread(
    reading: Sequence[Answers], own: float, *, seed: int, draws: int
) -> dict[str, Any] | None:
    """How far the ten layouts and the trained prompt lie apart; None if they were not asked.

    `accuracy`: highest minus lowest of the formats (arXiv 2310.11324), a maximum over noisy
    numbers, so it is above zero by chance alone; `flips`: share of the items whose verdict is
    another than under the trained prompt, by format; `any_flip`: under any of them; `log_odds_sd`:
    standard deviation over the formats, mean over the items, in nats.
    """
    formats = [f for f in reading if f.arm.name == PLAIN or f.arm.experiment == REFORMATTING]
    if len(formats) < 2:  # noqa: PLR2004 - the trained prompt alone
        return None
    odds = np.stack([column(f, "log_odds") for f in formats])
    said = np.stack([column(f, "p") > threshold_of(f, own) for f in formats])
    read: Bools = np.asarray(~np.isnan(odds).any(0))
    examples = [e for e, kept in zip(formats[0].examples, read, strict=True) if kept]
    return {
        "formats": len(formats),
        "n": len(examples),
        **_spread(odds[:, read], said[:, read], examples, seed, draws),
        "flips": {f.arm.name: plain(float(row.mean()))
                  for f, row in zip(formats[1:], (said != said[0])[1:, read], strict=True)},
    }  # fmt: skip


def intervals(statistic: Statistic, truth: Truth, *, seed: int, draws: int) -> dict[str, Interval]:
    """A statistic of item weights on resamples of each unit: by group and by family."""
    return {unit: cluster_bootstrap(statistic, clusters, draws=draws, seed=seed)
            for unit, clusters in truth.units().items()}  # fmt: skip


def _spread(
    odds: Floats, said: Bools, examples: Sequence[Example], seed: int, draws: int
) -> dict[str, Any]:
    """With intervals of each unit. Shapes: (formats, n)."""
    truth = Truth.of(examples)
    right = (said == truth.flawed).astype(np.float64)
    flipped, away = (said != said[0]).any(0).astype(np.float64), odds.std(0)

    def over(statistic: Statistic) -> dict[str, Any]:
        found = intervals(statistic, truth, seed=seed, draws=draws)
        return measures.entry(next(iter(found.values())).value, len(examples), found)

    return {
        "accuracy": over(lambda w: float(np.ptp(right @ w) / w.sum())),
        "lowest": plain(float(right.mean(1).min())),
        "highest": plain(float(right.mean(1).max())),
        "any_flip": over(mean_over(flipped)),
        "log_odds_sd": over(mean_over(away)),
    }
