"""Manifests: same bytes for the same run, and every difference named."""

import json
import re
from pathlib import Path

import pytest

from minicrit.base import Base
from minicrit.files import sha256_file, sha256_folder
from minicrit.manifest import check_outputs, code_version, read_manifest, require, write_manifest
from minicrit.members import checked_adapter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("{}\n")
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "weights").write_bytes(b"abc")
    (out / "train.log").write_text("12:00 started")
    return out


def describe(target: Path, **more: Path) -> dict[str, object]:
    return write_manifest(
        target,
        stage="sft",
        inputs={"train": Path("in.jsonl"), **more},
        settings={"seed": 7, "layers": (1, 2)},
        facts={"prompt": "plain-1", "f1": 0.5},
    )


def test_a_folder_is_described_and_read_back(folder: Path) -> None:
    manifest = describe(folder)
    assert manifest == read_manifest(folder)
    assert manifest["stage"] == "sft"
    assert manifest["settings"] == {"seed": 7, "layers": [1, 2]}
    assert manifest["inputs"] == {
        "train": {"path": "in.jsonl", "sha256": sha256_file(Path("in.jsonl"))}
    }
    assert manifest["outputs"] == {"sub/weights": sha256_file(folder / "sub" / "weights")}
    assert manifest["code"] == code_version()
    assert set(json.loads((folder / "manifest.json").read_text())["versions"]) == {
        "python",
        "torch",
        "transformers",
        "peft",
    }


def test_two_runs_give_the_same_bytes(folder: Path) -> None:
    describe(folder)
    before = (folder / "manifest.json").read_bytes()
    describe(folder)
    assert (folder / "manifest.json").read_bytes() == before


def test_a_file_is_described_beside_it(folder: Path) -> None:
    target = folder / "sub" / "weights"
    manifest = describe(target, absolute=folder.parent / "in.jsonl", folder=folder)
    assert (folder / "sub" / "weights.manifest.json").is_file()
    assert manifest["outputs"] == {"weights": sha256_file(target)}
    inputs = read_manifest(target)["inputs"]
    assert inputs["absolute"] == inputs["train"]
    assert inputs["folder"]["path"] == "out"
    (folder / "sub" / "weights.manifest.json").unlink()
    assert inputs["folder"]["sha256"] == sha256_folder(folder)


def test_changes_are_found(folder: Path) -> None:
    describe(folder)
    assert check_outputs(folder) == []
    (folder / "train.log").write_text("more")
    assert check_outputs(folder) == []
    (folder / "sub" / "weights").write_bytes(b"abd")
    (folder / "extra").touch()
    extra, changed = check_outputs(folder)
    assert re.search(r"out: extra: expected no file, got sha256 e3b0c44", extra)
    assert re.search(r"sub/weights: expected sha256 ba7816b\S+, got sha256 a52d159", changed)
    (folder / "sub" / "weights").unlink()
    assert check_outputs(folder)[1].endswith("got no file")


def test_a_file_that_is_gone_is_found(folder: Path) -> None:
    target = folder / "sub" / "weights"
    describe(target)
    target.unlink()
    (difference,) = check_outputs(target)
    assert difference.endswith("got no file")


def test_no_manifest_means_not_finished(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"manifest\.json: expected a manifest, got none; the st"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a manifest: expected JSON"),
        ("[]", "expected a manifest: expected an object, got list"),
        ('{"stage": "sft", "stage": "dpo"}', "each key once"),
        ('{"stage": 1}', "expected a manifest with stage, got 1; make the stage again"),
        ('{"stage": "sft", "code": "x"}', "expected a manifest with inputs, got None"),
    ],
)
def test_a_broken_manifest_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_manifest(folder)


def test_what_cannot_be_described_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="expected the input base, got none; check the path"):
        describe(folder, base=Path("missing"))
    with pytest.raises(ValueError, match="expected a file or folder, got none; run the stage"):
        describe(folder / "missing")
    with pytest.raises(ValueError, match="expected JSON values"):
        write_manifest(folder, stage="s", inputs={}, settings={"p": Path()}, facts={})
    with pytest.raises(ValueError, match="expected JSON values"):
        write_manifest(folder, stage="s", inputs={}, settings={}, facts={"f1": float("nan")})
    assert not (folder / "manifest.json").exists()


def test_require_names_each_difference(folder: Path) -> None:
    manifest = describe(folder)
    require(manifest, stage="sft", prompt="plain-1", seed=7, layers=(1, 2))
    with pytest.raises(ValueError, match="expected") as error:
        require(manifest, stage="dpo", prompt="plain-1", seed=8, base="x")
    first, second, third = str(error.value).split("\n")
    assert first.startswith('stage: expected "dpo", got "sft"; use what was made with this stage')
    assert second.startswith("seed: expected 8, got 7; ")
    assert third.startswith('base: expected "x", got nothing; ')


def test_the_code_version_is_short_and_stable() -> None:
    assert re.fullmatch(r"[^+]+\+[0-9a-f]{12}", code_version())
    assert code_version() is code_version()


def test_the_released_critic_is_the_recorded_one_and_its_calibration_fits_it() -> None:
    """The one that `make critique` takes if a run has none; its base need not be there."""
    root = Path(__file__).parents[2]
    (name,) = re.findall(
        r"(checkpoints/released/[\w-]+)/manifest.json", (root / "Makefile").read_text()
    )
    record = read_manifest(root / name)
    base = Base(root / "nowhere", record["facts"]["base"])
    found = checked_adapter(root / name, record, base)
    assert found.calibration is not None
    assert found.sha256 == record["outputs"]["adapter_model.safetensors"]
