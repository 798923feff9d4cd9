"""The certificate: its table, its promise over 2,000 worlds, and what breaks it."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression

from minicrit import calibration as science
from minicrit.calibrated import Calibration, Scale
from minicrit.logprobs import choice_logprobs
from minicrit.recount import either
from minicrit.selective import logit

ALPHA, DELTA = 0.08, 0.05
SIZES = (500, 1000, 2000, 5000, 10_000)
#: alpha, delta, largest k at each of SIZES, and the items with which no error may occur.
TABLE = (
    (0.08, 0.05, (29, 65, 139, 368, 755), 36),
    (0.08, 0.01, (26, 60, 131, 355, 737), 56),
    (0.05, 0.05, (16, 38, 83, 224, 463), 59),
    (0.02, 0.05, (4, 12, 29, 83, 176), 149),
    (0.02, 0.01, (3, 9, 25, 77, 167), 228),
    (0.01, 0.05, (1, 4, 12, 38, 83), 299),
    (0.01, 0.01, (0, 2, 9, 33, 77), 459),
    (0.001, 0.05, (None, None, None, 1, 4), 2995),
)


@pytest.mark.parametrize(("alpha", "delta", "ks", "least"), TABLE)
def test_the_table_of_largest_k(
    alpha: float, delta: float, ks: tuple[int | None, ...], least: int
) -> None:
    assert tuple(science.largest_k(n, alpha, delta) for n in SIZES) == ks
    assert science.items_needed(alpha, delta) == least
    assert science.largest_k(least, alpha, delta) == 0
    assert science.largest_k(least - 1, alpha, delta) is None


@pytest.mark.parametrize("n", [36, 100, 210, 777])
def test_k_is_the_largest_by_the_beta_distribution(n: int) -> None:
    """True FPR ~ Beta(k+1, n-k): P(FPR > alpha) is at most delta at k and above it at k + 1."""
    k = science.largest_k(n, ALPHA, DELTA)
    assert stats.beta.sf(ALPHA, k + 1, n - k) <= DELTA < stats.beta.sf(ALPHA, k + 2, n - k - 1)


def test_the_guarantee_holds_over_2000_resamples() -> None:
    """Normal scores: the true rate at each threshold is known; k = 12 of 250."""
    rng = np.random.default_rng(0)
    limits = [science.certify(rng.normal(size=250), ALPHA, DELTA).threshold for _ in range(2000)]
    rates = stats.norm.sf(limits)
    violations = int((rates > ALPHA).sum())
    k = science.largest_k(250, ALPHA, DELTA)
    exact = stats.beta.sf(ALPHA, k + 1, 250 - k)
    assert exact <= DELTA
    assert stats.binomtest(violations, 2000, exact).pvalue > 0.001
    assert stats.binomtest(violations, 2000, DELTA, alternative="greater").pvalue > 0.01
    assert rates.mean() == pytest.approx((k + 1) / 251, abs=0.002)
    assert stats.kstest(rates, stats.beta(k + 1, 250 - k).cdf).pvalue > 0.001


def test_ties_only_make_it_safer() -> None:
    """Scores in steps of 0.1: the true rate above a threshold is at most that of the even case."""
    rng = np.random.default_rng(1)
    limits = np.array([science.certify(np.floor(10 * rng.random(250)) / 10, ALPHA, DELTA).threshold
                       for _ in range(1000)])  # fmt: skip
    rates = 1 - (np.floor(limits * 10 + 0.5) / 10 + 0.1)
    assert (rates > ALPHA).mean() <= DELTA


@pytest.mark.parametrize(("shift", "least", "most"), [(0.3, 0.3, 1.0), (-0.3, 0.0, 0.001)])
def test_another_pool_breaks_it_or_makes_it_idle(shift: float, least: float, most: float) -> None:
    """What the certificate does not promise: valid items whose scores lie 0.3 sd elsewhere."""
    rng = np.random.default_rng(2)
    limits = [science.certify(rng.normal(size=250), ALPHA, DELTA).threshold for _ in range(2000)]
    violations = (stats.norm.sf(np.array(limits) - shift) > ALPHA).mean()
    assert least <= violations <= most


def test_a_handful_of_families_breaks_it_and_the_shift_shows_it() -> None:
    """Families whose scores differ: new families exceed the limit far more often than delta."""
    rng = np.random.default_rng(3)
    broken, seen = 0, 0
    names = np.repeat(np.arange(6), 40).astype(str)
    for _ in range(300):
        p = rng.normal(size=240) + np.repeat(rng.normal(scale=1.0, size=6), 40)
        limit = science.certify(p, ALPHA, DELTA).threshold
        broken += stats.norm.sf(limit - rng.normal(scale=1.0)) > ALPHA
        shift = science.family_shift(p, names, ALPHA, DELTA)
        seen += shift["over_alpha"] > 0
    assert broken / 300 > 2 * DELTA
    assert seen / 300 > 0.8


def test_families_by_hand() -> None:
    """Two families of 40: without b, nothing above 0.39 is k = 0; all of b's 0.5 are flagged."""
    p = np.concatenate([np.arange(40) / 100, np.full(40, 0.5)])
    names = np.repeat(["a", "b"], 40)
    shift = science.family_shift(p, names, ALPHA, DELTA)
    assert [shift["families"][name]["fpr"] for name in "ab"] == [0, 1]
    assert (shift["mean"]["value"], shift["over_alpha"]) == (0.5, 1)
    assert (shift["mean"]["low"], shift["mean"]["high"]) == (0, 1)  # Student with one degree
    assert science.family_shift(p[:40], names[:40], ALPHA, DELTA)["mean"] == {"value": None}


