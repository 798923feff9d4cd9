"""Win rates: by hand, against scipy, mirrored, and simulated where an interval is promised."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data_gen.court.winning import (
    corrected,
    correlation,
    intervals,
    length_bias,
    rogan_gladen,
    sign_test,
    win_rate,
)
from minicrit.statistics import cluster_bootstrap, wilson

NAN = math.nan
POINTS = np.array([1, 1, 0.5, 0, 1, NAN, 0.5, 0, 1, 1])
GROUPS = np.array(["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"])
UNITS = {"by group": GROUPS}
TOLD = {"seed": 3, "draws": 500}


def test_win_rate_by_hand():
    """5 wins, 2 ties, 2 losses of 9 that are scored: 6 / 9."""
    found = win_rate(POINTS, UNITS, **TOLD)
    assert (found["value"], found["n"]) == (round(6 / 9, 6), 9)
    one = wilson(6, 9)
    assert found["intervals"]["wilson"] == [round(one.low, 6), round(one.high, 6)]
    assert found["low"] == min(low for low, _ in found["intervals"].values())


def test_the_clustered_interval_is_that_of_the_bootstrap_over_groups():
    known = ~np.isnan(POINTS)
    some = POINTS[known]
    theirs = cluster_bootstrap(
        lambda w: float(w @ some) / float(w.sum()), GROUPS[known], draws=20_000, seed=1
    )
    ours = intervals(POINTS, UNITS, seed=2, draws=20_000)["by group"]
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_nothing_scored_and_one_group_have_no_interval():
    nothing = win_rate(np.full(3, NAN), {"by group": np.array(["a", "b", "c"])}, **TOLD)
    assert (nothing["value"], nothing["low"], nothing["n"]) == (None, None, 0)
    one = win_rate(np.array([1.0, 0.0]), {"by group": np.array(["a", "a"])}, **TOLD)
    assert one["intervals"]["by group"] == [None, None]
    assert one["low"] is not None


def test_a_rate_of_one_has_an_interval_all_the_same():
    found = win_rate(np.ones(10), {"by group": np.arange(10).astype(str)}, **TOLD)
    assert (found["value"], found["high"]) == (1.0, 1.0)
    assert found["low"] == round(wilson(10, 10).low, 6)


def test_sign_test_against_scipy():
    found = sign_test(POINTS, GROUPS)
    assert (found["wins"], found["losses"]) == (5, 2)
    assert found["p"] == round(stats.binomtest(5, 7).pvalue, 6)
    # nets: a +1, b -1/2, c +1/2, d -1/2, e +1
    assert (found["by_group"]["wins"], found["by_group"]["losses"]) == (3, 2)
    assert found["by_group"]["p"] == 1.0


def test_length_by_hand():
    lengths = (
        np.array([9, 9, 5, 4, 4, 9, 5, 5, 5, 5.0]),
        np.array([4, 4, 5, 9, 9, 9, 9, 5, 4, 6.0]),
    )
    found = length_bias(POINTS, lengths, UNITS, band=1.25, **TOLD)
    # decided and unequal: rows 0, 1, 3, 4, 8, 9; the longer wins in 0, 1, 3, 8
    assert (found["longer_wins"]["value"], found["longer_wins"]["n"]) == (round(4 / 6, 6), 6)
    # within 5/4: rows 2, 7, 8, 9 (and 5, unscored)
    assert (found["controlled"]["value"], found["controlled"]["n"]) == (round(2.5 / 4, 6), 4)
    known = ~np.isnan(POINTS)
    ratio = np.log((lengths[0] + 1) / (lengths[1] + 1))[known]
    theirs = stats.pearsonr(POINTS[known], ratio).statistic
    assert found["correlation"]["value"] == pytest.approx(theirs, abs=1e-6)


def test_the_interval_of_the_correlation_is_that_of_the_bootstrap_over_groups():
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(30), 2).astype(str)
    ratio = rng.normal(size=60)
    points = np.clip(np.round(0.5 + ratio / 2 + rng.normal(size=60) / 2, 0), 0, 1)

    def weighted(w):
        rows = np.repeat(np.arange(60), w.astype(int))
        return float(np.corrcoef(points[rows], ratio[rows])[0, 1])

    theirs = cluster_bootstrap(weighted, groups, draws=2000, seed=1)
    ours = correlation(points, ratio, {"by group": groups}, seed=2, draws=20_000)
    assert ours["value"] == round(theirs.value, 6)
    assert (ours["low"], ours["high"]) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_what_does_not_vary_correlates_with_nothing():
    told = {"units": UNITS, "seed": 0, "draws": 99}
    assert correlation(np.linspace(0, 1, 10), np.full(10, 0.1), **told)["value"] is None
    assert correlation(np.full(10, 0.5), np.linspace(0, 1, 10), **told)["value"] is None
    assert correlation(np.empty(0), np.empty(0), **told)["n"] == 0


def test_rogan_gladen_is_the_published_formula_with_both_rates_equal():
    for q in (0.3, 0.5, 0.62):
        for r in (0.8, 0.95, 1.0):
            assert rogan_gladen(q, r) == pytest.approx((q + r - 1) / (r + r - 1))
    assert rogan_gladen(0.99, 0.8) == 1.0
    assert rogan_gladen(0.01, 0.8) == 0.0


def test_the_correction_undoes_the_errors_of_a_judge():
    """True rate 0.7; a judge right in 9 of 10 shows 0.7 x 0.9 + 0.3 x 0.1 = 0.66."""
    points = np.r_[np.ones(66), np.zeros(34)]
    units = {"by group": np.arange(100).astype(str)}
    found = corrected(points, units, (0.9, 60), **TOLD)
    assert found["value"] == 0.7
    assert found["low"] < 0.6
    assert found["high"] > 0.8
    assert (found["better_wins"], found["pairs"]) == (0.9, 60)


@pytest.mark.parametrize("right", [(0.5, 60), (0.4, 60), (0.6, 20), (0.0, 0)])
def test_a_judge_no_better_than_chance_corrects_nothing(right):
    found = corrected(POINTS, UNITS, right, **TOLD)
    assert (found["value"], found["low"], found["high"]) == (None, None, None)


def test_the_corrected_interval_holds_as_often_as_it_says():
    """500 judges and benchmarks drawn at random: at most 5 % of the intervals miss the truth."""
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(500):
        truth, right = rng.uniform(0.1, 0.9), rng.uniform(0.8, 1.0)
        seen = truth * right + (1 - truth) * (1 - right)
        points = (rng.random(100) < seen).astype(float)
        learnt = rng.binomial(60, right) / 60
        units = {"by group": np.arange(100).astype(str)}
        found = corrected(points, units, (learnt, 60), seed=trial, draws=200)
        held += found["low"] <= round(truth, 6) <= found["high"]
    assert held >= 475


outcomes = st.lists(
    st.tuples(st.sampled_from([1.0, 0.5, 0.0, NAN]), st.integers(0, 4), st.integers(1, 30),
              st.integers(1, 30)),
    min_size=1, max_size=40,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(outcomes, st.integers(30, 60))
def test_exchanging_the_models_mirrors_every_number(rows, hits):
    points, groups = np.array([r[0] for r in rows]), np.array([str(r[1]) for r in rows])
    lengths = tuple(np.array([float(r[at]) for r in rows]) for at in (2, 3))
    units, told = {"by group": groups}, {"seed": 1, "draws": 199}
    right = (hits / 60, 60)
    one = (win_rate(points, units, **told), corrected(points, units, right, **told))
    two = (win_rate(1 - points, units, **told), corrected(1 - points, units, right, **told))
    for ours, theirs in zip(one, two, strict=True):
        assert mirrored(ours) == theirs
    ours, theirs = sign_test(points, groups), sign_test(1 - points, groups)
    assert exchanged(ours) | {"by_group": exchanged(ours["by_group"])} == theirs
    ours = length_bias(points, lengths, units, band=1.25, **told)
    theirs = length_bias(1 - points, lengths[::-1], units, band=1.25, **told)
    assert theirs["controlled"] == mirrored(ours["controlled"])
    assert theirs["longer_wins"] == ours["longer_wins"]
    assert theirs["correlation"] == ours["correlation"]


def mirrored(rate):
    """A rate as the other model sees it."""

    def turned(value):
        return None if value is None else round(1 - value, 6) + 0.0

    found = rate | {"value": turned(rate["value"]), "low": turned(rate["high"]),
                    "high": turned(rate["low"])}  # fmt: skip
    if "intervals" in rate:
        found["intervals"] = {k: [turned(high), turned(low)]
                              for k, (low, high) in rate["intervals"].items()}  # fmt: skip
    return found


def exchanged(signs):
    return signs | {"wins": signs["losses"], "losses": signs["wins"]}
