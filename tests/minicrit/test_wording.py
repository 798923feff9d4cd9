"""How varied texts are, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicrit.wording import apart, distinct, grams


def test_distinct_by_hand():
    """`a b a` and `A c`: unigrams a b a a c, 3 of 5 differ; bigrams ab ba ac, all of 3."""
    texts = ["a b a", "A c"]
    alike = np.ones(2)
    assert distinct(texts, 1)(alike) == pytest.approx(3 / 5)
    assert distinct(texts, 2)(alike) == 1.0
    assert distinct(texts, 1)(np.array([2.0, 0.0])) == pytest.approx(2 / 6)
    assert distinct(texts, 4)(alike) == 0.0


def test_apart_by_hand():
    """`a b c` has ab, bc; `a b d` ab, bd: one of three is shared."""
    assert apart("a b c", "a b d") == pytest.approx(2 / 3)
    assert apart("a", "b") == 1.0  # too short for pairs of words
    assert apart("a", "A") == 0.0


@given(st.text(alphabet="ab ", max_size=20), st.text(alphabet="ab ", max_size=20))
def test_apart_is_a_symmetric_share_and_zero_for_the_same(one, other):
    assert apart(one, one) == 0.0
    assert 0 <= apart(one, other) == apart(other, one) <= 1
    assert len(grams(one, 2)) == max(0, len(one.split()) - 1)
