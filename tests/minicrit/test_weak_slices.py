"""The worst slices: tests against scipy, false alarms by simulation, a planted slice found."""

# mypy: disable-error-code="import-untyped"
import numpy as np
import pytest
from scipy import stats

from minicrit.contrast_tables import chance
from minicrit.errors_page import SLICES, slice_rows, slices_line
from minicrit.measures import Truth
from minicrit.paired import holm
from minicrit.records import Example
from minicrit.weak_slices import Slices, p_by_family, p_values, properties_of, worst

DOMAINS = ("trading", "medical", "general")
MECHANISMS = ("product", "anchoring", "base_rate", "sunk_cost", "overfitting", "stale_evidence")
KINDS = ("subtle_flaw", "mixed_signals", "plain")


def items(groups: int, seed: int = 0) -> list[Example]:
    """Twins with properties drawn by lot."""
    draw = np.random.default_rng(seed).choice
    found = []
    for number in range(groups):
        domain, mechanism = draw(DOMAINS), draw(MECHANISMS)
        words = "word " * int(draw(range(20, 60)))
        for label in ("valid", "flawed"):
            found.append(Example(
                id=f"{number}/{label}", domain=str(domain), rationale=f"{number} {words}",
                label=label, flaw_type="sunk_cost" if label == "flawed" else None,
                kind=str(draw(KINDS)), group=f"{domain}/{mechanism}/{number}", split="validation",
                source=f"composer/{domain}/{domain}_family/{mechanism}",
            ))  # fmt: skip
    return found


def test_by_item_it_is_fishers_test():
    """Groups of one item each; 7 of 12 against 5 of 28."""
    inside = np.array([True] * 12 + [False] * 28)
    missed = np.array([True] * 7 + [False] * 5 + [True] * 5 + [False] * 23)
    expected = stats.fisher_exact([[7, 5], [5, 23]], alternative="greater").pvalue
    assert p_values(inside[None], missed, np.arange(40)) == pytest.approx(expected)


def test_twins_count_once():
    """The same rates from 20 groups of two that are missed together: 4 of 6 against 3 of 14."""
    inside = np.array([True] * 12 + [False] * 28)
    missed = np.array(([True] * 8 + [False] * 4) + ([True] * 6 + [False] * 22))
    groups = np.repeat(np.arange(20), 2)
    expected = stats.fisher_exact([[4, 2], [3, 11]], alternative="greater").pvalue
    assert p_values(inside[None], missed, groups) == pytest.approx(expected)
    assert p_values(inside[None], missed, np.arange(40)) < expected


def test_slices_are_by_one_and_two_properties_and_the_same_items_count_once():
    properties = {"domain": ["a"] * 6 + ["b"] * 6, "kind": ["x"] * 3 + ["y"] * 9,
                  "mechanism": ["m"] * 3 + [None] * 9}  # fmt: skip
    found = Slices.of(properties, 3)
    names = [tuple(name.values()) for name in found.names]
    # kind x, mechanism m, and what they give together are the same three items
    assert names == [("a",), ("b",), ("x",), ("y",), ("a", "y")]
    assert [int(mask.sum()) for mask in found.masks] == [6, 6, 3, 9, 3]
    assert Slices.of(properties, 7).names == []  # the rest has to have as many, too


def test_properties_of_an_item():
    examples = items(30)
    p = np.full(60, 0.5)
    p[:3] = (0.6, 0.9, 0.99)
    found = properties_of(examples, p, 0.5)
    assert found["confidence"][:4] == [
        f"{sure} verdict" for sure in ("unsure", "fairly sure", "very sure", "unsure")
    ]
    assert found["flaw_type"][:2] == ["sound", "sunk_cost"]
    assert "source" not in found  # all of them are composed: nothing to compare
    lengths = found["length"]
    assert len(set(lengths)) == 3
    assert min(lengths.count(name) for name in set(lengths)) >= 12


@pytest.mark.parametrize("together", [False, True])
def test_false_alarms_over_all_slices_are_at_most_5_percent(together):
    """No slice is worse; each item, or each pair of twins, is missed with 15 %. 300 worlds.

    95 % of such runs have at most 5 % + 2.1 % of them, were the rate exactly 5 %.
    """
    examples = items(100)
    rng = np.random.default_rng(1)
    p = rng.uniform(0.01, 0.99, 200)
    found = Slices.of(properties_of(examples, p, 0.5), 10)
    groups = np.unique([e.group for e in examples], return_inverse=True)[1]
    assert len(found.names) > 60
    alarms = 0
    for _ in range(300):
        missed = rng.random(100).repeat(2) < 0.15 if together else rng.random(200) < 0.15
        alarms += min(holm(p_values(found.masks, missed, groups).tolist())) <= 0.05
    assert alarms / 300 <= 0.05 + 1.645 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("nested", [True, False])
def test_families_that_differ_make_no_slice_worse(nested):
    """16 families, each with its own rates; a slice of five of them, or of a half of each.

    100 worlds; 95 % of such runs have at most 5 % + 3.6 % with p <= 5 %.
    """
    rng = np.random.default_rng(2)
    families = np.repeat(np.arange(16), 50)
    inside = families < 5 if nested else np.arange(800) % 2 == 0
    by_item, by_family = 0, 0
    for _ in range(100):
        rates = 1 / (1 + np.exp(2 - 1.2 * rng.normal(size=(16, 2))))
        missed = rng.random(800) < rates[families, 0 if nested else 1 * inside]
        by_item += p_values(inside[None], missed, np.arange(800))[0] <= 0.05
        by_family += p_by_family(inside, missed, families) <= 0.05
    assert by_family / 100 <= 0.05 + 1.645 * np.sqrt(0.05 * 0.95 / 100)
    assert by_item / 100 > 0.1


