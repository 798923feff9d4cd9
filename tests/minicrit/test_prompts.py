"""The words: golden texts, round trips, and a parser that never guesses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicrit.prompts import (
    PROMPT_VERSION,
    STYLES,
    Critique,
    UnparsedError,
    parse_critique,
    render_critique,
    render_prompt,
)
from minicrit.taxonomy import FLAW_TYPES, SEVERITIES

GOLDEN = "### Domain: trading\n### Rationale:\nRSI is low, so buy.\n\n### Critique:\n"


def test_golden_prompt_of_the_trained_style():
    assert PROMPT_VERSION == "plain-1"
    assert render_prompt("trading", "RSI is low, so buy.") == GOLDEN


def test_every_style_ends_in_the_answer_marker_and_holds_the_text():
    for style in STYLES:
        text = render_prompt("medical", "Some text.", style)
        assert text.endswith("\n\n### Critique:\n")
        assert "Some text." in text
        assert "medical" in text


def test_unknown_style_is_refused():
    with pytest.raises(ValueError, match="expected a prompt style"):
        render_prompt("medical", "x", "plain-2")


def test_golden_critiques():
    flawed = Critique(
        "flawed", "small_sample", "medium", 'He said "so"\nand left', None, "Too few.", "More."
    )
    assert render_critique(flawed) == (
        "Verdict: flawed\nFlaw: small_sample\nSeverity: medium\n"
        'Evidence: "He said "so"\\nand left"\nCritique: Too few.\nFix: More.'
    )
    valid = Critique("valid", strengths="clear", critique="It follows.")
    assert render_critique(valid) == "Verdict: valid\nStrengths: clear\nCritique: It follows."


line = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1)


@given(
    st.none() | st.sampled_from(sorted(FLAW_TYPES)),
    st.none() | st.sampled_from(SEVERITIES),
    st.none() | st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\r")),
    st.none() | line,
    st.none() | line,
)
def test_what_is_rendered_is_read_back(flaw_type, severity, evidence, why, fix):
    critique = Critique("flawed", flaw_type, severity, evidence, None, why, fix)
    assert parse_critique(render_critique(critique)) == critique


UNPARSED = [
    "", " ", "\n", ":", "valid", "flawed", "Valid.", "No flaw found.", "no error found",
    "The reasoning is not invalid.", "Correct until the third step.", "Verdict:", "Verdict: ",
    "verdict: valid", "Verdict: Valid", "Verdict: valid.", "Verdict:valid", " Verdict: valid",
    "Verdict: valid or flawed", "Verdict: not flawed", "Verdict: flawless", "Verdict: invalid",
    "Verdict: valid\nFlaw: small_sample", "Verdict: flawed\nFlaw: bad_vibes",
    "Verdict: flawed\nSeverity: fatal", "Verdict: flawed\nEvidence: no quotes",
    'Verdict: flawed\nEvidence: "', "Verdict: flawed\nCritique: a\nFlaw: small_sample",
    "Verdict: flawed\nCritique: a\nCritique: b", "Verdict: valid\nVerdict: flawed",
    "Verdict: valid\n\nCritique: a", "Verdict: valid\nsome more text", "I cannot help with that.",
    "Thought process:", "Le raisonnement est valide.", "Verdict: flawed\nFix",
    "### Critique:\nVerdict: valid", '{"verdict": "valid"}', "Verdict: flawed\nStrengths: none",
    "Verdict - flawed", "Verdict: flawed Flaw: small_sample", "**Verdict: flawed**",
]  # fmt: skip


@pytest.mark.parametrize("text", UNPARSED)
def test_anything_but_the_form_is_unparsed(text):
    with pytest.raises(UnparsedError, match=r"line [123]"):
        parse_critique(text)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Verdict: valid", "valid"),
        ("Verdict: flawed", "flawed"),
        ("Verdict: valid\nCritique: The error is only apparent; nothing is flawed.", "valid"),
        ("Verdict: flawed\nCritique: No error in the figures, valid until the end.", "flawed"),
        ("Verdict: valid\nStrengths: not invalid\n", "valid"),
    ],
)
def test_the_verdict_line_alone_decides(text, label):
    assert parse_critique(text).label == label
