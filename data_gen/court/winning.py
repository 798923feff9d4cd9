"""How often one model's critiques are preferred: pure functions of what became of the comparisons.

Points (n,) are 1 where model 1 won, 0 where model 2 did, 1/2 for every kind of tie, and nan where
there is no judgement; all rates are over the others. Exchanging the models turns each rate into
one minus it, to the last of the six decimals that are reported.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from minicrit.measures import entry, plain
from minicrit.statistics import Interval, drawn_sums, mcnemar_exact, percentiles, wilson

Floats = npt.NDArray[np.float64]
#: What is resampled as a whole, by name: the cluster of each item, (n,).
Units = Mapping[str, npt.NDArray[np.str_]]
HALF = 0.5
LEVEL = 0.95
#: Of each of two bounds that are to hold together at 95 % (Bonferroni).
BOTH = 0.975
#: Least spread, in units of the mean square, that is no rounding.
_LEAST = 1e-12


def win_rate(points: Floats, units: Units, *, seed: int, draws: int) -> dict[str, Any]:
    """(Wins + ties / 2) / scored, with the widest of its intervals."""
    found = intervals(points, units, seed=seed, draws=draws)
    one = found["wilson"]
    return entry(one.value, one.n, found)


def intervals(
    points: Floats, units: Units, *, seed: int, draws: int, level: float = LEVEL
) -> dict[str, Interval]:
    """Wilson's interval and percentile intervals that resample whole clusters."""
    known = ~np.isnan(points)
    some = points[known]
    plainest = wilson(float(some.sum()), len(some), level)
    found = {"wilson": plainest}
    for name, clusters in units.items():
        bounds = _clustered(some, clusters[known], seed, draws, level)
        found[name] = Interval(plainest.value, *bounds, len(some))
    return found


def _clustered(
    points: Floats, clusters: npt.NDArray[np.str_], seed: int, draws: int, level: float
) -> tuple[float, float]:
    """Bounds of the mean when whole clusters are drawn; nan for fewer than two."""
    # Around one half, so that exchanging the models changes the sign and no digit.
    sums = _resampled(np.stack([np.ones(len(points)), points - HALF]), clusters, seed, draws)
    if sums is None:
        return math.nan, math.nan
    low, high = percentiles(sums[1] / sums[0], level)
    return HALF + low, HALF + high


def _resampled(
    columns: Floats, clusters: npt.NDArray[np.str_], seed: int, draws: int
) -> Floats | None:
    """Sums of columns (k, n) over the items of each draw of whole clusters, (k, draws).

    None if there are fewer than two clusters.
    """
    names, codes = np.unique(clusters, return_inverse=True)
    if len(names) < 2:  # noqa: PLR2004
        return None
    of_cluster = [np.bincount(codes, weights=column) for column in columns]
    return drawn_sums(np.stack(of_cluster, axis=1), draws, seed).T


def sign_test(points: Floats, groups: npt.NDArray[np.str_]) -> dict[str, Any]:
    """Whether wins and losses differ by more than chance, exactly; by items and by groups.

    The sign test is McNemar's on wins and losses: p = min(1, 2 P(Bin(w + l, 1/2) <= min(w, l))). Of
    a group, whose items are not independent, the sign of its wins less its losses counts.
    """
    known = ~np.isnan(points)
    codes = np.unique(groups[known], return_inverse=True)[1]
    net = np.asarray(np.bincount(codes, weights=points[known] - HALF), dtype=np.float64)
    return {**_signs(points[known] - HALF), "by_group": _signs(net)}


def _signs(margins: Floats) -> dict[str, Any]:
    wins, losses = int((margins > 0).sum()), int((margins < 0).sum())
    return {"wins": wins, "losses": losses, "p": plain(mcnemar_exact(wins, losses))}


