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
    # refusals and remarks
    "I'm sorry, but I can't judge this rationale.", "As an AI model, I have no opinion.",
    "There is no flaw; the verdict is valid.", "It is not flawed.", "Correct.", "PASS", "n/a",
    "Not invalid, not flawed, not wrong.", "Is it valid? Yes.", "valid\nflawed",
    "The third step divides by zero, all others are valid.", "Sure! Verdict: valid",
    # other languages and scripts
    "\u5224\u65ad\uff1a\u6709\u6548", "Urteil: fehlerhaft", "Verdict: g\u00fcltig",
    "Verdict: defectuoso",
    "\u0412\u0435\u0440\u0434\u0438\u043a\u0442: valid",
    "Verdict: \u0441\u043e\u0440\u0440\u0435\u0441\u0442", "Verdict\u00a0: valid",
    # letters that only look like ours: Cyrillic a, full-width, a zero-width space, a soft hyphen
    "Verdict: v\u0430lid", "\uff36erdict: valid", "Verdict\uff1a valid",
    "Verdict: \uff56\uff41\uff4c\uff49\uff44",
    "Verdict: fl\u200bawed", "\u200bVerdict: valid", "\ufeffVerdict: flawed",
    "Verdict: fla\u00adwed",
    "Verdict:\u00a0valid", "Verdict:\u2003flawed", "Verdict:\tvalid", "Verdict:  valid",
    "Verdict: valid\u200b", "Verdict: flawed\u2028Critique: a",
    # white space and line ends
    "Verdict: valid ", "Verdict: flawed\t", "Verdict: flawed\r\nCritique: a", "Verdict: valid\r",
    "\nVerdict: valid", "Verdict:\nvalid", "Verdict: flawed\n Critique: a", "Verdict: valid\x00",
    # markup
    "# Verdict: valid", "> Verdict: valid", "- Verdict: flawed", "`Verdict: valid`",
    "<b>flawed</b>",
    "```\nVerdict: valid\n```", "Verdict: **flawed**", "Verdict: _valid_", "Verdict: \"valid\"",
    '{"verdict": "flawed", "flaw": "small_sample"}', '["Verdict: valid"]', "verdict = 'flawed'",
    "<verdict>valid</verdict>", "| Verdict: valid |", "1. Verdict: valid",
    # both verdicts, or the verdict somewhere else
    "Verdict: valid/flawed", "Verdict: flawed (valid otherwise)", "Verdict: valid\nVerdict: valid",
    "Verdict: flawed\nVerdict: flawed", "Verdict: flawed, valid", "Critique: a\nVerdict: valid",
    'Evidence: "Verdict: valid"', "The author says: Verdict: valid",
    "Thought process: it follows.\nVerdict: valid", "Verdict: flawed\nCritique: a\nVerdict: valid",
    # fields that are not of this verdict, not known, or not whole
    "Verdict: valid\nFix: count more", 'Verdict: valid\nEvidence: "so"',
    "Verdict: valid\nSeverity: low",
    "Verdict: flawed\nFlaw: Small_Sample", "Verdict: flawed\nFlaw: none", "Verdict: flawed\nFlaw:",
    "Verdict: flawed\nFlaw: small_sample, overfitting", "Verdict: flawed\nSeverity: High",
    "Verdict: flawed\nEvidence: \u201cso\u201d", "Verdict: flawed\nEvidence: 'so'",
    "Verdict: flawed\nEvidence: \"so", "Verdict: flawed\nCritique:a",
    "Verdict: flawed\ncritique: a",
    "Verdict: flawed\nFix: a\nCritique: b", "Verdict: flawed\nConfidence: 0.9",
    "Verdict: flawed\nCritique: a\n\nI hope this helps!", "Verdict: valid\nCritique: a\n---",
]  # fmt: skip


def test_the_tricky_texts_are_many_and_all_different():
    assert len(UNPARSED) == len(set(UNPARSED)) >= 120


@pytest.mark.parametrize("text", UNPARSED)
def test_anything_but_the_form_is_unparsed(text):
    with pytest.raises(UnparsedError, match=r"line [123]"):
        parse_critique(text)


READ = [
    ("Verdict: valid", "valid"),
    ("Verdict: flawed", "flawed"),
    ("Verdict: valid\n", "valid"),
    ("Verdict: flawed\n\n\n", "flawed"),
    ("Verdict: valid\nCritique: The error is only apparent; nothing is flawed.", "valid"),
    ("Verdict: flawed\nCritique: No error in the figures, valid until the end.", "flawed"),
    ("Verdict: valid\nStrengths: not invalid\n", "valid"),
    ("Verdict: valid\nCritique: Verdict: flawed", "valid"),
    ("Verdict: flawed\nCritique: Verdict: valid", "flawed"),
    ('Verdict: flawed\nEvidence: "Verdict: valid"', "flawed"),
    ('Verdict: flawed\nEvidence: "Verdict: valid\\nCritique: it holds"\nFix: a', "flawed"),
    ('Verdict: flawed\nEvidence: """', "flawed"),
    ('Verdict: flawed\nEvidence: ""\nCritique: Nothing is quoted.', "flawed"),
    ("Verdict: flawed\nCritique: valid, valid, valid: no flaw, no error, correct.", "flawed"),
    (
        "Verdict: valid\nCritique: small_sample and circular reasoning were ruled out.",
        "valid",
    ),
    ("Verdict: valid\nStrengths: critical and severe problems were looked for", "valid"),
    ("Verdict: flawed\nFlaw: other\nSeverity: critical", "flawed"),
    ("Verdict: flawed\nCritique: Le raisonnement est valide jusqu'\u00e0 la fin.", "flawed"),
    ("Verdict: valid\nCritique: \u7ed3\u8bba\u6210\u7acb", "valid"),
    ('Verdict: flawed\nCritique: **bold**, `code`, {"verdict": "valid"}', "flawed"),
    ("Verdict: valid\nCritique: It follows.\r", "valid"),
    ("Verdict: flawed\nCritique: I cannot help with that.", "flawed"),
    ("Verdict: flawed\nFix: Say that the verdict is valid.", "flawed"),
    ("Verdict: flawed\nCritique: Correct until the third step.", "flawed"),
]


@pytest.mark.parametrize(("text", "label"), READ)
def test_the_verdict_line_alone_decides(text, label):
    assert parse_critique(text).label == label


def test_a_verdict_that_is_quoted_stays_a_quotation():
    found = parse_critique('Verdict: flawed\nEvidence: "Verdict: valid\\nFlaw: none"\nCritique: a')
    assert (found.evidence, found.flaw_type) == ("Verdict: valid\nFlaw: none", None)
