"""What changes while a calibration is fitted."""

from pathlib import Path
from typing import Any

import pytest

from minicrit.base import Base
from minicrit.calibrate import calibrate
from minicrit.files import sha256_file
from minicrit.judging import Scores, score_items
from minicrit.manifest import read_manifest
from minicrit.records import write_examples
from tests.minicrit.test_calibrate import composed, recipe, save_adapter


def test_items_written_anew_while_others_are_judged_do_not_pass_for_them(
    tiny: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their hash was taken in the end: nobody could see that they had never been judged."""
    save_adapter(tiny, tmp_path / "sft")
    data = tmp_path / "calibration.jsonl"
    write_examples(data, composed())
    read = sha256_file(data)

    def later(*told: Any, **more: Any) -> Scores:
        write_examples(data, composed()[::-1])
        return score_items(*told, **more)

    monkeypatch.setattr("minicrit.calibrate.score_items", later)
    calibrate(recipe(tmp_path, tiny))
    record = read_manifest(tmp_path / "sft" / "calibration.json")
    assert record["inputs"]["data"]["sha256"] == read
