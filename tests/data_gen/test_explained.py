"""What a written critique is worth: evidence, reasons, figures, whether it came to its end."""

import pytest

from data_gen.explained import explanation_of, said_type
from data_gen.oracle import stray
from minicrit.misses import Explanation
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example

FLAWED = Example(
    id="a", domain="trading", group="g", source="s", split="validation", label="flawed",
    rationale="It rose on 30 of 40 Mondays at 2.5 each. So it always rises on a Monday.",
    flaw_type="small_sample", severity="high", evidence="It rose on 30 of 40 Mondays",
    critique="So few Mondays are no rule, 12 would not do.", fix="Look at more Mondays.",
)  # fmt: skip
TEXT = render_critique(critique_of(FLAWED))


def test_its_own_reference_explains_it():
    assert explanation_of(FLAWED, TEXT, ended=True) == Explanation(
        TEXT, evidence="It rose on 30 of 40 Mondays", overlap=1.0, verbatim=True, reasons=1.0
    )


def test_what_is_elsewhere_or_nowhere():
    elsewhere = TEXT.replace('"It rose on 30 of 40 Mondays"', '"So it always rises"')
    found = explanation_of(FLAWED, elsewhere, ended=True)
    assert (found.overlap, found.verbatim) == (0.0, True)
    nowhere = TEXT.replace('"It rose on 30 of 40 Mondays"', '"It rose on all Mondays"')
    found = explanation_of(FLAWED, nowhere, ended=True)
    assert (found.overlap, found.verbatim) == (0.0, False)


def test_what_is_cut_off_or_unparsed_is_not_looked_at():
    assert explanation_of(FLAWED, TEXT, ended=False).broken == "cut off"
    found = explanation_of(FLAWED, "No flaw found.", ended=True)
    assert found.broken is not None
    assert found.broken.startswith("unparsed: line 1: expected 'Verdict: valid'")


def test_of_a_wrong_verdict_only_the_evidence_is_kept():
    sound = Example(**{**FLAWED.to_row(), "label": "valid", "flaw_type": None, "severity": None,
                       "evidence": None, "fix": None})  # fmt: skip
    found = explanation_of(sound, TEXT, ended=True)
    assert (found.evidence, found.overlap, found.reasons) == ("It rose on 30 of 40 Mondays", None,
                                                              None)  # fmt: skip


@pytest.mark.parametrize(("figure", "stray"), [
    ("30", ()),  # stands there
    ("12", ()),  # stands in the reference
    ("75%", ()),  # 30 of 40
    ("70", ()),  # 30 + 40
    ("10", ()),  # 40 - 30
    ("1,200", ()),  # 30 * 40
    ("750", ()),  # per 1,000
    ("1.33", ()),  # 40 / 30
        ("0.8", ()),  # 30 / 40
    ("33.33%", ()),  # 40 is so much more than 30
    ("60%", ()),  # the others of 40 %
    ("31", (31.0,)),
    ("691", (691.0,)),
    ("0.9", (0.9,)),
])  # fmt: skip
def test_a_figure_stands_there_or_follows_in_one_step(figure, stray):
    text = TEXT.replace(
        "So few Mondays are no rule", f"So few Mondays are no rule, as {figure} say"
    )
    assert explanation_of(FLAWED, text, ended=True).stray == stray


def test_a_figure_that_a_stated_sum_comes_to_has_a_source():
    text = TEXT.replace(
        "So few Mondays are", "30 plus 40 is 70, and 70 minus 12 is 58, so they are"
    )
    assert explanation_of(FLAWED, text, ended=True).stray == ()
    bare = text.replace("70 minus 12 is 58", "58 are left")
    assert explanation_of(FLAWED, bare, ended=True).stray == (58.0,)


@pytest.mark.parametrize(("claim", "false"), [
    ("30 of 40 is 75%", ()),
    ("30 of 40 is 30%", ("30 of 40 is 30%",)),
    ("40 plus 30 is 70, and 40 minus 30 is 40", ("40 minus 30 is 40",)),
])  # fmt: skip
def test_a_sum_has_to_come_to_what_is_said(claim, false):
    """Though every figure in it has a source."""
    text = TEXT.replace("So few Mondays are no rule", f"So few Mondays are no rule: {claim}")
    found = explanation_of(FLAWED, text, ended=True)
    assert (found.stray, found.miscounted) == ((), false)


def test_a_text_without_figures_gives_none_to_cite():
    plain = Example(id="a", domain="trading", group="g", source="s", split="test", label="valid",
                    rationale="It rose.")  # fmt: skip
    assert stray(plain, "Of 1, 100 and 1,000 there are 2.") == {2.0}


@pytest.mark.parametrize(("text", "name"), [
    (TEXT, "small_sample"),
    ("Verdict: flawed\nFlaw: sunk_cost\nSeverity: me", "sunk_cost"),
    ("Verdict: flawed\nFlaw: sunk_cost", "sunk_cost"),
    ("Verdict: flawed\nFlaw: sunk_c", None),
    ("Verdict: flawed\nSeverity: high", None),
    ("Verdict: flawed", None),
    ("A small_sample, no doubt.", None),
])  # fmt: skip
def test_the_name_of_a_flaw_in_a_beginning(text, name):
    assert said_type(text) == name
