"""Simple published trading rules, as they stand in the papers; long and short, one name at a time.

A rule sees closes up to the day on which it enters, at that day's close. `Entries` are arrays of
one length; an exit that has not come yet is -1. Cut the prices off anywhere and what happened
before is the same: tests/data_gen/test_market.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from data_gen.market.prices import Floats, Market

Ints = npt.NDArray[np.int64]
SKIP, YEAR, QUARTER = 21, 252, 63  # trading days


@dataclass(frozen=True)
class Entries:
    """Trades of one rule: entry and exit day, column of the name, side (1 or -1)."""

    entry: Ints
    exit: Ints
    name: Ints
    side: Ints

    def gross(self, market: Market) -> Floats:
        """Return of each before costs; nan while it is open."""
        closes = market.closes
        found = self.side * (closes[self.exit, self.name] / closes[self.entry, self.name] - 1)
        return np.where(self.exit >= 0, found, np.nan)


Draw = Callable[[Market, float], Entries]


@dataclass(frozen=True)
class Rule:
    """A rule: how it is called, its published setting, and others that people try.

    Attributes:
        title: for texts.
        setting: the published one.
        others: settings that one could have tried as well.
        told: a setting in words, with {x} for it.
        entries: all trades under a setting.
        level: what the published rule looks at on a day (market, day, column); nan for nothing.
        source: where it was published.
    """

    title: str
    setting: float
    others: tuple[float, ...]
    told: str
    entries: Draw
    level: Callable[[Market, int, int], float]
    source: str


def momentum(market: Market, lookback: float) -> Entries:
    """At the first close of a month: with the sign of the return from `lookback` to 21 days ago."""
    closes, far = market.closes, int(lookback)
    days = [t for t in _starts(market, months=1) if t >= far]
    signs = [np.sign(closes[t - SKIP] - closes[t - far]) for t in days]
    found = [
        (t, t + SKIP, name, int(side))
        for t, row in zip(days, signs, strict=True)
        for name, side in enumerate(row)
        if side
    ]
    return _entries(found, market)  # fmt: skip


def reversal(market: Market, threshold: float) -> Entries:
    """Long where RSI(2) < threshold above the 200-day mean; out above the 5-day mean, or 10 days.

    RSI(2) with Wilder's smoothing.
    """
    closes = market.closes
    rsi, slow, fast = _rsi(closes, 2), _mean(closes, 200), _mean(closes, 5)
    found = []
    for name in range(closes.shape[1]):
        signal = (rsi[:, name] < threshold) & (closes[:, name] > slow[:, name])
        leave = closes[:, name] > fast[:, name]
        free = 0
        for t in map(int, np.flatnonzero(signal)):
            if t >= free:
                after = np.flatnonzero(leave[t + 1 : t + 11])
                out = t + 1 + int(after[0]) if len(after) else t + 10
                found.append((t, out, name, 1))
                free = out + 1
    return _entries(sorted(found), market)


def crossover(market: Market, slow: float) -> Entries:
    """With the cross of the 50-day mean over (long) or under (short) the slow one, for 21 days."""
    gap = _mean(market.closes, 50) - _mean(market.closes, int(slow))
    side = np.sign(gap)
    crossed = (side[1:] * side[:-1] < 0) & np.isfinite(gap[:-1])
    found = [(int(t) + 1, int(t) + 1 + SKIP, int(name), int(side[t + 1, name]))
             for t, name in np.argwhere(crossed)]  # fmt: skip
    return _entries(found, market)


def low_volatility(market: Market, window: float) -> Entries:
    """At the first close of a quarter: long the five names of least volatility, for 63 days."""
    span = int(window)
    found = []
    for t in _starts(market, months=3):
        if t > span:
            moves = np.diff(np.log(market.closes[t - span : t + 1]), axis=0)
            calmest = np.sort(np.argsort(moves.std(axis=0), kind="stable")[:5])
            found += [(t, t + QUARTER, int(name), 1) for name in calmest]
    return _entries(found, market)


def turn_of_month(market: Market, hold: float) -> Entries:
    """Long from the close of the last weekday of a month, for `hold` days.

    That a day is the last weekday is known from the calendar; where it was a holiday, no trade.
    """
    last = [t for t, day in enumerate(market.days) if (day + _to_weekday(day)).month != day.month]
    found = [(t, t + int(hold), name, 1) for t in last for name in range(len(market.names))]
    return _entries(found, market)


def momentum_level(market: Market, day: int, name: int) -> float:
    """Return from 252 to 21 days ago."""
    return float(market.closes[day - SKIP, name] / market.closes[day - YEAR, name] - 1)


def reversal_level(market: Market, day: int, name: int) -> float:
    """RSI(2); it halves what it remembers every day, so 60 closes are enough."""
    return float(_rsi(market.closes[max(0, day - 60) : day + 1, name : name + 1], 2)[-1, 0])


def volatility_level(market: Market, day: int, name: int) -> float:
    """Volatility of the last 252 days, a year."""
    moves = np.diff(np.log(market.closes[day - YEAR : day + 1, name]))
    return float(moves.std()) * math.sqrt(YEAR)


def no_level(market: Market, day: int, name: int) -> float:
    """Nan: the rule looks at no figure."""
    return math.nan


RULES: dict[str, Rule] = {
    "momentum": Rule("12-1 momentum", 252, (63, 126, 189), "a look-back of {x:.0f} days", momentum,
                     momentum_level, "Moskowitz, Ooi and Pedersen (2012)"),
    "reversal": Rule("RSI(2) reversal", 10, (3, 5, 20), "an RSI threshold of {x:.0f}", reversal,
                     reversal_level, "Connors and Alvarez (2009)"),
    "crossover": Rule("50/200 moving-average cross", 200, (100, 125, 150),
                      "a slow mean of {x:.0f} days", crossover,
                      no_level, "Brock, Lakonishok and LeBaron (1992)"),
    "low_volatility": Rule("low-volatility rotation", 252, (63, 126, 504),
                           "a volatility window of {x:.0f} days", low_volatility,
                           volatility_level, "Blitz and van Vliet (2007)"),
    "turn_of_month": Rule("turn-of-month", 4, (2, 3, 6), "a holding time of {x:.0f} days",
                          turn_of_month, no_level, "Lakonishok and Smidt (1988)"),
}  # fmt: skip


def _entries(found: list[tuple[int, int, int, int]], market: Market) -> Entries:
    table = np.array(found, dtype=np.int64).reshape(-1, 4)
    table[table[:, 1] >= len(market.days), 1] = -1
    return Entries(*table.T)


def _starts(market: Market, months: int) -> list[int]:
    """Days that open a month (of every third: a quarter) after the first."""
    names = [(day.year, (day.month - 1) // months) for day in market.days]
    return [t for t in range(1, len(names)) if names[t] != names[t - 1]]


def _to_weekday(day: date) -> timedelta:
    return timedelta(days={4: 3, 5: 2}.get(day.weekday(), 1))


def _mean(closes: Floats, span: int) -> Floats:
    """Mean of the last `span` closes; nan before there are so many."""
    sums = np.cumsum(closes, axis=0)
    found = np.full_like(closes, np.nan)
    found[span - 1 :] = sums[span - 1 :]
    found[span:] -= sums[:-span]
    return found / span


def _rsi(closes: Floats, span: int) -> Floats:
    """Wilder's relative strength index; nan on the first `span` days."""
    moves = np.diff(closes, axis=0)
    up, down = np.zeros_like(closes), np.zeros_like(closes)
    for t, move in enumerate(moves, start=1):
        up[t] = (up[t - 1] * (span - 1) + np.maximum(move, 0)) / span
        down[t] = (down[t - 1] * (span - 1) + np.maximum(-move, 0)) / span
    total = up + down
    found = np.divide(100 * up, total, out=np.full_like(closes, 50.0), where=total > 0)
    found[: span + 1] = np.nan
    return found
