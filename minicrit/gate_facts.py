"""The figures of a gate's report, as JSON values: Sharpe ratios are annual here, None undefined."""

# mypy: disable-error-code="import-untyped"
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from minicrit import scores, sharpe
from minicrit.book import Book
from minicrit.gate_config import SharpeConfig
from minicrit.ledoit_wolf import sharpe_difference
from minicrit.measures import HALF, entry, plain
from minicrit.paired import least_p
from minicrit.statistics import Ratio, paired_bootstrap, wilson
from minicrit.trades import Trade

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_LEVEL = 0.05  # of a two-sided p that leaves a 95 % interval
_Z = 1.959963984540054  # of a two-sided 95 % interval
_ROUNDING = 1e-12  # a variance of the difference, times periods, that is no more is none


def plain_row(row: Mapping[str, float]) -> dict[str, Any]:
    """JSON numbers; whole ones stay whole."""
    return {k: v if isinstance(v, int) else plain(v) for k, v in row.items()}


def book_facts(
    book: Book, weights: Floats, series: Floats, settings: SharpeConfig
) -> dict[str, Any]:
    """What a book is like by itself."""
    annual = math.sqrt(book.periods)
    spread = settings.trials_spread
    return plain_row({
        "trades": int(np.sum(weights > 0)),
        "sharpe": sharpe.sharpe_ratio(series) * annual,
        "psr": sharpe.probabilistic_sharpe(series),
        "dsr": sharpe.deflated_sharpe(series, settings.trials,
                                      None if spread is None else spread / annual),
        "mean": float(np.mean(series)) * book.periods,
        "volatility": float(np.std(series)) * annual,
        "total": float(np.sum(series)),
        "drawdown": sharpe.max_drawdown(series),
        "turnover": book.turnover(weights),
        "busy": book.busy(weights),
    })  # fmt: skip


def difference_facts(
    book: Book, before: Floats, after: Floats, settings: SharpeConfig, seed: int
) -> dict[str, Any]:
    """After less before: Ledoit and Wolf's interval, Memmel's beside it, and years for a proof."""
    pair = np.stack([before, after], axis=1)
    annual = math.sqrt(book.periods)
    first, second = sharpe.sharpe_ratio(before), sharpe.sharpe_ratio(after)
    if math.isnan(first) or math.isnan(second) or np.array_equal(before, after):
        return _undefined(0.0 if np.array_equal(before, after) else math.nan)
    found = sharpe_difference(pair, block=settings.block, draws=settings.draws, seed=seed)
    robust = found.error**2 * len(before)
    if not robust > _ROUNDING:  # one book is the other in another size
        return _undefined(found.value * annual)
    rho = float(np.corrcoef(before, after)[0, 1])
    variance = sharpe.memmel_variance(first, second, rho)
    error = math.sqrt(max(variance, 0.0) / len(before))
    gap = second - first
    return plain_row({
        "value": found.value * annual,
        "low": found.low * annual,
        "high": found.high * annual,
        "p": found.p,
        "error": found.error * annual,
        "block": found.block,
        "rho": rho,
        "memmel_low": (gap - _Z * error) * annual,
        "memmel_high": (gap + _Z * error) * annual,
        "memmel_p": 2 * float(special.ndtr(-abs(gap) / error)) if error else math.nan,
        "years": sharpe.years_needed(settings.gain, robust),
        "years_memmel": sharpe.years_needed(settings.gain, variance),
    })  # fmt: skip


def _undefined(value: float) -> dict[str, Any]:
    """A difference of which nothing but itself is known."""
    names = ("low", "high", "p", "error", "rho", "memmel_low", "memmel_high", "memmel_p", "years",
             "years_memmel")  # fmt: skip
    return {"value": plain(value), "block": None, **dict.fromkeys(names)}


def verdict_facts(p: Floats, flagged: Bools, flawed: Bools) -> dict[str, Any]:
    """How right the gate was where labels are known; what it could not read it let pass."""
    said = flagged.astype(np.float64)
    counts = scores.confusion(said, flawed, HALF)
    scored = ~np.isnan(p)
    found: dict[str, Any] = {
        "f1": plain(scores.f1(said, flawed, HALF)),
        "auroc": plain(scores.auroc(p[scored], flawed[scored])) if scored.any() else None,
    }
    for name, hits, misses in (("recall", counts.tp, counts.fn), ("fpr", counts.fp, counts.tn)):
        rate = wilson(int(hits), int(hits + misses))
        found[name] = entry(rate.value, rate.n, {"wilson": rate})
    return found


def outcome_facts(trades: Sequence[Trade], flagged: Bools, seed: int) -> dict[str, Any]:
    """Mean return of kept and flagged trades, and the difference resampled by month of entry.

    No p is below what so many months can give, and where that proves nothing there are no bounds.
    They are the months of kept or of flagged trades, whichever are fewer.
    """
    gains = np.array([trade.gain for trade in trades])
    months = np.array([f"{trade.opened:%Y-%m}" for trade in trades])

    kept, halted = (Ratio(gains * mask, mask) for mask in (~flagged, flagged))
    gap = paired_bootstrap(kept, halted, months, seed=seed)
    least = least_p(min(len(set(months[~flagged])), len(set(months[flagged]))))
    p = float(np.maximum(gap.p, min(1.0, least)))  # nan stays
    low, high = (gap.low, gap.high) if least <= _LEVEL else (math.nan, math.nan)
    alike = np.ones(len(gains))
    return {
        "kept": plain(kept(alike)),
        "flagged": plain(halted(alike)),
        "difference": plain_row({"value": gap.value, "low": low, "high": high, "p": p}),
        "months": len(set(months)),
    }
