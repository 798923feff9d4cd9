"""Scores against scikit-learn, brute force and hand-derived values."""

# mypy: disable-error-code="import-untyped"
import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from minicrit import scores, statistics

Score = Callable[..., float]

THRESHOLD = 0.5

AT_THRESHOLD: tuple[Score, ...] = (
    scores.precision,
    scores.recall,
    scores.f1,
    scores.false_positive_rate,
    scores.accuracy,
)
OF_P: tuple[Score, ...] = (
    scores.auroc,
    scores.brier,
    scores.expected_calibration_error,
    scores.negative_log_likelihood,
)


def value(score: Score, p: np.ndarray, flawed: np.ndarray, weights: np.ndarray | None) -> float:
    """Any of the scores, at threshold .5 where it takes one."""
    if score in AT_THRESHOLD:
        return score(p, flawed, THRESHOLD, weights=weights)
    return score(p, flawed, weights=weights)


def data(seed: int, n: int, weighted: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Informative p with ties, labels, and weights."""
    rng = np.random.default_rng(seed)
    flawed = rng.random(n) < 2 / 5
    p = (0.3 * flawed + 0.7 * rng.random(n)).round(2).clip(0.01, 0.99)
    return p, flawed, rng.random(n) if weighted else np.ones(n)


@given(st.integers(0, 10_000), st.integers(30, 300), st.booleans())
@settings(max_examples=60, deadline=None)
def test_scores_equal_sklearn(seed: int, n: int, weighted: bool) -> None:
    """All scores that scikit-learn has, with and without weights."""
    p, flawed, w = data(seed, n, weighted)
    flagged = p > THRESHOLD
    expected: dict[Score, float] = {
        scores.precision: sk.precision_score(
            flawed, flagged, sample_weight=w, zero_division=np.nan
        ),
        scores.recall: sk.recall_score(flawed, flagged, sample_weight=w, zero_division=np.nan),
        scores.f1: sk.f1_score(flawed, flagged, sample_weight=w, zero_division=np.nan),
        scores.accuracy: sk.accuracy_score(flawed, flagged, sample_weight=w),
        scores.auroc: sk.roc_auc_score(flawed, p, sample_weight=w),
        scores.brier: sk.brier_score_loss(flawed, p, sample_weight=w),
        scores.negative_log_likelihood: sk.log_loss(flawed, p, sample_weight=w),
    }
    for score, theirs in expected.items():
        assert value(score, p, flawed, w) == pytest.approx(theirs, nan_ok=True), score
    table = scores.confusion(p, flawed, 0.5, weights=w)
    cells = sk.confusion_matrix(flawed, flagged, sample_weight=w).ravel()
    assert (table.tn, table.fp, table.fn, table.tp) == pytest.approx(tuple(cells))
    assert scores.false_positive_rate(p, flawed, 0.5, weights=w) == pytest.approx(
        table.fp / (table.fp + table.tn)
    )


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    """Flawed .8 .5, valid .5 .2: pairs 1, 1, 1/2, 1 of 4."""
    p, flawed = np.array([0.8, 0.5, 0.5, 0.2]), np.array([True, True, False, False])
    assert scores.auroc(p, flawed) == pytest.approx(3.5 / 4)
    assert scores.auroc(1 - p, flawed) == pytest.approx(0.5 / 4)
    assert scores.auroc(np.full(4, 0.3), flawed) == pytest.approx(1 / 2)


def test_flagged_means_strictly_above_the_threshold() -> None:
    """The guarantee counts p > t; p = t is not flagged."""
    table = scores.confusion(np.array([0.5, 0.51]), np.array([True, True]), 0.5)
    assert (table.tp, table.fn) == (1, 1)


@given(st.integers(0, 10_000), st.integers(2, 60))
@settings(max_examples=100, deadline=None)
def test_whole_weights_are_copies(seed: int, n: int) -> None:
    """Weight k equals k copies and weight 0 absence, for every score; order does not matter."""
    p, flawed, _ = data(seed, n)
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 4, n)
    times[0] = 1
    items = rng.permutation(np.repeat(np.arange(n), times))
    for score in (*AT_THRESHOLD, *OF_P):
        weighted = value(score, p, flawed, times)
        assert weighted == pytest.approx(value(score, p[items], flawed[items], None), nan_ok=True)


def test_calibration_error_equals_sorted_chunks() -> None:
    """Distinct p and n divisible by 15: the bins are 15 equal runs of the sorted items."""
    rng = np.random.default_rng(2)
    p, flawed = rng.random(1500), rng.random(1500) < 1 / 2
    runs = np.array_split(np.argsort(p), 15)
    gaps = [abs(p[run].mean() - flawed[run].mean()) for run in runs]
    assert scores.expected_calibration_error(p, flawed) == pytest.approx(np.mean(gaps))


@pytest.mark.parametrize("n", [1000, 5000])
def test_calibration_error_floor_of_perfect_forecasts(n: int) -> None:
    """P uniform: sqrt(2/pi) E[sqrt(p (1 - p))] sqrt(15/n), where the expectation is pi / 8."""
    rng = np.random.default_rng(n)
    found = []
    for _ in range(100):
        p = rng.random(n)
        found.append(scores.expected_calibration_error(p, rng.random(n) < p))
    floor = math.sqrt(2 / math.pi) * math.pi / 8 * math.sqrt(15 / n)
    assert np.mean(found) == pytest.approx(floor, rel=0.06)


def test_calibration_errors_by_chance_are_those_of_labels_drawn_from_p() -> None:
    p = np.round(np.random.default_rng(1).random(70), 1)  # many ties
    found = scores.chance_calibration_errors(p, seed=3, draws=20)
    drawn = np.random.default_rng(3).random((20, 70)) < p
    assert found == pytest.approx([scores.expected_calibration_error(p, row) for row in drawn])


def test_draws_of_labels_come_after_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ones: those of 200,000 items were 5 GB at once."""
    p = np.random.default_rng(2).random(900)
    at_once = scores.chance_calibration_errors(p, seed=3, draws=400)
    monkeypatch.setattr(statistics, "_CELLS", 10 * len(p))
    tracemalloc.start()
    assert np.array_equal(scores.chance_calibration_errors(p, seed=3, draws=400), at_once)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * len(p) * 8  # of one of the three arrays that were there


def test_calibration_error_of_one_value_is_its_bias() -> None:
    """All p equal .9, half flawed: one bin, gap .4, in any order."""
    flawed = np.arange(40) % 2 == 0
    assert scores.expected_calibration_error(np.full(40, 0.9), flawed) == pytest.approx(0.4)


def test_calibration_error_bins_ties_by_their_middle() -> None:
    """30 items, 2 ranks a bin: .1 fills rank 0, both .2 have middle rank 2 (second bin).

    Gaps: .1 - 0 and .4 - 2; the other 27 are right. Binned by their first rank the .2 would join
    the .1 and cancel some of it.
    """
    p = np.array([0.1, 0.2, 0.2] + [1.0] * 27)
    flawed = np.array([False] + [True] * 29)
    assert scores.expected_calibration_error(p, flawed) == pytest.approx((0.1 + 1.6) / 30)


def test_confident_errors_cost_a_finite_amount() -> None:
    """P = 0 for a flawed item costs -ln 1e-12, certainty in the truth nothing."""
    p = np.array([0.0, 1.0, 1.0])
    both = scores.negative_log_likelihood(p, np.array([True, True, False]))
    assert both == pytest.approx(2 * 12 * math.log(10) / 3)


def test_twin_consistency_by_hand() -> None:
    """Groups a (right), b (false alarm), c (one label), d (p = t on a valid item): 2 of 3."""
    groups = np.array(["a", "a", "b", "b", "c", "c", "d", "d", "d"])
    flawed = np.array([1, 0, 1, 0, 1, 1, 1, 0, 1], dtype=bool)
    p = np.array([0.9, 0.1, 0.9, 0.8, 0.9, 0.1, 0.7, 0.5, 0.6])
    assert scores.twin_consistency(p, flawed, groups, 0.5) == pytest.approx(2 / 3)
    weights = np.array([2, 2, 1, 1, 5, 5, 0, 0, 0])
    assert scores.twin_consistency(p, flawed, groups, 0.5, weights=weights) == pytest.approx(2 / 3)
    assert math.isnan(scores.twin_consistency(p[4:6], flawed[4:6], groups[4:6], 0.5))


def test_twin_consistency_refuses_split_groups() -> None:
    """Weights that differ within a group, and groups of another length."""
    p, flawed = np.array([0.9, 0.1]), np.array([True, False])
    with pytest.raises(ValueError, match="expected one weight per group"):
        scores.twin_consistency(p, flawed, np.array([1, 1]), 0.5, weights=np.array([1, 2]))
    with pytest.raises(ValueError, match="expected groups of shape"):
        scores.twin_consistency(p, flawed, np.array([1, 1, 1]), 0.5)


@pytest.mark.parametrize(
    ("prevalence", "expected"), [(0.5, 0.909), (0.3, 0.863), (0.2, 0.811), (0.1, 0.687)]
)
def test_f1_at_prevalence(prevalence: float, expected: float) -> None:
    """R = .90 and FPR = 8 %, as precision and recall give it."""
    found = scores.f1_at_prevalence(0.9, 0.08, prevalence)
    assert found == pytest.approx(expected, abs=5e-4)
    precision = prevalence * 0.9 / (prevalence * 0.9 + (1 - prevalence) * 0.08)
    assert found == pytest.approx(2 * precision * 0.9 / (precision + 0.9))
    assert math.isnan(scores.f1_at_prevalence(math.nan, 0.08, prevalence))
    with pytest.raises(ValueError, match="expected fpr in"):
        scores.f1_at_prevalence(0.9, 8, prevalence)


def test_f1_at_the_datas_own_prevalence_is_f1() -> None:
    """Recall and FPR of the data, put together at their own prevalence."""
    p, flawed, _ = data(4, 200)
    rates = (scores.recall(p, flawed, 0.5), scores.false_positive_rate(p, flawed, 0.5))
    own = scores.f1_at_prevalence(*rates, float(flawed.mean()))
    assert own == pytest.approx(scores.f1(p, flawed, 0.5))


names = st.sampled_from(["a", "b", "c", "d"])


@given(st.lists(st.tuples(st.one_of(st.none(), names), names), min_size=1, max_size=40))
@settings(max_examples=80, deadline=None)
def test_macro_f1_equals_sklearn(pairs: list[tuple[str | None, str]]) -> None:
    """Over the types in truth; a type only predicted costs precision nowhere but is no row."""
    predicted, truth = zip(*pairs, strict=True)
    expected = sk.f1_score(
        truth,
        [name or "none" for name in predicted],
        labels=sorted(set(truth)),
        average="macro",
        zero_division=0,
    )
    assert scores.macro_f1(predicted, truth) == pytest.approx(expected)


@pytest.mark.parametrize(("predicted", "truth"), [([], []), (["a"], ["a", "b"]), (["a"], [None])])
def test_macro_f1_refuses(predicted: list[str | None], truth: list[str]) -> None:
    """Nothing to score, lists out of step, a truth without type."""
    with pytest.raises(ValueError, match="score types on flawed items only"):
        scores.macro_f1(predicted, truth)


def test_undefined_is_nan() -> None:
    """Each score where its denominator is empty; F1 of misses alone is 0, not undefined."""
    low, high = np.array([0.1, 0.2]), np.array([0.8, 0.9])
    none, every = np.array([False, False]), np.array([True, True])
    undefined = (
        scores.precision(low, every, 0.5),
        scores.recall(high, none, 0.5),
        scores.f1(low, none, 0.5),
        scores.false_positive_rate(low, every, 0.5),
        scores.auroc(low, every),
        scores.auroc(low, none),
        *(value(score, low, every, np.zeros(2)) for score in (*AT_THRESHOLD, *OF_P)),
    )
    assert all(math.isnan(number) for number in undefined)
    assert scores.f1(low, every, 0.5) == 0


@pytest.mark.parametrize("score", [*AT_THRESHOLD, *OF_P])
def test_bad_input_is_refused(score: Score) -> None:
    """Empty, nan, inf, logits, shapes, label and weight types."""
    yes = np.array([True, False])
    for bad in (math.nan, math.inf, -0.1, 1.1):
        with pytest.raises(ValueError, match="expected every p in"):
            value(score, np.array([0.5, bad]), yes, None)
    for p in (np.array([]), np.array([0.5]), np.full((2, 1), 0.5)):
        flawed = yes[:0] if not p.size else yes
        with pytest.raises(ValueError, match="one shape"):
            value(score, p, flawed, None)
    with pytest.raises(ValueError, match="expected flawed as bools, got int64"):
        value(score, np.array([0.5, 0.5]), yes.astype(np.int64), None)
    for weights in (np.array([1.0, -1.0]), np.array([1.0, math.nan]), np.ones(3)):
        with pytest.raises(ValueError, match="expected finite weights"):
            value(score, np.array([0.5, 0.5]), yes, weights)
