"""Bounds, equivalence, Holm and what can be found: against scipy, by hand and by simulation."""

import numpy as np
import pytest
from scipy import stats

from minicrit import paired
from minicrit.statistics import mcnemar_exact


@pytest.mark.parametrize("seed", range(4))
def test_bca_equals_scipy_on_the_same_draws(seed: int) -> None:
    """A skewed sample; scipy keeps its resamples, so both see the same."""
    x = np.random.default_rng(seed).exponential(size=25)
    theirs = stats.bootstrap((x,), np.mean, n_resamples=999, method="BCa",
                             rng=np.random.default_rng(seed))  # fmt: skip
    left_out = np.array([np.delete(x, n).mean() for n in range(len(x))])
    ours = paired.Drawn.of(float(x.mean()), theirs.bootstrap_distribution, left_out).bounds()
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=1e-9)
    assert ours != pytest.approx(tuple(np.quantile(theirs.bootstrap_distribution, [0.025, 0.975])))


def test_bca_without_bias_and_skew_is_the_percentile_interval() -> None:
    drawn = np.linspace(-1, 1, 2001)
    left_out = np.array([-1.0, 0.0, 1.0])
    assert paired.Drawn.of(0.0, drawn, left_out).bounds() == pytest.approx((-0.95, 0.95), abs=1e-9)


def test_bca_falls_back_to_percentiles() -> None:
    """All draws on one side, an undefined jackknife, or nothing defined at all."""
    drawn = np.linspace(0.1, 1, 1001)
    plain = tuple(np.quantile(drawn, [0.025, 0.975]))
    assert paired.Drawn.of(0.0, drawn, np.zeros(3)).bounds() == pytest.approx(plain)
    left_out = np.array([1.0, np.nan])
    assert paired.Drawn.of(0.5, drawn, left_out).bounds() == pytest.approx(plain)
    nothing = paired.difference(0.5, np.full(9, np.nan), np.zeros(3), 4)
    assert np.isnan([nothing.low, nothing.high, nothing.p]).all()


@pytest.mark.parametrize("shift", [0.0, 0.9, 1.1, 1.6])
def test_p_and_bounds_tell_the_same(shift: float) -> None:
    """At the level 1 - p a bound of the skewed, biased bootstrap touches the tested value."""
    rng = np.random.default_rng(7)
    x = rng.exponential(size=40) - shift
    drawn = x[rng.integers(0, 40, (20_000, 40))].mean(axis=1) + 0.05
    left_out = (x.sum() - x) / 39
    found = paired.difference(float(x.mean()), drawn, left_out, 40)
    touched = paired.Drawn.of(float(x.mean()), drawn, left_out).bounds(1 - found.p)
    if found.p > 0.001:
        assert min(abs(bound) for bound in touched) < 0.01
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
    turned = paired.difference(-float(x.mean()), -drawn, -left_out, 40)
    assert turned.p == pytest.approx(found.p)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_bca_covers_a_skewed_mean_better_than_percentiles() -> None:
    """400 samples of 50: BCa about 93 %, percentiles a little less."""
    rng = np.random.default_rng(2)
    hits = np.zeros(2)
    for _ in range(400):
        x = rng.exponential(size=50)
        drawn = x[rng.integers(0, 50, (1000, 50))].mean(axis=1)
        left_out = (x.sum() - x) / 49
        corrected = paired.Drawn.of(float(x.mean()), drawn, left_out).bounds()
        plain = np.quantile(drawn, [0.025, 0.975])
        for column, (low, high) in enumerate((corrected, plain)):
            hits[column] += low <= 1 <= high
    assert 0.9 <= hits[0] / 400 <= 0.97
    assert hits[0] >= hits[1]


def rate_of(units: int) -> tuple[paired.Unseen, paired.Unseen]:
    """Of a plain rate over so many units, for both judges."""
    return (lambda loss: paired.none_of(loss, units),) * 2


@pytest.mark.parametrize(("clusters", "p"), [(6, 2**-5), (11, 2**-10), (40, 2 / 4001)])
def test_p_is_not_below_what_draws_and_clusters_can_show(clusters: int, p: float) -> None:
    """All clusters speak for one judge: 2 / 2^G of all signs, 2 / (1 + draws) of all draws do."""
    x = np.append(np.full(clusters - 1, 0.01), 0.3)
    drawn = x[np.random.default_rng(0).integers(0, clusters, (4000, clusters))].mean(axis=1)
    left_out = (x.sum() - x) / (clusters - 1)
    assert paired.difference(float(x.mean()), drawn, left_out, clusters).p == pytest.approx(p)


def test_one_sided_by_hand() -> None:
    """Of nine draws two are at most -0.1 and one is at least 0.1; 0.01 is their middle."""
    drawn = np.array([-0.3, -0.1, -0.05, 0, 0.01, 0.02, 0.05, 0.09, 0.1])
    found = paired.one_sided(0.01, drawn, np.zeros(20), 0.1, rate_of(99))
    assert found == pytest.approx((0.3, 0.2))
    with pytest.raises(ValueError, match="margin: expected more than 0"):
        paired.one_sided(0.0, drawn, np.zeros(20), 0.0, rate_of(99))


def test_one_sided_is_undefined_where_the_bounds_are() -> None:
    """Beyond 5 % of undefined draws the others are the lucky ones."""
    drawn = np.append(np.zeros(19), np.nan)
    assert not np.isnan(paired.one_sided(0.0, drawn, np.zeros(20), 0.1, rate_of(99))).any()
    for lost in (np.append(np.zeros(9), np.nan), np.array([np.nan])):
        assert np.isnan(paired.one_sided(0.0, lost, np.zeros(20), 0.1, rate_of(99))).all()


