"""What is said of one judge: rates over the right items, at its threshold and at one half."""

import numpy as np
import pytest

from minicrit.measures import Truth, bounds_of, draw, entry, measure, reflected
from minicrit.scores import chance_calibration_errors, expected_calibration_error
from minicrit.statistics import Interval, wilson

P = np.array([0.9, 0.6, 0.2, 0.7, 0.4, 0.1, 0.3, 0.55])
TRUTH = Truth(
    flawed=np.array([True, True, True, False, False, False, False, False]),
    groups=np.array(list("aabbccdd")), families=np.array(list("xxxxyyyy")), costs=np.ones(8),
)  # fmt: skip


def test_rates_at_both_thresholds_by_hand():
    """Above 0.65 are 1 of 5 valid and 1 of 3 flawed ones, above a half 2 and 2."""
    found = measure(P, TRUTH, 0.65, draws=50)
    for name, hits, n in (("fpr", 1, 5), ("fpr_threshold_half", 2, 5), ("recall", 1, 3),
                          ("recall_threshold_half", 2, 3)):  # fmt: skip
        assert (found[name]["value"], found[name]["n"]) == (pytest.approx(hits / n, abs=1e-6), n)
        limits = wilson(hits, n)
        assert found[name]["intervals"]["wilson"] == pytest.approx(
            [limits.low, limits.high], abs=1e-6
        )
    assert "fpr_threshold_half" not in measure(P, TRUTH, 0.5, draws=50)


def test_f1_has_wilsons_interval_by_hand():
    """Twelve of twelve right, six flawed: J = 6 / 6, Wilson from 0.6097, so F1 from 0.7575."""
    flawed = np.arange(12) < 6
    names = np.arange(12).astype(str)
    found = measure(flawed.astype(float), Truth(flawed, names, names, np.ones(12)), 0.5, draws=50)
    assert found["f1"]["value"] == found["f1"]["high"] == 1
    assert found["f1"]["low"] == pytest.approx(0.757508, abs=1e-5)
    assert found["f1"]["intervals"]["by group"] == [None, None]


def test_a_resample_without_spread_is_no_interval():
    """Nothing is wrong in any draw: what has no other interval has none."""
    flawed = np.arange(12) < 6
    names = np.arange(12).astype(str)
    found = measure(flawed.astype(float), Truth(flawed, names, names, np.ones(12)), 0.5, draws=50)
    assert [found["auroc"][key] for key in ("value", "low", "high")] == [1, None, None]
    assert [found["cost"][key] for key in ("value", "low", "high")] == [0, None, None]


@pytest.mark.parametrize(("slope", "error"), [(0.8, 0.032), (1.0, 0.0)])
def test_the_interval_of_the_calibration_error_holds_it(slope, error):
    """Log-odds that are a quarter too large: a true error of 0.032 (of 400,000 items); or right.

    The draws' percentiles lie above it in every one of 60 worlds of 400 items.
    """
    rng, held = np.random.default_rng(3), np.zeros(2)
    names = np.arange(400).astype(str)
    for seed in range(60):
        p = rng.random(400)
        flawed = rng.random(400) < 1 / (1 + ((1 - p) / p) ** slope)
        truth = Truth(flawed, names, names, np.ones(400))
        drawn = draw(p, truth, 0.5, names, seed=seed, draws=200)["ece"]
        value = expected_calibration_error(p, flawed)
        chance = np.quantile(chance_calibration_errors(p, seed=seed, draws=200), 0.975)
        for column, (low, high) in enumerate((reflected(value, drawn, chance),
                                              bounds_of(value, drawn))):  # fmt: skip
            held[column] += low <= error <= high
            assert column or low <= value <= high
    assert held[0] >= 0.75 * 60
    assert held[1] <= 0.1 * 60


def test_the_reflected_interval_by_hand():
    """Draws of 0.1 to 0.3, a value of 0.2; and of 0.15 to 0.35, which reflected end below it."""
    drawn = np.linspace(0.1, 0.3, 41)
    assert reflected(0.2, drawn, 0.19) == pytest.approx((0.105, 0.295))
    assert reflected(0.2, drawn, 0.21) == pytest.approx((0, 0.295))
    assert reflected(0.1, drawn + 0.05, 0.05) == pytest.approx((0, 0.1))
    assert np.isnan(reflected(0.2, None, 0.1)).all()


def test_an_interval_as_wide_as_rounding_is_none():
    """Kappa where one side flags some and the other none is 0 in every draw, but for 1e-17."""
    found = entry(0.0, 30, {"by group": Interval(0.0, -1e-17, 2e-17, 30)})
    assert (found["low"], found["high"]) == (None, None)
    assert found["intervals"] == {"by group": [None, None]}
