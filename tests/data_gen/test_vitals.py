"""Signs of collapse by hand, and guards that heed chance."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from data_gen.vitals import SIGNS, Vitals, accepted_less, distinct, entropy, fallen, words

TWO = Vitals(("a", "b"), ("to be or not to be", "to do"), np.array([7.0, 3.0]),
             np.array([-14.0, -1.0]))  # fmt: skip
ONE = np.ones(2)


def test_signs_by_hand():
    # 8 words, of which to, be, or, not, do; 6 pairs, `to be` twice; 4 triples
    assert distinct(1)(TWO)(ONE) == pytest.approx(5 / 8)
    assert distinct(2)(TWO)(ONE) == pytest.approx(5 / 6)
    assert distinct(3)(TWO)(ONE) == 1.0
    assert words(TWO)(ONE) == 4.0
    assert entropy(TWO)(ONE) == pytest.approx(15 / 10)
    assert TWO.summary() == {"distinct_1": 0.625, "distinct_2": 0.8333, "distinct_3": 1.0,
                             "words": 4.0, "entropy": 1.5}  # fmt: skip


def test_weights_say_how_often_a_text_is_there():
    drawn = np.array([0.0, 2.0])
    assert distinct(1)(TWO)(drawn) == pytest.approx(2 / 4)
    assert words(TWO)(drawn) == 2.0
    assert entropy(TWO)(drawn) == pytest.approx(2 / 6)
    assert distinct(3)(TWO)(drawn) == 0.0  # no text is that long


def test_rows_there_and_back():
    back = Vitals.of_rows(TWO.to_rows())
    assert (back.groups, back.texts) == (TWO.groups, TWO.texts)
    assert back.summary() == TWO.summary()


N = 20
FIRST = Vitals(
    tuple(f"g{n}" for n in range(N)), tuple(f"a{n} b{n} c{n} d{n} e" for n in range(N)),
    np.full(N, 10.0), np.full(N, -20.0),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({}, []),
        ({"logprobs": np.full(N, -19.1)}, []),  # 95.5 %
        ({"logprobs": np.full(N, -18.9)}, ["entropy is 1.890, was 2.000 (94 %)"]),
        ({"texts": tuple(f"a{n} b{n} c{n} d{n}" for n in range(N))},
         ["words is 4.000, was 5.000 (80 %)"]),
        ({"texts": tuple(f"a{n} b{n} c{n} e e" for n in range(N))},
         ["distinct-1 is 0.610", "distinct-2 is 0.762"]),
        # everything fell in a few of them only: that may be chance
        ({"logprobs": np.array([-1.0] * 3 + [-20.0] * (N - 3))}, []),
        ({"logprobs": np.full(N, -60.0)}, []),  # more is not less
    ],
)  # fmt: skip
def test_what_has_fallen(change, names):
    found = fallen(FIRST, replace(FIRST, **change), 0.95, seed=0)
    assert len(found) == len(names)
    assert all(said.startswith(name) for said, name in zip(found, names, strict=True))


def test_without_a_floor_nothing_falls():
    nothing = replace(FIRST, texts=("x",) * N, logprobs=np.full(N, -0.1))
    assert fallen(FIRST, nothing, 0.0, seed=0) == []
    assert len(fallen(FIRST, nothing, 0.95, seed=0)) == len(SIGNS)


def test_acceptance_by_hand():
    assert accepted_less((0, 0), (0, 0), 0.95) is None
    assert accepted_less((60, 200), (0, 0), 0.95) is None  # nothing was revised
    assert accepted_less((50, 100), (50, 100), 0.95) is None
    # p - 0.95 p1 = 0.3 - 0.475 = -0.175; Wilson's of 30 and 50 of 100: up to 0.3958, from 0.4038
    bound = -0.175 + math.hypot(0.3958 - 0.3, 0.95 * (0.5 - 0.4038))
    assert bound == pytest.approx(-0.0426, abs=1e-3)
    assert accepted_less((50, 100), (30, 100), 0.95) == "acceptance is 0.300, was 0.500 (60 %)"
    # 0.4 - 0.475 + sqrt((0.4983 - 0.4)^2 + (0.95 * 0.0962)^2) = 0.059: may be chance
    assert accepted_less((50, 100), (40, 100), 0.95) is None
    assert accepted_less((50, 100), (40, 100), 0.95, level=0.01) is not None
    assert accepted_less((50, 100), (0, 100), 0.0) is None
    assert accepted_less((40, 100), (0, 3), 0.95) is None  # up to 0.56 are possible


@pytest.mark.parametrize("rate", [0.2, 0.3, 0.4, 0.5])
def test_few_revisions_stop_no_round_whose_rate_is_the_same(rate):
    """Eight after a hundred: chance stops at most one round in forty."""
    stopped = sum(
        stats.binom.pmf(k1, 100, rate) * stats.binom.pmf(k, 8, rate)
        for k1 in range(101) for k in range(9) if accepted_less((k1, 100), (k, 8), 1.0)
    )  # fmt: skip
    assert stopped <= 0.026
