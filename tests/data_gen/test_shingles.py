"""Words and their n-grams as numbers."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_gen import shingles
from data_gen.shingles import Words, combined, ngrams, normalised, words_of

TEXTS = st.lists(st.text("ab .", max_size=12), min_size=1, max_size=6)


def grams_of(text: str, n: int) -> list[tuple[str, ...]]:
    words = words_of(text)
    return [tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))]


@pytest.mark.parametrize(("text", "words"), [
    ("Up 3 %, so (I think) BUY!", ["up", "3", "so", "i", "think", "buy"]),
    ("[ { } ]", ["[", "{", "}", "]"]), ("2*x = 4", ["2", "*", "x", "=", "4"]),
    ("\uff22\uff35\uff39 snake_case", ["buy", "snake", "case"]), ("...", ["..."]), ("", [""]),
    ("1. Up\n> 2) is 2*x\n 12. go", ["up", "is", "2", "*", "x", "go"]),
    ("1. Up. 2. It was 3. Go", ["up", "it", "was", "3", "go"]), ("> x\n| y", ["x", "y"]),
    ("\ufeffvol\u00adume \u200brose\u2060 \u2013 a\u200c\u200dgain", ["volume", "rose", "again"]),
])  # fmt: skip
def test_words_are_folded_and_signs_count(text, words):
    assert words_of(text) == words


@given(TEXTS, st.integers(1, 4))
def test_ngrams_are_those_of_each_row_alone(texts, n):
    found = ngrams(Words()(texts), n)
    assert len(found) == len(texts)
    grams = [grams_of(text, n) for text in texts]
    assert found.lengths.tolist() == [len(row) for row in grams]
    flat = [gram for row in grams for gram in row]
    assert len(set(zip(flat, found.flat.tolist(), strict=True))) == len(set(flat))
    assert len(set(found.flat.tolist())) == len(set(flat))
    for row, text in enumerate(texts):
        assert found[row].tolist() == ngrams(Words()([text]), n).flat.tolist()


def test_a_full_vocabulary_is_forgotten_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(shingles, "_VOCABULARY", 3)
    words = Words()
    first = words(["a b c d e"])
    assert words(["e d c b a"]).flat.tolist() == first.flat.tolist()[::-1]


def test_combined_tells_orders_apart():
    rows = combined(np.array([[1, 2], [2, 1], [1, 2]], dtype=np.uint64))
    assert rows[0] == rows[2] != rows[1]


def test_normalised_keeps_brackets():
    assert normalised("A ( b") == normalised("a (B") != normalised("a b")


@pytest.mark.parametrize("mark", "\u00ad\u200b\u200c\u200d\u2060\ufeff")
def test_normalised_drops_what_is_not_seen(mark):
    assert normalised(f"It ro{mark}se{mark} \u2013 so.") == normalised("it rose \u2013 so.")


def test_marks_piled_up_cost_no_more_than_other_characters():
    """Also those that format characters keep apart until they are removed."""
    for gap in ("", "\u200b"):
        text = "Up" + gap.join(["\u0315" * 30, "\u0300" * 30] * 2000) + " so buy"
        start = time.perf_counter()
        assert words_of(text)[-2:] == ["so", "buy"]
        assert time.perf_counter() - start < 1.0
