"""Texts in which marks are piled up are seen, whatever the marks are, and others are left alone."""

import sys
import time
import unicodedata

import pytest

from minicrit.jsonl import RefusedError
from minicrit.marks import MOST_MARKS, check_marks, is_mark, piled, thinned

PILES = ["\u0315\u0300", "\u0f73", "\uff9e\u0315", "\u0344", "\u0300\u0315\u05b0"]


@pytest.mark.parametrize("marks", PILES)
@pytest.mark.parametrize("at", [0, 1, 29, 30, 31, 100])
def test_thirty_marks_in_a_row_may_stand_anywhere_and_not_one_more(marks, at):
    row = (marks * MOST_MARKS)[:MOST_MARKS]
    for text in ("b" * at + row + "c", "b" * at + row + "c" + row):
        assert not piled(text)
        assert thinned(text) == text
        check_marks(text)
    text = "b" * at + row + marks[0] + "c" + marks
    assert piled(text)
    assert thinned(text) == "b" * at + row + "c" + marks
    with pytest.raises(RefusedError, match="expected at most 30 combining marks in a row, got mo"):
        check_marks(text)


def test_whatever_is_taken_apart_into_marks_is_one():
    """Not by its class alone: U+0F73 has none, and a row of it is put in order all the same."""
    apart = [chr(n) for n in range(sys.maxunicode + 1) if unicodedata.decomposition(chr(n))]
    for form in ("NFC", "NFKC", "NFD", "NFKD"):
        begun = {c for c in apart if unicodedata.combining(unicodedata.normalize(form, c)[0])}
        assert begun
        assert all(map(is_mark, begun))
    assert not any(map(is_mark, "a \u00e9\u0903\u200d\u4e2d"))


@pytest.mark.parametrize("marks", PILES)
def test_what_is_let_through_is_normalised_in_no_time(marks):
    text = ("a" + (marks * MOST_MARKS)[:MOST_MARKS]) * 3000
    assert not piled(text)
    start = time.perf_counter()
    for form in ("NFC", "NFKC"):
        assert unicodedata.normalize(form, text)
    assert time.perf_counter() - start < 1.0