def test_slices_of_families_that_differ_are_worse_here_and_not_beyond_chance():
    """16 families in 4 domains whose rates differ by themselves; no domain or confidence does.

    60 worlds: 95 % of such runs have at most 5 % + 4.6 % in which a slice is worse.
    """
    rng, families = np.random.default_rng(7), np.repeat(np.arange(16), 50)
    rows = np.arange(800)
    found = Slices.of({"domain": [f"d{family % 4}" for family in families],
                       "confidence": [f"c{row % 3}" for row in rows]}, 10)  # fmt: skip
    here = beyond = 0
    for _ in range(60):
        missed = rng.random(800) < 1 / (1 + np.exp(2 - 0.6 * rng.normal(size=16)))[families]
        truth = Truth(missed, rows.astype(str), families.astype(str), np.ones(800))
        shown = worst(found, missed, truth, shown=5)
        here += any(row["worse_here"] for row in shown)
        beyond += any(row["worse"] for row in shown)
    assert here / 60 > 0.1
    assert beyond / 60 <= 0.05 + 1.645 * np.sqrt(0.05 * 0.95 / 60)


def test_what_families_can_show_by_hand():
    """Of 6 families with both, 2^-6 at best; of 2 among 6, one of 15 ways; a mixture, both."""
    families = np.repeat(np.arange(6), 20)
    half = np.arange(120) % 2 == 0
    assert p_by_family(half, half, families) == pytest.approx(1 / 64, rel=0.4)
    two = families < 2
    assert p_by_family(two, two, families, rounds=5) == pytest.approx(1 / 15, rel=0.15)
    assert p_by_family(two, ~two, families) == 1.0
    mixed = np.where(families < 3, half, families < 4)  # of the other three one
    assert p_by_family(mixed, mixed, families, rounds=5) == pytest.approx(1 / 24, rel=0.2)


@pytest.mark.parametrize(("families", "said"), [
    (2, ", 1 on these families alone, which are too few or differ too much to say it of others "),
    (12, "worse than their rest are 1 of the shown beyond chance (p over all <= 0.05)"),
])  # fmt: skip
def test_beyond_chance_needs_families(families, said):
    """A domain in which half is missed, of one family of two or of six of twelve."""
    rows = np.arange(240)
    found = Slices.of({"domain": [f"d{row % 2}" for row in rows]}, 10)
    missed = (rows % 2 == 0) & (rows // 24 % 2 == 0)
    truth = Truth(missed, rows.astype(str), (rows % families).astype(str), np.ones(240))
    (row,) = worst(found, missed, truth, shown=1)
    assert (row["worse"], row["worse_here"]) == (families > 2, True)
    slices = {"axes": ["domain"], "compared": 2, "least": 10, "misses": 60, "n": 240}
    report = {"settings": {"slices": 1}, "slices": {**slices, "worst": [row]}}
    assert said in slices_line(report)
    head, (cells,) = slice_rows(report)
    assert cells[-2] == chance(row["p_by_family"])
    assert cells[head.index("p over all, of these families")] == chance(row["p_over_all"])
    assert "about these families of scenarios alone: if families differ by themselves" in SLICES


def test_a_planted_slice_is_found_first_and_what_it_explains_is_left_out():
    examples = items(150, seed=3)
    rng = np.random.default_rng(4)
    planted = np.array(["medical" in e.source and "anchoring" in e.source for e in examples])
    missed = rng.random(300) < np.where(planted, 0.8, 0.06)
    truth = Truth.of(examples)
    found = Slices.of(properties_of(examples, rng.uniform(0.01, 0.99, 300), 0.5), 10)
    assert worst(found, missed, truth, shown=0) == []
    first, *others = worst(found, missed, truth, shown=8)
    assert first["slice"] == {"domain": "medical", "mechanism": "anchoring"}
    assert (first["worse"], first["worse_here"]) == (False, True)  # it is of one family
    assert first["n"] == planted.sum()
    assert first["misses"] == int(missed[planted].sum())
    assert first["low"] <= first["value"] <= first["high"]
    assert first["rest"]["value"] == pytest.approx(missed[~planted].mean(), abs=1e-6)
    assert first["families"] == 1
    inside = {e.id for e, at in zip(examples, planted, strict=True) if at}
    by_name = {tuple(n.items()): m for n, m in zip(found.names, found.masks, strict=True)}
    for row in others:
        ids = {e.id for e, at in zip(examples, by_name[tuple(row["slice"].items())], strict=True)
               if at}  # fmt: skip
        assert len(ids & inside) <= len(ids) / 2


def test_nothing_missed_is_nothing_worse():
    examples = items(20)
    found = Slices.of(properties_of(examples, np.full(40, 0.2), 0.5), 5)
    assert worst(found, np.zeros(40, dtype=bool), Truth.of(examples), shown=3) == []
    assert worst(Slices.of({}, 5), np.ones(40, dtype=bool), Truth.of(examples), shown=3) == []
