"""The gate by hand: bounds of flips, what certifies, what releases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from minicrit.quantize_compare import agreement
from minicrit.quantize_gate import MOST_FLIPS, certifying_items, flip_facts, gate
from minicrit.unseen import Side

FINE = {"f1": {"p_below": 0.001}, "fpr": {"p_above": 0.05}}


def test_no_flip_certifies_by_the_rule_of_three() -> None:
    """(1 - 0.005)^n <= 0.05 from n = ln 0.05 / ln 0.995 = 597.6; for 1.5 % from 198.2."""
    assert certifying_items(0, 0.005) == math.ceil(math.log(0.05) / math.log(0.995)) == 598
    assert certifying_items(0, 0.015) == 199
    assert flip_facts(0, 598, 8)["certified"]
    assert not flip_facts(0, 597, 8)["certified"]
    assert flip_facts(0, 80, 8)["upper"] == pytest.approx(1 - 0.05 ** (1 / 80), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.sampled_from([0.005, 0.015, 0.1]))
def test_as_many_items_as_are_needed_and_not_one_less(count: int, bar: float) -> None:
    n = certifying_items(count, bar)
    assert stats.binom.cdf(count, n, bar) <= 0.05 < stats.binom.cdf(count, n - 1, bar)


@pytest.mark.parametrize(("bits", "most"), [(16, 2), (8, 2), (4, 6)])
def test_flips_of_400(bits: int, most: int) -> None:
    """0.5 % of 400 are 2, 1.5 % are 6; one more is too many. So few items certify nothing."""
    assert MOST_FLIPS[bits] * 400 == pytest.approx(most)
    last, over = (gate(flip_facts(c, 400, bits), FINE, 0.02) for c in (most, most + 1))
    assert (last["status"], last["basis"]) == ("released", "point")
    assert (over["status"], over["basis"]) == ("not released", None)
    assert over["reason"].startswith(f"{most + 1} of 400 verdicts flipped, at most "
                                     f"{MOST_FLIPS[bits]:.1%} may, up to ")  # fmt: skip


def test_what_only_the_small_critic_cannot_read_is_flipped() -> None:
    p = np.random.default_rng(0).random(600)
    small = np.where(np.arange(600) % 25 == 0, np.nan, p)
    found = agreement(Side("float", p, 0.5), Side("small", small, 0.5), 8)
    assert [found["flips"][key] for key in ("count", "not_judged", "n")] == [24, 24, 600]
    assert found["p_difference"] == {"max": 0.0, "mean": 0.0}
    assert gate(found["flips"], FINE, 0.02)["status"] == "not released"
    small[1] = 1 - p[1]  # one that is another verdict
    assert agreement(Side("float", p, 0.5), Side("small", small, 0.5), 8)["flips"]["count"] == 25


def test_certified_is_said() -> None:
    found = gate(flip_facts(0, 600, 8), FINE, 0.02)
    assert found["basis"] == "certified"
    assert "0 of 600 verdicts flipped" in found["reason"]
    assert "items with as many would" not in found["reason"]
    assert "947 items with as many would certify it" in gate(flip_facts(1, 80, 8), FINE,
                                                             0.02)["reason"]  # fmt: skip


@pytest.mark.parametrize(("gaps", "first"), [
    ({**FINE, "f1": {"p_below": 0.051}}, "F1 is not shown to be no worse by 0.02 (p = 0.0510)"),
    ({**FINE, "fpr": {"p_above": 0.9}}, "false-positive rate is not shown to be no worse by "
     "0.02 (p = 0.9000)"),
    ({**FINE, "f1": {"p_below": None}}, "F1 is not shown to be no worse by 0.02 (undefined)"),
])  # fmt: skip
def test_no_flip_is_not_enough(gaps: dict, first: str) -> None:
    found = gate(flip_facts(0, 600, 8), gaps, 0.02)
    assert found["status"] == "not released"
    assert found["reason"].split("; ")[0] == first
