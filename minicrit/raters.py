"""Agreement between raters who say valid or flawed. Pure functions.

Arrays are bools, true for flawed; weights (n,) >= 0 say how often a unit counts, so that each
statistic fits `statistics.cluster_bootstrap`. What the data do not define is nan.
"""

import math

import numpy as np
import numpy.typing as npt

from minicrit.calibration import largest_k

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
LEVEL = 0.05
_MOST = 10_000_000  # decisions beyond which nobody gets


def agreement_rate(first: Bools, second: Bools, weights: Floats) -> float:
    """Share of the units on which both say the same."""
    return _ratio(float(weights @ (first == second)), float(weights.sum()))


def cohen_kappa(first: Bools, second: Bools, weights: Floats) -> float:
    """(p_o - p_e) / (1 - p_e), p_e the agreement of two raters who ignore the units: Cohen (1960).

    Nan where both always say the same one thing.
    """
    total = float(weights.sum())
    if not total:
        return math.nan
    a, b = float(weights @ first) / total, float(weights @ second) / total
    expected = a * b + (1 - a) * (1 - b)
    return _ratio(agreement_rate(first, second, weights) - expected, 1 - expected)


def adjusted_kappa(rate: float) -> float:
    """Kappa as it would be at a prevalence of one half, 2 p_o - 1: Byrt, Bishop and Carlin (1993).

    It rises with the rate alone, so exact bounds of the rate give exact bounds of it.
    """
    return 2 * rate - 1


def krippendorff_alpha(flawed: Floats, ratings: Floats, weights: Floats) -> float:
    """Krippendorff's alpha of two categories: 1 - D_o / D_e, whoever rated what.

    D_o = (1 / n) sum_u 2 f_u v_u / (m_u - 1) and D_e = 2 F V / (n (n - 1)), over units with at
    least two ratings: Krippendorff (2004), section 11.3.

    Args:
        flawed: (n,) how many raters called the unit flawed.
        ratings: (n,) how many rated it.
        weights: (n,).
    """
    paired = ratings > 1
    f, m, w = flawed[paired], ratings[paired], weights[paired]
    n, total = float(w @ m), float(w @ f)
    if n <= 1:
        return math.nan
    observed = float(w @ (2 * f * (m - f) / (m - 1))) / n
    return 1 - _ratio(observed, 2 * total * (n - total) / (n * (n - 1)))


def pairwise_rate(flawed: Floats, ratings: Floats, weights: Floats) -> float:
    """Share of the pairs of ratings of one unit that are equal, units counting alike."""
    paired = ratings > 1
    f, m, w = flawed[paired], ratings[paired], weights[paired]
    equal = (f * (f - 1) + (m - f) * (m - f - 1)) / (m * (m - 1))
    return _ratio(float(w @ equal), float(w.sum()))


def rate_with_each(said: Bools, flawed: Floats, ratings: Floats, weights: Floats) -> float:
    """Share of the ratings of a unit that are what somebody else said of it, units counting alike.

    Args:
        said: (n,) what the other one said.
        flawed: (n,) how many raters called the unit flawed.
        ratings: (n,) how many rated it, at least one.
        weights: (n,).
    """
    same = np.where(said, flawed, ratings - flawed) / ratings
    return _ratio(float(weights @ same), float(weights.sum()))


def allowed_disagreements(n: int, target: float, level: float = LEVEL) -> int:
    """Most disagreements among n that prove a rate of agreement of at least `target`; -1: none can.

    The largest k with P(Bin(n, 1 - target) <= k) <= level, one-sided and exact.
    """
    if not 0 < target < 1:
        raise ValueError(f"expected 0 < target < 1, got {target}; write 98 % as 0.98")
    k = largest_k(n, 1 - target, level)
    return -1 if k is None else k


def decisions_needed(disagreements: int, target: float, level: float = LEVEL) -> int:
    """Fewest decisions among which so many disagreements prove the target."""
    low, high = disagreements, disagreements + 1
    while high < _MOST and allowed_disagreements(high, target, level) < disagreements:
        low, high = high, 2 * high
    while low + 1 < high:
        middle = (low + high) // 2
        enough = allowed_disagreements(middle, target, level) >= disagreements
        low, high = (low, middle) if enough else (middle, high)
    return high


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
