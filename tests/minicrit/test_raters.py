"""Agreement between raters against sklearn, closed forms and published examples."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from minicrit import raters
from minicrit.statistics import clopper_pearson, cluster_bootstrap


def pair(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.random(n) < 0.3
    return first, np.where(rng.random(n) < 0.85, first, ~first)


def test_kappa_is_sklearns_and_weights_are_copies() -> None:
    first, second = pair()
    weights = np.random.default_rng(1).integers(0, 4, 200)
    whole = raters.cohen_kappa(first, second, np.ones(200))
    assert whole == pytest.approx(cohen_kappa_score(first, second))
    copies = np.repeat(first, weights), np.repeat(second, weights)
    assert raters.cohen_kappa(first, second, weights.astype(float)) == pytest.approx(
        cohen_kappa_score(*copies)
    )


def test_agreement_of_98_percent_at_four_prevalences() -> None:
    """Raw 98 %, equal margins: kappa .96, .94, .89, .79 where 50, 20, 10, 5 % are flawed."""
    for prevalence, kappa in ((0.5, 0.96), (0.2, 0.94), (0.1, 0.89), (0.05, 0.79)):
        both, one = round(10_000 * prevalence) - 100, 100
        first = np.array([True] * (both + one) + [False] * (10_000 - both - one))
        second = np.array([True] * both + [False] * one + [True] * one
                          + [False] * (10_000 - both - 2 * one))  # fmt: skip
        found = raters.cohen_kappa(first, second, np.ones(10_000))
        assert found == pytest.approx(kappa, abs=0.005)
        rate = raters.agreement_rate(first, second, np.ones(10_000))
        assert raters.adjusted_kappa(rate) == pytest.approx(0.96)


def test_the_interval_of_kappa_is_that_of_its_large_sample_error() -> None:
    """Fleiss, Cohen and Everitt (1969), for two categories."""
    first, second = pair(1500)
    table = np.array([[np.mean(~first & ~second), np.mean(~first & second)],
                      [np.mean(first & ~second), np.mean(first & second)]])  # fmt: skip
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    observed, expected = table.trace(), float(rows @ columns)
    kappa = (observed - expected) / (1 - expected)
    on = sum(table[i, i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in (0, 1))
    off = sum(table[i, 1 - i] * (columns[i] + rows[1 - i]) ** 2 for i in (0, 1))
    rest = (kappa - expected * (1 - kappa)) ** 2
    error = math.sqrt((on + (1 - kappa) ** 2 * off - rest) / 1500) / (1 - expected)
    found = cluster_bootstrap(lambda w: raters.cohen_kappa(first, second, w), np.arange(1500))
    assert found.value == pytest.approx(kappa)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_alpha_of_krippendorffs_own_binary_example() -> None:
    """Two observers, ten units, 0/1: alpha = 0.095 (Krippendorff 2011, example A)."""
    one, two = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    flawed = np.array(one, float) + np.array(two, float)
    found = raters.krippendorff_alpha(flawed, np.full(10, 2.0), np.ones(10))
    assert found == pytest.approx(0.095, abs=0.001)


def test_alpha_by_counting_pairs_and_single_ratings_do_not_count() -> None:
    rng = np.random.default_rng(2)
    ratings = rng.integers(1, 5, 60).astype(float)
    flawed = rng.binomial(ratings.astype(int), rng.random(60)).astype(float)
    units = [[1] * int(f) + [0] * int(m - f)
             for f, m in zip(flawed, ratings, strict=True) if m > 1]  # fmt: skip
    values = [v for unit in units for v in unit]
    within = sum(sum(a != b for i, a in enumerate(u) for j, b in enumerate(u) if i != j)
                 / (len(u) - 1) for u in units) / len(values)  # fmt: skip
    among = sum(a != b for i, a in enumerate(values) for j, b in enumerate(values) if i != j)
    wanted = 1 - within / (among / (len(values) * (len(values) - 1)))
    assert raters.krippendorff_alpha(flawed, ratings, np.ones(60)) == pytest.approx(wanted)
    equal = [np.mean([a == b for i, a in enumerate(u) for j, b in enumerate(u) if i != j])
             for u in units]  # fmt: skip
    assert raters.pairwise_rate(flawed, ratings, np.ones(60)) == pytest.approx(np.mean(equal))


def test_what_is_undefined_is_nan() -> None:
    same, ones = np.ones(5, dtype=bool), np.ones(5)
    assert math.isnan(raters.cohen_kappa(same, same, ones))
    assert math.isnan(raters.krippendorff_alpha(ones, ones, ones))
    assert math.isnan(raters.pairwise_rate(ones, ones, ones))
    assert math.isnan(raters.agreement_rate(same, same, np.zeros(5)))


def test_what_proves_98_percent() -> None:
    """200 of 200, 496 of 500, 988 of 1,000; none needs 149, as .98^149 < .05 < .98^148."""
    assert [raters.allowed_disagreements(n, 0.98) for n in (200, 500, 1000)] == [0, 4, 12]
    assert raters.decisions_needed(0, 0.98) == 149
    assert raters.allowed_disagreements(148, 0.98) == raters.allowed_disagreements(0, 0.98) == -1


@pytest.mark.parametrize("target", [0.5, 0.9, 0.98, 0.999])
def test_allowed_disagreements_are_the_most_that_the_exact_bound_bears(target: float) -> None:
    for n in (1, 30, 149, 777, 4000):
        k = raters.allowed_disagreements(n, target)
        assert stats.binom.cdf(k, n, 1 - target) <= 0.05 < stats.binom.cdf(k + 1, n, 1 - target)
        if k >= 0:
            assert clopper_pearson(n - k, n, level=0.9).low >= target - 1e-12
            assert clopper_pearson(n - k - 1, n, level=0.9).low < target


def test_decisions_needed_are_the_fewest() -> None:
    for k in (0, 1, 7, 60):
        n = raters.decisions_needed(k, 0.98)
        assert raters.allowed_disagreements(n, 0.98) >= k
        assert raters.allowed_disagreements(n - 1, 0.98) < k


@pytest.mark.parametrize(("n", "target"), [(10, 98.0), (10, 0.0)])
def test_targets_that_are_no_rates_are_refused(n: int, target: float) -> None:
    with pytest.raises(ValueError, match=r"write 98 % as 0.98"):
        raters.allowed_disagreements(n, target)
