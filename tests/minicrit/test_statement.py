"""Sums that stand on their own and are meant, and 1,600 texts in which nothing false is stated."""

import json
import time
from pathlib import Path

import pytest

from minicrit.recount import false_sum
from minicrit.statement import meant, stands

SOUND = [json.loads(line) for line in
         Path(__file__).with_name("sound_sums.jsonl").read_text().splitlines()]  # fmt: skip


def test_where_nothing_false_is_stated_nothing_is_said():
    """Parts of sums, units, ranges, scores, other notations, denials, quotes, rounding, stocks."""
    assert len(SOUND) > 1600
    assert [(text, false_sum(text)) for text in SOUND if false_sum(text)] == []


@pytest.mark.parametrize("text", [
    "Because 30% of 40 patients are 65 and older, we cap the dose.",
    "Since 40% of 300 employees are 55 and over, we plan for it.",
    "As 60% of 500 respondents are 30 and under, it is a young panel.",
    "The filing is due: 4/1 + 14 = 4/15.", "Deadline: 12/24 + 7 = 12/31.",
])  # fmt: skip
def test_bounds_and_days_are_no_results(text):
    assert false_sum(text) is None


@pytest.mark.parametrize("text", [
    "The total is 3 + 4 = 8 trucks.", "So 12 x 15 = 170 crates.", "12*15=170", "$12 x 15 = $170",
    "80 times 5 is 300, so we wait.", "30 minus 12 euros is 17 euros.", "Cost: 3 * 4 = 13\nWait.",
    r"Thus \(12 \times 15 = 170\).", "48 of 50, which is 90%.", "12% of 50 is 7.",
    "40 files a day for 6 days makes 280.", "Let A = (8 - 5) * 4 = 3 * 4 = 15, then go on.",
])  # fmt: skip
def test_what_is_stated_plainly_is_counted(text):
    assert false_sum(text) is not None


@pytest.mark.parametrize(("before", "after", "whole"), [
    ("", "", True), ("So ", " and so on", True), ("First, ", ".", True), ("it is $", "$.", True),
    ("2 times ", "", False), ("Phase ", "", False), ("x ", "", False), ("7:", "", False),
    ("", " remainder 1", False), ("", " short of it", False), ("", "5", False), ("", " 000", False),
    ("", "% more", False), ("", " and a half", False), ("", " boxes.", True), ("", " days", False),
])  # fmt: skip
def test_a_whole_statement_is_told_by_what_stands_around_it(before, after, whole):
    said = "3 + 4 = 7"
    text = before + said + after
    assert stands(text, len(before), len(before) + len(said)) is whole


@pytest.mark.parametrize(("text", "good"), [
    ("We have 3 + 4 = 8. Not bad.", True),
    ("It is not true that 3 + 4 = 8.", False),
    ("Is 3 + 4 = 8?", False),
    ("He wrote 3 + 4 = 8.", False),
    ("So 3 + 4 = 8. I mean, 7.", False),  # put right
    ("So 3 + 4 = 8. I mean, 7.5.", True),
    ("Three days ago. If so. 3 + 4 = 8", True),  # another sentence's
])  # fmt: skip
def test_a_sentence_may_not_mean_it(text, good):
    start = text.index("3 + 4")
    assert meant(text, start, start + len("3 + 4 = 8"), "7") is good


@pytest.mark.parametrize("text", [
    "1 is " * 2000, "1 = " * 2500, "So 2 + 2 = 5. " * 700, "1 ab a baba 2 babas " * 500,
    "4 ab a day for 6 days. So " + "Li 2 ab " * 1200,
    "4 ab a day for 6 days" + " Li 3" * 1000 + ". " + "So 2 ab. " * 500,
])  # fmt: skip
def test_no_text_is_slow(text):
    begin = time.process_time()
    false_sum(text)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("text", [
    # of another, denied, or with what is no term
    "According to the memo, 12 x 30 = 400.", "The broker insists that 100 times 5 is 600.",
    "Support told us 15 * 4 = 50. That cannot be right.", "So 15 * 4 = 50. It's too low.",
    "They billed us 12 x 30 = 400.", "With the setup fee it is 12 x 30 = 400.",
    # places, goals, hours of a clock
    "Ranks: 1 - 3 = 3 prizes.", "2019 - 2024 = 5 seasons.", "Form: 3 - 2 = 5 goals.",
    "Night shift: 22 - 6 = 8.", "So 22 + 4 = 2.", "In decibels, 60 + 60 = 63.",
    # shares of something else, and years
    "25 guests at 12 euros each make 270 euros after the group rate.",
    "3 of 10 clients make 60%.", "4 of 20 customers are 80%.", "30% of 50 patients are 70.",
])  # fmt: skip
def test_what_is_another_s_or_counts_something_else_is_no_slip(text):
    assert false_sum(text) is None


@pytest.mark.parametrize(("text", "right"), [
    ("3 - 8 = 5", None), ("1 - 81 = 70", "-80"), ("30 - 8 = 12.", "22"), ("9 + 5 = 13.", "14"),
    ("5 - 5 = 1.", "0"), ("3 of 10 is 60%.", "30%"),
    ("4 of 20 customers, which are 80%.", "20%"), ("12 out of 40 is 40%.", "30%"),
    ("10 x 12 = 144 before tax.", "120"), ("So 15 * 4 = 50. That is all.", "60"),
])  # fmt: skip
def test_what_may_count_something_else_is_no_more_than_that(text, right):
    found = false_sum(text)
    assert (found and found.right) == right
