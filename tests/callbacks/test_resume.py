"""Checkpoints: whole or not there."""

import errno
import os
import random
import resource
import signal
import time
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from callbacks.resume import DurableIO, Resume, newest


def saved(folder, step: int):
    path = folder / f"step-{step}.ckpt"
    DurableIO().save_checkpoint({"step": step, "w": torch.ones(3)}, path)
    return path


def test_what_is_saved_is_loaded(tmp_path):
    path = saved(tmp_path, 4)
    loaded = DurableIO().load_checkpoint(path)
    assert loaded["step"] == 4
    assert torch.equal(loaded["w"], torch.ones(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-4.ckpt", "step-4.ckpt.sha256"]


def test_newest_by_number_not_by_name(tmp_path):
    saved(tmp_path, 9)
    newer = saved(tmp_path, 10)
    assert newest(tmp_path) == newer


@pytest.mark.parametrize("harm", ["cut", "flip", "unmarked"])
def test_torn_checkpoint_is_skipped_with_a_warning(tmp_path, caplog, harm):
    good, bad = saved(tmp_path, 2), saved(tmp_path, 4)
    data = bytearray(bad.read_bytes())
    if harm == "cut":
        bad.write_bytes(data[:-100])
    elif harm == "flip":
        data[len(data) // 2] ^= 1
        bad.write_bytes(data)
    else:
        (tmp_path / "step-4.ckpt.sha256").unlink()
    assert newest(tmp_path) == good
    assert "step-4.ckpt: expected a whole checkpoint" in caplog.text


def test_if_none_is_whole_it_does_not_start_again_by_itself(tmp_path):
    for step in (2, 4):
        path = saved(tmp_path, step)
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"expected a checkpoint that fits .* got none of 2; rest"):
        newest(tmp_path)


def test_a_first_checkpoint_that_was_never_finished_is_none(tmp_path, caplog):
    saved(tmp_path, 2).with_name("step-2.ckpt.sha256").unlink()
    assert newest(tmp_path) is None
    assert "step-2.ckpt: expected a whole checkpoint" in caplog.text


def test_a_file_that_grows_too_large_keeps_the_old_ones(tmp_path):
    """EFBIG in the middle of a write; a full disk gives ENOSPC at the same place."""
    old = saved(tmp_path, 2)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    if not (child := os.fork()):
        status = 0
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
            DurableIO().save_checkpoint({"w": torch.ones(1 << 20)}, tmp_path / "step-4.ckpt")
        except OSError as error:
            status = error.errno
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EFBIG
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert newest(tmp_path) == old


def save_without_a_pause(folder) -> None:
    last = newest(folder)
    first = int(last.stem.split("-")[1]) + 1 if last else 1
    for step in range(first, first + 10_000):
        weights = torch.full((1 << 19,), float(step))
        DurableIO().save_checkpoint({"step": step, "w": weights}, folder / f"step-{step}.ckpt")
        DurableIO().remove_checkpoint(folder / f"step-{step - 3}.ckpt")


def test_killed_while_saving_a_whole_one_stays(tmp_path):
    rng = random.Random(0)
    saved(tmp_path, 1)
    reached = set()
    for _ in range(20):
        if not (child := os.fork()):
            try:
                save_without_a_pause(tmp_path)
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        found = newest(tmp_path)
        assert found is not None
        loaded = DurableIO().load_checkpoint(found)
        assert loaded["w"].unique().tolist() == [1.0 if loaded["step"] == 1 else loaded["step"]]
        reached.add(loaded["step"])
    assert max(reached) > len(reached) > 1


def test_nothing_there_is_none(tmp_path):
    assert newest(tmp_path) is None
    assert newest(tmp_path / "missing") is None


@pytest.mark.parametrize("value", [
    Path("x"), np.float64(1.0), np.ones(2), SimpleNamespace(a=1), lambda: 0, {"in": [Path("x")]},
], ids=lambda v: type(v).__name__)  # fmt: skip
def test_what_would_not_load_again_is_not_saved(tmp_path, value):
    saved(tmp_path, 2)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"step-4.ckpt: callbacks.* expected tensors and plain"):
        DurableIO().save_checkpoint({"callbacks": {"bad": value}}, tmp_path / "step-4.ckpt")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_every_kind_of_setting_comes_back_as_it_was(tmp_path):
    kinds = {"a": 1, "b": 1e-5, "c": "x", "d": None, "e": True, "f": [1, (2, {"g"})],
             "h": torch.bfloat16, "i": b"x", "j": {1: OrderedDict(k=2)}}  # fmt: skip
    path = tmp_path / "step-1.ckpt"
    DurableIO().save_checkpoint(kinds, path)
    assert DurableIO().load_checkpoint(path) == kinds


def test_pickled_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Evil()}, tmp_path / "step-1.ckpt")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        DurableIO().load_checkpoint(tmp_path / "step-1.ckpt")
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_removed_is_named_and_goes_the_next_time(tmp_path, monkeypatch, caplog):
    """Some file systems need room to remove a file, too."""
    work = tmp_path / "work"
    (work / "best-4").mkdir(parents=True)
    (work / "best-4" / "adapter").write_text("x")
    resume = Resume(work, every=1, validated=())

    def full(path, **_):
        raise OSError(errno.ENOSPC, "no room", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", full)
        resume.clear()
    assert "expected to remove it, got" in caplog.text
    assert (work / "best-4" / "adapter").is_file()
    resume.clear()
    assert not work.exists()
    caplog.clear()
    resume.clear()  # nothing there, nothing said
    assert caplog.text == ""
