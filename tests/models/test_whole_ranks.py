"""All weights trained in several processes, shared out or not, stopped, killed, restarted."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from callbacks.resume import newest
from minicrit.files import folder_hashes
from minicrit.jsonl import read_lines
from minicrit.stopping import CONTINUE
from minicrit.whole import read_folder
from tests.models.test_lightning_ranks import ended, group, minicrit, until

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
WHOLE = ["--lora.rank", "0", "--sft.learning_rate", "1e-4", "--sft.samples", "0",
         "--sft.validate_every", "6", "--sft.save_every", "1"]  # fmt: skip
#: A hundred times what it was measured to be (docs/scaling.md).
SAME = 2e-12
TWO = ["--sft.devices", "2", "--sft.strategy", "fsdp"]


def trained(folder: Path, bases: Path, *runs: str) -> None:
    """Each NAME of whole_ranks.py, into a folder of that name."""
    script = Path(__file__).with_name("whole_ranks.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), str(bases), *runs], cwd=folder,
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def furthest(one: Path, other: Path) -> float:
    """Largest difference of a weight; both must have the same."""
    a, b = read_folder(one), read_folder(other)
    assert a.keys() == b.keys()
    assert next(iter(a.values())).dtype == torch.float64
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def curve(folder: Path) -> list[dict]:
    return [row for _, row in read_lines(folder / "history.jsonl")]


@pytest.mark.slow
def test_two_processes_that_share_all_weights_give_what_one_gives(tiny, tmp_path):
    """In float64, through packs of unequal ends, clipping and probes."""
    trained(tmp_path, tiny.folder.parent, "one", "two")
    start = read_folder(tiny.folder)
    moved = read_folder(tmp_path / "one" / "sft")
    still = [n for n in start if torch.equal(start[n].double(), moved[n])]
    assert not still  # all weights: embedding, norms, every matrix
    assert furthest(tmp_path / "one" / "sft", tmp_path / "two" / "sft") < SAME
    (alone,), (both,) = (curve(tmp_path / name / "sft") for name in ("one", "two"))
    assert both == pytest.approx(alone, abs=2e-6)
    # Longer than what it is clipped to, so a norm of one process's slices would show.
    norms = [float(line) for line in (tmp_path / "one" / "norms").read_text().split()]
    shared = [float(line) for line in (tmp_path / "two" / "norms").read_text().split()]
    assert max(norms) > 1.0
    assert shared == pytest.approx(norms, rel=1e-6)


@pytest.mark.slow
def test_other_ways_to_share_out_give_the_same(tiny, tmp_path):
    """Three processes, whose slices are unequal (128 rows: 43, 43 and 42), and DDP as well."""
    names = ("one", "ddp", "three", "three-ddp", "recomputed", "best-one", "best-two", "alone")
    trained(tmp_path, tiny.folder.parent, *names)
    at = {name: tmp_path / name / "sft" for name in names}
    for name in ("ddp", "recomputed", "alone"):
        assert furthest(at["one"], at[name]) < SAME
    assert furthest(at["three"], at["three-ddp"]) < SAME
    # Shared prefixes differ with the number of processes; norms round to float32.
    assert furthest(at["one"], at["three"]) < 1e-5
    assert furthest(at["best-one"], at["best-two"]) < SAME
    assert furthest(at["one"], at["best-one"]) > 1e-6  # not the last weights


@pytest.mark.slow
def test_stopped_after_any_step_it_goes_on_to_the_same_weights(tiny, tmp_path):
    """Asked in the second process alone; then with another number of processes each time."""
    names = ("two", "stopped", "resliced")
    trained(tmp_path, tiny.folder.parent, *names)
    assert folder_hashes(tmp_path / "two" / "sft") == folder_hashes(tmp_path / "stopped" / "sft")
    assert furthest(tmp_path / "two" / "sft", tmp_path / "resliced" / "sft") < 1e-5
    assert not (tmp_path / "stopped" / "sft.work").exists()


@pytest.mark.slow
def test_what_goes_wrong_in_one_process_ends_all_and_keeps_the_last_checkpoint(tiny, tmp_path):
    """A disk that is full for the second process alone; a slice of it that is no number."""
    trained(tmp_path, tiny.folder.parent, "full", "spoilt")
    for name in ("full", "spoilt"):
        assert newest(tmp_path / name / "sft.work").name == "step-1.ckpt"
        assert not (tmp_path / name / "sft").exists()


@pytest.mark.slow
def test_killed_and_torn_it_goes_on_to_the_same_bytes(tiny, tmp_path):
    """SIGKILL while it trains and saves; then a newest checkpoint with one spoilt slice."""
    (tmp_path / "bases").symlink_to(tiny.folder.parent)
    assert ended(minicrit(tmp_path, "data", "--data.train", "96")) == 0
    sft = ["sft", *WHOLE, *TWO, "--sft.out"]
    assert ended(minicrit(tmp_path, *sft, "whole/sft")) == 0
    work = tmp_path / "killed" / "sft.work"

    def marked() -> set[str]:
        return {path.name for path in work.glob("*.sha256")}

    for number in (signal.SIGKILL, signal.SIGUSR1):
        before = marked()
        process = minicrit(tmp_path, *sft, "killed/sft")
        until(lambda before=before: marked() - before, process)
        os.killpg(process.pid, number)
        assert ended(process) == (CONTINUE if number == signal.SIGUSR1 else -number)
        assert not group(process.pid)
    newest = max(work.glob("step-*.ckpt"), key=lambda path: int(path.name[5:-5]))
    assert sorted(p.name for p in newest.glob("*.ckpt")) == [
        "rank-0-of-2.ckpt", "rank-1-of-2.ckpt"
    ]  # fmt: skip
    spoilt = newest / "rank-1-of-2.ckpt"
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"?")
    (work / "step-999.ckpt").mkdir()  # begun, never marked
    assert ended(minicrit(tmp_path, *sft, "killed/sft")) == 0
    assert folder_hashes(tmp_path / "whole/sft") == folder_hashes(tmp_path / "killed/sft")
    assert not work.exists()
    shutil.rmtree(tmp_path / "killed")
