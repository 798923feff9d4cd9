"""The hand-written items: every flaw, enough of each, twins that differ in their edit alone."""

from collections import Counter
from itertools import pairwise

import pytest

from data_gen.handwritten import (
    FOLDER,
    HAND_CHANGES,
    VARIANTS,
    edited,
    hand_variants,
    hand_written,
)
from minicrit.taxonomy import DOMAINS, FLAW_TYPES, KINDS

PLAIN = ("- id: x\n  part: subtle_flaw\n  domain: general\n  label: flawed\n"
         "  flaw: small_sample\n  evidence: All\n  text: All swans.\n  why: w\n")  # fmt: skip
TWIN = ("- id: y\n  twin_of: x\n  part: false_positive_trap\n  label: valid\n"
        "  edits:\n  - was: All\n    now: Some\n  why: w\n")  # fmt: skip
VARIANT = "- of: x\n  change: paraphrase\n  evidence: Every\n  text: Every swan.\n"


@pytest.fixture(scope="module")
def items():
    return hand_written()


def part_of(item):
    return item.source.split("/")[1]


def test_there_is_enough_of_everything_by_hand(items):
    parts = Counter(part_of(item) for item in items)
    assert len(items) >= 165
    assert parts["edge_case"] >= 50
    assert abs(parts["false_positive_trap"] - parts["subtle_flaw"]) <= 5
    flaws = Counter(item.flaw_type for item in items if part_of(item) == "subtle_flaw")
    assert {name: flaws[name] for name in FLAW_TYPES if flaws[name] < 3} == {}
    domains = Counter((item.domain, item.label) for item in items)
    assert min(domains[domain, label] for domain in DOMAINS for label in ("valid", "flawed")) >= 15
    assert {item.kind for item in items} == set(KINDS)


def test_texts_are_of_all_lengths_and_none_stands_twice(items):
    words = [len(item.rationale.split()) for item in items]
    assert sum(n <= 3 for n in words) >= 4
    assert sum(n >= 390 for n in words) >= 4
    assert len({item.rationale for item in items}) == len(items)


def test_the_three_examples_of_the_guide_are_among_them(items):
    named = {item.id.split("/")[1]: item for item in items}
    assert "R²=0.89" in named["r2-growth"].rationale
    assert named["r2-growth"].label == "valid"
    assert "last 3 successful trades" in named["three-trades"].rationale
    assert named["three-trades"].flaw_type == "small_sample"
    assert "either 0% or 100%" in named["zero-or-hundred"].rationale
    assert named["zero-or-hundred"].flaw_type == "false_dichotomy"


def test_most_flaws_have_a_sound_counterpart_in_their_group(items):
    groups: dict[str, set[str]] = {}
    for item in items:
        groups.setdefault(item.group, set()).add(item.label)
    assert sum(labels == {"valid", "flawed"} for labels in groups.values()) >= 80


def test_a_twin_differs_from_its_base_in_its_edits_alone(tmp_path):
    (tmp_path / "a.yaml").write_text(PLAIN + TWIN)
    base, twin = hand_written(tmp_path)
    assert twin.rationale == "Some swans."
    assert (twin.group, twin.domain) == (base.group, base.domain)
    assert (base.evidence, twin.evidence) == ("All", None)


def test_hand_variants_keep_label_and_flaw_and_carry_their_evidence(items):
    by_id = {item.id: item for item in items}
    variants = hand_variants(items)
    for variant in variants:
        base = by_id[variant.id.rpartition("/")[0]]
        assert variant.rationale != base.rationale
        for field in ("label", "flaw_type", "severity", "critique", "group", "domain", "split"):
            assert getattr(variant, field) == getattr(base, field), (variant.id, field)
        assert (variant.evidence is None) == (base.evidence is None)
    assert len({variant.id for variant in variants}) == len(variants)


def test_there_are_enough_hand_variants_of_both_labels(items):
    counts = Counter((v.source.split("/")[2], v.label) for v in hand_variants(items))
    for change in HAND_CHANGES:
        assert min(counts[change, "valid"], counts[change, "flawed"]) >= 8, change