def test_few_units_without_a_change_show_little() -> None:
    """0.98^n: 80 units may hide 2 % that are worse, 149 hardly; a gain must be undone as well."""
    drawn = np.zeros(1000)
    for units, p in ((10, 0.98**10), (80, 0.98**80), (148, 0.98**148), (149, 0.98**149)):
        found = paired.one_sided(0.0, drawn, np.zeros(20), 0.02, rate_of(units))
        assert found == pytest.approx((p, p))
        assert (max(found) <= 0.05) == (units == 149)
    won = paired.one_sided(0.5, drawn + 0.5, np.full(20, 0.5), 0.02, rate_of(40))
    assert won == pytest.approx((1 / 1001, 1.0))


def test_units_without_a_worse_one_are_rarely_called_no_worse_at_the_margin() -> None:
    """2 % of all units are worse: 80 of them show none in a fifth of all worlds, which says little.

    Among 600 worlds of rare changes at most about 5 % are called no worse.
    """
    rng = np.random.default_rng(3)
    for units in (80, 160):
        claims = 0
        for _ in range(300):
            x = -(rng.random(units) < 0.02).astype(float)
            drawn = x[rng.integers(0, units, (500, units))].mean(axis=1)
            left_out = (x.sum() - x) / (units - 1)
            below, _ = paired.one_sided(float(x.mean()), drawn, left_out, 0.02, rate_of(units))
            claims += below <= 0.05
        assert claims <= stats.binom.ppf(0.999, 300, 0.05)


def test_equivalence_agrees_with_two_t_tests() -> None:
    """Differences of 400 items: the closed form of Schuirmann's tests."""
    rng = np.random.default_rng(4)
    x = rng.normal(0.02, 0.5, 400)
    drawn = x[rng.integers(0, 400, (20_000, 400))].mean(axis=1)
    error = x.std(ddof=1) / 20
    below, above = paired.one_sided(float(x.mean()), drawn, (x.sum() - x) / 399, 0.05,
                                    rate_of(400))  # fmt: skip
    assert below == pytest.approx(stats.t.sf((x.mean() + 0.05) / error, 399), abs=0.01)
    assert above == pytest.approx(stats.t.cdf((x.mean() - 0.05) / error, 399), abs=0.01)


def test_equivalence_is_rarely_claimed_at_the_margin() -> None:
    """The true difference is the margin itself: about 5 % of 600 worlds call it equivalent."""
    rng = np.random.default_rng(6)
    claims = 0
    for _ in range(600):
        x = rng.normal(0.1, 0.5, 100)
        drawn = x[rng.integers(0, 100, (1000, 100))].mean(axis=1)
        left_out = (x.sum() - x) / 99
        sides = paired.one_sided(float(x.mean()), drawn, left_out, 0.1, rate_of(100))
        claims += max(sides) <= 0.05
    low, high = stats.binom.interval(0.999, 600, 0.05)
    assert low <= claims <= high + 6


def test_holm_by_hand() -> None:
    """3 x .01, 2 x .02 (at least .03), 1 x .04; order kept, ties alike, never above 1."""
    assert paired.holm([0.02, 0.01, 0.04]) == pytest.approx([0.04, 0.03, 0.04])
    assert paired.holm([0.6, 0.6]) == [1, 1]
    assert paired.holm([0.9, 0.001]) == pytest.approx([0.9, 0.002])
    assert paired.holm([]) == []


def test_holm_keeps_the_error_rate_and_rejects_no_less_than_bonferroni() -> None:
    rng = np.random.default_rng(8)
    false = 0
    for _ in range(2000):
        p = rng.random(10)
        adjusted = np.array(paired.holm(list(p)))
        assert np.all(adjusted <= np.minimum(1, 10 * p) + 1e-12)
        assert np.all(np.diff(adjusted[np.argsort(p)]) >= 0)
        false += adjusted.min() <= 0.05
    assert false / 2000 == pytest.approx(1 - 0.995**10, abs=0.02)  # 4.9 % if all are true


def test_detectable_inverts_the_number_of_items() -> None:
    """By hand: psi = .2, d = .1: (1.95996 sqrt(.2) + .84162 sqrt(.19))^2 / .01 = 154.5."""
    assert paired.pairs_needed(0.1, 0.2) == pytest.approx(154.5, abs=0.1)
    for n in (60, 400, 1200, 100_000):
        gap = paired.detectable(n, 0.2)
        assert paired.pairs_needed(gap, 0.2) == pytest.approx(n, rel=1e-6)
    assert paired.detectable(10, 0.2) is None
    assert paired.detectable(0, 0.2) is None
    with pytest.raises(ValueError, match="gap <= discordance"):
        paired.pairs_needed(0.3, 0.2)


def test_the_detectable_gap_has_its_power() -> None:
    """Exact McNemar on 400 items, 20 % discordant: at the gap found in about 80 % of worlds."""
    gap = paired.detectable(400, 0.2)
    shares = [(0.2 + gap) / 2, (0.2 - gap) / 2, 0.8]
    counts = np.random.default_rng(9).multinomial(400, shares, 2000)
    power = np.mean([mcnemar_exact(int(b), int(c)) <= 0.05 for b, c, _ in counts])
    assert power == pytest.approx(0.8, abs=0.05)  # the exact test is a little conservative
