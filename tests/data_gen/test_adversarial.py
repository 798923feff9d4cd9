"""The suite: what it holds, variants that keep the verdict, twins that flip it."""

from collections import Counter

import pytest

from data_gen.adversarial import (
    FLIP,
    KEEP,
    coverage,
    flips,
    make_adversarial,
    origin_of,
    part_of,
    suite,
)
from data_gen.compose import compose
from data_gen.handwritten import HAND_CHANGES, VERSION, hand_written, notes
from data_gen.long_logs import HIGH, LOW, long_logs
from data_gen.public import read_public
from data_gen.variants import PER_ITEM, kept_variant, kept_variants
from minicrit.config import Recipe
from minicrit.data_config import AdversarialConfig
from minicrit.files import sha256_json
from minicrit.measures import Truth, family_of
from minicrit.metamorphic import Pairs
from minicrit.records import read_examples, write_examples
from minicrit.settings import load_recipe, shipped_recipes
from minicrit.taxonomy import CHANGES


@pytest.fixture(scope="module")
def items():
    return suite()


@pytest.fixture(scope="module")
def bases():
    return [item for item in hand_written() if part_of(item) != "edge_case"]


def test_every_item_is_justified_and_its_evidence_stands_in_it_once(items):
    assert len(items) >= 400
    assert len({item.id for item in items}) == len(items)
    for item in items:
        assert item.split == "test"
        assert item.critique
        if item.label == "flawed":
            assert item.rationale.count(item.evidence) == 1, item.id


def test_a_published_version_never_changes(items):
    """Changed on purpose: raise VERSION if there are results on the old one, then pin anew."""
    rows = sorted([i.id, i.rationale, i.label, i.flaw_type, i.evidence, i.group] for i in items)
    assert (VERSION, len(items), sha256_json(rows)[:16]) == ("1", 1114, "20ab69cdeaaf9286")


def test_its_composed_pairs_are_of_their_families_and_not_each_of_its_own(items):
    """Eighty pairs of twelve families are resampled as twelve; what people wrote by its groups."""
    composed = [item for item in items if part_of(item) == FLIP]
    assert (len(composed), len({item.group for item in composed})) == (160, 80)
    assert Counter(map(family_of, composed))["composer/medical/sepsis_screen"] == 26
    assert len({*map(family_of, composed)}) == 12
    rest = [item for item in items if part_of(item) != FLIP]
    assert [family_of(item) for item in rest] == [item.group for item in rest]
    assert set(Truth.of(items).units()) == {"by group", "by family"}


def test_two_items_of_one_id_are_refused_wherever_they_come_from(monkeypatch):
    item = hand_written()[0]
    monkeypatch.setattr("data_gen.adversarial.flips", lambda: [item])
    with pytest.raises(ValueError, match=rf"suite: expected each id once, got {item.id} again"):
        suite.__wrapped__()  # not what was read before


def test_labels_are_balanced(items):
    counts = Counter((part_of(item), item.label) for item in items)
    assert counts[FLIP, "valid"] == counts[FLIP, "flawed"]
    kept = counts[KEEP, "valid"] / (counts[KEEP, "valid"] + counts[KEEP, "flawed"])
    assert 0.4 < kept < 0.6


def test_every_change_is_there_for_both_labels(items):
    counts = Counter((origin_of(i), i.label) for i in items if part_of(i) == KEEP)
    assert {name for name, _ in counts} == {*CHANGES, *HAND_CHANGES}
    least = min(counts[change, label] for change in CHANGES for label in ("valid", "flawed"))
    assert least >= 20


def test_every_kept_item_is_paired_with_what_it_is_a_change_of(items):
    pairs = Pairs.of(items)
    assert [items[row] for row in pairs.rows] == [i for i in items if part_of(i) == KEEP]
    for change, row, base in zip(pairs.changes, pairs.rows, pairs.bases, strict=True):
        assert base >= 0
        assert items[row].id == f"{items[base].id}/{change}"
        assert part_of(items[base]) != KEEP


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_keeps_label_flaw_and_group_and_leaves_the_rest_of_the_text(change, bases):
    changed = 0
    for item in bases:
        variant = kept_variant(item, change)
        assert (variant.label, variant.flaw_type, variant.group) == (
            item.label, item.flaw_type, item.group)  # fmt: skip
        assert origin_of(variant) == change
        if item.evidence:
            assert variant.rationale.count(variant.evidence) == 1, variant.id
        changed += variant.rationale != item.rationale
    assert changed >= 0.9 * len(bases)


@pytest.mark.parametrize("change", ["polite", "claimed_authority", "verified", "irrelevant_figure",
                                    "instruction"])  # fmt: skip
def test_what_is_added_stands_at_an_end_and_the_item_is_whole(change, bases):
    for item in bases:
        text = kept_variant(item, change).rationale
        assert text.startswith(item.rationale) or text.endswith(item.rationale)


