"""Totals of a rate and a time that stand apart: which are recomputed, and which are left alone."""

import time

import pytest

from minicrit.rates import totals


@pytest.mark.parametrize(("text", "value", "holds"), [
    ("The desk reads 40 files a day. The plan runs over 6 days. So the total is 240 files.", 240,
     True),
    ("The desk reads 40 files a day. The plan runs over 6 days. So the total is 280 files.", 240,
     False),
    ("There are 12 nights to go.\n\nThe grips lay 1,500 metres of track per night.\n\nThat makes "
     "18,000 metres of track in all.", 18000, True),
    ("2. Line 3 packs 80 crates every minute, and we have 6 minutes.\n3. We shall come to 720 "
     "crates.", 480, False),
    ("Nurses give 2.5 litres an hour, for 3 hours; 7.5 litres is what we can plan with.", 7.5,
     True),
    ("We lose 20 trucks each Sunday. For 4 Sundays that makes 90 trucks.", 80, False),
])  # fmt: skip
def test_a_total_is_recomputed(text, value, holds):
    (found,) = totals(text)
    assert found.value == pytest.approx(value)
    assert found.holds is holds


def test_the_claim_is_told_from_what_ties_it_to_the_text():
    text = "It reads 40 files a day. We have 6 days. Therefore, we shall come to 320 files. Bye."
    (found,) = totals(text)
    assert text[found.start : found.end] == "we shall come to 320 files"
    assert (found.rate, found.period, found.periods, found.said) == ("40", "day", "6", "320")


@pytest.mark.parametrize("text", [
    # another unit, another thing, or nothing claimed
    "The desk reads 40 files a day. It runs for 6 weeks. So the total is 280 files.",
    "The desk reads 40 files a day. It runs for 6 days. So the total is 280 pages.",
    "The desk reads 40 files a day. It runs for 6 days. A clerk found 280 files in the cellar.",
    # figures more: a stock, a loss, a second team or time
    "There are 40 files here. It reads 40 files a day for 6 days. So the total is 280 files.",
    "The desk reads 40 files a day, 10 more than planned, for 6 days. That makes 280 files.",
    "One reads 40 files a day, one reads 30 files a day. In 6 days that makes 420 files.",
    "The desk reads 40 files a day for 6 days, and then 2 days. So the total is 280 files.",
    "The desk reads 40 files a day. It runs for 6 days. Less 5% that makes 228 files.",
    # what the total follows with stands in a sentence of its own
    "It sees 40 patients a day. It opens 6 days. The study has 4 parts. So the total is 960 "
    "patients.",
    "The clinic sees 40 patients a day. It opens 6 days a week. The study runs for 4 weeks. So the "
    "total is 960 patients.",
    "The line packs 50 crates an hour. A shift has 8 hours. We run 3 shifts. So the total is "
    "1,200 crates.",
    "We run three shifts. The line packs 50 crates an hour. A shift has 8 hours. So the total is "
    "1,200 crates.",
    "The fund buys 100 shares a month for 12 months. It started with 300. So the total is 1,500 "
    "shares.",
    "The ward uses 12 masks a day. The outbreak lasts 7 days. The margin is 25%. So we come to "
    "105 masks.",
    "A truck carries 20 crates a trip. It makes 4 trips a day. The job takes 3 days. So the total "
    "is 240 crates.",
    # a rate is no total
    "The desk reads 40 files a day for 6 days; so it is 280 files a week.",
])  # fmt: skip
def test_what_may_be_meant_otherwise_is_left_alone(text):
    assert list(totals(text)) == []


def test_figures_elsewhere_excuse_no_total_that_does_not_follow_with_them():
    text = ("The line packs 50 crates an hour. A shift has 8 hours. We run 3 shifts, and pay 20%. "
            "So the total is 650 crates.")  # fmt: skip
    (found,) = totals(text)
    assert (found.value, found.holds) == (400, False)


