"""What was true of a rule and a name on the day of an entry: the figures that rationales quote.

Only trades that were closed before that day count, after costs, on the same name and side. Returns
are shares, 0.012 for 1.2 %.
"""

import math
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from data_gen.market.prices import Floats, Market
from data_gen.market.rules import QUARTER, RULES, YEAR, Entries, Ints, Rule

Bools = npt.NDArray[np.bool_]
BEST_YEARS = 3
_YEAR_TRADES = 2  # fewer say nothing of a year


@dataclass(frozen=True)
class Sample:
    """n trades: how many closed in profit, mean net return and its standard error."""

    n: int
    wins: int
    mean: float
    error: float

    @classmethod
    def of(cls, net: Floats) -> "Sample":
        """Of net returns (n,); mean and error are nan where they are undefined."""
        n = len(net)
        mean = float(net.mean()) if n else math.nan
        error = float(net.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
        return cls(n, int(np.sum(net > 0)), mean, error)


@dataclass(frozen=True)
class Facts:
    """Everything about one entry.

    Attributes:
        rule: key of the rule.
        name: what is traded.
        side: 1 long, -1 short.
        day: of the entry.
        since: year of the first trade of the record.
        record: all closed trades.
        gross: their mean before costs.
        streak: latest trades that all won (positive) or all lost (negative), how many.
        streak_sum: their net returns added up.
        best_years: calendar years with the highest means, in order of time.
        best: the trades of those years.
        rough: whether `volatility` is above the median of all days so far.
        volatility: of an equal-weighted basket over the last 63 days, a year.
        signal: what the rule looks at, in its own unit.
        same_market: trades entered in a market like today's.
        other_market: trades entered in the other sort of market.
        settings: mean net return under each setting, the published one first.
    """

    rule: str
    name: str
    side: int
    day: date
    since: int
    record: Sample
    gross: float
    streak: int
    streak_sum: float
    best_years: tuple[int, ...]
    best: Sample
    rough: bool
    signal: float
    volatility: float
    same_market: Sample
    other_market: Sample
    settings: tuple[tuple[float, float], ...]


class History:
    """All trades of all rules on a market, from which the facts of any day are cut."""

    def __init__(self, market: Market, cost: float) -> None:
        self.market, self.cost = market, cost
        self.entries = {
            (key, setting): rule.entries(market, setting)
            for key, rule in RULES.items()
            for setting in (rule.setting, *rule.others)
        }
        self.net = {key: e.gross(market) - cost for key, e in self.entries.items()}
        self.alike = {key: _alike(e) for key, e in self.entries.items()}
        self.volatility = market_volatility(market)
        self.rough = _rough(self.volatility)

    def published(self, rule: str) -> Entries:
        """Trades of a rule under its published setting."""
        return self.entries[rule, RULES[rule].setting]

    def facts(self, rule: str, at: int) -> Facts | None:
        """Of trade number `at` of a rule; None where there is no record yet."""
        key = (rule, RULES[rule].setting)
        entries, net = self.entries[key], self.net[key]
        day, name, side = (int(a[at]) for a in (entries.entry, entries.name, entries.side))
        closed = self._closed(key, day, name, side)
        if len(closed) < _YEAR_TRADES or math.isnan(self.volatility[day]):
            return None
        gains, opened = net[closed], entries.entry[closed]
        years = np.array([self.market.days[t].year for t in opened])
        streak, total = _streak(gains)
        best_years, best = _best_years(gains, years)
        known = ~np.isnan(self.volatility[opened])  # the first quarter is neither calm nor rough
        like = self.rough[opened] == self.rough[day]
        return Facts(
            rule=rule, name=self.market.names[name], side=side, day=self.market.days[day],
            since=int(years[0]), record=Sample.of(gains), gross=float(gains.mean()) + self.cost,
            streak=streak, streak_sum=total, best_years=best_years, best=best,
            rough=bool(self.rough[day]), signal=RULES[rule].level(self.market, day, name),
            volatility=float(self.volatility[day]),
            same_market=Sample.of(gains[known & like]),
            other_market=Sample.of(gains[known & ~like]),
            settings=self._settings(RULES[rule], rule, (day, name, side)),
        )  # fmt: skip

    def _settings(
        self, rule: Rule, key: str, where: tuple[int, int, int]
    ) -> tuple[tuple[float, float], ...]:
        found = []
        for setting in (rule.setting, *rule.others):
            net = self.net[key, setting][self._closed((key, setting), *where)]
            if len(net):
                found.append((setting, float(net.mean())))
        return tuple(found)

    def _closed(self, key: tuple[str, float], day: int, name: int, side: int) -> Ints:
        """Numbers of the trades on the name and side whose exit lies before the day."""
        numbers = self.alike[key].get((name, side), np.empty(0, dtype=np.int64))
        exits = self.entries[key].exit[numbers]
        return numbers[(exits >= 0) & (exits < day)]


def market_volatility(market: Market) -> Floats:
    """Annual volatility of an equal-weighted basket over the last 63 days, (T,); nan before."""
    moves = np.diff(np.log(market.closes), axis=0).mean(axis=1)
    found = np.full(len(market.days), np.nan)
    for t in range(QUARTER, len(market.days)):
        found[t] = moves[t - QUARTER : t].std(ddof=1) * math.sqrt(YEAR)
    return found


def _rough(volatility: Floats) -> Bools:
    """Above the median of all days so far."""
    found = np.zeros(len(volatility), dtype=np.bool_)
    for t in range(QUARTER, len(volatility)):
        found[t] = volatility[t] > np.median(volatility[QUARTER : t + 1])
    return found


def _alike(entries: Entries) -> dict[tuple[int, int], Ints]:
    """Numbers of the trades of each name and side."""
    pairs = np.stack([entries.name, entries.side], axis=1)
    return {(int(name), int(side)): np.flatnonzero((pairs == (name, side)).all(axis=1))
            for name, side in np.unique(pairs, axis=0)}  # fmt: skip


def _streak(gains: Floats) -> tuple[int, float]:
    """Length of the last run of wins (positive) or losses (negative), and its sum."""
    won = gains > 0
    turns = np.flatnonzero(won != won[-1])
    length = len(gains) - (int(turns[-1]) + 1 if len(turns) else 0)
    return (length if won[-1] else -length), float(gains[-length:].sum())


def _best_years(gains: Floats, years: npt.NDArray[np.int64]) -> tuple[tuple[int, ...], Sample]:
    first = int(years[0])
    counts = np.bincount(years - first)
    totals = np.bincount(years - first, weights=gains)
    means = {
        first + int(at): totals[at] / counts[at] for at in np.flatnonzero(counts >= _YEAR_TRADES)
    }
    best = tuple(sorted(sorted(means, key=lambda year: -means[year])[:BEST_YEARS]))
    return best, Sample.of(gains[np.isin(years, best)])
