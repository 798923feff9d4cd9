"""Intervals against scipy and closed forms; coverage and error rates by simulation."""

# mypy: disable-error-code="import-untyped"
import math
from collections.abc import Callable
from dataclasses import astuple
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from minicrit.scores import auroc, expected_calibration_error, f1
from minicrit.statistics import (
    Difference,
    Interval,
    Ratio,
    Weights,
    among,
    clopper_pearson,
    cluster_bootstrap,
    cluster_counts,
    mcnemar_exact,
    mean_over,
    paired_bootstrap,
    wilson,
)

CALLS = (wilson, clopper_pearson)
counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def clustered(rng: np.random.Generator, num: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Items with mean 0 that share their group's shift (half of the variance); and the groups."""
    groups = np.repeat(np.arange(num), size)
    return rng.normal(size=num)[groups] + rng.normal(size=num * size), groups


def test_interval_prints_for_reports() -> None:
    """Three decimals, bounds, n."""
    assert str(Interval(0.8731, 0.8509, 0.8934, 1200)) == "0.873 [0.851, 0.893] n=1200"
    assert str(Interval(math.nan, math.nan, math.nan, 0)) == "nan [nan, nan] n=0"
    shown = str(Difference(0.021, -0.004, 0.038, 0.015, 1200))
    assert shown == "+0.021 [-0.004, +0.038] p=0.0150 n=1200"


@given(counts, st.floats(0.5, 0.999))
@settings(max_examples=150, deadline=None)
def test_rate_intervals_equal_scipy(count: tuple[int, int], level: float) -> None:
    """Both rate intervals at any count and level."""
    test = stats.binomtest(*count)
    for call, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        ours, theirs = call(*count, level=level), test.proportion_ci(level, method)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
        assert ours.low <= ours.value <= ours.high


def test_clopper_pearson_closed_form_at_zero() -> None:
    """No success in n: (1 - high)^n = .025, so high = 1 - .025^(1/n)."""
    interval = clopper_pearson(0, 59)
    assert interval.low == 0
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 59))


@pytest.mark.parametrize("n", [10, 50, 200])
def test_coverage_of_rate_intervals(n: int) -> None:
    """Exact coverage, summed over all outcomes: guaranteed for one, on average for the other."""
    rates = np.linspace(0.005, 0.995, 199)
    coverage = {}
    for call in CALLS:
        found = [call(k, n) for k in range(n + 1)]
        low, high = (np.array([getattr(i, side) for i in found]) for side in ("low", "high"))
        inside = (low[:, None] <= rates) & (rates <= high[:, None])
        mass = stats.binom.pmf(np.arange(n + 1)[:, None], n, rates)
        coverage[call] = (mass * inside).sum(axis=0)
    assert coverage[clopper_pearson].min() >= 0.95 - 1e-12
    assert coverage[wilson].mean() == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("call", CALLS)
def test_rate_intervals_refuse_and_leave_undefined(call: Callable[..., Interval]) -> None:
    """0 of 0 is nan; impossible counts and levels are errors."""
    assert math.isnan(call(0, 0).value)
    assert math.isnan(call(0, 0).high)
    for successes, n in ((-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="expected 0 <= successes <= n"):
            call(successes, n)
    with pytest.raises(ValueError, match=r"write 95 % as 0\.95"):
        call(1, 2, level=95)


@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_mcnemar_equals_the_sign_test(only_a: int, only_b: int) -> None:
    """It is the binomial test of one half on the discordant items, and symmetric."""
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar_exact(only_a, only_b) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_exact(only_b, only_a) == mcnemar_exact(only_a, only_b)


def test_mcnemar_by_hand() -> None:
    """1 against 7: 2 (C(8,0) + C(8,1)) / 2^8 = 18 / 256."""
    assert mcnemar_exact(1, 7) == pytest.approx(18 / 256)
    with pytest.raises(ValueError, match="expected 0 <= successes"):
        mcnemar_exact(-1, 7)


def test_bootstrap_of_a_mean_equals_the_closed_form() -> None:
    """Equal groups: the draws are means of group means, standard error sd(group means)/sqrt(G)."""
    x, groups = clustered(np.random.default_rng(3), 100, 5)
    means = x.reshape(100, 5).mean(axis=1)
    interval = cluster_bootstrap(mean_over(x), groups, draws=4000)
    assert interval.value == pytest.approx(x.mean())
    assert interval.n == len(x)
    half = stats.norm.ppf(0.975) * means.std() / 10
    bounds = (x.mean() - half, x.mean() + half)
    assert (interval.low, interval.high) == pytest.approx(bounds, abs=0.08 * half)
    scipys = stats.bootstrap((means,), np.mean, method="percentile", n_resamples=4000, rng=1)
    theirs = scipys.confidence_interval
    assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * half)