@pytest.mark.parametrize(("between", "said", "excused"), [
    ("The forms are blue.", 320, False), ("The third form is blue.", 280, False),
    ("The forms are blue.", 440, True),  # a day more, wherever more is said
    ("The forms are blue.", 330, True),  # no whole days, if anything is said in between
    ("A colleague helps.", 600, True), ("They rest on Monday.", 280, True),
    ("The last two days are for the audit.", 320, True),
    ("Every fifth day it is shut.", 320, True), ("It is shut on Monday and Tuesday.", 320, True),
    ("The audit keeps it from two to five.", 280, True), ("Each form is read twice.", 200, True),
])  # fmt: skip
def test_what_is_said_in_words_may_stand_behind_a_total(between, said, excused):
    text = f"The desk reads 40 files a day. We have 10 days. {between} The total is {said} files."
    assert (list(totals(text)) == []) is excused


@pytest.mark.parametrize("text", [
    "40 files a day. 6 days. " + "7 x, " * 3000 + ". So the total is 280 files.",
    "40 files a day. 6 days. " + " ".join(f"{n} x," for n in range(7, 99)) + " two" * 4000
    + ". So the total is 280 files." * 19,
    "9" * 20000, "5 a" * 7000, "40 files a day for 6 days. So " + "280 files, " * 2000,
    "1 " + "a" * 20000, "40 files a day. " * 1000 + "6 days.",
])  # fmt: skip
def test_no_text_is_slow(text):
    begin = time.process_time()
    list(totals(text))
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(("text", "claim"), [
    ("It packs 80 crates an hour for 6 hours, which makes 720 crates.", "which makes 720 crates"),
    ("It packs 80 crates an hour for 6 hours, which is 720 crates.", "which is 720 crates"),
    ("It packs 80 crates an hour for 6 hours, a total of 720 crates.", "a total of 720 crates"),
    ("It packs 80 crates an hour, so over 6 hours that makes 720 crates.",
     "over 6 hours that makes 720 crates"),
    ("It packs 80 crates an hour. We have 6 hours. Hence 320 crates.", "320 crates"),
    ("It packs 80 crates an hour. We have 6 hours. That is 720 crates.", "That is 720 crates"),
    ("It packs 80 ECGs an hour. We have 6 hours. So we get 320 ECGs.", "we get 320 ECGs"),
])  # fmt: skip
def test_a_total_is_claimed_in_many_ways(text, claim):
    (found,) = totals(text)
    assert (found.value, found.holds) == (480, False)
    assert text[found.start : found.end] == claim


@pytest.mark.parametrize("text", [
    "It packs 80 crates an hour. We have 6 hours. We have 720 crates.",  # a stock
    "It packs 80 crates an hour. We have 6 hours. The yard is full. That is 720 crates.",
    "3 lines pack 80 crates an hour for 6 hours, which makes 1,440 crates.",
    "It packs 80 crates an hour for 6 hours, plus the backlog, a total of 720 crates.",
    "It packs 80 crates an hour for 6 hours, which is 720 crates fewer than planned.",
    "The yard was half full. It gets 80 crates an hour for 6 hours. So we get 720 crates.",
    "It packs 80 crates an hour per gate for 6 hours, a total of 960 crates.",
    "A door takes 3 screws per hinge. We have 6 hinges. So we get 24 screws.",  # a whole pack
    "The van burns 9 litres a day. We have 6 days. The tank must not run dry. Hence 90 litres.",
])  # fmt: skip
def test_what_is_no_claim_of_that_total_alone_is_left_alone(text):
    assert list(totals(text)) == []


def test_no_whole_number_of_periods_is_counted_where_nothing_is_said_in_between():
    """Words before it and after it excuse a total by one period only."""
    text = "Forms are blue. It reads 40 files a day. We have 10 days. The total is 330 files. Bye."
    (found,) = totals(text)
    assert (found.value, found.said) == (400, "330")
