"""All draws at once give what the pure scores give one by one."""

import tracemalloc
from dataclasses import astuple

import numpy as np
import pytest

from minicrit import scores, selective, statistics
from minicrit.measures import Truth, draw, metrics, without
from minicrit.resampling import Auroc, leave_one_out
from minicrit.statistics import Counts, cluster_bootstrap, cluster_counts, drawn_sums

LIMIT = 0.6


def made(seed: int = 0, groups: int = 30) -> tuple[np.ndarray, Truth]:
    """Twin groups of two or three items in six families; p with ties."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 4, groups)
    codes = np.repeat(np.arange(groups), sizes)
    flawed = rng.random(len(codes)) < 0.5
    p = np.round(np.clip(0.3 * flawed + rng.random(len(codes)) * 0.7, 0, 1), 1)
    truth = Truth(flawed, codes.astype(str), (codes % 6).astype(str), 1 + rng.random(len(codes)))
    return p, truth


def counts_of(clusters: int, draws: int, seed: int) -> Counts:
    return np.concatenate(list(cluster_counts(clusters, draws, seed)))


@pytest.mark.parametrize("unit", ["groups", "families"])
def test_every_draw_equals_the_pure_scores(unit: str) -> None:
    p, truth = made()
    clusters = getattr(truth, unit)
    drawn = draw(p, truth, LIMIT, clusters, seed=5, draws=40)
    codes = np.unique(clusters, return_inverse=True)[1]
    counts = counts_of(codes.max() + 1, 40, 5)
    at = {"f1": scores.f1, "fpr": scores.false_positive_rate, "recall": scores.recall,
          "precision": scores.precision, "accuracy": scores.accuracy,
          "aurc": selective.aurc}  # fmt: skip
    free = {"auroc": scores.auroc, "brier": scores.brier, "nll": scores.negative_log_likelihood,
            "ece": scores.expected_calibration_error}  # fmt: skip
    for number in range(40):
        w = counts[number][codes].astype(float)
        plain = {name: f(p, truth.flawed, LIMIT, weights=w) for name, f in at.items()}
        plain |= {name: f(p, truth.flawed, weights=w) for name, f in free.items()}
        plain |= {f"{name}_threshold_half": at[name](p, truth.flawed, 0.5, weights=w)
                  for name in ("f1", "fpr", "recall")}  # fmt: skip
        plain["f1_at_10"] = scores.f1_at_prevalence(plain["recall"], plain["fpr"], 0.1)
        plain["f1_at_50"] = scores.f1_at_prevalence(plain["recall"], plain["fpr"], 0.5)
        plain["twin_consistency"] = scores.twin_consistency(p, truth.flawed, truth.groups, LIMIT,
                                                            weights=w)  # fmt: skip
        wrong = (p > LIMIT) != truth.flawed
        plain["cost"] = float(w @ (wrong * truth.costs) / w.sum())
        assert plain.keys() == drawn.keys()
        for name, value in plain.items():
            assert drawn[name][number] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_ones_give_the_value_on_the_data() -> None:
    """Blocks without one cluster, too: the jackknife of a weighted mean."""
    p, truth = made(1)
    left = without(p, truth, LIMIT, truth.families)
    for number in range(6):
        kept = truth.families != str(number)
        for name, metric in metrics(LIMIT).items():
            value = metric(p[kept], truth.only(kept))
            assert left[name][number] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_an_area_has_all_its_draws_at_once_as_called_for_each() -> None:
    """With ties; of four groups many draws hold one label alone, and there are no bounds."""
    for seed, groups in ((0, 4), (1, 30)):
        p, truth = made(seed, groups)
        area = Auroc(p, truth.flawed)
        found = cluster_bootstrap(area, truth.groups, draws=300, seed=2)
        again = cluster_bootstrap(area.__call__, truth.groups, draws=300, seed=2)
        assert astuple(found) == pytest.approx(astuple(again), abs=1e-12, nan_ok=True)
    assert found.low < found.value < found.high


def test_draws_are_those_of_the_seed_and_take_every_cluster_alike() -> None:
    counts = counts_of(50, 4000, 1)
    assert np.array_equal(counts, counts_of(50, 4000, 1))
    assert not np.array_equal(counts, counts_of(50, 4000, 2))
    assert np.all(counts.sum(axis=1) == 50)
    assert np.abs(counts.mean(axis=0) - 1).max() < 5 / 4000**0.5
    assert counts.var() == pytest.approx(1 - 1 / 50, rel=0.02)  # of a multinomial


def test_sums_of_draws_are_those_of_the_counts() -> None:
    held = np.random.default_rng(0).integers(0, 9, (3000, 2)).astype(np.float64)
    expected = counts_of(3000, 400, 5).astype(np.float64) @ held  # in three parts
    assert np.array_equal(drawn_sums(held, 400, 5), expected)


def test_many_clusters_are_left_out_in_blocks() -> None:
    kept = leave_one_out(2500)
    assert kept.shape == (1000, 2500)
    assert np.all((kept == 0).sum(axis=0) == 1)
    assert set((kept == 0).sum(axis=1)) == {2, 3}


def test_draws_of_many_groups_are_never_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 draws of 200,000 rows of one's own were 4 GB, twice over; here they would be 8 MB."""
    monkeypatch.setattr(statistics, "_CELLS", 20_000)
    rng, names = np.random.default_rng(0), np.arange(1000).astype(str)
    truth = Truth(rng.random(1000) < 0.5, names, names, np.ones(1000))
    tracemalloc.start()
    draw(rng.random(1000), truth, LIMIT, names, seed=0, draws=4000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6


def test_one_cluster_gives_no_draws() -> None:
    p, truth = made()
    one = np.full(len(p), "x")
    assert draw(p, truth, LIMIT, one, seed=0, draws=5) == {} == without(p, truth, LIMIT, one)
