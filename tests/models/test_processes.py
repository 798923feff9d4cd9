"""Two processes give what one gives: weights, scores, files. On CPU, through gloo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minicrit.config import BaseConfig, Recipe
from minicrit.jsonl import read_lines
from minicrit.manifest import read_manifest
from minicrit.run import run_of
from minicrit.trainee import trainee

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(("told", "taken"), [
    ({"LOCAL_RANK": "2", "SLURM_LOCALID": "1"}, 2), ({"SLURM_LOCALID": "1"}, 1), ({}, 0),
])  # fmt: skip
def test_the_base_goes_to_the_gpu_of_its_process(tiny, tmp_path, monkeypatch, told, taken):
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    seen = []

    def load(*_, **__):
        raise InterruptedError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: len(seen) > 0)
    monkeypatch.setattr("minicrit.trainee.load_model", load)
    recipe = Recipe(base=BaseConfig(model="tiny", folder=tiny.folder.parent))
    run = run_of(recipe, "sft", recipe.sft, tmp_path / "train.jsonl")
    with pytest.raises(InterruptedError):
        trainee(run)
    assert run.settings.precision == "bf16-mixed"  # asked of that GPU, too
    assert set(seen) == {taken}


def trained(folder: Path, bases: Path, *stages: str) -> None:
    script = Path(__file__).with_name("ranks.py")
    command = [sys.executable, str(script), str(folder), str(bases), *stages]
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False,
        timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def assert_same(alone: Path, both: Path) -> None:
    one, two = weights(alone), weights(both)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-6, rtol=1e-6, msg=name)
    curves = [[row for _, row in read_lines(f / "history.jsonl")] for f in (alone, both)]
    assert len(curves[0]) == len(curves[1]) > 1
    for a, b in zip(*curves, strict=True):
        assert b == pytest.approx(a, abs=2e-6)
    a, b = (read_manifest(folder)["facts"] for folder in (alone, both))
    assert {**b, "best": None} == {**a, "best": None}
    assert a.get("best", {}).get("step") == b.get("best", {}).get("step")
    assert not both.with_name(both.name + ".work").exists()


def written(folder: Path) -> list[str]:
    """Relative names, without the run's own and what TensorBoard adds to a log's."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(n.split(".tfevents.")[0].replace(f"logs/{folder.name}", "logs") for n in names)


@pytest.mark.slow
def test_every_stage_with_two_processes(tiny, tmp_path):
    stages = ("sft", "rsf", "dpo", "dpo-live", "kto")
    trained(tmp_path, tiny.folder.parent, *stages)
    for name in stages:
        assert_same(tmp_path / "alone" / name, tmp_path / "both" / name)
    live, kept = (weights(tmp_path / "alone" / name) for name in ("dpo-live", "dpo"))
    for name, weight in kept.items():
        torch.testing.assert_close(live[name], weight, atol=1e-6, rtol=1e-6)
    # Neither a second log, nor work that is left, nor a file of the second process.
    assert written(tmp_path / "both") == written(tmp_path / "alone")
    # One pack of held-out pairs: the second process validates on none.
    assert read_manifest(tmp_path / "both" / "dpo")["facts"]["pairs"]["held_out"] > 0


@pytest.mark.slow
def test_the_command_line_starts_the_second_process_itself(tiny, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "base").symlink_to(tiny.folder.parent)
    minicrit = [sys.executable, "-m", "minicrit.cli"]
    told = ["--config", "tiny", "--data.train", "16", "--data.validation", "6",
            "--sft.precision", "64-true", "--sft.samples", "1",
            "--sft.validate_every", "1"]  # fmt: skip
    both = ["--sft.devices", "2", "--sft.strategy", "ddp", "--sft.out", "checkpoints/both/sft"]
    for words in (["data"], ["sft", "--sft.out", "checkpoints/alone/sft"], ["sft", *both]):
        done = subprocess.run(
            [*minicrit, words[0], *told, *words[1:]], cwd=tmp_path, env=ENVIRONMENT,
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    assert_same(tmp_path / "checkpoints/alone/sft", tmp_path / "checkpoints/both/sft")
