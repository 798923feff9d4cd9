"""What an item falls under."""

import numpy as np
import pytest

from minicrit.records import Example
from minicrit.slices import operating_point, reliability, roc, slice_rates
from minicrit.statistics import wilson


def item(source: str, label: str) -> Example:
    return Example(id=f"{source}/{label}", domain="general", rationale="r", label=label,
                   group=source, source=source, split="test")  # fmt: skip


def test_items_of_the_suite_are_sliced_by_part_and_origin_and_others_are_not() -> None:
    examples = [
        item("adversarial/edge_case/hand", "valid"),
        item("adversarial/metamorphic_keep/paraphrase", "flawed"),
        item("adversarial/metamorphic_keep/instruction", "flawed"),
        item("composer/general/choir/sampling", "flawed"),
        item("adversarial/odd", "valid"),
    ]
    found = slice_rates(np.array([0.9, 0.8, 0.1, 0.9, 0.1]), examples, 0.5)
    assert {k: v["n"] for k, v in found["suite_part"].items()} == {
        "edge_case": 1, "metamorphic_keep": 2}  # fmt: skip
    assert found["suite_part"]["edge_case"]["fpr"]["value"] == 1
    assert found["suite_part"]["metamorphic_keep"]["recall"]["value"] == pytest.approx(0.5)
    assert {k: v["accuracy"]["value"] for k, v in found["suite_origin"].items()} == {
        "hand": 0, "instruction": 0, "paraphrase": 1}  # fmt: skip
    assert set(found["mechanism"]) == {"sampling"}


def test_what_has_no_verdict_is_in_no_slice() -> None:
    examples = [item(f"set/{n}", label) for n, label in enumerate(("valid", "flawed", "flawed"))]
    found = slice_rates(np.array([0.1, np.nan, 0.5]), examples, 0.5)["source"]["set"]
    assert (found["n"], found["recall"]["n"], found["recall"]["value"]) == (2, 1, 0)
    assert (found["fpr"]["n"], found["fpr"]["value"], found["accuracy"]["value"]) == (1, 0, 0.5)


def test_the_roc_curve_by_hand() -> None:
    """At 0.9 one of two flawed and one of four valid are flagged, at 0.5 both and one, then all."""
    p, flawed = np.array([0.9, 0.9, 0.5, 0.1, 0.1, 0.1]), np.array([1, 0, 1, 0, 0, 0], dtype=bool)
    assert roc(p, flawed) == [[0, 0], [0.25, 0.5], [0.25, 1], [1, 1]]
    assert roc(p, flawed | True) == roc(p, flawed & False) == []
    many = np.random.default_rng(0).random(3000)
    curve = roc(many, many > 0.3)
    assert (len(curve), curve[0], curve[-1]) == (101, [0, 0], [1, 1])


def test_the_operating_point_by_hand() -> None:
    """Above 0.5, not at it: one of three valid, one of two flawed."""
    p, flawed = np.array([0.9, 0.5, 0.1, 0.7, 0.5]), np.arange(5) > 2
    found = operating_point(p, flawed, 0.5)
    assert (found["fpr"]["n"], found["fpr"]["value"]) == (3, pytest.approx(1 / 3, abs=1e-6))
    assert (found["recall"]["n"], found["recall"]["value"]) == (2, 0.5)
    assert operating_point(p[:3], flawed[:3], 0.5)["recall"] is None


def test_bins_of_reliability_by_hand() -> None:
    """0 and 0.05 lie in the first bin, 0.25 and 0.85 alone, 0.95 and 1 in the last."""
    p = np.array([0.0, 0.95, 0.25, 0.05, 1.0, 0.85])
    rows = reliability(p, np.array([False, True, False, True, True, False]))
    wanted = ((0.025, 1, 2), (0.25, 0, 1), (0.85, 0, 1), (0.975, 2, 2))
    for row, (mean, hits, n) in zip(rows, wanted, strict=True):
        share = wilson(hits, n)
        assert (row["mean_p"], row["value"], row["n"]) == (mean, hits / n, n)
        assert (row["low"], row["high"]) == pytest.approx((share.low, share.high), abs=1e-6)
