"""Two judges side by side: slices by hand, and differences that cover the truth."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from minicrit import scores
from minicrit.measures import Truth
from minicrit.quantize_gate import flip_facts, gate
from minicrit.records import Example
from minicrit.unseen import Side
from minicrit.versus import compare, detectable_line, slice_tests
from tests.minicrit.benchmark_case import FIRST, SECOND, small, twins


def sides() -> tuple[Side, Side, Truth]:
    truth = Truth.of(small())
    first, second = (np.array(pairs).ravel() for pairs in (FIRST, SECOND))
    return Side("a", first, 0.5), Side("b", second, 0.5), truth


def alone(asked: list[Example]) -> list[Example]:
    """The same, of no family that is known."""
    return [replace(e, source="hand") for e in asked]


def test_slices_by_hand() -> None:
    """Only a: g1 flawed, g2 valid, g3 both; only b: g1 valid, g2 flawed (trading: 1 and 3).

    Trading 3 : 1, p = 2 x 5/16; medical 1 : 1 and flawed items 2 : 1, p = 1. What holds every item
    (source, mechanism) is no slice, so three tests are adjusted for.
    """
    a, b, truth = sides()
    right = tuple((side.p > side.threshold) == truth.flawed for side in (a, b))
    rows = {(r["axis"], r["slice"]): r for r in slice_tests((right[0], right[1]), small())}
    assert set(rows) == {("domain", "medical"), ("domain", "trading"),
                         ("flaw_type", "small_sample")}  # fmt: skip
    trading = rows["domain", "trading"]
    assert (trading["n"], trading["only_a_right"], trading["only_b_right"]) == (4, 3, 1)
    assert (trading["mcnemar_p"], trading["holm_p"]) == (0.625, 1)
    assert rows["domain", "medical"]["mcnemar_p"] == 1
    assert rows["flaw_type", "small_sample"]["only_a_right"] == 2


def test_unscored_items_leave_the_comparison_only() -> None:
    a, b, truth = sides()
    a.p[0] = np.nan
    found = compare(a, b, truth, small(), margin=0.02, draws=20)
    assert found["n"] == 7
    assert found["differences"]["fpr"]["value"] == pytest.approx(1 / 3 - 2 / 3)


def test_judges_that_flag_nothing_are_not_shown_to_be_equivalent_by_a_few_items() -> None:
    """Findings of 0.02 / 1.98 of the flawed are an F1 of 0.02: 12 groups miss them with 0.89."""
    asked = alone([e for n in range(12) for e in twins(n, (0, 0), (0, 0))])
    a, truth = Side("a", np.full(24, 0.2), 0.5), Truth.of(asked)
    found = compare(a, replace(a, name="b"), truth, asked, margin=0.02, draws=50)
    f1 = found["differences"]["f1"]
    assert f1["p_below"] == f1["p_above"] == pytest.approx((1 - 0.02 / 1.98) ** 12)


def test_valid_items_alone_show_nothing_of_f1() -> None:
    """Where they are flagged F1 is 0 all the same; it ended in a division by no flawed items."""
    asked = alone([e for n in range(12) for e in twins(n, (0, 0), (0, 0)) if e.label == "valid"])
    a, truth = Side("a", np.full(len(asked), 0.9), 0.5), Truth.of(asked)
    f1 = compare(a, replace(a, name="b"), truth, asked, margin=0.02, draws=50)["differences"]["f1"]
    assert (f1["value"], f1["p_below"], f1["p_above"]) == (0, 1, 1)


@pytest.mark.parametrize("groups", [4, 80, 200])
def test_a_judge_against_itself_is_equivalent_where_groups_suffice_to_say_so(groups: int) -> None:
    """No draw moves, whatever their number: 0.92 for 4 groups, 0.20 for 80, 0.018 for 200."""
    asked = alone([e for n in range(groups) for e in twins(n, (0, 0), (0, 0))])
    p = np.random.default_rng(1).random(2 * groups)
    a, truth = Side("a", p, 0.5), Truth.of(asked)
    found = compare(a, a, truth, asked, margin=0.02, draws=500)
    for row in found["differences"].values():
        assert (row["value"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)
    for name in ("fpr", "recall", "auroc", "brier", "cost"):
        assert found["differences"][name]["p_apart"] == pytest.approx(0.98**groups, abs=1e-6)
    gated = gate(flip_facts(truth.flawed & False, truth.groups, 8), found["differences"], 0.02)
    assert gated["status"] == ("released" if groups == 200 else "not released")


@pytest.mark.parametrize(("families", "p"), [(2, 1 / 4), (5, 1 / 32)])
def test_few_families_show_nothing_however_many_their_groups_are(families: int, p: float) -> None:
    """All of G families are alike by chance, 2^-G; groups alone would say 0.98^200 = 0.018."""
    asked = [replace(e, source=f"composer/trading/{n % families}/x")
             for n in range(200) for e in twins(n, (0, 0), (0, 0))]  # fmt: skip
    a, truth = Side("a", np.random.default_rng(1).random(400), 0.5), Truth.of(asked)
    found = compare(a, a, truth, asked, margin=0.02, draws=100)["differences"]["fpr"]
    assert (found["p_below"], found["p_above"], found["p_apart"]) == (p, p, p)


def test_a_rate_is_over_the_groups_that_hold_its_items() -> None:
    """Four twin groups and four with a valid item alone: 8 groups for FPR, 4 for recall.

    A mean cost of 0.02 of 12 items is 0.24: three in a hundred of the 8 valid ones flagged at 1, or
    of the 4 flawed ones missed at 2.
    """
    asked = [e for n in range(4) for e in twins(n, (0, 0), (0, 0))]
    asked += [twins(n, (0, 0), (0, 0))[0] for n in range(4, 8)]
    a, truth = Side("a", np.full(12, 0.9), 0.5), Truth.of(asked)
    found = compare(a, a, truth, asked, margin=0.02, draws=500)["differences"]
    apart = [found[name]["p_apart"] for name in ("fpr", "cost", "recall")]
    assert apart == pytest.approx([0.98**8, 0.97**4, 0.98**4], abs=1e-6)


def test_f1_of_few_flawed_items_takes_fewer_faults() -> None:
    """200 items, 20 flawed, all found: F1 40 / 40. 0.98 = 2 (20 - d) / (40 - d): d = 0.784 of 20.

    Or 0.98 = 40 / (40 + d): d = 0.816 of the 180 valid ones, none of whom show it with 0.441.
    """
    asked = [twins(n, (0, 0), (0, 0))[n < 20] for n in range(200)]
    a, truth = (
        Side("a", np.array([e.label == "flawed" for e in asked], float), 0.5),
        Truth.of(asked),
    )
    assert int(truth.flawed.sum()) == 20
    found = compare(a, a, truth, asked, margin=0.02, draws=500)["differences"]["f1"]
    missed, alarms = (1 - 0.8 / 1.02 / 20) ** 20, (1 - 0.8 / 0.98 / 180) ** 180
    assert found["p_below"] == pytest.approx(max(missed, alarms), abs=1e-6)
    assert found["p_below"] > 0.4


@pytest.mark.parametrize("valid", [0, 1])
def test_f1_without_valid_items_may_still_hide_misses(valid: int) -> None:
    """55 flawed items, all found: 0.98 = 2 (55 - d) / (110 - d): d = 2.2 / 1.02 of 55."""
    asked = alone([twins(n, (0, 0), (0, 0))[n >= valid] for n in range(55 + valid)])
    truth = Truth.of(asked)
    a = Side("a", truth.flawed.astype(float), 0.5)
    found = compare(a, a, truth, asked, margin=0.02, draws=200)["differences"]["f1"]
    missed = (1 - 2.2 / 1.02 / 55) ** 55
    assert missed == pytest.approx(0.111, abs=1e-3)
    for key in ("p_below", "p_above"):
        assert found[key] >= missed - 1e-6
        assert valid or found[key] == pytest.approx(missed, abs=1e-6)


def test_f1_is_rarely_called_no_worse_where_it_is() -> None:
    """True F1 falls by 0.02 (3.9 % of 20 flawed items of 200 are missed): at most 5 % of worlds."""
    asked = alone([twins(n, (0, 0), (0, 0))[n < 20] for n in range(200)])
    truth = Truth.of(asked)
    before = Side("b", truth.flawed.astype(float), 0.5)
    rng, claims = np.random.default_rng(5), 0
    for seed in range(60):
        missed = truth.flawed & (rng.random(200) < 0.8 / 1.02 / 20)
        after = Side("a", np.where(missed, 0.0, before.p), 0.5)
        row = compare(after, before, truth, asked, margin=0.02, seed=seed, draws=200)
        claims += row["differences"]["f1"]["p_below"] <= 0.05
    assert claims <= stats.binom.ppf(0.999, 60, 0.05)


def world(rng: np.random.Generator, groups: int) -> tuple[Side, Side, Truth]:
    """Twins that share a difficulty, judged by two critics of which the first is better."""
    flawed = np.tile([True, False], groups)
    names = np.repeat(np.arange(groups), 2).astype(str)
    hard = np.repeat(rng.normal(size=groups), 2)
    sign = np.where(flawed, 1, -1)
    p = [1 / (1 + np.exp(-(sign * (skill + hard) + rng.normal(size=2 * groups))))
         for skill in (1.4, 0.9)]  # fmt: skip
    return Side("a", p[0], 0.5), Side("b", p[1], 0.5), Truth(flawed, names, names,
                                                             np.ones(2 * groups))  # fmt: skip


def test_bounds_of_differences_cover_the_truth() -> None:
    """120 worlds of 60 twins: 95 % bounds of F1, FPR, AUROC and Brier hold the true gap."""
    rng = np.random.default_rng(0)
    a, b, large = world(rng, 200_000)
    true = {
        name: metric(a.p, large.flawed, 0.5) - metric(b.p, large.flawed, 0.5)
        for name, metric in (("f1", scores.f1), ("fpr", scores.false_positive_rate))
    }
    for name, free in (("auroc", scores.auroc), ("brier", scores.brier)):
        true[name] = free(a.p, large.flawed) - free(b.p, large.flawed)
    hits = dict.fromkeys(true, 0)
    asked = [e for number in range(60) for e in twins(number, (0, 0), (0, 0))]
    for seed in range(120):
        first, second, truth = world(rng, 60)
        found = compare(first, second, truth, asked, margin=0.02, seed=seed, draws=300)
        for name, value in true.items():
            row = found["differences"][name]
            hits[name] += row["low"] <= value <= row["high"]
    for name, count in hits.items():
        assert 0.89 <= count / 120 <= 0.99, name


@pytest.mark.parametrize(("families", "p"), [(1, 1.0), (2, 0.5), (0, None)])
def test_one_family_is_no_surer_than_two(families: int, p: float | None) -> None:
    """Twenty twin groups of which one judge has every other one wrong; 0: families unknown."""
    asked = [e for n in range(20) for e in twins(n, (0, 0), (0, 0))]
    source = [f"composer/trading/f{n // 4 % families}/m" if families else "own" for n in range(40)]
    asked = [replace(e, source=s) for e, s in zip(asked, source, strict=True)]
    truth = Truth.of(asked)
    right = truth.flawed.astype(float)
    wrong = np.where(np.arange(40) % 4 < 2, 1 - right, right)
    a, b = Side("a", 0.1 + 0.8 * right, 0.5), Side("b", 0.1 + 0.8 * wrong, 0.5)
    for sides, worse in (((a, b), "p_above"), ((b, a), "p_below")):
        found = compare(*sides, truth, asked, margin=0.02, draws=500)["differences"]["auroc"]
        assert found["value"] != 0
        assert found["p"] < 0.01 if p is None else found["p"] == pytest.approx(p)
        assert families != 1 or found[worse] == found["p_apart"] == 1


@pytest.mark.parametrize(("groups", "p"), [(3, 1 / 4), (4, 1 / 8), (6, 1 / 32)])
def test_groups_in_which_the_judges_do_not_differ_say_nothing(groups: int, p: float) -> None:
    """Of so many groups of flawed items A finds both, B one; sixty valid ones pass both judges.

    G coins agree with chance 2^(1 - G), whatever stands beside them; what that cannot tell from
    nothing does not leave nothing out. AUROC: B's misses lie below half of the valid ones.
    """
    flawed = np.arange(2 * groups + 60) < 2 * groups
    names = np.where(flawed, np.arange(len(flawed)) // 2, np.arange(len(flawed))).astype(str)
    truth, low = Truth(flawed, names, names, np.ones(len(flawed))), 0.2 * (np.arange(60) % 2)
    p_a = np.append(np.full(2 * groups, 0.9), low)
    p_b = np.append(np.tile([0.9, 0.1], groups), low)
    sides, asked = (Side("a", p_a, 0.5), Side("b", p_b, 0.5)), small()[:1] * len(flawed)
    found = compare(*sides, truth, asked, margin=0.02, draws=400)
    for name, gap in (("recall", 0.5), ("f1", 1 / 3), ("auroc", 0.25)):
        row = found["differences"][name]
        assert row["value"] == pytest.approx(gap, abs=1e-6)
        assert row["p"] == pytest.approx(p)
        assert (row["low"] > 0) == (p <= 0.05)
    assert found["differences"]["fpr"]["p"] == 1


def test_two_thresholds_order_one_p_in_two_ways() -> None:
    """By how far p is from 0.5, or from 0.95, where the second is sure of its errors."""
    rng = np.random.default_rng(0)
    p, flawed = rng.random(200), np.arange(200) % 2 == 0
    p = np.where(flawed, 0.4 + 0.6 * p, 0.6 * p)
    names = np.arange(200).astype(str)
    truth, sides = (
        Truth(flawed, names, names, np.ones(200)),
        (Side("a", p, 0.5), Side("b", p, 0.95)),
    )
    found = compare(*sides, truth, small()[:1] * 200, margin=0.02, draws=400)["differences"]
    assert found["aurc"]["value"] < -0.1
    assert found["aurc"]["p"] < 0.05
    assert found["auroc"]["p"] == 1  # which knows no threshold


def test_what_n_can_find_in_words() -> None:
    assert "12 items; if two judges disagree on 20 % of them, no difference can be found" in (
        detectable_line(12, 0.2)
    )
    assert "0 % of them, no difference" in detectable_line(500, 0.0)
    assert "disagree on 0.4 % of them, a difference" in detectable_line(9000, 0.004)