def test_bootstrap_draws_whole_groups_of_any_name_and_order() -> None:
    """Weights are constant within a group, sum to G over groups, and repeat with the seed."""
    groups = np.array(["b", "a", "c", "a", "b", "c"])
    seen: list[Weights] = []

    def statistic(weights: Weights) -> float:
        seen.append(weights)
        return float(weights[0])

    first = cluster_bootstrap(statistic, groups, draws=50, seed=7)
    drawn = np.array(seen)
    assert np.array_equal(drawn[0], np.ones(6))
    assert np.array_equal(drawn[:, [0, 1, 2]], drawn[:, [4, 3, 5]])
    assert np.all(drawn.sum(axis=1) == len(groups))
    assert first == cluster_bootstrap(statistic, groups, draws=50, seed=7)


def test_draws_are_those_of_one_call_after_another() -> None:
    """In three chunks, of which none begins anew."""
    rng = np.random.default_rng(7)
    one_by_one = [np.bincount(rng.integers(0, 3001, 3001), minlength=3001) for _ in range(400)]
    assert np.array_equal(np.concatenate(list(cluster_counts(3001, 400, 7))), one_by_one)


@pytest.mark.parametrize(("num", "draws"), [(6, 300), (3001, 400)])
def test_all_draws_of_a_ratio_at_once_are_those_of_it_called_for_each(num: int, draws: int) -> None:
    """One and two statistics; of few groups some draws hold nothing of the whole."""
    rng = np.random.default_rng(4)
    groups = rng.permutation(np.repeat(np.arange(num), 3))
    whole = rng.random(len(groups)) < 0.4
    ratio = Ratio(rng.normal(size=len(groups)) * whole, whole)
    other = mean_over(rng.normal(size=len(groups)))
    drawn = {"draws": draws, "seed": 7}
    for ours, theirs in (
        (cluster_bootstrap(ratio, groups, **drawn),
         cluster_bootstrap(ratio.__call__, groups, **drawn)),
        (paired_bootstrap(ratio, other, groups, **drawn),
         paired_bootstrap(ratio.__call__, other.__call__, groups, **drawn)),
    ):  # fmt: skip
        assert astuple(ours) == pytest.approx(astuple(theirs), abs=1e-12)
        assert ours.low < ours.value < ours.high
    assert other(np.ones(len(groups))) == pytest.approx(other.part.mean())


def test_bootstrap_coverage_needs_clusters() -> None:
    """300 repetitions: about 95 % with groups; taking items as independent is far too sure."""
    rng = np.random.default_rng(11)
    hits = np.zeros(2)
    for _ in range(300):
        x, groups = clustered(rng, 40, 8)
        for column, unit in enumerate((groups, np.arange(len(x)))):
            interval = cluster_bootstrap(mean_over(x), unit, draws=200)
            hits[column] += interval.low <= 0 <= interval.high
    by_group, by_item = hits / 300
    assert by_group == pytest.approx(0.94, abs=0.04)
    assert by_item < 3 / 4


def test_paired_bootstrap_keeps_its_error_rate() -> None:
    """Equal truth: 5 % rejections and 95 % coverage; the shared part of A and B cancels."""
    rng = np.random.default_rng(12)
    rejected = covered = 0
    for _ in range(200):
        shared, groups = clustered(rng, 50, 4)
        a, b = (shared + clustered(rng, 50, 4)[0] / 3 for _ in range(2))
        found = paired_bootstrap(mean_over(a), mean_over(b), groups, draws=200)
        rejected += found.p < 1 / 20
        covered += found.low <= 0 <= found.high
        assert found.value == pytest.approx(a.mean() - b.mean())
    assert rejected / 200 == pytest.approx(0.05, abs=0.05)
    assert covered / 200 == pytest.approx(0.95, abs=0.05)


def test_paired_bootstrap_sees_what_unpaired_intervals_hide() -> None:
    """B is A plus .1: every draw agrees, so p is the smallest possible, 2 / (1 + draws)."""
    x, groups = clustered(np.random.default_rng(5), 30, 4)
    found = paired_bootstrap(mean_over(x + 0.1), mean_over(x), groups, draws=999)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.p == pytest.approx(2 / 1000)
    assert paired_bootstrap(mean_over(x), mean_over(x), groups, draws=99).p == 1


