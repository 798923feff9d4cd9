"""What an item falls under."""

import numpy as np
import pytest

from minicrit.records import Example
from minicrit.slices import slice_rates


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
