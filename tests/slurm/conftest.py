"""A clone as it lies on Vista, with stand-ins for what is not here."""

import os
import shutil
from pathlib import Path

import pytest

from tests.slurm.clone import MINICRIT
from tests.slurm.stand_ins import put_on_path

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone below $SCRATCH whose stages are stand-ins; the working directory."""
    clone = tmp_path / "scratch" / "minicrit"
    shutil.copytree(ROOT / "slurm", clone / "slurm")
    for log in (clone / "slurm/logs").glob("[!.]*"):
        log.unlink()
    shutil.copy(ROOT / "Makefile", clone)
    for name in ("pyproject.toml", "constraints.txt", "data_gen/x.py", "mine.yaml"):
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text("")
    command = clone / ".venv/bin/minicrit"
    command.parent.mkdir(parents=True)
    command.write_text(MINICRIT)
    command.chmod(0o755)
    (clone / ".venv/.ready").write_text("")
    for name in [n for n in os.environ if n.startswith(("SLURM_", "MAKE", "MINICRIT"))]:
        if name != "SLURM_CONF":  # where a real one is found
            monkeypatch.delenv(name)
    for name in ("RECIPE", "RUN", "BITS", "LAUNCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("WORK", str(tmp_path / "work"))
    monkeypatch.setenv("RECIPE", "mine.yaml")
    monkeypatch.chdir(clone)
    return clone


@pytest.fixture
def vista(clone, tmp_path, monkeypatch):
    """The clone, and stand-ins for Slurm's commands."""
    monkeypatch.setenv("PATH", put_on_path(tmp_path / "bin"))
    monkeypatch.setenv("STAND_IN_NODES", "2")
    return clone
