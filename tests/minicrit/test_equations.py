"""Equations in figures: which are recomputed, what they come to, and what is left alone."""

import time

import pytest

from minicrit.equations import equations


@pytest.mark.parametrize(("text", "value", "holds"), [
    ("So 3 * 4 = 12, and more.", 12, True),
    ("3 x 4 = 13", 12, False),
    ("(8 - 5) * 4 = 12", 12, True),
    ("$100 + $125 + $175 = $300.", 400, False),
    ("1,200 + 300 = 1,500", 1500, True),
    ("10 / 3 = 3.33", 10 / 3, True),
    ("10 / 3 = 3", 10 / 3, True),
    ("37 / 15 = 2.46", 37 / 15, True),  # cut off
    ("10 / 3 = 3.35", 10 / 3, False),
    (r"\(3 \times 4 = 13\)", 12, False),
    (r"$\frac{3}{15} + \frac{10}{15} = \frac{12}{15}$", 13 / 15, False),
    (r"\[\frac{\frac{1}{2}}{2} = \left(1 - \dfrac{3}{4}\right)\]", 0.25, True),
    ("8 \u00d7 (-4) = -32", -32, True),
    ("8 \u00d7 (\u22124) = 32", -32, False),
    ("2 * 3 + 4 = 10", 10, True),
    ("(4 + 3 - 3 + 9) = (4 + 3 + 9)", 13, False),
    ("(-3 + 0 - -6 - 4) = (-3 + 6 - 4)", -1, True),
    ("0.33 * 100 = 33.3", 33, True),  # its terms may have been rounded
    ("It is $18 + 5 = 22$.", 23, False),
])  # fmt: skip
def test_an_equation_is_recomputed(text, value, holds):
    (found,) = equations(text)
    assert float(found.value) == pytest.approx(value)
    assert found.holds is holds
    assert "=" in text[found.start : found.end]


def test_each_link_of_a_chain_is_one():
    text = "Let A = (-5 + 9 - 3) = (4 - 3) = 1, and B = (4 + 2) = 7."
    found = list(equations(text))
    assert [(text[e.start : e.end], e.holds) for e in found] == [
        ("(-5 + 9 - 3) = (4 - 3)", True), ("(4 - 3) = 1", True), ("(4 + 2) = 7", False),
    ]  # fmt: skip


@pytest.mark.parametrize("text", [
    "2x + 3 + 4 = 9",  # a part of a side is no side
    "y - 3 + 4 = 9",
    "x^2 - 16 = 9",
    "f(2) + 1 = 9",
    "6 * 6 = 6 (mod 10)",
    "17 / 5 = 3 remainder 2",
    "17 / 5 = 3 R 2",
    "5 / 2 = 2 and 1/2",
    "105 - 89 = 8u",
    "2 + 3 = 5%",
    "20 + 30 = 50 percent",
    "3 * 2 = 6 thousand",
    "12 = 12",  # nothing to compute
    "a = 3 + 4",
    "16 + 5 = 21 / 3 = 7",  # goes on with what it came to: the first link is meant as 21
    "2/5 / 1/2 = 4",  # ambiguous without brackets
    "1 / 0 = 3",
    "3 + 4 == 8",
    "3 + 4 = 8!",
    "3 + 4 = 8 \u2248 9",
    "((((3 + 4 = 8",
    "2 ** 3 = 9",
    "7 // 2 = 4",
    "1_0 + 2 = 13",
    "007 + 1 = 9",
])  # fmt: skip
def test_what_is_not_plain_arithmetic_is_left_alone(text):
    assert [e for e in equations(text) if not e.holds] == []


@pytest.mark.parametrize("text", ["(" * 9000 + "=", "1+" * 5000 + "=3", "=1" * 5000, "3 " * 9000])
def test_no_text_is_slow(text):
    begin = time.process_time()
    list(equations(text))
    assert time.process_time() - begin < 1
