"""From trades to a series of returns: what a book of them earned in each period.

The capital is fixed: returns of a day add up over trades and are not reinvested. A day without
trades counts as zero. With prices, a trade earns on each day what its position gained since the day
before, and on its last day also the rest of its stated return (costs, slippage); a large rest means
that the prices are not those of the trade, as closes without their split are not. Without prices
the whole return falls on the exit day, which keeps its size but not its path: trades that overlap
are then less alike than they were, so give prices where trades last for more than a few days.
"""

# mypy: disable-error-code="import-untyped"
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse

from minicrit.jsonl import shown
from minicrit.trades import Prices, Trade

Floats = npt.NDArray[np.float64]
DAYS_A_YEAR = 365.25
_SATURDAY = 5


@dataclass(frozen=True)
class Book:
    """What n trades earned over T periods.

    Attributes:
        starts: first day of each period, (T,).
        earned: (T, n) sparse, returns on the capital.
        open: (T, n) sparse, size of the position in periods in which it was open.
        sizes: (n,) share of the capital.
        rests: (n,) what the prices left of each return to the last day; 0 without prices.
        periods: a year, as the calendar has them.
        years: from first to last day.
    """

    starts: list[date]
    earned: "sparse.csr_array"
    open: "sparse.csr_array"
    sizes: Floats
    rests: Floats
    periods: float
    years: float

    def series(self, weights: Floats) -> Floats:
        """Returns (T,) where trade i is taken at weights[i] of its size; (T, k) for (n, k)."""
        return np.asarray(self.earned @ weights)

    def turnover(self, weights: Floats) -> float:
        """Capital bought and sold, times a year."""
        return float(2 * self.sizes @ weights / self.years)

    def busy(self, weights: Floats) -> float:
        """Share of the periods with a position."""
        return float(np.mean(self.open @ weights > 0))


def build_book(trades: Sequence[Trade], period: str, prices: Prices | None, path: str) -> Book:
    """The book of trades.

    Args:
        trades: at least one.
        period: `day`, `week` (from Monday) or `month`.
        prices: by instrument and day; None books each return on the exit day.
        path: of the trades, for messages.

    Raises:
        ValueError: a trade that the prices do not cover, with file and line.
    """
    days = _calendar(trades, prices)
    starts, place = _periods(days, period)
    cells: dict[tuple[int, int], float] = {}
    holding: dict[tuple[int, int], float] = {}
    rests = []
    for column, trade in enumerate(trades):
        marked = list(_marked(trade, prices, Path(path)))
        rests.append(marked[-1][1] if len(marked) > 1 else 0.0)
        for day, earned in marked:
            at = (place[day], column)
            cells[at] = cells.get(at, 0.0) + trade.size * earned
        for day in days[bisect_left(days, trade.opened) : bisect_right(days, trade.closed)]:
            holding[place[day], column] = trade.size
    shape = (len(starts), len(trades))
    years = (days[-1] - days[0] + timedelta(days=1)).days / DAYS_A_YEAR
    return Book(
        starts=starts,
        earned=_matrix(cells, shape),
        open=_matrix(holding, shape),
        sizes=np.array([trade.size for trade in trades]),
        rests=np.array(rests),
        periods=len(starts) / years,
        years=years,
    )


def _marked(trade: Trade, prices: Prices | None, path: Path) -> Iterator[tuple[date, float]]:
    """(day, return on the position) while the trade was open; with prices, the rest comes last."""
    if prices is None or trade.closed == trade.opened:
        yield trade.closed, trade.gain
        return
    closes = prices.get(trade.instrument, {})
    for day in (trade.opened, trade.closed):
        if day not in closes:
            raise ValueError(f"{path}:{trade.line}: expected a price of {shown(trade.instrument)} "
                             f"on {day}, got none; add it to the prices")  # fmt: skip
    days = sorted(day for day in closes if trade.opened <= day <= trade.closed)
    base, left = closes[trade.opened], trade.gain
    for before, day in pairwise(days):
        earned = trade.side * (closes[day] - closes[before]) / base
        left -= earned
        yield day, earned
    yield trade.closed, left


def _calendar(trades: Sequence[Trade], prices: Prices | None) -> list[date]:
    """Every day that counts: those of the prices, else weekdays, else (weekend trades) all."""
    first, last = min(t.opened for t in trades), max(t.closed for t in trades)
    if prices is not None:
        known = {day for series in prices.values() for day in series if first <= day <= last}
        return sorted(known | {trade.closed for trade in trades} | {first})
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    if any(day.weekday() >= _SATURDAY for t in trades for day in (t.opened, t.closed)):
        return days
    return [day for day in days if day.weekday() < _SATURDAY]


def _periods(days: Sequence[date], period: str) -> tuple[list[date], dict[date, int]]:
    """The first day of each period, and the number of the period of each day."""
    starts: list[date] = []
    place = {}
    for day in days:
        if not starts or _name(day, period) != _name(starts[-1], period):
            starts.append(day)
        place[day] = len(starts) - 1
    return starts, place


def _name(day: date, period: str) -> object:
    names = {"day": day, "week": day.isocalendar()[:2], "month": (day.year, day.month)}
    return names[period]


def _matrix(cells: dict[tuple[int, int], float], shape: tuple[int, int]) -> "sparse.csr_array":
    places = np.array(list(cells), dtype=np.int64).reshape(-1, 2)
    values = np.array(list(cells.values()))
    return sparse.csr_array((values, (places[:, 0], places[:, 1])), shape=shape)