def length_bias(
    points: Floats, lengths: tuple[Floats, Floats], units: Units, *,
    band: float, seed: int, draws: int,
) -> dict[str, Any]:  # fmt: skip
    """What length has to do with winning.

    Args:
        points: (n,).
        lengths: of the critiques of model 1 and of model 2 in words, (n,) each.
        units: what is resampled as a whole.
        band: largest ratio of two lengths that count as equal.
        seed: of the draws.
        draws: resamples.

    Returns:
        `longer_wins`: of decided pairs of unequal length, how often the longer won. `correlation`:
        Pearson's, of points with the logarithm of the ratio of the lengths. `controlled`: the win
        rate on pairs within the band.
    """
    ratio = np.log((lengths[0] + 1) / (lengths[1] + 1))
    known = ~np.isnan(points)
    decided = known & (points != HALF) & (lengths[0] != lengths[1])
    longer = (points[decided] > HALF) == (lengths[0][decided] > lengths[1][decided])
    won = wilson(int(longer.sum()), int(decided.sum()))
    close = known & (np.maximum(*lengths) <= band * np.minimum(*lengths))
    within = {name: clusters[close] for name, clusters in units.items()}
    return {
        "longer_wins": entry(won.value, won.n, {"wilson": won}),
        "correlation": correlation(
            points[known],
            ratio[known],
            {name: of[known] for name, of in units.items()},
            seed=seed,
            draws=draws,
        ),
        "band": band,
        "controlled": win_rate(points[close], within, seed=seed, draws=draws),
    }


def correlation(
    points: Floats, ratio: Floats, units: Units, *, seed: int, draws: int
) -> dict[str, Any]:
    """Pearson's correlation of two columns (n,), with intervals that resample whole clusters."""
    if not len(points):
        return entry(math.nan, 0, {})
    a, b = points - HALF, ratio
    columns = np.stack([np.ones(len(a)), a, b, a * a, b * b, a * b])
    value = float(_pearson(columns.sum(1, keepdims=True))[0])
    found = {}
    for name, clusters in units.items():
        sums = _resampled(columns, clusters, seed, draws)
        bounds = (math.nan, math.nan) if sums is None else percentiles(_pearson(sums), LEVEL)
        found[name] = Interval(value, *bounds, len(points))
    return entry(value, len(points), found)


def _pearson(sums: Floats) -> Floats:
    """From sums of 1, a, b, aa, bb, ab, (6, draws); nan where either does not vary."""
    n, a, b, aa, bb, ab = sums
    spread = (n * aa - a * a) * (n * bb - b * b)
    varies = spread > _LEAST * (n * aa) * (n * bb)
    root = np.sqrt(np.where(varies, spread, 1.0))
    return np.asarray(np.where(varies, (n * ab - a * b) / root, math.nan), dtype=np.float64)


def corrected(
    points: Floats, units: Units, better_wins: tuple[float, int], *, seed: int, draws: int
) -> dict[str, Any]:
    """The win rate that a faultless judge would give, by Rogan and Gladen (1978).

    (q + Sp - 1) / (Se + Sp - 1), where q is the rate and Se and Sp say how often the better
    critique wins if it is model 1's, or model 2's. The judge does not know whose is whose and is
    asked in both orders, so Se = Sp = r, the share of wins of the better critique on the qualifying
    pairs, ties half; and the formula is 1/2 + (q - 1/2) / (2 r - 1). The interval takes q and r at
    the ends of theirs, each at 97.5 %, so that it holds at 95 % at least.

    Args:
        points: (n,).
        units: what is resampled as a whole.
        better_wins: r and the number of qualifying pairs behind it.
        seed: of the draws.
        draws: resamples.
    """
    found = intervals(points, units, seed=seed, draws=draws, level=BOTH)
    lows = [one.low for one in found.values() if not math.isnan(one.low)]
    highs = [one.high for one in found.values() if not math.isnan(one.high)]
    value, n = found["wilson"].value, found["wilson"].n
    share, pairs = better_wins
    rate = wilson(round(2 * share * pairs) / 2, pairs, BOTH)
    facts = {"better_wins": plain(rate.value), "pairs": rate.n}
    if not n or not rate.low > HALF:  # no better than chance, as far as one knows
        return {"value": None, "low": None, "high": None, "n": n, **facts}
    ends = [rogan_gladen(q, r) for q in (min(lows), max(highs)) for r in (rate.low, rate.high)]
    return {"value": plain(rogan_gladen(value, rate.value)), "low": plain(min(ends)),
            "high": plain(max(ends)), "n": n, **facts}  # fmt: skip


def rogan_gladen(observed: float, right: float) -> float:
    """The true rate behind an observed one, if either kind is told rightly with chance `right`."""
    return min(1.0, max(0.0, HALF + (observed - HALF) / (2 * right - 1)))
