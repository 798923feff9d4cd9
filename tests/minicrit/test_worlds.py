"""Random gates: what is kept, that p is uniform where the gate knows nothing, and power."""

import tracemalloc
from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats

from minicrit import worlds
from minicrit.book import Book, build_book
from minicrit.sharpe import sharpe_ratio
from minicrit.trades import Trade

START = date(2024, 1, 1)


def book(gains: np.ndarray, names: str = "AB") -> Book:
    """One trade a day, each closed on the day of its entry."""
    days = [START + timedelta(days=7 * (n // 5) + n % 5) for n in range(len(gains))]
    trades = [Trade(line=n, opened=day, closed=day, instrument=names[n % len(names)], side=1,
                    size=0.1, gain=float(gain), rationale="x")
              for n, (day, gain) in enumerate(zip(days, gains, strict=True))]  # fmt: skip
    return build_book(trades, "day", None, "trades.csv")


def test_exchange_keeps_the_number_of_flags_in_every_block() -> None:
    rng = np.random.default_rng(0)
    flagged = rng.random(40) < 0.4
    blocks = [f"b{n % 3}" for n in range(39)] + ["alone"]
    drawn = worlds.exchange(flagged, blocks, 200, rng)
    names = np.array(blocks)
    for name in set(blocks):
        assert np.all(drawn[names == name].sum(axis=0) == flagged[names == name].sum())
    free = names != "alone"
    share = flagged[names == "b0"].mean()
    assert drawn[names == "b0"].mean(axis=1) == pytest.approx(share, abs=0.15)
    assert len({column.tobytes() for column in drawn[free].T}) > 190


def test_many_worlds_are_drawn_as_all_at_once_in_half_the_memory() -> None:
    """200,000 trades in 2000 worlds took 7 GB; of the draws themselves 3.2 are needed."""
    flagged = np.arange(3000) % 3 == 0
    blocks = [f"b{n % 7}" for n in range(3000)]
    tracemalloc.start()
    drawn = worlds.exchange(flagged, blocks, 1000, np.random.default_rng(3))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * 8 * drawn.size
    names = np.unique(blocks, return_inverse=True)[1]
    order = np.argsort(names[:, None] + np.random.default_rng(3).random(drawn.shape), axis=0)
    assert np.array_equal(drawn[np.argsort(names, kind="stable")], flagged[order])


def test_how_many_trades_can_move() -> None:
    """Block a holds both kinds, b only flagged ones, c none: 3 of 6 can move."""
    flagged = np.array([True, False, False, True, True, False])
    assert worlds.exchangeable(flagged, list("aaabbc")) == 0.5


def test_weights_drop_or_halve() -> None:
    flagged = np.array([True, False])
    assert worlds.weights_of(flagged, 0.0).tolist() == [0, 1]
    assert worlds.weights_of(flagged, 0.5).tolist() == [0.5, 1]


def test_random_gates_are_those_of_the_flags_they_drew() -> None:
    gains = np.random.default_rng(1).normal(0, 0.02, 60)
    flagged = np.arange(60) % 3 == 0
    made = book(gains)
    drawn = worlds.random_gates(made, flagged, 0.0, draws=70, seed=4)
    flags = worlds.exchange(flagged, [""] * 60, 70, np.random.default_rng(4))
    wanted = [sharpe_ratio(np.where(column, 0, 0.1 * gains)) for column in flags.T]
    assert drawn.ratios == pytest.approx(wanted)
    sums = np.cumsum(np.where(flags, 0, 0.1 * gains[:, None]), axis=0)
    assert drawn.band == pytest.approx(np.quantile(sums, [0.025, 0.5, 0.975], axis=1), abs=1e-6)


def test_p_is_uniform_where_flags_know_nothing() -> None:
    """Heavy-tailed returns with a drift, so that dropping trades does change the ratio."""
    rng = np.random.default_rng(2)
    chances = []
    for n in range(200):
        gains = 0.01 + 0.02 * rng.standard_t(3, 50)
        flagged = rng.permutation(50) < 18
        made = book(gains)
        drawn = worlds.random_gates(made, flagged, 0.0, draws=39, seed=n + 1000)
        after = sharpe_ratio(made.series(worlds.weights_of(flagged, 0.0)))
        chances.append(worlds.chance(drawn.ratios, after))
    assert stats.kstest(chances, "uniform").pvalue > 0.01
    rare = int(np.sum(np.array(chances) <= 0.05))
    assert stats.binomtest(rare, 200, 0.05).pvalue > 0.001


def test_p_is_small_for_a_gate_that_knows() -> None:
    rng = np.random.default_rng(3)
    flagged = rng.permutation(200) < 80
    made = book(np.where(flagged, -0.01, 0.01) + rng.normal(0, 0.02, 200))
    drawn = worlds.random_gates(made, flagged, 0.0, draws=199, seed=0)
    after = sharpe_ratio(made.series(worlds.weights_of(flagged, 0.0)))
    assert worlds.chance(drawn.ratios, after) == 1 / 200


def test_a_gate_that_drops_as_many_losers_is_as_good() -> None:
    """Fixed stop and target, so it is the same book but for the order in which it is summed."""
    rng = np.random.default_rng(5)
    gains = np.where(rng.random(60) < 0.55, 0.01, -0.01)
    for seed in range(4):
        flagged = np.random.default_rng(seed).permutation(60) < 20
        made = book(gains)
        drawn = worlds.random_gates(made, flagged, 0.0, draws=200, seed=0)
        flags = worlds.exchange(flagged, [""] * 60, 200, np.random.default_rng(0))
        as_good = (gains @ flags <= gains @ flagged + 1e-9).sum()  # loses as much or more
        after = sharpe_ratio(made.series(worlds.weights_of(flagged, 0.0)))
        assert worlds.chance(drawn.ratios, after) == pytest.approx((1 + as_good) / 201)


def test_an_undefined_ratio_never_counts_for_the_gate() -> None:
    assert worlds.chance(np.array([0.1, np.nan, 0.3]), 0.2) == 3 / 4
    assert worlds.chance(np.array([0.1, 0.2]), float("nan")) == 1


def test_false_alarms_stay_near_their_level() -> None:
    """Without drift and knowledge a gate's true difference is about zero, the level 2.5 %."""
    made = book(np.random.default_rng(5).normal(0, 0.02, 400))
    flagged = np.random.default_rng(6).permutation(400) < 150
    rate = worlds.false_alarms(made, flagged, 0.0, blocks=[""] * 400, draws=100, seed=0)
    assert rate <= 0.1
