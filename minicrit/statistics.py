"""Uncertainty: intervals for rates, the bootstrap over whole groups, paired comparisons.

A bootstrapped statistic is a function of *item weights*: `statistic(weights) -> float`, where
weights[i] says how often item i was drawn (all ones = the data as they are). Weights, not indices,
because a group drawn twice must count as two groups, and a list of indices cannot tell two copies
of one group from one (`scores.twin_consistency` is such a statistic). Any function in `scores`
fits: `cluster_bootstrap(lambda w: auroc(p, flawed, weights=w), families)`.

The bootstrap knows only the spread it sees. Where every group scores the same (no errors at all)
its interval has no width, and `measures.entry` does not show it: give a bare rate `wilson` or
`clopper_pearson`. Percentile intervals are
too narrow for few groups: simulated on F1 and AUROC with strong group effects, a 95 % interval
covers 87 % with 10 groups, 91 % with 20, 92 % with 50 and 93 % with 100.

Most of what is bootstrapped is a ratio of sums, a mean above all: as a `Ratio` its draws are one
product of matrices, some hundred times as fast as a function that is called for each. So are those
of `resampling.Auroc`.
"""

# mypy: disable-error-code="import-untyped"
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Weights = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.generic]
Codes = npt.NDArray[np.intp]
Counts = npt.NDArray[np.uint16]
Statistic = Callable[[Weights], float]

MAX_NAN_SHARE = 0.05  # of the draws; beyond it an interval would describe the lucky draws only
_CELLS = 500_000  # draws x groups (or items) that are in memory at once


@runtime_checkable
class AtOnce(Protocol):
    """A statistic that gives its values on all draws at once, faster than one after the other."""

    def __call__(self, weights: Weights) -> float:
        """The value under item weights (n,)."""

    def under(self, codes: Codes, counts: Iterable[Counts]) -> Floats:
        """The values on the draws, (draws,), of which each takes group g counts[draw, g] times.

        Args:
            codes: (n,) group of each item, 0 to G-1.
            counts: (some draws, G) each.
        """


@dataclass(frozen=True)
class Ratio:
    """The weighted sum of `part` over that of `whole`, both (n,); nan where it is 0."""

    part: npt.NDArray[Any]
    whole: npt.NDArray[Any]

    def __call__(self, weights: Weights) -> float:  # noqa: D102
        total = float(weights @ self.whole)
        return float(weights @ self.part) / total if total else math.nan

    def under(self, codes: Codes, counts: Iterable[Counts]) -> Floats:  # noqa: D102
        columns = (self.part, self.whole)
        sums = np.stack([np.bincount(codes, weights=column) for column in columns], axis=1)
        part, whole = np.concatenate([times.astype(np.float64) @ sums for times in counts]).T
        found = np.full(len(part), math.nan)
        np.divide(part, whole, out=found, where=whole != 0)
        return found


def mean_over(values: npt.NDArray[Any]) -> Ratio:
    """The weighted mean of values (n,)."""
    return Ratio(values, np.ones(len(values)))


@dataclass(frozen=True)
class Interval:
    """A number, the bounds of its uncertainty, and how many items it was measured on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """For reports: `0.873 [0.851, 0.893] n=1200`."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] n={self.n}"


