r"""Inference that stays valid however often one looks, and whenever one stops. Pure functions.

What is compared is bounded (right or wrong, an outcome between two limits), so no normal
approximation is needed. Units come one after another, each drawn to an arm with a known
probability; `contrast` turns them into bounded numbers whose conditional mean is the difference of
the arms, and `confidence_sequence` bounds that mean by betting (Waudby-Smith and Ramdas, arXiv
2010.09686): whoever bets against the true mean m with stakes set beforehand has a capital

    K_t(m) = prod_{i<=t} (1 + lambda_i (y_i - m))

that is a non-negative martingale, so that P(K_t >= 1 / alpha for any t) <= alpha by Ville's
inequality. All m that have not let a gambler become that rich form an interval that holds the true
mean at all t at once with probability 1 - alpha. Nothing is assumed of the distribution but the
bounds, and the units may change over time as long as the difference does not.

mSPRT (`msprt`, Johari et al., arXiv 1512.04922) is here to be compared with: for data that are not
normal it holds only approximately, and with few data not at all.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TRUNCATION = 0.5  # c of the paper: no bet can lose more than this share of the capital
POINTS = 2001  # means that are tried, from bound to bound
MEANS = np.linspace(0, 1, POINTS)  # the same on [0, 1]; the two at the ends cannot be refuted
_CHUNK = 256  # units at once, so that memory stays flat


@dataclass(frozen=True)
class Sequence:
    """A confidence sequence: bounds after every unit, and the always-valid p of no difference."""

    estimate: Floats
    low: Floats
    high: Floats
    p: Floats


def contrast(x: Floats, treated: Bools, share: float) -> Floats:
    r"""Numbers whose conditional mean is E[x | treatment] - E[x | control].

    psi_t = m1 - m0 + A_t (x_t - m1) / share - (1 - A_t) (x_t - m0) / (1 - share), where m1 and m0
    are the means of each arm *before* t, (1/2 + sum) / (n + 1): augmented inverse probability
    weighting as in arXiv 2103.06476, with a predictable guess and a known probability. The guess
    costs no validity and takes away what the level of x adds to the variance.

    Args:
        x: (n,) in [0, 1], in order of arrival.
        treated: (n,) which arm.
        share: probability of treatment, 0 < share < 1.

    Returns:
        (n,) within +-`reach(share)`.
    """
    inside, outside = _before(x, treated), _before(x, ~treated)
    push = np.where(treated, (x - inside) / share, -(x - outside) / (1 - share))
    return np.asarray(inside - outside + push)


def reach(share: float) -> float:
    """Largest absolute value of `contrast`: max(1 / share, 1 / (1 - share))."""
    return max(1 / share, 1 / (1 - share))


def stakes(y: Floats, alpha: float) -> Floats:
    """Predictable plug-in bets of arXiv 2010.09686 (section 4), before they are cut; y on axis -1.

    lambda_t = sqrt(2 log(2 / alpha) / (s_{t-1} t log(t + 1))), s_t = (1/4 + sum_{i<=t}
    (y_i - mean_i)^2) / (t + 1), mean_t = (1/2 + sum_{i<=t} y_i) / (t + 1), s_0 = 1/4.
    """
    t = np.arange(1, y.shape[-1] + 1)
    mean = (0.5 + np.cumsum(y, axis=-1)) / (t + 1)
    spread = (0.25 + np.cumsum((y - mean) ** 2, axis=-1)) / (t + 1)
    known = np.concatenate([np.full((*y.shape[:-1], 1), 0.25), spread[..., :-1]], axis=-1)
    return np.asarray(np.sqrt(2 * math.log(2 / alpha) / (known * t * np.log(t + 1))))


def log_capital(y: Floats, mean: float, alpha: float) -> Floats:
    """Log of the hedged capital max(K+, K-) / 2 against one mean, after every unit; y in [0, 1].

    The hedged capital process of arXiv 2010.09686, section 4: half of the capital bets on more,
    half on less, with stakes cut at c / m and c / (1 - m). Their sum is a martingale; the larger
    one alone is less, and makes the means that are not refuted an interval.
    """
    bets = stakes(y, alpha)
    up = np.minimum(bets, TRUNCATION / mean)
    down = np.minimum(bets, TRUNCATION / (1 - mean))
    more = np.cumsum(np.log1p(up * (y - mean)), axis=-1)
    less = np.cumsum(np.log1p(-down * (y - mean)), axis=-1)
    return np.asarray(np.maximum(more, less) - math.log(2))


def confidence_sequence(
    psi: Floats, bound: float, alpha: float, tried: Floats = MEANS[1:-1]
) -> Sequence:
    """Bounds of the mean of bounded numbers that hold after all units at once.

    Args:
        psi: (..., n) within +-bound.
        bound: of `psi`.
        alpha: share of repetitions in which the bounds may ever be wrong.
        tried: some of `MEANS`, rising, without the two at the ends. With few of them a bound is
            that of all of them, rounded outwards to the few: it has passed one of the few if and
            only if that of all has.

    Returns:
        Bounds that only ever close in (their intersection is as valid), rounded outwards to the
        grid of means; estimate, the mean of psi so far; p, the smallest 1 / capital against zero.
    """
    y = (psi + bound) / (2 * bound)
    count = np.arange(1, psi.shape[-1] + 1)
    low, high = _bounds(y, alpha, tried)
    p = np.minimum(1, np.exp(-log_capital(y, 0.5, alpha)))
    return Sequence(
        estimate=np.cumsum(psi, axis=-1) / count,
        low=in_units(np.maximum.accumulate(low, axis=-1), bound),
        high=in_units(np.minimum.accumulate(high, axis=-1), bound),
        p=np.minimum.accumulate(p, axis=-1),
    )


def in_units(mean: Floats, bound: float) -> Floats:
    """Means on [0, 1] as means of numbers within +-bound."""
    return mean * 2 * bound - bound


def _bounds(y: Floats, alpha: float, means: Floats) -> tuple[Floats, Floats]:
    """After each unit those next to the outermost means not bet away; y on axis -1.

    K+ falls and K- rises with m, so each bound is found by counting what one of them has refuted.
    """
    limit, bets = math.log(2 / alpha), stakes(y, alpha)
    lows, highs = np.concatenate([[0.0], means]), np.concatenate([[1.0], means[::-1]])
    more = less = np.zeros((*y.shape[:-1], 1, len(means)))
    low, high = np.empty(y.shape), np.empty(y.shape)
    for start in range(0, y.shape[-1], _CHUNK):
        part = slice(start, start + _CHUNK)
        gap, bet = y[..., part, None] - means, bets[..., part, None]
        up = np.cumsum(np.log1p(np.minimum(bet, TRUNCATION / means) * gap), axis=-2) + more
        down = np.cumsum(np.log1p(-np.minimum(bet, TRUNCATION / (1 - means)) * gap), axis=-2) + less
        more, less = up[..., -1:, :], down[..., -1:, :]
        low[..., part] = lows[np.sum(up >= limit, axis=-1)]
        high[..., part] = highs[np.sum(down >= limit, axis=-1)]
    return low, high


def msprt(x: Floats, z: Floats, tau2: float) -> Floats:
    """Log of the mixture likelihood ratio of "no difference", after every pair, arXiv 1512.04922.

    log L_n = log(V / (V + n tau^2)) / 2 + n^2 tau^2 D_n^2 / (2 V (V + n tau^2)), D_n the difference
    of the means of z and x, V the sum of their variances so far; reject at L_n >= 1 / alpha. It is
    0 while a variance is 0.
    """
    n = np.arange(1, x.shape[-1] + 1)
    means = [np.cumsum(values, axis=-1) / n for values in (x, z)]
    squares = [np.cumsum(values**2, axis=-1) / n for values in (x, z)]
    variances = [s - m**2 for s, m in zip(squares, means, strict=True)]
    usable = np.minimum(*variances) > 1e-12  # noqa: PLR2004
    v = np.where(usable, variances[0] + variances[1], 1.0)
    whole = v + n * tau2
    found = 0.5 * np.log(v / whole) + n**2 * tau2 * (means[1] - means[0]) ** 2 / (2 * v * whole)
    return np.where(usable, found, 0.0)


def _before(x: Floats, mask: Bools) -> Floats:
    """(1/2 + sum) / (n + 1) of the marked values before each place, along the last axis."""
    total = np.cumsum(np.where(mask, x, 0.0), axis=-1) - np.where(mask, x, 0.0)
    count: Floats = np.cumsum(mask, axis=-1, dtype=np.float64) - mask
    return np.asarray((0.5 + total) / (count + 1))