def test_undefined_draws_are_left_out_up_to_a_share() -> None:
    """The statistic needs group 0, which (1 - 1/G)^G = 1/e of the draws miss; or all groups."""
    groups = np.arange(40)

    def only_with_first(weights: Weights) -> float:
        return float(weights.mean()) if weights[0] else math.nan

    interval = cluster_bootstrap(only_with_first, groups, draws=400)
    assert (interval.value, interval.n) == (1, 40)
    assert math.isnan(interval.low)
    assert math.isnan(paired_bootstrap(only_with_first, only_with_first, groups, draws=400).p)

    def rarely_undefined(weights: Weights) -> float:  # missed with probability e^-4 = 1.8 %
        return float(weights[:4].mean()) if weights[:4].any() else math.nan

    assert not math.isnan(cluster_bootstrap(rarely_undefined, groups, draws=400).low)


def test_one_group_or_no_value_gives_no_interval() -> None:
    """One group says nothing about the next; an undefined value has no bounds."""
    assert math.isnan(cluster_bootstrap(mean_over(np.arange(5.0)), np.zeros(5)).low)
    assert math.isnan(cluster_bootstrap(lambda w: math.nan, np.arange(5)).high)


def test_bootstrap_refuses_bad_input() -> None:
    """Empty or two-dimensional groups, no draws, a level in percent."""
    for groups in (np.array([]), np.zeros((2, 2))):
        with pytest.raises(ValueError, match="expected groups of shape"):
            cluster_bootstrap(np.mean, groups)
    with pytest.raises(ValueError, match="expected draws >= 1"):
        cluster_bootstrap(np.mean, np.arange(3), draws=0)
    with pytest.raises(ValueError, match="expected 0 < level < 1"):
        cluster_bootstrap(np.mean, np.arange(3), level=95)


def test_scores_are_statistics_and_agree_with_resampled_items() -> None:
    """A draw by weights is the draw with copies of the items, for the scores in use."""
    rng = np.random.default_rng(1)
    flawed = rng.random(300) < 1 / 2
    p = np.clip(0.3 * flawed + 0.7 * rng.random(300), 0, 1).round(2)
    copies: list[float] = []

    def both_ways(weights: Weights) -> float:
        items = np.repeat(np.arange(300), weights.astype(int))
        copies.append(auroc(p[items], flawed[items]) - auroc(p, flawed, weights=weights))
        return f1(p, flawed, 0.5, weights=weights)

    groups = np.repeat(np.arange(60), 5)
    interval = cluster_bootstrap(both_ways, groups, draws=100)
    assert interval.low < interval.value < interval.high
    assert copies == pytest.approx(np.zeros(101), abs=1e-12)
    error = cluster_bootstrap(
        lambda w: expected_calibration_error(p, flawed, weights=w), groups, draws=100
    )
    assert 0 < error.low < error.high < 1


def test_bounds_among_a_finite_whole_are_what_the_test_does_not_reject():
    """By counting draws: of 6 things, 2 drawn, 1 shown; K of them are of the kind."""
    found = among(1, 2, 6, level=0.5)
    kept = []
    for kind in range(1, 6):
        draws = list(combinations([True] * kind + [False] * (6 - kind), 2))
        at_least = sum(sum(d) >= 1 for d in draws) / len(draws)
        at_most = sum(sum(d) <= 1 for d in draws) / len(draws)
        if at_least > 0.25 and at_most > 0.25:
            kept.append(kind)
    assert found == (kept[0], kept[-1])


@pytest.mark.parametrize("kind", [0, 3, 17, 40])
def test_bounds_among_a_finite_whole_cover(kind):
    draws = np.random.default_rng(kind).hypergeometric(kind, 40 - kind, 12, 2000)
    bounds = {seen: among(seen, 12, 40) for seen in set(draws.tolist())}
    inside = np.mean([bounds[seen][0] <= kind <= bounds[seen][1] for seen in draws.tolist()])
    assert inside >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_bounds_among_a_finite_whole_are_no_wider_than_the_test_leaves_them():
    """Five of ten are drawn: none is of the kind with 21 / 252 if three are, 6 / 252 if four."""
    assert among(0, 5, 10) == (0, 3)
    assert among(5, 5, 10) == (7, 10)
    assert among(0, 5, 10, level=0.96) == (0, 4)


def test_bounds_among_all_are_exact():
    assert among(3, 10, 10) == (3, 3)
    assert among(0, 0, 7) == (0, 7)
    with pytest.raises(ValueError, match="expected 0 <= successes <= n"):
        among(3, 8, 7)
