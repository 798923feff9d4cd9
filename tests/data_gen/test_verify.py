"""make verify: a broken chain is seen at each link, and a leak wherever it got in."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.adversarial import suite
from data_gen.compose import compose
from data_gen.verify import verify
from minicrit.config import Recipe, VerifyConfig
from minicrit.files import sha256_file, write_json
from minicrit.jsonl import write_rows
from minicrit.manifest import write_manifest
from minicrit.records import Example, write_examples

TRAIN = [made.example for made in compose(40, 0, "train")]
TEST = [made.example for made in compose(10, 5, "test")]


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> Path:
    """Data, an adapter made from it, a report on both: a whole chain."""
    monkeypatch.chdir(tmp_path)
    data(TRAIN)
    Path("checkpoints/r/sft").mkdir(parents=True)
    Path("checkpoints/r/sft/adapter").write_text("weights")
    manifest(Path("checkpoints/r/sft"), train=Path("data/r/train.jsonl"))
    Path("reports/r").mkdir(parents=True)
    digest = sha256_file("data/r/test.jsonl")
    write_json("reports/r/benchmark.json", {"code": "1", "inputs": {"data/r/test.jsonl": digest}})
    write_json("reports/r/other.json", [1])
    return tmp_path


def data(train: list[Example], folder: str = "data/r") -> None:
    write_examples(f"{folder}/train.jsonl", train)
    write_examples(f"{folder}/test.jsonl", TEST)
    write_rows(f"{folder}/removed.jsonl", [{"example": TEST[0].to_row()}])
    manifest(Path(folder))


def manifest(target: Path, **inputs: Path) -> None:
    write_manifest(target, stage="made", inputs=inputs, settings={}, facts={})


def faults(capsys) -> list[str]:
    """What verify says is wrong; the last line says what was checked."""
    capsys.readouterr()
    with pytest.raises(ValueError, match=r"expected an unbroken chain, got \d+ faults"):
        verify(Recipe())
    *lines, last = capsys.readouterr().out.splitlines()
    assert last.startswith("verified ")
    return [line for line in lines if not line.startswith("not here: ")]


def test_a_whole_chain_passes(run, capsys):
    verify(Recipe())
    assert capsys.readouterr().out == (
        "verified 3 manifests and reports, 6 files, 0 inputs not here, 0 faults; 40 rows of 1 "
        f"training files against {len(TEST) + len(suite())} items of 1 evaluation files and the "
        "adversarial suite\n"
    )


def test_a_header_of_all_rows_of_two_files_is_no_leak(run, capsys):
    words = " ".join(f"word{n}" for n in range(44))
    test = f"{words} {TEST[0].rationale}"
    rows = [replace(e, rationale=f"{words} {e.rationale}", evidence=None) for e in TRAIN]
    for folder, part in (("data/r", rows[:12]), ("data/s", rows[12:])):
        data(part, folder)
        write_examples(f"{folder}/test.jsonl", [replace(TEST[0], rationale=test, evidence=None)])
        manifest(Path(folder))
    verify(Recipe(verify=VerifyConfig(folders="data")))
    assert "0 faults; 40 rows of 2 training files" in capsys.readouterr().out
    write_rows("data/s/more.jsonl", [{"rationale": f"So: {test}", "group": "x"}])
    manifest(Path("data/s"))
    with pytest.raises(ValueError, match="got 1 faults"):
        verify(Recipe(verify=VerifyConfig(folders="data")))
    assert "data/s/more.jsonl:1: data/r/test.jsonl: " in capsys.readouterr().out


def test_a_changed_file_and_what_was_made_from_it(run, capsys):
    rows = Path("data/r/train.jsonl").read_text().splitlines(keepends=True)
    Path("data/r/train.jsonl").write_text("".join(rows[:-1]))
    found = faults(capsys)
    assert len(found) == 2
    assert found[0].startswith("data/r: train.jsonl: expected sha256 ")
    assert found[0].endswith("put the file back, or make the stage made again")
    assert found[1].startswith("checkpoints/r/sft: expected to be made from data/r/train.jsonl as")


def test_a_lost_file_and_one_too_many(run, capsys):
    Path("checkpoints/r/sft/adapter").rename("checkpoints/r/sft/adaptor")
    found = faults(capsys)
    assert [line.split(": ")[1] for line in found] == ["adapter", "adaptor"]
    assert "got no file" in found[0]


def test_a_report_on_other_data(run, capsys):
    write_examples("data/r/test.jsonl", TEST[:-2])
    manifest(Path("data/r"))
    assert [line.split(":")[0] for line in faults(capsys)] == ["reports/r/benchmark.json"]


def test_a_broken_manifest(run, capsys):
    Path("checkpoints/r/sft/manifest.json").write_text("{")
    assert "expected a manifest" in faults(capsys)[0]


def test_missing_inputs_are_counted_and_released_adapters_outlive_their_data(run, capsys):
    Path("checkpoints/r").rename("checkpoints/released")
    data(TRAIN[:-2])
    verify(Recipe())
    out = capsys.readouterr().out
    assert "train as it was (another data/r/train.jsonl is here)" in out
    Path("data/r").rename("data/other")
    verify(Recipe())
    assert (
        "not here: checkpoints/released/sft: train (data/r/train.jsonl)" in capsys.readouterr().out
    )


def test_what_another_machine_made_is_held_against_its_own_hashes_alone(run, capsys):
    Path("checkpoints/r").rename("checkpoints/.r.fetched")
    data(TRAIN[:-2])
    recipe = Recipe()
    recipe.verify.folders, recipe.verify.inputs = "checkpoints/.r.fetched", False
    verify(recipe)
    assert "train as it was (another data/r/train.jsonl is here)" in capsys.readouterr().out
    Path("checkpoints/.r.fetched/sft/adapter").write_text("cut off")
    with pytest.raises(ValueError, match="expected an unbroken chain, got 1 faults"):
        verify(recipe)


def leak(**more: object) -> Example:
    return replace(TEST[3], id="leak", group="leak", split="train", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("row", "how"), [
    (leak(), "the same text"),
    (leak(rationale=f"I HEARD: {TEST[3].rationale.upper()}", evidence=None),
     "1.00 of its 13-word sequences"),
])  # fmt: skip
def test_a_leak_into_any_training_file_of_any_run(run, capsys, row, how):
    data([*TRAIN, row], "data/another")
    assert faults(capsys) == [
        f"data/another/train.jsonl:41: data/another/test.jsonl: {TEST[3].id}: {how}; expected no "
        "evaluation item in training data, make the file again, and anew what was trained on it"
    ]


def test_a_row_of_an_evaluation_group(run, capsys):
    data([*TRAIN, replace(TRAIN[0], id="x", group=TEST[0].group, rationale="Up, so buy now.",
                          evidence=None)])  # fmt: skip
    assert any("a row of a group of data/r/test.jsonl" in line for line in faults(capsys))


def test_a_leak_into_preference_pairs_and_many_hits_are_cut(run, capsys):
    rows = [{"rationale": e.rationale, "chosen": "a", "rejected": "b", "group": f"p{n}"}
            for n, e in enumerate(TEST)]  # fmt: skip
    write_rows("data/r-pairs/pairs.jsonl", rows)
    manifest(Path("data/r-pairs"))
    found = faults(capsys)
    assert len(found) == 6
    assert found[5].startswith("data/r-pairs/pairs.jsonl: 5 more; ")


def test_a_damaged_row_is_one_fault_among_others(run, capsys):
    Path("data/r/train.jsonl").write_text(json.dumps({"rationale": 3}) + "\n{\n")
    manifest(Path("data/r"))
    found = faults(capsys)
    assert found[0].startswith("checkpoints/r/sft: expected to be made from data/r/train.jsonl")
    assert found[1].startswith("data/r/train.jsonl:2: expected JSON")


def test_nothing_to_verify(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    verify(Recipe())
    assert capsys.readouterr().out.startswith("verified 0 manifests and reports, 0 files")


def test_a_folder_that_is_named_has_to_be_there(run, capsys):
    """One of two that was misspelt was passed over, and nothing was found wrong in it."""
    recipe = Recipe()
    for named, gone in (("nowhere,not here", "nowhere, not here"), ("data,checkpionts",
                        "checkpionts"), (",", "none")):  # fmt: skip
        recipe.verify.folders = named
        with pytest.raises(ValueError, match=f"verify.folders: expected .* there, got {gone}; ch"):
            verify(recipe)
    said = []
    for named in ("data, checkpoints", "data,checkpoints"):
        recipe.verify.folders = named
        verify(recipe)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