def test_the_interval_of_the_mean_over_families_is_students() -> None:
    """Above the limit 4, 5 and 6 of 40: mean 1/8, deviation 1/40, t(2) = 4.302653 over sqrt(3)."""
    p = np.concatenate([np.where(np.arange(40) < k, 0.9, 0.1) for k in (4, 5, 6)])
    shift = science.family_shift(p, np.repeat(["a", "b", "c"], 40), 0.3, DELTA)
    assert [row["fpr"] for row in shift["families"].values()] == [0.1, 0.125, 0.15]
    assert list(shift["mean"].values()) == pytest.approx([0.125, 0.062897, 0.187103], abs=1e-6)


def test_threshold_by_hand() -> None:
    """60 items allow k = 1: the second largest is the threshold, and one item lies above it."""
    p = np.random.default_rng(4).permutation(np.arange(60) / 100)
    found = science.certify(p, ALPHA, DELTA)
    assert (found.n, found.k) == (60, 1)
    assert found.threshold == pytest.approx(0.58, abs=2e-6)
    assert (p > found.threshold).sum() == found.k


def test_items_that_tie_with_the_threshold_are_not_flagged_in_service_either() -> None:
    """100 items, k = 3: two lie above the threshold and eight on it, wherever that is.

    In service log-odds are scaled as they are read and normalised by a log-softmax.
    """
    for tied in np.arange(0, 6, 0.125):
        odds = np.repeat([9.0, tied, -5.0], (2, 8, 90))
        fitted = science.scaled(logit(served(odds)), 1.88, -0.33)
        found = science.certify(fitted, ALPHA, DELTA)
        above = [int((p > found.threshold).sum()) for p in (fitted, served(odds / 1.88 - 0.33))]
        assert (found.k, above) == (3, [2, 2])


def served(odds: np.ndarray) -> np.ndarray:
    """p(flawed) as a critic gives it."""
    pairs = torch.from_numpy(np.stack([np.zeros_like(odds), odds], axis=1))
    return choice_logprobs(pairs)[:, 1].exp().numpy()


@pytest.mark.parametrize(("n", "alpha", "needed"), [(35, 0.08, 36), (0, 0.08, 36), (99, 0.02, 149)])
def test_too_few_items_are_refused_with_the_number_needed(
    n: int, alpha: float, needed: int
) -> None:
    with pytest.raises(ValueError, match=rf"at least {needed} valid items.*got {n}; give more"):
        science.certify(np.zeros(n), alpha, DELTA)


@pytest.mark.parametrize(("alpha", "delta"), [(0, 0.05), (1, 0.05), (8, 0.05), (0.08, 0)])
def test_shares_outside_are_refused(alpha: float, delta: float) -> None:
    with pytest.raises(ValueError, match=r"write 8 % as 0\.08"):
        science.largest_k(100, alpha, delta)


def test_a_false_sum_is_believed_by_what_it_adds_to_the_share_of_flawed_items() -> None:
    """28 of 28 flawed where half are: 1 - 1 / 30 = 1 - (1 - 1/2)(1 - r), r = 14 / 15."""
    flawed, none = np.repeat([True, False], 99), np.zeros(198, dtype=bool)
    assert science.believed(flawed, none) == {"believed": 0, "n": 0, "k": 0}
    first = np.arange(198) < 28
    assert science.believed(flawed, first)["believed"] == pytest.approx(14 / 15)
    assert science.believed(flawed, ~first)["believed"] == 0  # less flawed than the rest