@dataclass(frozen=True)
class Difference:
    """First minus second statistic on the same items; p is two-sided for "no difference"."""

    value: float
    low: float
    high: float
    p: float
    n: int

    def __str__(self) -> str:
        """For reports: `+0.021 [+0.004, +0.038] p=0.0150 n=1200`."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}] p={self.p:.4f} n={self.n}"


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Score interval of a rate: covers `level` on average over rates; all nan where n is 0.

    Wilson (1927): the rates that a two-sided normal test of the observed rate does not reject. A
    tie may count as half a success: outcomes between 0 and 1 vary less, so it is then too wide.
    """
    _check_counts(successes, n)
    _check_level(level)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    z = float(special.ndtri((1 + level) / 2))
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # At the edges the bound is exactly 0 or 1, which rounding would miss.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(rate, low, high, n)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Exact interval of a rate: covers at least `level` whatever the rate; nan where n is 0."""
    _check_counts(successes, n)
    _check_level(level)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    tail = (1 - level) / 2
    failures = n - successes
    low = float(special.betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(special.betaincinv(successes + 1, failures, 1 - tail)) if failures else 1.0
    return Interval(successes / n, low, high, n)


def among(seen: int, drawn: int, total: int, level: float = 0.95) -> tuple[int, int]:
    """Exact bounds of how many of `total` things are of a kind that `drawn` of them showed `seen`.

    The numbers that a hypergeometric test does not reject, (1 - level) / 2 on either side: what
    Clopper and Pearson do for a rate, for a finite whole drawn from without replacement.
    """
    _check_counts(seen, drawn)
    _check_counts(drawn, total)
    _check_level(level)
    tail = (1 - level) / 2
    possible = np.arange(seen, total - drawn + seen + 1)
    at_least = stats.hypergeom.sf(seen - 1, total, possible, drawn)
    at_most = stats.hypergeom.cdf(seen, total, possible, drawn)
    kept = possible[(at_least > tail) & (at_most > tail)]
    return int(kept.min()), int(kept.max())


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided p that two judges of the same items are right equally often.

    p = min(1, 2 P(Bin(b + c, 1/2) <= min(b, c))), where b and c count the items that only A and
    only B got right; items on which they agree say nothing.
    """
    discordant = only_a + only_b
    _check_counts(only_a, discordant)
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), discordant, 0.5)))


def cluster_bootstrap(
    statistic: Statistic,
    groups: Groups,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic when whole groups, not items, are the independent unit.

    Args:
        statistic: weights (n,) -> number; see the head of this file.
        groups: (n,) group of each item: the family or template it was made from.
        draws: number of resamples.
        level: share of repetitions in which the interval is to hold the true value.
        seed: of the resampling; the same seed draws the same groups.

    Returns:
        The statistic on the data as they are, with low and high nan if there are fewer than two
        groups, if the value is undefined, or if it is undefined in more than 5 % of the draws
        (fewer are left out).
    """
    value, drawn = _bootstrap(statistic, groups, draws, seed)
    low, high = percentiles(drawn, level)
    return Interval(value, low, high, len(groups))


def paired_bootstrap(
    stat_a: Statistic,
    stat_b: Statistic,
    groups: Groups,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """A minus B over the same items: both see each draw, so what they share cancels.

    p = min(1, 2 (1 + k) / (1 + draws)), k the draws on the rarer side of zero (draws at zero count
    on both sides): it falls below 1 - level about where the interval leaves zero out, and is never
    below 2 / (1 + draws). Undefined draws as in `cluster_bootstrap`.
    """
    (value_a, drawn_a), (value_b, drawn_b) = (
        _bootstrap(statistic, groups, draws, seed) for statistic in (stat_a, stat_b)
    )
    value, drawn = value_a - value_b, drawn_a - drawn_b
    low, high = percentiles(drawn, level)
    if math.isnan(low):
        return Difference(value, low, high, math.nan, len(groups))
    defined = drawn[~np.isnan(drawn)]
    rarer = min(int(np.sum(defined <= 0)), int(np.sum(defined >= 0)))
    p = min(1.0, 2 * (1 + rarer) / (1 + len(defined)))
    return Difference(value, low, high, p, len(groups))


def drawn_sums(
    of_cluster: npt.NDArray[np.float64], draws: int, seed: int
) -> npt.NDArray[np.float64]:
    """What each draw of clusters sums to, (draws, k), of what each cluster holds, (clusters, k).

    Draws are those of `cluster_counts`; they are never in memory at once.
    """
    parts = cluster_counts(len(of_cluster), draws, seed)
    return np.concatenate([times.astype(np.float64) @ of_cluster for times in parts])


def chunks(rows: int, width: int) -> Iterator[slice]:
    """Rows in parts, so that rows x width numbers are never in memory at once."""
    step = max(1, _CELLS // width)
    return (slice(at, min(at + step, rows)) for at in range(0, rows, step))


def cluster_counts(clusters: int, draws: int, seed: int) -> Iterator[Counts]:
    """(some draws, clusters) after each other: G of the G clusters with replacement, by seed."""
    rng = np.random.default_rng(seed)
    for rows in chunks(draws, clusters):
        num = rows.stop - rows.start
        picked = rng.integers(0, clusters, (num, clusters))
        picked += np.arange(num)[:, None] * clusters
        counted = np.bincount(picked.ravel(), minlength=picked.size)
        yield counted.reshape(picked.shape).astype(np.uint16)


def _bootstrap(
    statistic: Statistic, groups: Groups, draws: int, seed: int
) -> tuple[float, npt.NDArray[np.float64]]:
    """The value on the data and the value on each draw; all nan if that would mean nothing."""
    if groups.ndim != 1 or not len(groups):
        raise ValueError(
            f"expected groups of shape (n,), n > 0, got {groups.shape}; give each item its group"
        )
    if draws < 1:
        raise ValueError(f"expected draws >= 1, got {draws}; 2000 settle a 95 % interval")
    value = float(statistic(np.ones(len(groups))))
    codes = np.unique(groups, return_inverse=True)[1]
    if math.isnan(value) or codes.max() == 0:
        return value, np.full(draws, math.nan)
    counts = cluster_counts(int(codes.max()) + 1, draws, seed)
    if isinstance(statistic, AtOnce):
        return value, statistic.under(codes, counts)
    weights = (row[codes].astype(np.float64) for times in counts for row in times)
    return value, np.array([statistic(w) for w in weights])


def percentiles(drawn: npt.NDArray[np.float64], level: float) -> tuple[float, float]:
    """Bounds that cut (1 - level) / 2 of the defined draws off each side."""
    _check_level(level)
    undefined = np.isnan(drawn)
    if undefined.mean() > MAX_NAN_SHARE:
        return math.nan, math.nan
    low, high = np.quantile(drawn[~undefined], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_counts(successes: float, n: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n, got {successes} of {n}; check the counts")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"expected 0 < level < 1, got {level}; write 95 % as 0.95")
