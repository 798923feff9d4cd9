"""What is left wrong where the critic abstains: by hand, against brute force, and its extremes."""

# mypy: disable-error-code="import-untyped"
import numpy as np
import pytest
from scipy import special

from minicrit.calibrate import fitted, lines, parted
from minicrit.measure_config import CalibrateConfig
from minicrit.records import Example
from minicrit.selective import abstain_band, aurc, logit, outside, risk_coverage, sureness
from minicrit.tables import abstaining
from minicrit.taxonomy import LABELS

RATE = {"value": 0.01, "low": 0.001, "high": 0.03}


def test_curve_by_hand() -> None:
    """At .5 the surest are .99 and .01, then .9, then .6: wrong is .9 only.

    Risks 0, 0, 1/3, 1/4; the first two are equally sure and enter together.
    """
    p, flawed = np.array([0.6, 0.99, 0.01, 0.9]), np.array([True, True, False, False])
    assert risk_coverage(p, flawed, 0.5) == [[0.5, 0.0], [0.75, 0.333333], [1.0, 0.25]]
    assert aurc(p, flawed, 0.5) == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)


def test_aurc_equals_brute_force_without_ties() -> None:
    """Mean over k of the error rate of the k surest."""
    rng = np.random.default_rng(0)
    p = rng.random(200)
    flawed = rng.random(200) < p
    away = np.abs(np.log(p / (1 - p)) - np.log(0.7 / 0.3))
    wrong = ((p > 0.7) != flawed)[np.argsort(-away)]
    assert aurc(p, flawed, 0.7) == pytest.approx(
        np.mean([wrong[: k + 1].mean() for k in range(200)])
    )


def test_whole_weights_are_copies_and_order_is_none() -> None:
    rng = np.random.default_rng(1)
    p, flawed = np.round(rng.random(40), 1), rng.random(40) < 0.5
    w = rng.integers(0, 4, 40)
    copies = np.repeat(np.arange(40), w)
    turned = rng.permutation(copies)
    value = aurc(p, flawed, 0.4, weights=w.astype(float))
    assert value == pytest.approx(aurc(p[turned], flawed[turned], 0.4))
    assert np.isnan(aurc(p, flawed, 0.4, weights=np.zeros(40)))


def test_sureness_is_the_distance_in_log_odds_and_finite() -> None:
    assert sureness(np.array([0.8]), 0.5)[0] == pytest.approx(np.log(4))
    assert sureness(np.array([0.2, 0.8]), 0.8).tolist() == pytest.approx([2 * np.log(4), 0])
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()


def test_band_leaves_out_what_is_wrong_near_the_threshold() -> None:
    """200 sure and right, 40 within .2 log-odds of the threshold and half of them wrong."""
    sure = np.repeat([0.02, 0.98], 100)
    near = np.full(40, 0.52)
    p = np.concatenate([sure, near])
    flawed = np.concatenate([sure > 0.5, np.arange(40) % 2 == 0])
    band = abstain_band(p, flawed, 0.5, 0.05)
    assert band is not None
    assert band["low"] == pytest.approx(1 - band["high"])
    assert 0.52 < band["high"] < 0.55
    assert (band["n"], band["risk"]) == (200, 0)
    assert band["coverage"] == pytest.approx(200 / 240)
    assert abstain_band(p, ~flawed, 0.5, 0.05) is None


def test_a_band_lies_around_the_threshold_wherever_that_is() -> None:
    """Threshold 0.8, log-odds 1.3863; 0.81 is 0.064 away: 1.3863 -+ 0.1 are 0.7835 and 0.8155.

    Of sixty on the threshold itself, which are not flagged, a quarter is wrong.
    """
    p = np.repeat([0.1, 0.99, 0.81, 0.8], (100, 100, 40, 60))
    flawed = np.concatenate([np.arange(200) >= 100, np.arange(40) % 2 == 0, np.arange(60) < 15])
    band = abstain_band(p, flawed, 0.8, 0.05)
    assert band is not None
    assert (band["low"], band["high"]) == pytest.approx((0.783519, 0.815521), abs=1e-6)
    assert (band["n"], band["risk"]) == (200, 0)
    found = outside(p, flawed, 0.8, (0.0, 0.8))
    assert (found["wrong"]["n"], found["wrong"]["value"]) == (200, pytest.approx(35 / 200))
    at = abstain_band(np.full(99, 0.8), np.zeros(99, dtype=bool), 0.8, 0.05)
    assert at is not None
    assert (at["coverage"], at["risk"]) == (1, 0)


def test_no_band_is_needed_where_nothing_is_wrong() -> None:
    p = np.repeat([0.02, 0.98], 100)
    band = abstain_band(p, p > 0.5, 0.5, 0.05)
    assert band is not None
    assert band["low"] == band["high"]
    assert band["coverage"] == 1
    judge = {"name": "c", "calibration": {"abstain": band}, "abstaining": None}
    assert abstaining(judge) == (
        "c: it need not abstain: without a band few enough verdicts were wrong."
    )


def test_no_band_of_no_width_is_told() -> None:
    """It was `where p lies between 0.126 and 0.126`, and `outside of p 0.126 to 0.126 (100 %)`."""
    examples = [Example(id=f"{n}/{label}", domain="trading", rationale=f"Case {n}, {label}.",
                        label=label, group=str(n), source="mine", split="calibration")
                for n in range(100) for label in LABELS]  # fmt: skip
    settings, z = CalibrateConfig(), [3.0 if e.label == "flawed" else -3.0 for e in examples]
    rows = parted(examples, settings.temperature_share, 0)
    found = fitted(settings, examples, 1 / (1 + np.exp(-np.array(z))), *rows, 0)
    assert "no band to abstain in is needed, verdicts: 0.0 % wrong\n" in lines(found)
    judge = {"name": "c", "calibration": found, "abstaining": {"coverage": 1.0, "wrong": RATE}}
    assert abstaining(judge).endswith("On these items: 100 % of the verdicts, 0.010 [0.001, 0.030] "
                                      "of them wrong.")  # fmt: skip


def test_outside_of_a_band_by_hand() -> None:
    """Bounds count as outside: .2, .8, .9 are kept, of which .9 is wrong; inside is .5 alone."""
    p, flawed = np.array([0.2, 0.5, 0.8, 0.9]), np.array([False, False, True, False])
    found = outside(p, flawed, 0.5, (0.2, 0.8))
    assert (found["coverage"], found["wrong"]["n"]) == (0.75, 3)
    assert found["wrong"]["value"] == pytest.approx(1 / 3)
    assert found["wrong"]["low"] < 1 / 3 < found["wrong"]["high"]
    assert outside(p[1:2], flawed[1:2], 0.5, (0.2, 0.8)) == {"coverage": 0.0, "wrong": None}


def test_outside_of_the_band_that_was_found_there_is_what_it_said() -> None:
    """On the items that it was fitted to, coverage and risk are those of the band itself."""
    rng = np.random.default_rng(3)
    p = rng.random(400)
    flawed = rng.random(400) < special.expit(4 * logit(p))
    band = abstain_band(p, flawed, 0.5, 0.1)
    assert band is not None
    found = outside(p, flawed, 0.5, (band["low"], band["high"]))
    assert found["coverage"] == pytest.approx(band["coverage"])
    assert found["wrong"]["value"] == pytest.approx(band["risk"])
    assert found["wrong"]["high"] == pytest.approx(band["risk_high"])
