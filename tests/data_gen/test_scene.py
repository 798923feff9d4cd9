"""Family files and banks: what is wrong with them is said, and banks serve training alone."""

from collections import Counter

import pytest

from data_gen.check import faults
from data_gen.compose import compose
from data_gen.mechanisms import MECHANISMS
from data_gen.scene import BANKS, FAMILIES, banked, read_bank, read_scene, scenes
from minicrit.taxonomy import DOMAINS

ASKED = '{q1: "whether it is a cat", e1: "Ann", q2: "whether it bites", e2: "Bo"}'
FACT = '{a: "it is shut", b: "it is open", if_a: "nobody came in", if_b: "they came in", why: "x"}'

BEARS = '{q1: "whether it is open", r1: "we went in", q2: "whether it is warm", r2: "we sweated"}'


@pytest.mark.parametrize(("text", "message"), [
    ("entailments: [" + ", ".join([FACT] * 3) + "]", "expected a list of at least 4"),
    ("facts: []", "unknown slot 'facts'"),
    ("- 1", "expected a mapping at the top"),
    ("{", "expected YAML"),
    ("options: []\noptions: []", "stands twice"),
    ('signs: [{present: "a"}, {}, {}]', "expected the fields"),
    (f"experts: [{ASKED}, {ASKED.replace('is a cat', 'is a cat or a dog')}]",
     r"experts\[2\].q1: expected a question that yes or no answers"),
    (f"relevance: [{BEARS}, {BEARS}, {BEARS.replace('is open', 'should stay open')}]",
     r"relevance\[3\].q1: expected a question of fact, got 'whether it should stay open'"),
])  # fmt: skip
def test_what_is_wrong_with_a_bank(tmp_path, text, message):
    path = tmp_path / "medical.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"medical.yaml: .*{message}"):
        read_bank(path)


def test_a_bank_has_the_name_of_a_domain(tmp_path):
    path = tmp_path / "cooking.yaml"
    path.write_text("entailments: [" + ", ".join([FACT] * 4) + "]")
    with pytest.raises(ValueError, match="expected that of a domain"):
        read_bank(path)
    assert len(read_bank(path.rename(tmp_path / "general.yaml"))["entailments"]) == 4


def test_a_family_that_is_no_mapping_is_refused(tmp_path):
    path = tmp_path / "bees.yaml"
    path.write_text("[1]")
    with pytest.raises(ValueError, match="expected a mapping at the top"):
        read_scene(path)


def test_what_was_extreme_must_be_something_that_the_family_measures(tmp_path):
    path = tmp_path / "defense" / "rotor_filters.yaml"
    path.parent.mkdir()
    text = (FAMILIES / "defense" / path.name).read_text()
    path.write_text(text.replace('measure: "the mean loss of engine power"', 'measure: "dust"'))
    with pytest.raises(ValueError, match=r"extremes\[1\].measure: expected the name of a metric"):
        read_scene(path)


def test_every_domain_has_a_bank_that_adds_to_its_families_for_training():
    assert {path.stem for path in BANKS.glob("*.yaml")} == set(DOMAINS)
    for family in scenes():
        if family.split == "train":
            more = banked(family)
            assert len(more.slots["entailments"]) > 80
            assert (
                more.slots["entailments"][: len(family.slots["entailments"])]
                == (family.slots["entailments"])
            )
            assert more.slots["openings"] == family.slots["openings"]


def test_no_phrase_of_a_bank_is_one_that_is_measured_on():
    apart = [slot for family in scenes() if family.split != "train"
             for slot in family.slots.values()]  # fmt: skip
    kept_apart = {value for slot in apart for item in slot if isinstance(item, dict)
                  for value in item.values() if len(str(value)) > 15}  # fmt: skip
    for path in BANKS.glob("*.yaml"):
        for slot in read_bank(path).values():
            assert kept_apart.isdisjoint(v for item in slot for v in item.values())


def test_banks_hold_only_what_does_not_speak_of_what_a_family_is_about():
    """Who was treated, say, is part of a family's own story; a fact stands by itself."""
    alone = {"entailments", "options", "relevance", "signs", "experts"}
    for path in BANKS.glob("*.yaml"):
        assert set(read_bank(path)) == alone


def test_facts_of_a_bank_have_two_sides_that_differ():
    for path in BANKS.glob("*.yaml"):
        for item in read_bank(path)["entailments"]:
            assert len({item[key] for key in ("a", "b", "if_a", "if_b")}) == 4, item


def test_measuring_is_never_composed_with_banks():
    family = next(s for s in scenes() if s.split == "test")
    with pytest.raises(ValueError, match="compose that without banks"):
        banked(family)
    with pytest.raises(ValueError, match="compose that without banks"):
        next(compose(4, 0, "validation", bank=True))


def test_with_banks_examples_are_sound_and_their_facts_many():
    shares = {name: float(name == "contradiction") for name in MECHANISMS}
    plain, more = (list(compose(4000, 0, "train", squares=True, shares=shares, bank=bank))
                   for bank in (False, True))  # fmt: skip
    found = [Counter(c.example.evidence for c in texts if c.example.flaw_type
                     == "logical_contradiction") for texts in (plain, more)]  # fmt: skip
    assert len(found[1]) > 1.5 * len(found[0])
    assert [f for composed in more for f in faults(composed)] == []
