"""Words that may stand behind a total, by the way in which it is off."""

import pytest

from minicrit.excuses import excused
from minicrit.recount import false_sum


@pytest.mark.parametrize(("between", "said"), [
    # 40 a day for 6 days makes 240: another as fast makes 480, a stop two days long 160
    ("The annex reads the same number.", 480), ("The annex does likewise.", 480),
    ("The plan is then repeated.", 480), ("Dana and Omar are on it.", 480),
    ("It halts for the audit.", 160), ("It is jammed near the end.", 160),
    ("It does not start until the keys arrive.", 160), ("Output tapers off.", 150),
    ("Two final days are for the move.", 160), ("The two closing days are not used.", 160),
    ("Its output grows.", 320), ("A safety stock is kept.", 320), ("They come by the box.", 250),
    ("A bolus of 50 files comes first.", 290),
])  # fmt: skip
def test_an_explained_total_is_left_alone(between, said):
    text = f"The desk reads 40 files a day. We have 6 days. {between} So the total is {said} files."
    assert false_sum(text) is None


@pytest.mark.parametrize(("between", "said"), [
    ("It halts for the audit.", 320),  # a stop makes it no more
    ("Its output grows.", 160),  # nor growth less
    ("The annex reads the same number.", 320),  # nor another desk a third more
    ("In short, the desk is red.", 160), ("The sick bay is red.", 160),
])  # fmt: skip
def test_words_excuse_no_total_that_is_off_the_other_way(between, said):
    text = f"The desk reads 40 files a day. We have 6 days. {between} So the total is {said} files."
    assert false_sum(text).right == "240"


def test_only_what_stands_between_the_offsets_counts():
    text = "It halts. It reads on."
    assert excused(text, 0, len(text), 0.5)
    assert not excused(text, 9, len(text), 0.5)
    assert not excused(text, 0, len(text), 1.5)


def test_a_rate_for_each_second_is_no_second_of_anything():
    text = "It handles 200 calls per second. We have 60 seconds. So the total is 15,000 calls."
    assert false_sum(text).right == "12,000"
