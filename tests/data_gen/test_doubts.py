"""Who may speak against a label: by the control alone."""

import pytest

from data_gen.doubts import Opinions, read_opinions
from minicrit.files import to_json
from minicrit.records import Example


def item(number: int, label: str) -> Example:
    return Example(id=f"{label}/{number}", domain="trading", rationale=f"Text {number}, {label}.",
                   label=label, group=str(number), source="mine", split="validation")  # fmt: skip


@pytest.mark.parametrize(
    ("flawed", "wrong", "trusted"),
    [(2, 2, False), (2, 1, True), (0, 0, False), (10, 5, True), (10, 10, False)],
)
def test_who_calls_everything_sound_is_no_witness(tmp_path, flawed, wrong, trusted):
    """Of 18 sound texts and 2 flawed that agrees with 18 of 20, and says nothing of a label."""
    agreed = [*(item(n, "valid") for n in range(18)), *(item(n, "flawed") for n in range(flawed))]
    doubtful = [item(50, "flawed")]
    said = {e.id: e.label for e in agreed} | {f"flawed/{n}": "valid" for n in range(wrong)}
    path = tmp_path / "said.jsonl"
    path.write_text(
        "".join(
            to_json({"id": name, "verdict": verdict}) + "\n"
            for name, verdict in (said | {"flawed/50": "valid"}).items()
        )
    )
    found: Opinions = read_opinions(path, doubtful, agreed)
    assert found.facts["control"]["one_label"] == 18
    assert found.facts["control"]["agreed"] == 18 + flawed - wrong
    assert found.trusted is trusted