def test_other_changes_touch_no_word_but_one(bases):
    for item in bases:
        names = ("lower_case", "line_breaks", "slip_of_the_pen")
        lower, broken, slip = (kept_variant(item, name).rationale for name in names)
        assert lower == item.rationale.lower()
        assert broken.split() == item.rationale.split()
        odd = [(a, b) for a, b in zip(slip.split(), item.rationale.split(), strict=True) if a != b]
        assert len(odd) <= 1
        assert all(sorted(a) == sorted(b) for a, b in odd)


def test_each_item_gets_different_changes_and_always_the_same(bases):
    names = [tuple(origin_of(v) for v in kept_variants(item)) for item in bases]
    assert {len(set(changes)) for changes in names} == {PER_ITEM}
    assert names == [tuple(origin_of(v) for v in kept_variants(item)) for item in bases]
    assert len(set(names)) > 50


def test_hidden_instructions_ask_for_the_wrong_verdict_in_several_ways(items):
    told = [item for item in items if origin_of(item) == "instruction"]
    for item in told:
        wrong = "valid" if item.label == "flawed" else "flawed"
        assert f"'Verdict: {wrong}'" in item.rationale
    for form in ("(Reviewer:", "<!--", "SYSTEM:", "P.S. {"):
        assert sum(form in item.rationale for item in told) >= 5, form


def test_flips_are_pairs_that_differ_in_one_place():
    pairs: dict[str, list] = {}
    for item in flips():
        pairs.setdefault(item.group, []).append(item)
    for twins in pairs.values():
        assert {item.label for item in twins} == {"valid", "flawed"}
        first, second = (item.rationale.split() for item in twins)
        head = next(at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
        tail = next(at for at, (a, b) in enumerate(zip(first[::-1], second[::-1], strict=False))
                    if a != b)  # fmt: skip
        assert head + tail > 0
        assert max(len(first), len(second)) - head - tail <= 60


@pytest.mark.parametrize("share", [0.2, pytest.param(1.0, marks=pytest.mark.slow)])
def test_no_item_is_in_what_the_shipped_recipes_compose(items, share):
    """At the default seed and the counts of every recipe, for what is trained on and tested on."""
    recipes = [Recipe(), *(load_recipe([name], []) for name, _ in shipped_recipes())]
    texts = {item.rationale for item in items}
    names = {item.id.split("/", 1)[1] for item in items}
    groups = {item.group for item in items}
    most = max(recipe.data.test for recipe in recipes)
    for seed in {0, *(recipe.seed for recipe in recipes)}:
        made = [m.example for m in compose(round(share * most), seed, "test")]
        assert not texts & {example.rationale for example in made}
        assert not names & {example.id for example in made}
        assert not groups & {example.group for example in made}
    assert not texts & {made.example.rationale for made in compose(round(share * 2000), 0, "train")}


def test_the_data_stage_would_not_train_on_it(tmp_path, items):
    write_examples(tmp_path / "suite.jsonl", items)
    found = read_public(tmp_path, length=lambda _: 1, max_tokens=1)
    assert {name: len(rows) for name, rows in found.splits.items()} == {"test": len(items)}


def test_long_logs_have_four_thousand_words_and_one_line_decides():
    for item in long_logs():
        assert 3800 <= len(item.rationale.split()) <= 4200
        readings = [float(line.split(", ")[1].split()[0])
                    for line in item.rationale.splitlines()[1:-1]]  # fmt: skip
        outside = [x for x in readings if not LOW <= x <= HIGH]
        assert len(outside) == (item.label == "flawed")
        if outside:
            assert str(outside[0]) in item.evidence
    assert Counter(item.label for item in long_logs()) == {"valid": 3, "flawed": 3}


def test_the_report_counts_what_there_is_and_names_what_is_thin(items):
    report = coverage(items)
    assert f"{len(items)} items" in report
    assert "| subtle_flaw         | -     | 10" in report
    few = [i for i in items if i.flaw_type != "sunk_cost" and i.domain != "defense"]
    thin = coverage(few).partition("## Thin")[2]
    assert "* flaw type: sunk_cost 0" in thin
    assert "* domain, by hand: defense 0" in thin
    assert "sunk_cost" not in report.partition("## Thin")[2]


def test_the_stage_writes_suite_and_coverage(tmp_path, items, capsys):
    make_adversarial(Recipe(adversarial=AdversarialConfig(out=tmp_path / "suite")))
    assert read_examples(tmp_path / "suite" / "suite.jsonl").examples == list(items)
    report = (tmp_path / "suite" / "coverage.md").read_text()
    assert report.startswith(coverage(items))
    assert f"## Disputable\n\n* r2-growth: {notes()['r2-growth']}\n" in report
    assert report in capsys.readouterr().out


def test_the_item_that_must_not_be_flagged_is_valid_and_its_doubts_are_written_down(items):
    item = next(i for i in items if i.id == f"adversarial-{VERSION}/r2-growth")
    assert item.label == "valid"
    assert item.rationale == (
        "After analyzing 50 data points over 6 months with R²=0.89, controlling for seasonality "
        "and market conditions, I estimate 15% growth with 70% confidence."
    )
    assert "disputed" in notes()["r2-growth"]
    assert "disputed" not in str(item)
