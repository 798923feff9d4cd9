"""Two processes that Lightning starts itself stop together when asked, with the status for it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minicrit.files import folder_hashes
from minicrit.stopping import CONTINUE

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TOLD = ["--config", "tiny", "--base.folder", "bases", "--data.folder", "data"]
RANKS = ["--sft.devices", "2", "--sft.strategy", "ddp", "--sft.epochs", "6", "--sft.samples", "0",
         "--sft.validate_every", "30", "--sft.save_every", "1"]  # fmt: skip


def minicrit(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A command, the first of a group of processes that can be signalled together."""
    return subprocess.Popen(
        [sys.executable, "-m", "minicrit.cli", words[0], *TOLD, *words[1:]], cwd=folder, text=True,
        env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> int:
    """The exit status, once nobody of the group is left."""
    _, said = process.communicate(timeout=600)
    patience = time.monotonic() + 30
    while left := group(process.pid):
        assert time.monotonic() < patience, left
        time.sleep(0.05)
    sys.stdout.write(said[-2000:])
    return process.returncode


def group(leader: int) -> list[int]:
    """All processes of a group that are alive: what nobody has waited for is not."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if os.getpgid(int(entry.name)) == leader and state != "Z":
                found.append(int(entry.name))
        except (ProcessLookupError, FileNotFoundError):
            continue
    return found


def until(there, process: subprocess.Popen[str]) -> None:
    while not there():
        assert process.poll() is None, ended(process)
        time.sleep(0.05)


@pytest.mark.slow
def test_a_group_stops_with_one_status_and_goes_on_to_the_same_bytes(tiny, tmp_path):
    """Asked while the second process loads; in training, both; in training, the first alone."""
    (tmp_path / "bases").symlink_to(tiny.folder.parent)
    sft = ["sft", *RANKS, "--sft.out"]
    assert ended(minicrit(tmp_path, "data", "--data.train", "32")) == 0
    assert ended(minicrit(tmp_path, *sft, "whole/sft")) == 0
    process = minicrit(tmp_path, *sft, "stopped/sft")
    until(lambda: len(group(process.pid)) > 1, process)
    os.killpg(process.pid, signal.SIGTERM)
    assert ended(process) == CONTINUE
    work = tmp_path / "stopped" / "sft.work"
    for number, send in ((signal.SIGTERM, os.killpg), (signal.SIGUSR1, os.kill)):
        before = {path.name for path in work.glob("*.sha256")}
        process = minicrit(tmp_path, *sft, "stopped/sft")
        until(lambda before=before: {p.name for p in work.glob("*.sha256")} - before, process)
        send(process.pid, number)
        assert ended(process) == CONTINUE
    assert ended(minicrit(tmp_path, *sft, "stopped/sft")) == 0
    assert folder_hashes(tmp_path / "whole/sft") == folder_hashes(tmp_path / "stopped/sft")
    assert not work.exists()
