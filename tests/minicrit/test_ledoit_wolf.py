"""The difference of two Sharpe ratios: closed forms, an independent bootstrap, coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from minicrit.ledoit_wolf import (
    _bandwidth,
    long_run_covariance,
    sharpe_difference,
    standard_error,
)
from minicrit.sharpe import memmel_variance, sharpe_ratio


def normal(rng: np.random.Generator, size: int, rho: float = 0.6) -> np.ndarray:
    chol = np.linalg.cholesky(np.array([[1, rho], [rho, 1]]))
    return rng.standard_normal((size, 2)) @ chol.T + [0.05, 0.15]


def heavy(rng: np.random.Generator, size: int) -> np.ndarray:
    """AR(1) returns with t(5) shocks that share a common part: dependent and heavy-tailed."""
    shocks = rng.standard_t(5, (size + 50, 3))
    both = shocks[:, :1] + 0.7 * shocks[:, 1:] + [[0.1, 0.1]]
    out = np.zeros_like(both)
    for t in range(1, len(both)):
        out[t] = 0.25 * out[t - 1] + both[t]
    return out[50:]


def test_the_value_is_the_difference_and_swapping_mirrors_it() -> None:
    pair = heavy(np.random.default_rng(0), 400)
    one, two = sharpe_difference(pair, draws=300), sharpe_difference(pair[:, ::-1], draws=300)
    assert one.value == pytest.approx(sharpe_ratio(pair[:, 1]) - sharpe_ratio(pair[:, 0]))
    assert (two.value, two.low, two.high) == pytest.approx((-one.value, -one.high, -one.low))
    assert (two.p, two.error) == pytest.approx((one.p, one.error))
    assert one.block == math.ceil(400 ** (1 / 3))


def test_for_normal_returns_the_error_is_memmels() -> None:
    pair = normal(np.random.default_rng(1), 20_000)
    rho = np.corrcoef(pair.T)[0, 1]
    ratios = [sharpe_ratio(column) for column in pair.T]
    wanted = math.sqrt(memmel_variance(*ratios, rho) / len(pair))
    assert standard_error(pair) == pytest.approx(wanted, rel=0.05)


def test_the_error_does_not_depend_on_the_unit() -> None:
    pair = heavy(np.random.default_rng(2), 500)
    assert standard_error(pair * [1e-4, 3.0]) == pytest.approx(standard_error(pair))


@pytest.mark.parametrize("stake", [0.25, 0.01])
def test_a_book_that_wins_or_loses_one_stake_every_day(stake: float) -> None:
    """Its squares are one number: exactly (0.25), or but for how 512 of them round (0.01).

    The Sharpe ratio m / sqrt(1 - m^2) of a coin of mean m has T Var = 1 / (1 - m^2)^2.
    """
    rng = np.random.default_rng(5)
    pair = stake * rng.choice([-1.0, 1.0], (512, 2))
    exact = sum(1 / (1 - (column.mean() / stake) ** 2) ** 2 for column in pair.T)
    assert standard_error(pair) == pytest.approx(math.sqrt(exact / 512), rel=0.1)
    gated = np.column_stack([pair[:, 0], np.where(pair[:, 1] > 0, pair[:, 0], 0.0)])
    found = sharpe_difference(gated, draws=300)
    assert found.low < found.value < found.high


def test_the_long_run_variance_of_an_autoregression() -> None:
    """x_t = 0.6 x_(t-1) + e_t has the long-run variance 1 / (1 - 0.6)^2 = 6.25, e_t one of 1."""
    rng = np.random.default_rng(3)
    shocks = rng.standard_normal((40_000, 2))
    rows = shocks.copy()
    for t in range(1, len(rows)):
        rows[t, 0] += 0.6 * rows[t - 1, 0]
    found = long_run_covariance(rows - rows.mean(axis=0))
    assert found[0, 0] == pytest.approx(6.25, rel=0.1)
    assert found[1, 1] == pytest.approx(1, rel=0.1)
    assert found[0, 1] == pytest.approx(found[1, 0])
    assert abs(found[0, 1]) < 0.2


def test_andrews_bandwidth_by_its_formula() -> None:
    """For one AR(1) column alpha(2) = 4 rho^2 / (1 - rho)^4."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((5000, 1))
    for t in range(1, len(x)):
        x[t] += 0.5 * x[t - 1]
    rho = float((x[:-1].T @ x[1:] / (x[:-1].T @ x[:-1]))[0, 0])
    wanted = 2.6614 * (4 * rho**2 / (1 - rho) ** 4 * 5000) ** 0.2
    assert _bandwidth(x) == pytest.approx(wanted)


def kernel_by_hand(x: float) -> float:
    """Parzen's: 1, 0.71875, 0.25, 0.03125 and 0 at 0, 1/4, 1/2, 3/4 and 1."""
    return 1 - 6 * x**2 + 6 * x**3 if x < 0.5 else max(0.0, 2 * (1 - x) ** 3)


