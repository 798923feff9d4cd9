"""What follows from a sum that does not hold: the flag, the probability, the critique."""

import json
from pathlib import Path

import numpy as np
import pytest

from minicrit.prompts import parse_critique, render_critique
from minicrit.recount import FALSE_SUM, RULES, either, false_sum, miscounted, recounted
from minicrit.serving_config import RELEASED_CRITIC
from minicrit.verdict import explained

ROOT = Path(__file__).parents[2]
RATE = "The line packs 80 crates a minute, and we have 6 minutes. So that makes 720 crates in all."


@pytest.mark.parametrize(("text", "span", "why", "fix"), [
    ("First, 80 times 5 is 300.", "80 times 5 is 300", "80 times 5 is 400, not 300.",
     "Use 400, and redo whatever was built on 300."),
    ("48 of 50, which is 90%", "48 of 50, which is 90%", "48 of 50, which is 96%, not 90%.",
     "Use 96%, and redo whatever was built on 90%."),
    ("So 1,000 + 250 = 1,350 in all.", "1,000 + 250 = 1,350", "1,000 + 250 = 1,250, not 1,350.",
     "Use 1,250, and redo whatever was built on 1,350."),
    (r"So \(\frac{1}{8} \times 3 = 2\).", r"\frac{1}{8} \times 3 = 2",
     "((1)/(8)) * 3 is 0.375, not 2.", "Use 0.375, and redo whatever was built on 2."),
    ("It costs $3 + $4 = $8.00.", "3 + $4 = $8.00", "3 + $4 is 7, not 8.00.",
     "Use 7, and redo whatever was built on 8.00."),
    ("A = (4 + 3) = (4 - 3) or so", "", "", ""),
    ("A = (4 + 3) = (4 - 3).", "(4 + 3) = (4 - 3)", "(4 + 3) is 7, but (4 - 3) is 1.",
     "Use 7, and redo whatever was built on 1."),
    (RATE, "that makes 720 crates in all", "80 a minute for 6 minutes makes 480, not 720.",
     "Use 480, and redo whatever was built on 720."),
    ("It cuts 80 boards an hour for 6 hours; that makes 720 boards.", "that makes 720 boards",
     "80 an hour for 6 hours makes 480, not 720.", "Use 480, and redo whatever was built on 720."),
])  # fmt: skip
def test_a_false_sum_is_named_where_it_stands(text, span, why, fix):
    found, critique = false_sum(text), recounted(text)
    if not span:
        assert (found, critique) == (None, None)
        return
    assert (text[found.start : found.end], found.why, found.fix) == (span, why, fix)
    assert parse_critique(render_critique(critique)) == critique
    assert (critique.label, critique.flaw_type) == ("flawed", "calculation_error")
    assert explained(critique, text)["evidence_offsets"] == (found.start, found.end)
    # what is said of it is itself true
    assert false_sum(critique.critique) is None


def test_the_first_one_counts_whatever_finds_it():
    text = f"So 3 + 4 = 8. {RATE} Then 2 times 2 is 5."
    assert recounted(text).evidence == "3 + 4 = 8"
    assert false_sum(RATE.replace("720", "480")) is None


def test_a_verdict_has_a_flag():
    assert explained(None, "50 divided by 5 is 50, so we buy 50.") == {"flags": (FALSE_SUM,)}
    assert explained(None, "50 divided by 5 is 10, so we buy 10.") == {}
    assert explained(None, "7 divided by 0 is 3") == {}
    assert miscounted([RATE, "All is well."]).tolist() == [True, False]


def test_either_reason_will_do():
    """1 - (1 - p)(1 - r), also where p is next to 0 or to 1."""
    p = np.array([0.0, 0.1, 0.5, 0.9])
    with np.errstate(divide="ignore"):
        odds = np.log(p) - np.log1p(-p)
    found = 1 / (1 + np.exp(-either(odds, 0.8)))
    assert found == pytest.approx([0.8, 0.82, 0.9, 0.98])
    assert either(np.array([60.0, 800.0]), 0.8) == pytest.approx([60 + np.log(5), 800 + np.log(5)])
    assert either(np.array([-800.0]), 0.5) == pytest.approx([0.0])
    assert either(odds[1:], 0.0) == pytest.approx(odds[1:])  # none believed: as it was


def test_the_critic_that_comes_along_is_certified_under_these_rules():
    """Whoever changes what sums are false certifies it anew, or every command would warn."""
    found = json.loads((ROOT / RELEASED_CRITIC / "calibration.json").read_text())
    assert found["sums"]["rules"] == RULES
