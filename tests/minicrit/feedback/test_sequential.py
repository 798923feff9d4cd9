import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from minicrit.feedback.sequential import (
    MEANS,
    confidence_sequence,
    contrast,
    in_units,
    log_capital,
    msprt,
    reach,
    stakes,
)

UNIT = st.floats(0, 1, allow_nan=False)


def test_bets_by_hand():
    """s_0 = 1/4; after y = 1: mean (1/2 + 1) / 2 = 3/4, s_1 = (1/4 + 1/16) / 2 = 5/32."""
    first = math.sqrt(2 * math.log(40) / (0.25 * 1 * math.log(2)))
    second = math.sqrt(2 * math.log(40) / (5 / 32 * 2 * math.log(3)))
    assert stakes(np.array([1.0, 0.0]), 0.05) == pytest.approx([first, second])
    assert (first, second) == pytest.approx((6.5249, 4.6357), abs=1e-4)


def test_capital_by_hand():
    """Both bets above are cut at 0.5 / 0.5 = 1. K+ = 1.5, 1.5 x 0.5; K- = 0.5, 0.5 x 1.5."""
    found = np.exp(log_capital(np.array([1.0, 0.0]), 0.5, 0.05))
    assert found == pytest.approx([1.5 / 2, 0.75 / 2])


def plain_capital(y, mean, alpha):
    """The same, one unit after the other, as the paper writes it."""
    more = less = 1.0
    total, squares, spread, found = 0.0, 0.0, 0.25, []
    for t, value in enumerate(y, start=1):
        bet = math.sqrt(2 * math.log(2 / alpha) / (spread * t * math.log(1 + t)))
        more *= 1 + min(bet, 0.5 / mean) * (value - mean)
        less *= 1 - min(bet, 0.5 / (1 - mean)) * (value - mean)
        total += value
        squares += (value - (0.5 + total) / (t + 1)) ** 2
        spread = (0.25 + squares) / (t + 1)
        found.append(max(more / 2, less / 2))
    return found


@given(st.lists(UNIT, min_size=1, max_size=40), st.floats(0.05, 0.95), st.floats(0.01, 0.2))
@settings(max_examples=60, deadline=None)
def test_capital_as_written_in_the_paper(y, mean, alpha):
    found = np.exp(log_capital(np.array(y), mean, alpha))
    assert found == pytest.approx(plain_capital(y, mean, alpha), rel=1e-9)


def test_capital_is_a_fair_game_whatever_happened_before():
    """Mean over the next value of the capital of each half is the capital before it."""
    for past in ([], [1.0, 1.0, 0.0], [0.0] * 6):
        for mean in (0.2, 0.5):
            halves = []
            for value, chance in ((1.0, mean), (0.0, 1 - mean)):
                y = np.array([*past, value])
                bet = stakes(y, 0.05)[-1]
                up, down = min(bet, 0.5 / mean), min(bet, 0.5 / (1 - mean))
                halves.append(chance * np.array([1 + up * (value - mean),
                                                 1 - down * (value - mean)]))  # fmt: skip
            assert sum(halves) == pytest.approx([1.0, 1.0])


@given(st.lists(st.tuples(UNIT, st.booleans()), min_size=1, max_size=50), st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_a_contrast_stays_in_its_bounds(rows, share):
    x, treated = (np.array(side) for side in zip(*rows, strict=True))
    psi = contrast(x.astype(float), treated, share)
    assert np.all(np.abs(psi) <= reach(share) + 1e-9)


def test_contrast_by_hand_and_its_mean():
    """First unit: guesses 1/2. Treated 1: (1 - 1/2) / 0.25 = 2. Then m1 = (1/2 + 1) / 2 = 3/4."""
    psi = contrast(np.array([1.0, 1.0]), np.array([True, False]), 0.25)
    assert psi == pytest.approx([2.0, 3 / 4 - 1 / 2 - (1 - 0.5) / 0.75])
    past_x, past_a = [1.0, 0.0, 1.0], [True, True, False]
    x1, x0, share = 0.9, 0.3, 0.25  # what the next unit would do in each arm
    ends = [contrast(np.array([*past_x, x1 if a else x0]), np.array([*past_a, a]), share)[-1]
            for a in (True, False)]  # fmt: skip
    assert share * ends[0] + (1 - share) * ends[1] == pytest.approx(x1 - x0)


def test_bounds_are_the_means_not_bet_away():
    rng = np.random.default_rng(0)
    psi = rng.choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.6, 0.3])
    found = confidence_sequence(psi, 1.0, 0.05)
    y = (psi + 1) / 2
    for n in (30, 300):
        for side, inside in ((found.low[n - 1], 1), (found.high[n - 1], -1)):
            low = (side + 1) / 2
            rich = [max(plain_capital(y[:t], low - inside * 1e-3, 0.05)[-1]
                        for t in range(1, n + 1)) >= 20]  # fmt: skip
            assert rich == [True]
            assert max(plain_capital(y[:n], low + inside * 1.1e-3, 0.05)) < 20
    assert np.all(np.diff(found.low) >= 0)
    assert np.all(np.diff(found.high) <= 0)
    assert found.low[-1] < 0.2 < found.high[-1]
    assert found.estimate[-1] == pytest.approx(psi.mean())
    assert found.p[-1] == pytest.approx(min(1, 1 / max(plain_capital(y, 0.5, 0.05))))


