"""Checkpoints: whole or not there."""

import pytest
import torch

from callbacks.resume import DurableIO, newest


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


def test_nothing_there_is_none(tmp_path):
    assert newest(tmp_path) is None
    assert newest(tmp_path / "missing") is None


def test_failed_save_leaves_the_folder_as_it_was(tmp_path):
    saved(tmp_path, 2)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(Exception, match=r"pickle|serializ|local"):
        DurableIO().save_checkpoint({"bad": lambda: 0}, tmp_path / "step-4.ckpt")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_pickled_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Evil()}, tmp_path / "step-1.ckpt")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        DurableIO().load_checkpoint(tmp_path / "step-1.ckpt")
    assert not (tmp_path / "ran").exists()