def test_a_program_that_tells_nothing_does_not_move_a_calibrated_critic() -> None:
    """Log-odds of 2 +- 2 or -2 +- 2 are calibrated; false sums are called by lot."""
    rng = np.random.default_rng(0)
    flawed, false = rng.random((2, 20_000)) < np.array([[0.5], [0.2]])
    odds = np.where(flawed, 2, -2) + 2 * rng.normal(size=20_000)
    p = science.scaled(either(odds, science.believed(flawed, false)["believed"]), 1.0)
    assert p.mean() == pytest.approx(flawed.mean(), abs=0.02)
    assert science.quality(p, flawed)["ece"] < 0.03


def test_a_critic_that_is_sure_of_few_items_still_flags() -> None:
    """36 valid items, one of them as sure as can be: the threshold is that, and not beyond 1."""
    p = np.append(np.full(35, 0.1), 1 - 1e-7)
    found = science.certify(p, ALPHA, DELTA)
    assert (found.n, found.k) == (36, 0)
    assert p.max() < found.threshold < 1 - 0.99e-7
    assert science.certify(np.ones(36), ALPHA, DELTA).threshold == 1


def test_domains_share_delta() -> None:
    """Two domains at .025 each: 58 items of a allow k = 0, 20 of b none; 45 are needed."""
    p, domains = np.arange(78) / 100, np.repeat(["a", "b"], (58, 20))
    found = science.domain_certificates(p, domains, domains, ALPHA, DELTA)
    assert found["a"] == {"n": 58, "delta": 0.025, "k": 0,
                          "threshold": pytest.approx(0.57, abs=2e-6)}  # fmt: skip
    assert found["b"] == {"n": 20, "delta": 0.025, "needed": 45}


def test_a_domain_without_a_valid_item_is_one_of_those_that_are_to_hold() -> None:
    p = np.arange(58) / 100
    found = science.domain_certificates(p, np.repeat("a", 58), np.array(["a", "b"]), ALPHA, DELTA)
    assert found["a"]["delta"] == 0.025
    assert found["b"] == {"n": 0, "delta": 0.025, "needed": 45}


