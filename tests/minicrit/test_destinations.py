"""Where stages write is looked at first, and by the name that was given."""

import errno
from pathlib import Path

import pytest

from minicrit.cli import FAILED, OK, main
from minicrit.config import Recipe
from minicrit.destinations import _why_not, check_destinations, destinations
from minicrit.manifest import write_manifest
from minicrit.run import run_of
from minicrit.settings import known_keys, load_recipe
from minicrit.stages import STAGES

WRITTEN = {setting for name in STAGES for setting, _ in destinations(name, Recipe())}


def test_every_setting_that_says_where_is_looked_at():
    """All but `judge.out`, which is null, that is, beside what is judged."""
    ends = ("out", "report", "router", "parts")
    named = {key for key in known_keys() if key.rpartition(".")[2] in ends}
    assert {*WRITTEN, "judge.out"} == {*named, "data.folder", "calibrate.model"}


@pytest.mark.parametrize("stage", ["benchmark", "sharpe", "agreement", "sft", "quantize"])
@pytest.mark.parametrize(("out", "why"), [
    ("/proc/nosuch/x", "nothing can be made in /proc: "),
    ("/dev/full/x", "/dev/full is no folder"),
    ("taken/below/x", "taken is no folder"),
])  # fmt: skip
def test_what_cannot_be_written_is_named_before_anything_is_read(
    capsys, tmp_path, monkeypatch, stage, out, why
):
    """Nothing that they read is there: they would say so if they had looked for it."""
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("")
    assert main([stage, f"--{stage}.out", out]) == FAILED
    said = capsys.readouterr().err
    assert said.startswith(f"minicrit: {stage}.out: expected a path that can be written to, got "
                           f"{out} (")  # fmt: skip
    assert why in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_root_of_all_folders_lies_in_itself():
    """There is no folder above it, which ended in a traceback."""
    assert _why_not(Path("/")) == _why_not(Path("/nosuch"))


def test_looking_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for stage in STAGES:
        check_destinations(stage, Recipe())
    assert list(tmp_path.iterdir()) == []


def test_what_is_finished_may_lie_where_nothing_can_be_made(capsys, tiny, tmp_path, monkeypatch):
    """Its rerun was refused, though it writes nothing; another recipe is, before it trains."""
    words = [f"--{name}={value}" for name, value in {
        "base.model": "tiny", "base.folder": tiny.folder.parent, "data.folder": tmp_path,
        "sft.out": tmp_path / "sft",
    }.items()]  # fmt: skip
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text("")
    recipe = load_recipe([], words)
    run = run_of(recipe, "sft", recipe.sft, tmp_path / "train.jsonl")
    (tmp_path / "sft").mkdir()
    write_manifest(tmp_path / "sft", stage="sft", inputs=run.files, settings=run.relevant,
                   facts={"fingerprint": run.fingerprint})  # fmt: skip

    def refuse(dir: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", dir)

    monkeypatch.setattr("minicrit.destinations.TemporaryFile", refuse)
    assert main(["sft", *words, "--sft.nodes=4"]) == OK  # nor does it need the machines of it
    assert main(["sft", *words, "--seed=9"]) == FAILED
    assert capsys.readouterr().err.endswith(
        f"minicrit: sft.out: expected a path that can be written to, got {tmp_path}/sft (nothing "
        f"can be made in {tmp_path}: Read-only file system); name another, or change its "
        "permissions\n"
    )


def test_judges_report_is_looked_at_where_one_is_named():
    recipe = Recipe()
    recipe.judge.out = Path("/dev/full/x")
    for stage in ("judge", "qualify"):
        with pytest.raises(ValueError, match=r"^judge\.out: expected a path that can be written"):
            check_destinations(stage, recipe)
