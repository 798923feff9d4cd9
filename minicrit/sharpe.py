"""Sharpe ratios: how sure one is, how two differ, how long it takes to prove it. Pure functions.

Returns are excess returns of one period each (a day, say); a Sharpe ratio is per period unless it
is called annual: times sqrt(periods a year), which holds for returns without serial correlation.
Standard deviations divide by T, as in the papers.
Shapes: returns (T,).
"""

# mypy: disable-error-code="import-untyped"
import math

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
EULER = 0.5772156649015329
_LEAST = 3  # periods below which nothing here is defined


def sharpe_ratio(returns: Floats) -> float:
    """Mean over standard deviation; nan where nothing varies."""
    if len(returns) < _LEAST:
        return math.nan
    spread = float(np.std(returns))
    scale = float(np.max(np.abs(returns)))
    return float(np.mean(returns)) / spread if spread > 1e-12 * scale else math.nan


def memmel_variance(first: float, second: float, rho: float) -> float:
    """T Var(SR1 - SR2) for normal returns that correlate by rho.

    2 (1 - rho) + (SR1^2 + SR2^2 - 2 SR1 SR2 rho^2) / 2: Jobson and Korkie (1981) as corrected by
    Memmel (2003).
    """
    return 2 * (1 - rho) + (first**2 + second**2 - 2 * first * second * rho**2) / 2


def probabilistic_sharpe(returns: Floats, benchmark: float = 0.0) -> float:
    """P(true Sharpe ratio > benchmark), both per period.

    PSR = Phi((SR - SR*) sqrt(T - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2)), g3 the skew and g4 the
    raw kurtosis: Bailey and Lopez de Prado (2012), equation 11. Where the root is 0 (of two
    returns, both add up to as much), the limit: 0 or 1.
    """
    ratio = sharpe_ratio(returns)
    spread = math.sqrt(_moment_factor(returns, ratio)) if math.isfinite(ratio) else math.nan
    away = ratio - benchmark
    if not spread:
        return float(away > 0) if away else math.nan
    return float(special.ndtr(away * math.sqrt(len(returns) - 1) / spread))


def best_of_trials(trials: int, spread: float) -> float:
    """Expected highest Sharpe ratio of so many worthless trials whose ratios spread by `spread`.

    SR* = spread ((1 - g) z(1 - 1/N) + g z(1 - 1/(N e))): Bailey and Lopez de Prado (2014); 0 for
    one trial, where nothing was chosen.
    """
    if trials < 1:
        raise ValueError(f"expected trials >= 1, got {trials}; count every rule that was tried")
    if trials == 1:
        return 0.0
    high = float(special.ndtri(1 - 1 / trials))
    higher = float(special.ndtri(1 - 1 / (trials * math.e)))
    return spread * ((1 - EULER) * high + EULER * higher)


def deflated_sharpe(returns: Floats, trials: int, spread: float | None = None) -> float:
    """P(true Sharpe ratio > the best that so many worthless trials would have shown).

    Args:
        returns: (T,).
        trials: all rules, settings and gates that were tried before this one was kept.
        spread: standard deviation of the trials' Sharpe ratios, per period; None for that of pure
            estimation error, as if the trials had been independent.
    """
    if spread is None:
        ratio = sharpe_ratio(returns)
        if not math.isfinite(ratio):
            return math.nan
        spread = math.sqrt(_moment_factor(returns, ratio) / (len(returns) - 1))
    return probabilistic_sharpe(returns, best_of_trials(trials, spread))


def years_needed(gain: float, variance: float, *, power: float = 0.8, level: float = 0.05) -> float:
    """Years of data that prove an annual gain, one-sided; they do not depend on the period.

    Args:
        gain: the true difference of the annual Sharpe ratios.
        variance: T Var(SR1 - SR2) of the ratios per period, as `memmel_variance` gives it.
        power: chance that the proof succeeds.
        level: chance that it succeeds where there is no gain.
    """
    z = float(special.ndtri(1 - level) + special.ndtri(power))
    return z * z * variance / (gain * gain)


def max_drawdown(returns: Floats) -> float:
    """Largest fall of the running sum below its highest point so far, 0 included; >= 0."""
    equity = np.concatenate([[0.0], np.cumsum(returns)])
    return float(np.max(np.maximum.accumulate(equity) - equity))


def _moment_factor(returns: Floats, ratio: float) -> float:
    """T Var(SR) under skew and fat tails: 1 - g3 SR + (g4 - 1) / 4 SR^2; >= 0 for any data."""
    standard = (returns - returns.mean()) / np.std(returns)
    skew, kurtosis = float(np.mean(standard**3)), float(np.mean(standard**4))
    return max(0.0, 1 - skew * ratio + (kurtosis - 1) / 4 * ratio * ratio)  # rounded, less than 0
