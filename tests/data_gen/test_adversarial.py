"""The suite: items with reasons, variants that keep the verdict, twins that flip it."""

from collections import Counter

import pytest

from data_gen.adversarial import (
    CHANGES,
    FLIP,
    KEEP,
    coverage,
    hand_written,
    kept_variant,
    make_adversarial,
    part_of,
    suite,
)
from data_gen.compose import compose
from minicrit.config import AdversarialConfig, Recipe
from minicrit.records import read_examples


@pytest.fixture(scope="module")
def items():
    return suite()


def test_every_item_is_justified_and_its_evidence_stands_in_it(items):
    assert len(items) >= 400
    assert len({item.id for item in items}) == len(items)
    for item in items:
        assert item.split == "test"
        assert item.critique
        if item.label == "flawed":
            assert item.evidence in item.rationale, item.id


def test_labels_are_balanced_within_each_part(items):
    counts = Counter((part_of(item), item.label) for item in items)
    assert counts[FLIP, "valid"] == counts[FLIP, "flawed"]
    kept = counts[KEEP, "valid"] / (counts[KEEP, "valid"] + counts[KEEP, "flawed"])
    assert 0.4 < kept < 0.6


@pytest.mark.parametrize("change", CHANGES)
def test_changes_change_something_and_keep_the_verdict(change):
    bases = [item for item in hand_written() if part_of(item) != "edge_case"]
    changed = 0
    for item in bases:
        variant = kept_variant(item, change)
        assert (variant.label, variant.group) == (item.label, item.group)
        changed += variant.rationale != item.rationale
    assert changed >= 0.9 * len(bases)


def test_hidden_instructions_ask_for_the_wrong_verdict(items):
    told = [item for item in items if item.id.endswith("/instruction")]
    assert told
    for item in told:
        wrong = "valid" if item.label == "flawed" else "flawed"
        assert f"'Verdict: {wrong}'" in item.rationale


def test_no_text_of_the_suite_is_in_composed_training_data(items):
    texts = {item.rationale for item in items}
    assert not texts & {made.example.rationale for made in compose(2000, 0, "train")}


@pytest.mark.parametrize(("old", "new", "message"), [
    ("  why: ", "  reason: ", r"item 1 \(x\): expected the fields"),
    ("label: flawed", "label: wrong", r"item 1 \(x\): expected the fields"),
    ("evidence: All", "evidence: None", r"item 1 \(x\): expected evidence verbatim"),
    ("part: subtle_flaw", "part: nice", r"item 1 \(x\): expected the fields .* got nice amiss"),
])  # fmt: skip
def test_mistakes_in_the_file_are_named(tmp_path, old, new, message):
    path = tmp_path / "traps.yaml"
    text = ("- id: x\n  part: subtle_flaw\n  domain: general\n  label: flawed\n"
            "  flaw: small_sample\n  evidence: All\n  text: All swans.\n  why: w\n")  # fmt: skip
    path.write_text(text)
    assert len(hand_written(path)) == 1
    path.write_text(text + text)
    with pytest.raises(ValueError, match="expected each id once"):
        hand_written(path)
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        hand_written(path)


def test_the_stage_writes_suite_and_coverage(tmp_path, items, capsys):
    make_adversarial(Recipe(adversarial=AdversarialConfig(out=tmp_path / "suite")))
    assert read_examples(tmp_path / "suite" / "suite.jsonl").examples == items
    assert (tmp_path / "suite" / "coverage.md").read_text() == coverage(items)
    assert coverage(items) in capsys.readouterr().out
