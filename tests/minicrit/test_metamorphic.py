"""Verdicts that a harmless change moves, on pairs whose p are written down."""

from dataclasses import replace

import numpy as np
import pytest

from minicrit.measures import plain
from minicrit.metamorphic import Pairs, contrast, violations
from minicrit.records import Example
from minicrit.statistics import mcnemar_exact, wilson
from minicrit.unseen import Side
from tests.minicrit.benchmark_case import changed

NAN = float("nan")


def item(name: str) -> Example:
    return Example(id=name, domain="other", rationale="A text. a=0 b=0", label="valid",
                   group=f"of {name}", source="adversarial/false_positive_trap/hand", split="test",
                   critique="It follows.")  # fmt: skip


#: Three bases, one of which has slashes in its id, and seven changes of them.
BASES = [item("one"), item("two/of/it"), item("three")]
ONE, TWO, THREE = BASES
EXAMPLES = [
    changed(ONE, "polite"),  # before its base: order says nothing
    *BASES,
    changed(ONE, "slip"),
    changed(TWO, "polite"),
    changed(TWO, "slip"),
    changed(TWO, "verified"),
    changed(THREE, "polite"),
    changed(THREE, "slip"),
]
#: At 0.6: one is valid (not above), its changes flawed and valid; two is flawed, its changes
#: flawed, valid (not above) and unscored; three is unscored, so nothing is said of its changes.
P = np.array([0.7, 0.6, 0.9, NAN, 0.55, 0.61, 0.6, NAN, 0.9, 0.1])


def test_violations_by_hand() -> None:
    """At 0.6 two of four pairs; at 0.5 one and its changes, and two and its, are flawed: none.

    By group 1 of 2 and 1 of 2: every resample says a half, which shows no spread.
    """
    found = violations(P, EXAMPLES, 0.6, draws=50)
    assert found is not None
    bounds = wilson(2, 4)
    low, high = plain(bounds.low), plain(bounds.high)
    assert found["rate"] == {"value": 0.5, "low": low, "high": high, "n": 4,
                             "intervals": {"wilson": [low, high], "by group": [None, None]}
                             }  # fmt: skip
    assert (found["rate_threshold_half"]["value"], found["rate_threshold_half"]["n"]) == (0, 4)
    assert {k: (r["value"], r["n"]) for k, r in found["changes"].items()} == {
        "polite": (0.5, 2), "slip": (0.5, 2)}  # fmt: skip
    assert found["changes"]["slip"]["low"] == plain(wilson(1, 2).low)
    assert found["left_out"] == {"unscored": 1, "no_scored_base": 2}


def test_the_widest_interval_is_shown() -> None:
    """Of 40 groups with four changes each, 20 have all moved: 80 of 160, but 20 of 40 draws.

    Wilson on 160 is 0.5 +- 0.077, on 40 it is 0.5 +- 0.148.
    """
    examples = [e for n in range(40) for base in [item(str(n))]
                for e in (base, *(changed(base, name) for name in "abcd"))]  # fmt: skip
    p = np.array([0.1, *[0.9] * 4] * 20 + [0.1] * 100)
    found = violations(p, examples, 0.5, draws=2000)
    assert found is not None
    rate = found["rate"]
    assert rate["intervals"]["wilson"] == pytest.approx([0.423, 0.577], abs=1e-3)
    assert (rate["low"], rate["high"]) == tuple(rate["intervals"]["by group"])
    assert (rate["low"], rate["high"]) == pytest.approx((0.35, 0.65), abs=0.03)
    assert "rate_threshold_half" not in found  # it is the threshold


def test_only_what_is_a_change_of_an_item_here_counts() -> None:
    """Without its base, or with an id that does not end in its change, an item is left out."""
    odd = [changed(item("gone"), "polite"), replace(changed(ONE, "polite"), id="one/other"),
           replace(changed(ONE, "slip"), id="slip"), ONE]  # fmt: skip
    assert Pairs.of(odd).bases.tolist() == [-1, -1, -1]
    found = violations(np.array([0.9, 0.9, 0.9, 0.1]), odd, 0.6)
    assert found is not None
    assert found["left_out"] == {"unscored": 0, "no_scored_base": 3}
    assert (found["rate"]["value"], found["rate"]["n"], found["changes"]) == (None, 0, {})


def test_nothing_is_said_of_items_that_are_no_changes() -> None:
    flip = replace(ONE, id="two/of/it/polite", source="adversarial/metamorphic_flip/composed")
    for examples in (BASES, [*BASES, flip]):
        p = np.full(len(examples), 0.5)
        assert violations(p, examples, 0.6) is None
        assert contrast(Side("a", p, 0.6), Side("b", p, 0.6), examples) is None


def test_two_judges_on_the_pairs_that_both_scored() -> None:
    """Of one/polite, one/slip, two/polite, two/slip a moves the first and last, b all at its 0.3.

    b has no p of one/slip, so three pairs are left: a moves two of them, b all three.
    """
    other = np.array([0.1, 0.9, 0.3, 0.9, NAN, 0.31, 0.9, 0.9, 0.9, 0.9])
    a, b = Side("a", P, 0.6), Side("b", other, 0.3)
    p = plain(mcnemar_exact(0, 1))
    assert p == 1
    assert contrast(a, b, EXAMPLES) == {"n": 3, "only_a_moved": 0, "only_b_moved": 1,
                                        "mcnemar_p": p}  # fmt: skip
    assert contrast(b, a, EXAMPLES) == {"n": 3, "only_a_moved": 1, "only_b_moved": 0,
                                        "mcnemar_p": p}  # fmt: skip


def test_a_certain_difference_between_two_judges() -> None:
    """a moves eight of nine, b none: p = 2 / 2^8."""
    examples = [ONE, *(changed(ONE, str(n)) for n in range(9))]
    a = Side("a", np.array([0.1, *[0.9] * 8, 0.1]), 0.5)
    found = contrast(a, Side("b", np.full(10, 0.1), 0.5), examples)
    assert found == {"n": 9, "only_a_moved": 8, "only_b_moved": 0, "mcnemar_p": 0.007812}
