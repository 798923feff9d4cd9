"""Figures in texts, and what one step of arithmetic makes of them."""

import pytest

from minicrit.figures import figures, follow
from minicrit.sources import CONSTANTS, MANY, sourced


@pytest.mark.parametrize(("text", "found"), [
    ("1,200 of 4.5 or 90%.", {1200.0, 4.5, 90.0}),
    ("at 12:30 on B12, v1.2.3", set()),  # times, names and versions are none
    ("3 of 4, 5.", {3.0, 4.0, 5.0}),
    ("Of 1,200 at 4.5%, 90% in 2019; room A4 at 12:30", {1200.0, 4.5, 90.0, 2019.0}),
    ("makes 7,200: fine, 7.5: too, and 90%: so 1,250:30 is none", {7200.0, 7.5, 90.0}),
    ("none", set()),
])  # fmt: skip
def test_what_is_printed(text, found):
    assert figures(text) == found


def test_one_step_from_two_figures_by_hand():
    found = set(follow([8.0, 3.0]))
    assert {11.0, 5.0, 24.0, 2.67, 37.5, 266.67, 92.0, 97.0, 166.67} <= found
    assert {0.38, 0.4} <= found  # 3 / 8 to two decimals and to one
    assert 512.0 not in found  # 8 to the third


def test_from_many_figures_nothing_is_derived():
    """Of 800 it took 20 s, and a million values followed."""
    some = " ".join(f"{n}.{n % 7}" for n in range(MANY))
    assert set(follow(figures(some))) < sourced(some)
    more = " ".join(f"{n}.{n % 7}" for n in range(800))
    assert sourced(more) == figures(more) | CONSTANTS


@pytest.mark.parametrize("text", [
    "1. Hello.\n2. One in 3 is a copy.\n3. Of these 95% are found.",
    "Step 1: hello.\nStep 2: one in 3 is a copy.\nStep 3: of these 95% are found.",
    "(1) Hello.\n- 2) One in 3 is a copy.\n3: Of these 95% are found.",
])  # fmt: skip
def test_numbers_of_a_list_may_be_cited_and_nothing_follows_from_them(text):
    """Of 95 and the number of the second line it followed that 93 % of the alarms are real."""
    found = sourced(text)
    assert {1.0, 2.0, 3.0, 95.0} <= found
    assert {92.0, 98.0} <= found  # one is 3 less, one more
    assert found.isdisjoint({93.0, 94.0, 96.0})


def test_a_figure_that_ends_its_line_is_no_number_of_a_list():
    assert 93.0 in sourced("Of 95 we lost\n2.5 and 2. So it goes.")


def test_nothing_follows_from_nothing_and_nothing_is_divided_by_zero():
    assert set(follow([])) == set()
    assert set(follow([0.0])) == {0.0, 100.0}
