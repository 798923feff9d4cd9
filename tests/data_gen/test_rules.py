"""The ten rules: each by hand, references keep them all, and a file that is wrong says where."""

from dataclasses import replace

import pytest

from data_gen.compose import compose
from data_gen.rules import CHECKS, CODE, JUDGE, LABEL, MOST, PATH, read_rules, review, rules
from minicrit.prompts import FIELDS, Critique, begun, critique_of, render_critique
from minicrit.records import Example

FLAWED = Example(
    id="a", domain="trading", group="g", source="s", split="train", label="flawed",
    rationale="It rose on 3 of 3 Mondays. My tip is to buy. So it always rises on a Monday.",
    flaw_type="small_sample", severity="high", evidence="It rose on 3 of 3 Mondays.",
    critique="Three Mondays, or 100%, are too few for a rule.", fix="Look at 200 Mondays first.",
    kind="overconfident_wrong",
)  # fmt: skip
VALID = replace(FLAWED, label="valid", flaw_type=None, severity=None, evidence=None, fix=None,
                strengths="claims little", critique="It may be so, says the text, and no more.",
                kind="uncertain_correct")  # fmt: skip
GOOD, SOUND = critique_of(FLAWED), critique_of(VALID)


def test_there_are_ten_and_each_is_seen_to():
    assert len(rules()) == 10
    assert all(rule.by[-1] == JUDGE for rule in rules())
    assert {rule.id for rule in rules() if {LABEL, CODE} & set(rule.by)} == set(CHECKS)


@pytest.mark.parametrize(
    ("change", "rule", "field"),
    [
        ({"label": "valid"}, "verdict", "label"),
        ({"label": "valid"}, "unswayed", "label"),  # an overconfident text was approved
        ({"flaw_type": "anchoring"}, "named", "flaw_type"),
        ({"flaw_type": None}, "named", "flaw_type"),
        ({"evidence": "It rose on 3 of 4 Mondays."}, "quoted", "evidence"),
        ({"evidence": None}, "quoted", "evidence"),
        ({"evidence": FLAWED.rationale}, "quoted", "evidence"),  # more than the place
        ({"critique": "It rose on 7 Mondays, which is few."}, "figures", "critique"),
        ({"fix": "Look at 500 Mondays first."}, "figures", "fix"),
        ({"critique": "In all 3 of 3 is 3%, which is few."}, "figures", "critique"),
        ({"critique": "Too few."}, "mechanism", "critique"),
        ({"critique": "it rose on 3 of 3 mondays"}, "mechanism", "critique"),  # quoted again
        ({"critique": None}, "mechanism", "critique"),
        ({"fix": None}, "fix", "fix"),
        ({"fix": "It rose on 3 of 3 Mondays."}, "fix", "fix"),
        ({"fix": "Do better."}, "fix", "fix"),
        ({"critique": "I think that three are few."}, "plain", "critique"),
        ({"critique": "Three Mondays are few. Three Mondays are few."}, "plain", "critique"),
        ({"fix": "Three Mondays, or 100%, are too few for a rule"}, "plain", "fix"),
        ({"critique": "few " * (MOST + 1)}, "plain", "critique"),
    ],
)
def test_each_rule_can_be_broken(change, rule, field):
    found = review(FLAWED, replace(GOOD, **change))
    assert found.broken[rule] == field
    assert rule not in found.kept


@pytest.mark.parametrize(
    "change",
    [
        {"critique": "Three Mondays, or 100%, say little."},  # worked out by the reference
        {"critique": "3 of 3 Mondays leave 0 on which it fell."},  # follows in one step
        {"critique": "By chance it rises on three Mondays in 12.5% of cases."},
        {"critique": 'The text says "I saw it", which is little.'},  # a quotation may say I
        {"critique": "My tip is no reason for a rule."},  # the text's own words
        {"evidence": "It rose on 3 of 3 Mondays.\n[...]\nit always rises"},
    ],
)
def test_what_looks_wrong_but_is_not(change):
    assert review(FLAWED, replace(GOOD, **change)).broken == {}


def test_caution_must_not_be_flagged_and_what_does_not_apply_is_not_kept():
    assert review(VALID, SOUND).kept == {"verdict", "figures", "cautious", "mechanism", "plain"}
    flagged = review(VALID, GOOD)
    assert flagged.broken["cautious"] == flagged.broken["verdict"] == "label"
    plain = review(replace(VALID, kind="plain"), GOOD)
    assert "cautious" not in plain.kept | plain.broken.keys()


def test_any_flaw_will_do_where_the_label_names_none():
    unnamed = replace(FLAWED, flaw_type=None)
    assert "named" in review(unnamed, GOOD).kept
    assert review(unnamed, replace(GOOD, flaw_type=None)).broken["named"] == "flaw_type"


def test_the_first_field_that_breaks_a_rule():
    wrong = replace(GOOD, evidence="nowhere", fix=None)
    assert review(FLAWED, wrong).first == "evidence"
    assert review(FLAWED, GOOD).first is None


def test_every_reference_keeps_every_rule():
    for composed in compose(400, 1, "train"):
        example = composed.example
        assert review(example, critique_of(example)).broken == {}, example.id


def test_begun_is_what_stands_before_a_field():
    text = render_critique(GOOD)
    lines = text.split("\n")
    assert begun(GOOD, "label") == "Verdict:"
    assert begun(GOOD, "flaw_type") == "Verdict: flawed\nFlaw:"
    assert begun(GOOD, "fix") == "\n".join(lines[:-1]) + "\nFix:"
    assert begun(replace(GOOD, severity=None), "evidence") == "\n".join(lines[:2]) + "\nEvidence:"
    assert all(text.startswith(begun(GOOD, field)) for field in FIELDS if field != "strengths")
    assert begun(Critique("valid"), "strengths") == "Verdict: valid\nStrengths:"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n  by: [code]\n", r"rules.yaml:1: expected rule of a as text, got none"),
        ("a:\n  rule: x\n", r"rules.yaml:1: expected by of a as a list of label, code, judge"),
        ("fix:\n  rule: x\n  by: [me]\n", r"rules.yaml:1: expected by of fix as a list.*\['me'\]"),
        ("\nodd:\n  rule: x\n  by: [code]\n", r"rules.yaml:2: expected a rule that code can see"),
    ],
)
def test_a_file_of_rules_that_is_wrong_says_where(tmp_path, text, message):
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rules(tmp_path / "rules.yaml")


def test_a_rule_for_judges_alone_needs_no_check(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(PATH.read_text() + "kind:\n  rule: Be kind.\n  by: [judge]\n")
    assert read_rules(path)[-1].id == "kind"
