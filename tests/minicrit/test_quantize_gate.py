"""The gate by hand: bounds of flips, what certifies, what releases."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from minicrit.quantize_compare import agreement
from minicrit.quantize_gate import MOST_FLIPS, certifying_groups, flip_facts, gate
from minicrit.side_tables import quantize_rows
from minicrit.unseen import Side

FINE = {"f1": {"p_below": 0.001}, "fpr": {"p_above": 0.05}}


def flips_of(count: int, n: int, bits: int, *, of_a_group: int = 1) -> dict[str, Any]:
    """The first `count` of n items flipped, so many neighbours a group."""
    at = np.arange(n)
    return flip_facts(at < count, (at // of_a_group).astype(str), bits)


def test_no_flip_certifies_by_the_rule_of_three() -> None:
    """(1 - 0.005)^n <= 0.05 from n = ln 0.05 / ln 0.995 = 597.6; for 1.5 % from 198.2."""
    assert certifying_groups(0, 0.005) == math.ceil(math.log(0.05) / math.log(0.995)) == 598
    assert certifying_groups(0, 0.015) == 199
    assert flips_of(0, 598, 8)["certified"]
    assert not flips_of(0, 597, 8)["certified"]
    assert flips_of(0, 80, 8)["upper"] == pytest.approx(1 - 0.05 ** (1 / 80), abs=1e-6)


def test_twins_that_flip_together_certify_no_more_than_their_groups_do() -> None:
    """1,196 items of 598 groups without a flip certify 0.5 %, 1,194 of 597 do not.

    Where 1 % of groups flip whole, 600 items of 300 groups show none in 0.99^300 = 4.9 % of worlds,
    so 1 % is what none of them may hide, not the 0.5 % of 600 items on their own.
    """
    assert flips_of(0, 1196, 8, of_a_group=2)["certified"]
    assert not flips_of(0, 1194, 8, of_a_group=2)["certified"]
    upper = flips_of(0, 600, 8, of_a_group=2)["upper"]
    assert upper == pytest.approx(1 - 0.05 ** (1 / 300), abs=1e-6)
    both = flips_of(2, 600, 8, of_a_group=2)
    assert [both[key] for key in ("count", "n", "apart", "groups")] == [2, 600, 1, 300]
    assert both["needed"] == certifying_groups(1, 0.005)


def test_the_page_says_that_groups_certify_not_items() -> None:
    """Of 80 twin pairs none flips: 598 pairs would certify 0.5 %, which are 1,196 items."""
    _, rows = quantize_rows({"int8": {"flips": flips_of(0, 160, 8, of_a_group=2)}}) or ((), [])
    assert ("groups to certify the bar", "", "598") in rows


def test_a_group_that_flips_may_be_the_largest() -> None:
    """Of 1,000 verdicts ten of one group flip, 990 groups have one each: 1 % is not below 0.5 %.

    The share apart is at most 0.478 % (1 of 991); the largest group is 10 / (1000 / 991) times the
    mean one, so up to 4.7 % may flip.
    """
    groups = np.array(["large"] * 10 + [f"small {n}" for n in range(990)])
    found = flip_facts(groups == "large", groups, 8)
    alone = stats.beta.ppf(0.95, 2, 990)
    assert alone < 0.005 < found["value"]
    assert found["upper"] == pytest.approx(9.91 * alone, abs=1e-6)
    assert not found["certified"]
    needed = found["needed"]
    assert stats.binom.cdf(1, needed, 0.005 / 9.91) <= 0.05
    assert stats.binom.cdf(1, needed - 1, 0.005 / 9.91) > 0.05


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.sampled_from([0.005, 0.015, 0.1]))
def test_as_many_groups_as_are_needed_and_not_one_less(count: int, bar: float) -> None:
    n = certifying_groups(count, bar)
    assert stats.binom.cdf(count, n, bar) <= 0.05 < stats.binom.cdf(count, n - 1, bar)


@pytest.mark.parametrize(("bits", "most"), [(16, 2), (8, 2), (4, 6)])
def test_flips_of_400(bits: int, most: int) -> None:
    """0.5 % of 400 are 2, 1.5 % are 6; one more is too many. So few items certify nothing."""
    assert MOST_FLIPS[bits] * 400 == pytest.approx(most)
    last, over = (gate(flips_of(c, 400, bits), FINE, 0.02) for c in (most, most + 1))
    assert (last["status"], last["basis"]) == ("released", "point")
    assert (over["status"], over["basis"]) == ("not released", None)
    assert over["reason"].startswith(f"{most + 1} of 400 verdicts flipped, at most "
                                     f"{MOST_FLIPS[bits]:.1%} may; with a flip in "
                                     f"{most + 1} of 400 groups up to ")  # fmt: skip


def test_what_only_the_small_critic_cannot_read_is_flipped() -> None:
    p = np.random.default_rng(0).random(600)
    small = np.where(np.arange(600) % 25 == 0, np.nan, p)
    groups = np.arange(600).astype(str)
    found = agreement(Side("float", p, 0.5), Side("small", small, 0.5), groups, 8)
    assert [found["flips"][key] for key in ("count", "not_judged", "n")] == [24, 24, 600]
    assert found["p_difference"] == {"max": 0.0, "mean": 0.0}
    assert gate(found["flips"], FINE, 0.02)["status"] == "not released"
    small[1] = 1 - p[1]  # one that is another verdict
    assert (
        agreement(Side("float", p, 0.5), Side("small", small, 0.5), groups, 8)["flips"]["count"]
        == 25
    )


def test_certified_is_said() -> None:
    found = gate(flips_of(0, 600, 8), FINE, 0.02)
    assert found["basis"] == "certified"
    assert "0 of 600 verdicts flipped" in found["reason"]
    assert "groups with as many would" not in found["reason"]
    assert "947 groups with as many would certify it" in gate(flips_of(1, 80, 8), FINE,
                                                             0.02)["reason"]  # fmt: skip


@pytest.mark.parametrize(("gaps", "first"), [
    ({**FINE, "f1": {"p_below": 0.051}}, "F1 is not shown to be no worse by 0.02 (p = 0.0510)"),
    ({**FINE, "fpr": {"p_above": 0.9}}, "false-positive rate is not shown to be no worse by "
     "0.02 (p = 0.9000)"),
    ({**FINE, "f1": {"p_below": None}}, "F1 is not shown to be no worse by 0.02 (undefined)"),
])  # fmt: skip
def test_no_flip_is_not_enough(gaps: dict, first: str) -> None:
    found = gate(flips_of(0, 600, 8), gaps, 0.02)
    assert found["status"] == "not released"
    assert found["reason"].split("; ")[0] == first
