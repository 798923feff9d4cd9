"""Which files of a folder are read, and what their names are taken for."""

import json
import logging
from pathlib import Path

import pytest

from minicrit.records import read_examples, read_folder
from minicrit.row_files import example_files


def test_files_of_rows_that_are_passed_over_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of a company's rows lay in a folder below, or had been saved by Windows."""
    folder = tmp_path / ".kept" / "rows"  # a hidden folder above hides nothing
    names = ("a.jsonl", "b.jsonl.gz", "a.rejected.jsonl", "removed.jsonl", ".b.jsonl", "notes.txt",
             "a.jsonl.manifest.json", ".work/c.jsonl")  # fmt: skip
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    with caplog.at_level(logging.WARNING):
        assert [file.name for file in example_files(folder)] == ["a.jsonl", "b.jsonl.gz"]
    assert not caplog.messages
    for name in ("2025/more.jsonl", "UP.JSONL", "rows.ndjson", "table.csv", "zip.CSV.gz"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    with caplog.at_level(logging.WARNING):
        assert [file.name for file in example_files(folder)] == ["a.jsonl", "b.jsonl.gz"]
    (said,) = caplog.messages
    assert f"5 files of rows are passed over, such as {folder}/2025/more.jsonl; read are" in said
    assert f"make import FROM={folder}/2025 (" in said  # not FROM=folder, which may be its OUT


def test_a_table_that_is_passed_over_is_told_how_it_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "b.tsv").touch()
    with caplog.at_level(logging.WARNING):
        example_files(tmp_path)
    assert f"make import FROM={tmp_path}/b.tsv (a .tsv is saved as .csv first)" in caplog.text


@pytest.mark.parametrize(("name", "labels", "split", "told"), [
    ("desk_valid", ("valid",), {}, True), ("valid", ("valid",), {}, True),
    ("valid", ("valid", "flawed"), {}, False), ("desk_flawed", ("flawed",), {}, False),
    ("desk_valid", ("valid",), {"split": "train"}, False), ("desk_test", ("valid",), {}, False),
])  # fmt: skip
def test_valid_in_a_name_may_be_the_label(
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
    name: str, labels: tuple[str, ...], split: dict[str, str], told: bool,
) -> None:  # fmt: skip
    """Of desk_valid.jsonl and desk_flawed.jsonl only the flawed rows are trained on."""
    rows = [{"id": label, "domain": "trading", "rationale": f"Some text, {label}.", "label": label}
            | split for label in labels]  # fmt: skip
    (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with caplog.at_level(logging.WARNING):
        read_examples(tmp_path / f"{name}.jsonl")
    assert len(caplog.messages) == told
    assert all("split validation, not for the label" in said for said in caplog.messages)


def test_valid_beside_flawed_is_the_label_and_no_split(tmp_path: Path) -> None:
    """What was said of it went by among other lines, and the flawed rows alone were trained on."""
    for label in ("valid", "flawed"):
        row = {"id": label, "domain": "trading", "rationale": f"Some {label}.", "label": label}
        (tmp_path / f"desk_{label}.jsonl").write_text(json.dumps(row) + "\n")
    told = "the label of all its rows, as of desk_flawed.jsonl beside it; rename it, or write"
    with pytest.raises(ValueError, match=told):
        read_folder(tmp_path)
    (tmp_path / "desk_valid.jsonl").rename(tmp_path / "desk_sound.jsonl")
    found = [example.split for one in read_folder(tmp_path) for example in one.examples]
    assert found == ["train", "train"]