def test_the_error_is_that_of_the_paper_written_out() -> None:
    """Lag by lag and column by column: VAR(1), Andrews' bandwidth of four columns, recoloured.

    A kernel that was no kernel was within what normal returns and autoregressions let pass.
    """
    shocks = heavy(np.random.default_rng(12), 81)
    pair = shocks[1:] + shocks[:-1]
    columns = np.column_stack([pair, pair**2])
    means, scale = columns.mean(axis=0), columns.std(axis=0)
    y = (columns - means) / scale
    slopes = np.linalg.solve(y[:-1].T @ y[:-1], y[:-1].T @ y[1:]).T
    assert np.linalg.svd(slopes)[1].max() < 0.97
    rest = [y[t] - slopes @ y[t - 1] for t in range(1, 80)]
    top = bottom = 0.0
    for x in np.array(rest).T:
        rho = sum(x[:-1] * x[1:]) / sum(x[:-1] ** 2)
        variance = sum((x[1:] - rho * x[:-1]) ** 2) / 78
        top += 4 * rho**2 * variance**2 / (1 - rho) ** 8
        bottom += variance**2 / (1 - rho) ** 4
    bandwidth = 2.6614 * (top / bottom * 79) ** 0.2
    assert bandwidth > 2  # so that both branches of the kernel count
    total = np.zeros((4, 4))
    for s, one in enumerate(rest):
        for t, other in enumerate(rest):
            total += kernel_by_hand(abs(s - t) / bandwidth) * np.outer(one, other)
    recolour = np.linalg.inv(np.eye(4) - slopes)
    covariance = recolour @ (total / 76) @ recolour.T * np.outer(scale, scale)
    steps = np.eye(4) * 1e-6

    def gap(v: np.ndarray) -> float:
        return float(v[1] / math.sqrt(v[3] - v[1] ** 2) - v[0] / math.sqrt(v[2] - v[0] ** 2))

    slope = np.array([(gap(means + step) - gap(means - step)) / 2e-6 for step in steps])
    wanted = math.sqrt(slope @ covariance @ slope / 80)
    assert standard_error(pair) == pytest.approx(wanted, rel=1e-6)


def test_the_bootstrap_is_that_of_the_paper_drawn_one_by_one() -> None:
    """The same blocks as the vectorised draw, each resample written out in full."""
    pair, block, draws = heavy(np.random.default_rng(5), 60), 4, 40
    size, count = len(pair), 15
    starts = np.random.default_rng(7).integers(0, size, (draws, count))
    value = sharpe_ratio(pair[:, 1]) - sharpe_ratio(pair[:, 0])
    studentised = []
    for row in starts:
        r = pair[np.concatenate([(start + np.arange(block)) % size for start in row])]
        mean, square = r.mean(axis=0), (r**2).mean(axis=0)
        y = np.concatenate([r - mean, r**2 - square], axis=1)
        zeta = y.reshape(count, block, 4).sum(axis=1) / math.sqrt(block)
        psi = zeta.T @ zeta / count
        cubed = (square - mean**2) ** 1.5
        slope = np.array([-square[0] / cubed[0], square[1] / cubed[1],
                          mean[0] / (2 * cubed[0]), -mean[1] / (2 * cubed[1])])  # fmt: skip
        error = math.sqrt(slope @ psi @ slope / size)
        studentised.append(abs(np.diff(mean / np.sqrt(square - mean**2))[0] - value) / error)
    found = sharpe_difference(pair, block=block, draws=draws, seed=7)
    half = np.quantile(studentised, 0.95, method="higher") * standard_error(pair)
    assert (found.low, found.high) == pytest.approx((value - half, value + half))
    exceeded = np.sum(np.array(studentised) >= abs(value) / standard_error(pair))
    assert found.p == pytest.approx((exceeded + 1) / (draws + 1))


def test_the_interval_covers_under_dependence_and_heavy_tails() -> None:
    """Both true ratios are equal, so the interval must hold zero 95 times in 100."""
    rng = np.random.default_rng(8)
    runs = 300
    found = [sharpe_difference(heavy(rng, 250), block=5, draws=299, seed=n) for n in range(runs)]
    covered = sum(one.low <= 0 <= one.high for one in found)
    assert stats.binomtest(covered, runs, 0.95).pvalue > 0.001
    assert 0.4 < np.mean([one.p for one in found]) < 0.6


def test_equal_and_empty_books_have_no_interval() -> None:
    pair = normal(np.random.default_rng(9), 100)
    same = sharpe_difference(pair[:, [0, 0]], draws=20)
    assert same.value == 0
    assert math.isnan(same.low)
    gone = sharpe_difference(np.stack([pair[:, 0], np.zeros(100)], axis=1), draws=20)
    assert math.isnan(gone.value)
    assert math.isnan(gone.p)


def test_a_book_that_hardly_trades_has_no_interval() -> None:
    """One day with a return: a third of the resamples do not hold it at all."""
    pair = normal(np.random.default_rng(10), 200)
    pair[:, 1] = 0
    pair[17, 1] = 1.0
    assert math.isnan(sharpe_difference(pair, draws=200).low)


@pytest.mark.parametrize("block", [-1, 26])
def test_blocks_that_are_too_long_are_refused(block: int) -> None:
    with pytest.raises(ValueError, match=r"expected blocks of 1 to 25 periods"):
        sharpe_difference(normal(np.random.default_rng(11), 100), block=block)
