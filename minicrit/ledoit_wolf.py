"""Difference of two Sharpe ratios with an interval that holds under dependence and heavy tails.

Ledoit and Wolf (2008), "Robust performance hypothesis testing with the Sharpe ratio": a studentised
circular block bootstrap, section 3.2.2, around a kernel estimate of the standard error, 3.1.
Shapes: pair (T, 2), the returns of two books in the same periods.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DRAWS = 4999
_MOST_PERSISTENT = 0.97  # a singular value nearer to 1 would blow the recoloured estimate up
_MAX_UNDEFINED = 0.05  # of the draws, as in `statistics`
_CHUNK = 256  # draws at once
LEAST_BLOCKS = 4
_ROUNDING = 1e-12  # spread of a moment, as a share of its largest value, that is no more is none


@dataclass(frozen=True)
class SharpeDifference:
    """Second minus first ratio, per period; interval and p are nan where they are undefined."""

    value: float
    error: float
    low: float
    high: float
    p: float
    block: int


def sharpe_difference(
    pair: Floats, *, block: int = 0, draws: int = DRAWS, level: float = 0.95, seed: int = 0
) -> SharpeDifference:
    """Second minus first Sharpe ratio with its symmetric studentised interval.

    Args:
        pair: (T, 2).
        block: periods a block; 0 for the cube root of T, rounded up.
        draws: resamples.
        level: of the interval.
        seed: of the resampling.
    """
    block = block or math.ceil(len(pair) ** (1 / 3))
    if not 1 <= block <= len(pair) // LEAST_BLOCKS:
        raise ValueError(f"expected blocks of 1 to {len(pair) // LEAST_BLOCKS} periods (T / "
                         f"{LEAST_BLOCKS}), got {block} with T = {len(pair)}; use more data or "
                         "shorter blocks")  # fmt: skip
    value = float(_difference(_moments(pair).mean(axis=0))[0])
    error = standard_error(pair)
    if not error > 0:
        return SharpeDifference(value, error, math.nan, math.nan, math.nan, block)
    studentised = _bootstrap(pair, value, block, draws, seed)
    if np.isinf(studentised).mean() > _MAX_UNDEFINED:
        return SharpeDifference(value, error, math.nan, math.nan, math.nan, block)
    half = float(np.quantile(studentised, level, method="higher")) * error
    exceeded = int(np.sum(studentised >= abs(value) / error))
    p = (exceeded + 1) / (draws + 1)
    return SharpeDifference(value, error, value - half, value + half, p, block)


def standard_error(pair: Floats) -> float:
    """Standard error of the difference, by a prewhitened kernel estimate; nan if undefined."""
    moments = _moments(pair)
    value, gradient = _difference(moments.mean(axis=0))
    if not math.isfinite(value) or np.array_equal(pair[:, 0], pair[:, 1]):
        return math.nan
    # Theirs are as they come. The cut of the VAR's singular values and the bandwidth depend on how
    # large a column is, and squares of returns are small: columns of one size, and an answer that
    # is not quite the same.
    scale = moments.std(axis=0)
    varies = scale > _ROUNDING * np.abs(moments).max(axis=0)  # squares of +-1 % a day do not
    rows = (moments - moments.mean(axis=0))[:, varies] / scale[varies]
    spread = long_run_covariance(rows)
    weights = (gradient * scale)[varies]
    return math.sqrt(max(0.0, float(weights @ spread @ weights)) / len(pair))


def long_run_covariance(rows: Floats) -> Floats:
    """Long-run covariance (k, k) of centred rows (T, k).

    Parzen's kernel on the residuals of a VAR(1), recoloured; the bandwidth by Andrews (1991) from
    an AR(1) for each column: Andrews and Monahan (1992), with T / (T - k) for the k means.
    """
    size, columns = rows.shape
    before, after = rows[:-1], rows[1:]
    slopes = np.linalg.lstsq(before, after, rcond=None)[0].T
    left, strengths, right = np.linalg.svd(slopes)
    slopes = left @ np.diag(np.minimum(strengths, _MOST_PERSISTENT)) @ right
    residuals = after - before @ slopes.T
    bandwidth = _bandwidth(residuals)
    total = residuals.T @ residuals
    for lag in range(1, min(len(residuals), math.ceil(bandwidth))):
        product = residuals[lag:].T @ residuals[:-lag]
        total += _parzen(lag / bandwidth) * (product + product.T)
    recolour = np.linalg.inv(np.eye(columns) - slopes)
    return np.asarray(recolour @ (total / (size - columns)) @ recolour.T)


def _moments(pair: Floats) -> Floats:
    """(T, 4): both returns and both squares."""
    return np.concatenate([pair, pair**2], axis=1)


def _difference(v: Floats) -> tuple[Floats, Floats]:
    """Difference (...) of the ratios, and its gradient (..., 4), from the four mean moments."""
    means, squares = v[..., :2], v[..., 2:]
    variances = squares - means**2
    variances = np.where(variances > 1e-12 * squares, variances, np.nan)
    sign = np.array([-1.0, 1.0])
    cubed = variances**1.5
    gradient = np.concatenate([sign * squares / cubed, -sign * means / (2 * cubed)], axis=-1)
    return (sign * means / np.sqrt(variances)).sum(axis=-1), gradient


def _bootstrap(pair: Floats, value: float, block: int, draws: int, seed: int) -> Floats:
    """|difference* - difference| / error* of each draw, (draws,); infinite where undefined.

    A draw needs its block sums alone: the moments are their mean, and the covariance is that of
    the sums, as blocks are drawn independently.
    """
    moments = _moments(pair)
    size, count = len(pair), len(pair) // block
    circle = np.concatenate([moments, moments[: block - 1]]) if block > 1 else moments
    running = np.concatenate([np.zeros((1, 4)), np.cumsum(circle, axis=0)])
    sums = running[block:] - running[:-block]
    rng = np.random.default_rng(seed)
    found = np.empty(draws)
    for at in range(0, draws, _CHUNK):
        drawn = sums[rng.integers(0, size, (min(_CHUNK, draws - at), count))]
        centre = drawn.mean(axis=1) / block
        differences, gradients = _difference(centre)
        pulls = np.einsum("dbk,dk->db", drawn - block * centre[:, None], gradients)
        errors = np.sqrt(np.mean(pulls**2, axis=1) / block / (count * block))
        with np.errstate(divide="ignore", invalid="ignore"):
            found[at : at + _CHUNK] = np.abs(differences - value) / errors
    return np.where(np.isnan(found), np.inf, found)


def _bandwidth(rows: Floats) -> float:
    """2.6614 (alpha T)^(1/5), alpha(2) of Andrews (1991), equation 6.4, from an AR(1) a column."""
    before, after = rows[:-1], rows[1:]
    power = np.sum(before**2, axis=0)
    rho = np.clip(np.sum(before * after, axis=0) / power, -_MOST_PERSISTENT, _MOST_PERSISTENT)
    variance = np.mean((after - rho * before) ** 2, axis=0)
    top = np.sum(4 * rho**2 * variance**2 / (1 - rho) ** 8)
    alpha = float(top / np.sum(variance**2 / (1 - rho) ** 4))
    return max(1.0, 2.6614 * float((alpha * len(rows)) ** 0.2))


def _parzen(x: float) -> float:
    if x <= 1 / 2:
        return 1 - 6 * x**2 + 6 * x**3
    return 2 * (1 - x) ** 3 if x <= 1 else 0.0
