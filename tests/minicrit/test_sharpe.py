"""Sharpe ratios against closed forms, scipy and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from minicrit import sharpe


def test_ratio_and_drawdown_by_hand() -> None:
    """Mean 1, deviation sqrt(2/3); the sum 2, 1, 3, 0 falls by 3 from its height, -1 from zero."""
    assert sharpe.sharpe_ratio(np.array([0.0, 1.0, 2.0])) == pytest.approx(1 / math.sqrt(2 / 3))
    assert sharpe.max_drawdown(np.array([2.0, -1.0, 2.0, -3.0])) == 3
    assert sharpe.max_drawdown(np.array([-1.0, 2.0])) == 1
    assert sharpe.max_drawdown(np.array([1.0, 2.0])) == 0


@pytest.mark.parametrize("returns", [np.zeros(9), np.full(9, 0.1), np.array([0.1, 0.2])])
def test_what_does_not_vary_has_no_ratio(returns: np.ndarray) -> None:
    assert math.isnan(sharpe.sharpe_ratio(returns))
    assert math.isnan(sharpe.probabilistic_sharpe(returns))
    assert math.isnan(sharpe.deflated_sharpe(returns, 5))


def test_the_years_that_prove_a_gain() -> None:
    """Two books at 0.9 and 1.3 a year, daily: (1.645 + 0.842)^2 = 6.18 times the variance.

    The table that people plan by: 39, 23, 15.5, 7.8 and 3.9 years at these correlations.
    """
    found = []
    for rho in (0.5, 0.7, 0.8, 0.9, 0.95):
        variance = sharpe.memmel_variance(0.9 / math.sqrt(252), 1.3 / math.sqrt(252), rho)
        found.append(sharpe.years_needed(0.4, variance))
    assert [round(x) for x in found[:2]] == [39, 23]
    assert [round(x, 1) for x in found[2:]] == [15.5, 7.8, 3.9]
    bare = (stats.norm.isf(0.05) + stats.norm.ppf(0.8)) ** 2 * 2 * 0.5 / 0.16
    assert sharpe.years_needed(0.4, sharpe.memmel_variance(0, 0, 0.5)) == pytest.approx(bare)


def test_the_years_needed_give_the_power_they_promise() -> None:
    """Books of 7.8 years whose ratios differ by 0.4: the one-sided test finds it 4 times in 5."""
    rng = np.random.default_rng(1)
    first, second, rho = 0.9 / math.sqrt(252), 1.3 / math.sqrt(252), 0.9
    size = round(252 * sharpe.years_needed(0.4, sharpe.memmel_variance(first, second, rho)))
    chol = np.linalg.cholesky(np.array([[1, rho], [rho, 1]]))
    found = 0
    for _ in range(1000):
        pair = rng.standard_normal((size, 2)) @ chol.T + [first, second]
        one, two = (sharpe.sharpe_ratio(column) for column in pair.T)
        variance = sharpe.memmel_variance(one, two, np.corrcoef(pair.T)[0, 1])
        found += two - one > stats.norm.isf(0.05) * math.sqrt(variance / size)
    assert stats.binomtest(found, 1000, 0.8).pvalue > 0.001


def test_memmels_variance_is_that_of_simulated_ratios() -> None:
    rng = np.random.default_rng(2)
    size, rho, means = 240, 0.6, np.array([0.1, 0.2])
    chol = np.linalg.cholesky(np.array([[1, rho], [rho, 1]]))
    draws = rng.standard_normal((4000, size, 2)) @ chol.T + means
    ratios = draws.mean(axis=1) / draws.std(axis=1)
    seen = size * np.var(ratios[:, 1] - ratios[:, 0])
    assert seen == pytest.approx(sharpe.memmel_variance(0.1, 0.2, rho), rel=0.08)


def test_the_probabilistic_ratio_against_scipy() -> None:
    returns = stats.skewnorm.rvs(-4, loc=0.3, size=500, random_state=3)
    ratio = returns.mean() / returns.std()
    skew, kurtosis = stats.skew(returns), stats.kurtosis(returns, fisher=False)
    spread = math.sqrt(1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2)
    for benchmark in (0.0, ratio, 0.1):
        wanted = stats.norm.cdf((ratio - benchmark) * math.sqrt(499) / spread)
        assert sharpe.probabilistic_sharpe(returns, benchmark) == pytest.approx(wanted)


@pytest.mark.parametrize("pattern", [(2, 1, 1), (3, 1, 1, 1), (-2, -1, -1), (1, 1, 2)])
def test_the_probabilistic_ratio_where_its_root_is_zero(pattern: tuple[int, ...]) -> None:
    """Two returns that add up to as much: skew times ratio is 2, and rounding left -2e-16."""
    sign = float(pattern[0] > 0)
    for scale, times in ((0.01, 10), (1.0, 10), (0.02, 25)):
        returns = scale * np.tile(pattern, times)
        assert sharpe.probabilistic_sharpe(returns) == sign
        assert sharpe.deflated_sharpe(returns, 1) == sign
        assert sharpe.probabilistic_sharpe(returns, 10.0) == 0


def test_the_best_of_worthless_trials_is_what_the_formula_expects() -> None:
    for trials in (5, 20, 100):
        best = np.random.default_rng(trials).standard_normal((20_000, trials)).max(axis=1).mean()
        assert sharpe.best_of_trials(trials, 1.0) == pytest.approx(best, rel=0.05)
    assert sharpe.best_of_trials(1, 1.0) == 0
    with pytest.raises(ValueError, match="expected trials >= 1, got 0"):
        sharpe.best_of_trials(0, 1.0)


def test_the_deflated_ratio_of_the_best_of_worthless_trials_is_seldom_high() -> None:
    """Kept because it was the best of 20: above 95 % about as often as 1 in 20, PSR far oftener."""
    rng = np.random.default_rng(5)
    deflated, plain = 0, 0
    for _ in range(400):
        tried = rng.standard_t(5, (20, 250))
        best = max(tried, key=sharpe.sharpe_ratio)
        deflated += sharpe.deflated_sharpe(best, 20) > 0.95
        plain += sharpe.probabilistic_sharpe(best) > 0.95
    assert deflated / 400 < 0.05
    assert plain / 400 > 0.5
    returns = np.random.default_rng(6).normal(0.1, 1, 250)
    assert sharpe.deflated_sharpe(returns, 1) == sharpe.probabilistic_sharpe(returns)
    assert sharpe.deflated_sharpe(returns, 9, 0.05) == pytest.approx(
        sharpe.probabilistic_sharpe(returns, sharpe.best_of_trials(9, 0.05))
    )


def test_the_spread_of_trials_that_nobody_gives_is_that_of_the_error() -> None:
    """Skew 0, kurtosis 2, ratio 1: T Var is 1.25, so of 16 days sqrt(1.25 / 15) = 0.288675.

    Best of five: 0.4228 z(0.8) + 0.5772 z(1 - 1 / 5e) = 1.192594 of those; (1 - 0.344272) sqrt(15)
    over the root of 1.25 is 2.271508, and its probability 0.988442.
    """
    returns = math.sqrt(2) + np.tile([-2.0, 0.0, 0.0, 2.0], 4)  # deviation sqrt(2)
    assert sharpe.sharpe_ratio(returns) == pytest.approx(1)
    assert sharpe.best_of_trials(5, 1.0) == pytest.approx(1.192594, abs=1e-6)
    assert sharpe.deflated_sharpe(returns, 5) == pytest.approx(0.988442, abs=1e-6)