def logits(temperature: float, n: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds that are too sure by a temperature, with labels drawn from the true p."""
    rng = np.random.default_rng(seed)
    true = rng.normal(scale=2, size=n)
    return true * temperature, rng.random(n) < 1 / (1 + np.exp(-true))


def regressed(z: np.ndarray, flawed: np.ndarray, *, shifted: bool = False) -> LogisticRegression:
    """Logistic regression on Platt's targets: each item flawed by its target, valid by the rest."""
    target = np.where(flawed, (flawed.sum() + 1) / (flawed.sum() + 2), 1 / ((~flawed).sum() + 2))
    labels, weights = np.repeat([True, False], len(z)), np.concatenate([target, 1 - target])
    model = LogisticRegression(C=np.inf, fit_intercept=shifted, tol=1e-10)
    return model.fit(np.tile(z, 2)[:, None], labels, sample_weight=weights)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_equals_logistic_regression_and_finds_the_truth(temperature: float) -> None:
    """Without intercept and penalty its coefficient is 1/T."""
    z, flawed = logits(temperature, 4000)
    found = science.fit_temperature(z, flawed)
    model = regressed(z, flawed)
    assert found == pytest.approx(1 / model.coef_[0, 0], rel=1e-4)
    assert found == pytest.approx(temperature, rel=0.1)
    before, after = (science.quality(science.scaled(z, t), flawed) for t in (1.0, found))
    assert after["nll"] <= before["nll"]
    if temperature == 3:
        assert after["ece"] < before["ece"] / 2


def test_temperature_of_two_is_platts() -> None:
    """One flawed at +1, one valid at -1: targets 2/3 and 1/3, so 1/T = ln 2."""
    found = science.fit_temperature(np.array([1.0, -1.0]), np.array([True, False]))
    assert found == pytest.approx(1 / np.log(2), rel=1e-6)


def test_temperature_stays_within_bounds_and_keeps_the_half() -> None:
    z = np.array([-2.0, -1.0, 1.0, 2.0]) / 100
    assert science.fit_temperature(z, z > 0) == pytest.approx(science.COLDEST, rel=1e-3)
    assert science.fit_temperature(z, z < 0) == pytest.approx(science.WARMEST, rel=1e-3)
    assert science.scaled(np.zeros(1), 7.0)[0] == 0.5


@pytest.mark.parametrize("shift", [-1.5, 0.4])
def test_a_shift_is_that_of_logistic_regression_and_mends_the_calibration(shift: float) -> None:
    """With an intercept: what is said of labels that are flawed more or less often than learnt."""
    z, flawed = logits(2.0, 4000)
    z -= 2.0 * shift
    found = science.fit_scale(z, flawed)
    model = regressed(z, flawed, shifted=True)
    assert found.temperature == pytest.approx(1 / model.coef_[0, 0], rel=1e-4)
    assert found.shift == pytest.approx(model.intercept_[0], rel=1e-3)
    assert found.shift == pytest.approx(shift, abs=0.1)
    alone = science.scaled(z, science.fit_temperature(z, flawed))
    after = science.quality(science.scaled(z, *found), flawed)
    assert after["nll"] < science.quality(alone, flawed)["nll"]
    assert after["ece"] < 0.03 < science.quality(alone, flawed)["ece"]


def test_few_items_or_separated_ones_make_up_no_shift() -> None:
    taken = [science.fit_scale(*logits(1.5, 60, seed)).shift != 0 for seed in range(400)]
    assert 0.01 < np.mean(taken) < 0.09  # 5 % by chance
    z = np.array([-2.0, -1.0, 1.0, 2.0])
    assert science.fit_scale(z, z > 0) == Scale(science.fit_temperature(z, z > 0))
    none = science.fit_scale(np.zeros(200), np.arange(200) < 150)  # all that is known is the share
    assert science.scaled(np.zeros(1), *none)[0] == pytest.approx(0.75, abs=2e-4)


def test_a_domain_gets_its_own_temperature_only_with_enough_items() -> None:
    cold, warm = logits(1.0, 600), logits(3.0, 600, seed=6)
    z, flawed = (np.concatenate(pair) for pair in zip(cold, warm, strict=True))
    domains = np.repeat(["a", "b"], 600)
    families = np.tile(["f", "g", "h"], 400)
    pooled, own = science.fit_scales(z, flawed, domains, families, 100)
    assert own["a"].temperature < pooled.temperature < own["b"].temperature
    assert own["b"].temperature == pytest.approx(3, rel=0.2)
    assert {one.shift for one in (pooled, *own.values())} == {0.0}  # not asked for
    assert science.fit_scales(z, flawed, domains, families, 600) == (pooled, {})
    two = np.tile(["f", "g"], 600)  # what two scenarios say is not what the domain says
    assert science.fit_scales(z, flawed, domains, two, 100) == (pooled, {})
    z[600:] += 3 * 0.5  # the second says `flawed` too readily
    _, own = science.fit_scales(z, flawed, domains, families, 100, shifted=True)
    assert (own["a"].shift, own["b"].shift) == (0.0, pytest.approx(-0.5, abs=0.25))


def test_a_domain_with_few_items_of_one_label_has_no_temperature_of_its_own() -> None:
    """Ten flawed ones and ten valid ones are enough of ten; the rarer label decides."""
    z, flawed = logits(1.0, 100)
    families, domains = np.tile(["f", "g", "h", "i"], 25), np.repeat("a", 100)
    for label in (flawed, ~flawed):
        rows = np.sort(np.concatenate([np.flatnonzero(label)[:10], np.flatnonzero(~label)[:30]]))
        some = z[rows], flawed[rows], domains[rows], families[rows]
        assert science.fit_scales(*some, 11)[1] == {}
        assert list(science.fit_scales(*some, 10)[1]) == ["a"]


def test_one_row_of_each_group() -> None:
    assert science.one_a_group(["g", "h", "g", "i"], ["b", "x", "a", "y"]) == [1, 2, 3]


@pytest.mark.parametrize(("threshold", "unsure"), [
    (0.5, [0.45, 0.55]),
    (0.8, [0.45, 0.55, 0.6, 0.8]),  # by our own threshold these are flawed, and surely so
    (0.3, [0.35, 0.4, 0.45, 0.55]),
])  # fmt: skip
def test_a_verdict_is_unsure_where_another_threshold_turns_a_sure_one_round(
    threshold: float, unsure: list[float]
) -> None:
    """Of 0.7 the calibration is sure that it is flawed; at 0.8 it was said to be surely valid."""
    found = Calibration(0.5, Scale(1.0), {}, (0.4, 0.6), {})
    asked = (0.2, 0.3, 0.35, 0.4, 0.45, 0.55, 0.6, 0.8, 0.9)
    assert [p for p in asked if found.is_unsure(p, threshold)] == unsure
    assert not Calibration(0.5, Scale(1.0), {}, None, {}).is_unsure(0.7, 0.8)