def test_bounds_among_few_means_are_those_of_all_rounded_outwards():
    """Two experiments at once, of 700 numbers each: more than are looked at in one go."""
    psi = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], (2, 700), p=[0.1, 0.6, 0.3])
    few = MEANS[[800, 950, 1000, 1030, 1100, 1250]]
    found = confidence_sequence(psi, 1.0, 0.05, few)
    grid = in_units(np.array([0, *few, 1]), 1.0)
    for row in range(2):
        whole = confidence_sequence(psi[row], 1.0, 0.05)
        low = [grid[grid <= bound].max() for bound in whole.low]
        high = [grid[grid >= bound].min() for bound in whole.high]
        assert (found.low[row].tolist(), found.high[row].tolist()) == (low, high)
        assert len(set(low)) > 3
        assert found.p[row].tolist() == whole.p.tolist()
    assert in_units(np.array([0.0, 0.5, 0.75, 1.0]), 2.0).tolist() == [-2, 0, 1, 2]


def ever_wrong(draw, runs, share=0.5):
    """How many A/A runs refute "no difference" at 5 % when looked at after every unit."""
    psi = contrast(*draw(), share)
    y = (psi + reach(share)) / (2 * reach(share))
    return int(np.sum(np.max(log_capital(y, 0.5, 0.05), axis=-1) >= math.log(20))), runs


@pytest.mark.parametrize(("rate", "share"), [(0.9, 0.5), (0.5, 0.5), (0.97, 0.2)])
def test_false_alarms_under_continuous_peeking_stay_below_five_percent(rate, share):
    """1,500 A/A tests of 600 units, looked at 600 times each; the bound fails at a true 7 %."""
    rng = np.random.default_rng(7)
    shape = (1500, 600)

    def draw():
        return (rng.random(shape) < rate).astype(float), rng.random(shape) < share

    wrong, runs = ever_wrong(draw, 1500, share)
    assert wrong <= binom.ppf(0.999, runs, 0.05)
    assert binom.cdf(binom.ppf(0.999, runs, 0.05), runs, 0.075) < 0.3


def test_false_alarms_stay_below_where_units_get_harder_over_time():
    rng = np.random.default_rng(8)
    rates = np.linspace(0.98, 0.5, 600)

    def draw():
        return (rng.random((1500, 600)) < rates).astype(float), rng.random((1500, 600)) < 0.5

    wrong, runs = ever_wrong(draw, 1500)
    assert wrong <= binom.ppf(0.999, runs, 0.05)


def test_looking_at_ordinary_tests_raises_false_alarms_far_beyond():
    """What the bound above would see: a z-test after every unit from the 20th on."""
    rng = np.random.default_rng(9)
    x = (rng.random((1500, 600)) < 0.9).astype(float)
    treated = rng.random((1500, 600)) < 0.5
    psi = contrast(x, treated, 0.5)
    n = np.arange(1, 601)
    mean = np.cumsum(psi, axis=1) / n
    deviation = np.sqrt(np.maximum(np.cumsum(psi**2, axis=1) / n - mean**2, 1e-9) / n)
    wrong = np.any(np.abs(mean / deviation)[:, 20:] > 1.96, axis=1).mean()
    assert wrong > 0.2


def test_a_difference_is_found_and_its_sign_is_right():
    rng = np.random.default_rng(3)
    treated = rng.random(4000) < 0.5
    x = (rng.random(4000) < np.where(treated, 0.92, 0.80)).astype(float)
    found = confidence_sequence(contrast(x, treated, 0.5), 2.0, 0.05)
    assert found.low[-1] > 0
    assert found.low[-1] < 0.12 < found.high[-1]
    assert found.p[-1] < 0.05
    other = confidence_sequence(contrast(x, ~treated, 0.5), 2.0, 0.05)
    assert other.high[-1] == pytest.approx(-found.low[-1])


def test_msprt_by_hand():
    """x = 0, 1; z = 1, 1 ... V needs spread in both: zero before it, then the formula."""
    x, z = np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0])
    found = msprt(x, z, 0.01)
    assert found[:2].tolist() == [0, 0]
    v = 2 / 9 + 2 / 9
    assert found[2] == pytest.approx(0.5 * math.log(v / (v + 0.03)))  # D = 0
    x, z = np.array([0.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.0, 1.0])
    v, d = 3 / 16 * 2, 0.5
    expected = 0.5 * math.log(v / (v + 0.04)) + 16 * 0.01 * d * d / (2 * v * (v + 0.04))
    assert msprt(x, z, 0.01)[3] == pytest.approx(expected)
