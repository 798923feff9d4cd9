"""Sums that a text states: which they are, what they come to, whether they hold."""

import pytest

from minicrit.recount import false_sum
from minicrit.sums import called_for, stated_sums


@pytest.mark.parametrize(("text", "said", "value"), [
    ("80 times 5 is 400.", "400", 400),
    ("So 1,200 x 3 = 3,600 in all", "3,600", 3600),
    ("20 a day for 8 days makes 160, not 220.", "160", 160),
    ("60 forms a week for 11 weeks makes 660", "660", 660),
    ("30 plus 12 is 42", "42", 42),
    ("30 minus 12 euros is 18 euros", "18", 18),
    ("45 divided by 7 is 6.43", "6.43", 45 / 7),
    ("24 of 40, which is 60%", "60%", 60),
    ("2 of 3 is 67 percent", "67", 200 / 3),
    ("12% of 50 is 6", "6", 6),
    ("1 - 0.939 = 0.061", "0.061", 0.061),
    ("3 of 3 is little: at an even chance such a run comes up in 12% of cases", "12%", 12.5),
])  # fmt: skip
def test_a_sum_that_holds(text, said, value):
    (found,) = stated_sums(text)
    assert found.said == said
    assert found.value == pytest.approx(value)
    assert found.holds
    assert text[found.start :].startswith(found.text)


@pytest.mark.parametrize("text", [
    "80 times 5 is 300", "150 a day for 13 days makes 1,850", "48 of 50, which is 90%",
    "2 of 3 is 66%", "45 divided by 7 is 6.42", "12% of 50 is 6.5",
    "4 of 4, and at even chance such a run comes up in 3%",
])  # fmt: skip
def test_a_sum_that_does_not_hold(text):
    (found,) = stated_sums(text)
    assert (found.holds, found.text) == (False, text)


@pytest.mark.parametrize("text", [
    "3 of 40 is 37 too few",  # states no share
    "2 * 3 + 4 = 10",  # of which 3 + 4 = 10 is no part
    "(x^2 - 16 = 9)",
    r"9 \cdot 3 + 8 = 35",
    "20 plus 30 plus 50 is 100",
    "2 times 3 times 4 is 24",
    "10 minus 2 plus 3 is 11",
    "1,200, 800 and 150 times 14 make 30,100",
    "60% of 40 of 80 is 24",
    "5 + 5 = 2 + 2 + 6",
    "105 - 89 = 8u",
    "6 * 6 = 6 (modulo 10)",
    "30% of 60 is 0.3 * 60",
    "8 times 5 is 40% more work",
    "7 divided by 0 is 3",
    "5 minus 8 is 3 under",
    "version 1.2.3 of 5 is 6",
    "80 times, and 5 is 300",
    "the 80 and the 5 make 300",
    "3% times 4 is 12",
])  # fmt: skip
def test_what_states_no_sum(text):
    assert list(stated_sums(text)) == []


def test_the_result_of_a_begun_sum_is_called_for():
    assert called_for("In all 2 of 3 is ") == {67, 66.7, 66.67}
    assert called_for("8 a day for 20 days makes ") == {160}
    assert called_for("3 of 3: even at an even chance such a run comes up in ") == {12, 12.5}
    assert called_for("3 of 4: even at an even chance such a run comes up in ") is None
    assert called_for("Of 8 days, 2 of 3 is ") == {67, 66.7, 66.67}
    assert called_for("2 plus 3 times 4 is ") is None
    assert called_for("40 plus 30 is 70, and 40 minus 30 is ") == {10}
    assert called_for("800 and 150 times 14 make ") is None
    assert called_for("3 tickets at $25 each come to $") == {75}
    assert called_for("8 hours times 4 is $") is None  # no dollars of hours
    assert called_for("3 of 40 patients is $") is None
    assert called_for("2 of 3 are") is None
    assert called_for("it is ") is None
    assert called_for("7 divided by 0 is ") is None


def test_all_sums_of_a_text_in_order():
    text = "First 2 times 3 is 6, then 6 plus 1 is 8; in all 7 of 14, which is 50%."
    assert [(one.said, one.holds) for one in stated_sums(text)] == [
        ("6", True), ("8", False), ("50%", True)]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), [
    ("15 percent of 200 is 35.", 30), ("10% of $4,500 is $540.", 450),
    ("12 out of 40 is 40%.", 30), ("15% of 200 equals 35.", 30),
    ("80 crates times 5 trucks is 300 crates.", 400), ("$80 times 5 is $300.", 400),
    ("40 calls a day for 5 days adds up to 240.", 200), ("3 tickets at $25 each come to $85.", 75),
    ("5 nights at 120 euros a night is 500 euros.", 600), ("12 of 40 is 35 percent.", 30),
])  # fmt: skip
def test_ordinary_wordings_of_a_false_sum(text, value):
    (found,) = stated_sums(text)
    assert (found.value, found.holds) == (pytest.approx(value), False)
    assert false_sum(text) is not None


@pytest.mark.parametrize("text", [
    "50 cents times 8 is $4.", "12 eggs at 25 cents each come to $3.",
    "So the total is $4.20 + $9.45 + $1.35 = $15.00.", "It is $200 - $80 - $50 = $70.",
    "10 hours at 45 minutes each is 7.5.", "100 pages at 20 pages a day is 5.",
    "For two, 5 nights at $50 a night is $500.", "40 miles at 20 miles a gallon is 2 gallons.",
    "1 percent of 2 million is 20,000.", "10 shares at $5 each make $20, a poor dividend.",
    "3 nights at $90 a night are $540 for two.", "3 nights at $90 a night is $540 for both of us.",
])  # fmt: skip
def test_a_result_in_another_unit_is_no_false_sum(text):
    assert false_sum(text) is None
