"""Flaw types by readout: against sklearn, by hand, and resampled as copies."""

# mypy: disable-error-code="import-untyped"
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from minicrit.records import Example
from minicrit.statistics import cluster_counts
from minicrit.which_flaw import Named, _drawn, assess_types, confusion, macro

NAMES = ("anchoring", "overfitting", "small_sample", "sunk_cost")


def item(number: int, flaw_type: str | None, group: str) -> Example:
    flaw = {"flaw_type": flaw_type, "evidence": "x", "critique": "y"} if flaw_type else {}
    return Example(id=str(number), domain="general", rationale=f"x {number}",
                   label="flawed" if flaw_type else "valid", group=group, source="s", split="test",
                   **flaw)  # type: ignore[arg-type]  # fmt: skip


def world(seed: int, n: int = 90) -> tuple[list[Example], np.ndarray, list[str]]:
    """Items of four types and valid ones, with types and p that are mostly right."""
    rng = np.random.default_rng(seed)
    examples, said = [], []
    for number in range(n):
        true = str(rng.choice(NAMES[:3])) if rng.random() < 0.5 else None
        examples.append(item(number, true, str(number // 3)))
        said.append(true if true and rng.random() < 0.7 else str(rng.choice(NAMES)))
    flawed = np.array([e.label == "flawed" for e in examples])
    return examples, np.clip(0.5 + 0.3 * (2 * flawed - 1) + rng.normal(0, 0.4, n), 0, 1), said


@pytest.mark.parametrize("seed", range(5))
def test_both_macro_f1_equal_sklearn(seed: int) -> None:
    examples, p, said = world(seed)
    found = assess_types(said, p, examples, 0.6, draws=20)
    assert found is not None
    true = [e.flaw_type or "valid" for e in examples]
    given = [s if chance > 0.6 else "valid" for s, chance in zip(said, p, strict=True)]
    labels = sorted(set(true) - {"valid"})
    options = {"labels": labels, "average": "macro", "zero_division": 0.0}
    assert found["macro_f1"]["value"] == pytest.approx(sk.f1_score(true, given, **options),
                                                       abs=1e-6)  # fmt: skip
    flawed = [n for n, name in enumerate(true) if name != "valid"]
    alone = [[names[n] for n in flawed] for names in (true, said)]
    assert found["macro_f1_if_flawed"]["value"] == pytest.approx(
        sk.f1_score(*alone, **options), abs=1e-6
    )
    assert found["right_if_flawed"]["value"] == pytest.approx(sk.accuracy_score(*alone), abs=1e-6)
    table = sk.confusion_matrix(true, given, labels=[*NAMES, "valid"])
    for row, name in enumerate([*NAMES, "valid"]):
        for column, other in enumerate([*NAMES, "valid"]):
            assert found["confusion"].get(name, {}).get(other, 0) == table[row, column]


def test_the_share_named_rightly_is_resampled_by_family_too() -> None:
    """Right in all items of six families and in none of six: items alone would say 0.44 to 0.56."""
    examples = [item(n, "anchoring", str(n)) for n in range(300)]
    examples = [replace(e, source=f"composer/trading/family_{n % 12}/x")
                for n, e in enumerate(examples)]  # fmt: skip
    said = ["anchoring" if n % 12 < 6 else "overfitting" for n in range(300)]
    found = assess_types(said, np.ones(300), examples, 0.5, draws=20)
    assert found is not None
    right = found["right_if_flawed"]
    assert right["intervals"]["wilson"] == pytest.approx([0.4437, 0.5563], abs=1e-4)
    assert right["low"] < 0.3
    assert right["high"] > 0.7


def test_by_hand() -> None:
    """anchoring: hit once, said 3 times (a false alarm, a mix-up), true 2: F1 = 2/5.

    overfitting: passed as valid, said never, true 1: 0. Mean 1/5. If flawed: anchoring 2 of 2
    right and overfitting said anchoring: F1 4/5 and 0.
    """
    examples = [item(0, "anchoring", "a"), item(1, "anchoring", "a"), item(2, "overfitting", "b"),
                item(3, None, "b"), item(4, None, "c"), item(5, "overfitting", "d")]  # fmt: skip
    p = np.array([0.9, 0.1, 0.9, 0.9, 0.1, np.nan])
    found = assess_types(["anchoring"] * 6, p, examples, 0.5, draws=50)
    assert found is not None
    assert found["macro_f1"]["value"] == pytest.approx(0.2)
    assert found["macro_f1_if_flawed"]["value"] == pytest.approx(0.4)
    assert (found["macro_f1"]["n"], found["macro_f1_if_flawed"]["n"]) == (5, 3)
    assert found["confusion"] == {
        "anchoring": {"anchoring": 1, "valid": 1}, "overfitting": {"anchoring": 1},
        "valid": {"anchoring": 1, "valid": 1},
    }  # fmt: skip
    assert list(found["macro_f1"]["intervals"]) == ["by group"]


def copies(names: Sequence[str], rows: np.ndarray) -> list[str]:
    return [names[row] for row in rows]


def test_every_draw_equals_sklearn_on_copies() -> None:
    """A draw that takes a group twice counts its items twice; types that it lacks do not count."""
    examples, p, said = world(7, 24)
    true = [e.flaw_type or "valid" for e in examples]
    given = [s if chance > 0.5 else "valid" for s, chance in zip(said, p, strict=True)]
    groups = np.array([e.group for e in examples])
    drawn = _drawn(Named(true, given).columns(), groups, seed=4, draws=30)
    assert drawn is not None
    codes = np.unique(groups, return_inverse=True)[1]
    (counts,) = cluster_counts(codes.max() + 1, 30, 4)
    for number, times in enumerate(counts):
        rows = np.repeat(np.arange(24), times[codes])
        labels = sorted(set(copies(true, rows)) - {"valid"})
        expected = sk.f1_score(copies(true, rows), copies(given, rows), labels=labels,
                               average="macro", zero_division=0.0)  # fmt: skip
        assert drawn[number] == pytest.approx(expected)
    assert _drawn(Named(true, given).columns(), np.full(24, "x"), 0, 5) is None


def test_draws_of_many_groups_are_never_in_memory_at_once() -> None:
    """As float64 2,000 draws of 3,000 groups are 48 MB; what is there at a time, a sixth of it."""
    said = list(np.resize(NAMES, 3000))
    columns, groups = Named(said, said).columns(), np.arange(3000).astype(str)
    tracemalloc.start()
    drawn = _drawn(columns, groups, seed=4, draws=2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert drawn is not None
    assert drawn.shape == (2000,)
    assert peak < 24e6


def test_intervals_cover_the_truth() -> None:
    """200 worlds of 90 items: the interval of the share right and of macro F1, by group."""
    examples, p, said = world(1000, 20_000)
    large = assess_types(said, p, examples, 0.5, draws=2)
    assert large is not None
    hits = 0
    for seed in range(200):
        examples, p, said = world(seed)
        found = assess_types(said, p, examples, 0.5, seed=seed, draws=200)
        assert found is not None
        row = found["macro_f1"]
        hits += row["low"] <= large["macro_f1"]["value"] <= row["high"]
    assert 0.88 <= hits / 200 <= 0.99


def test_what_was_not_asked_is_none() -> None:
    examples, p, said = world(1)
    assert assess_types((), p, examples, 0.5) is None
    assert assess_types([None] * len(p), p, examples, 0.5) is None
    valid = [e for e in examples if e.label == "valid"]
    assert assess_types(said[: len(valid)], p[: len(valid)], valid, 0.5) is None
    assert np.isnan(macro({name: np.zeros((1, 2)) for name in ("hits", "said", "true")})).all()
    assert confusion(["valid"], ["sunk_cost"]) == {"valid": {"sunk_cost": 1}}