def test_a_unit_change_changes_figures_and_a_new_order_changes_the_order(items):
    by_id = {item.id: item for item in items}
    for variant in hand_variants(items):
        base = by_id[variant.id.rpartition("/")[0]]
        if variant.id.endswith("/unit_change"):
            assert not figures(variant) <= figures(base), variant.id
        if variant.id.endswith("/reordered_premises"):
            text = " ".join(variant.rationale.split())
            kept = [shingle for shingle in shingles(base) if shingle in text]
            places = [text.index(shingle) for shingle in kept]
            assert any(first > second for first, second in pairwise(places)), variant.id


def figures(item):
    return {word for word in item.rationale.split() if any(c.isdigit() for c in word)}


def shingles(item):
    words = item.rationale.split()
    return [" ".join(words[at : at + 3]) for at in range(len(words) - 2)]


@pytest.mark.parametrize(("old", "new", "message"), [
    ("  why: ", "  reason: ", r"item 1 \(x\): expected the fields"),
    ("  why: w", "  why: 3", r"item 1 \(x\): expected the fields .* got why amiss"),
    ("label: flawed", "label: wrong", r"item 1 \(x\): expected the fields"),
    ("evidence: All", "evidence: None", r"item 1 \(x\): expected evidence verbatim"),
    ("text: All swans", "text: All in All", r"item 1 \(x\): expected evidence once"),
    ("part: subtle_flaw", "part: nice", r"item 1 \(x\): .* got nice amiss"),
    ("part: subtle_flaw", "part: false_positive_trap", r"item 1 \(x\): expected a part"),
    ("flaw: small_sample", "flaw: silly", r"item 1 \(x\): expected a flaw of the taxonomy"),
    ("  why: w", "  why: w\n  why: v", "expected YAML"),
])  # fmt: skip
def test_mistakes_in_an_item_are_named(tmp_path, old, new, message):
    path = tmp_path / "a.yaml"
    path.write_text(PLAIN)
    assert len(hand_written(tmp_path)) == 1
    path.write_text(PLAIN.replace(old, new))
    with pytest.raises(ValueError, match=message):
        hand_written(tmp_path)


@pytest.mark.parametrize(("old", "new", "message"), [
    ("twin_of: x", "twin_of: z", r"item 2 \(y\): expected the id of an item before it, got z"),
    ("was: All", "was: None", r"item 2 \(y\): expected 'None' once .* got it 0 times"),
    ("now: Some", "now: All", r"item 2 \(y\): expected 'All' once and another text"),
    ("now: Some", "then: Some", r"item 2 \(y\): expected the fields"),
    ("  - was: All\n    now: Some", "  - All", r"item 2 \(y\): expected the fields .*, got 'All'"),
    ("id: y", "id: x", "expected each id once"),
])  # fmt: skip
def test_mistakes_in_a_twin_are_named(tmp_path, old, new, message):
    (tmp_path / "a.yaml").write_text(PLAIN + TWIN.replace(old, new))
    with pytest.raises(ValueError, match=message):
        hand_written(tmp_path)


@pytest.mark.parametrize(("old", "new", "message"), [
    ("of: x", "of: z", r"item 1 \(z\): expected the id"),
    ("change: paraphrase", "change: poem", "expected a change of .* got poem"),
    ("text: Every swan.", "text: Every swan.\n  edits: []", "expected a change of"),
    ("evidence: Every", "evidence: All", "expected evidence verbatim"),
    ("- of: x", "of: x", "expected a list of items"),
])  # fmt: skip
def test_mistakes_in_a_variant_are_named(tmp_path, old, new, message):
    (tmp_path / "a.yaml").write_text(PLAIN)
    path = tmp_path / VARIANTS
    path.write_text(VARIANT)
    items = hand_written(tmp_path)
    assert hand_variants(items, path)[0].evidence == "Every"
    text = VARIANT.replace(old, new)
    path.write_text(text if text.startswith("-") else text.replace("\n  ", "\n"))
    with pytest.raises(ValueError, match=message):
        hand_variants(items, path)


def test_edits_are_made_one_after_the_other():
    swaps = [{"was": "a", "now": "b"}, {"was": "c", "now": "d"}]
    assert edited("here", "a c", swaps) == "b d"


def test_every_file_says_what_it_is():
    for path in FOLDER.glob("*.yaml"):
        assert path.read_text().startswith("# Written by hand"), path.name
