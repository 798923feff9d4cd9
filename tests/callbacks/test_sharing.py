"""Checkpoints of several files: whole with all of them, or not there; slices of tensors."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from callbacks.resume import DurableIO, newest, seal
from callbacks.sharing import dealt, parts


def saved(folder, step: int, count: int = 2):
    path = folder / f"step-{step}.ckpt"
    for rank in range(count):
        name = f"rank-{rank}-of-{count}.ckpt"
        DurableIO().save_checkpoint({"w": torch.full((2,), float(rank))}, path / name)
    seal(path)
    return path


def test_parts_are_read_by_rank_however_many(tmp_path):
    path = saved(tmp_path, 4, 11)
    read = [DurableIO().load_checkpoint(part)["w"][0].item() for part in parts(path)]
    assert read == list(range(11))


@pytest.mark.parametrize("harm", ["cut", "missing", "foreign", "unmarked"])
def test_a_checkpoint_that_lacks_anything_is_skipped_with_a_warning(tmp_path, caplog, harm):
    good, bad = saved(tmp_path, 2), saved(tmp_path, 4)
    assert newest(tmp_path) == bad
    part = bad / "rank-1-of-2.ckpt"
    if harm == "cut":
        part.write_bytes(part.read_bytes()[:-1])
    elif harm == "missing":
        part.unlink()
    elif harm == "foreign":  # of a run of more processes
        (bad / "rank-2-of-3.ckpt").write_bytes(part.read_bytes())
    else:
        (tmp_path / "step-4.ckpt.sha256").unlink()
    assert newest(tmp_path) == good
    assert "step-4.ckpt: expected a whole checkpoint" in caplog.text


def test_it_is_removed_with_all_its_files_marker_first(tmp_path):
    path = saved(tmp_path, 2)
    DurableIO().remove_checkpoint(path)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_strategy_is_refused(tmp_path):
    single = tmp_path / "step-2.ckpt"
    DurableIO().save_checkpoint({"w": torch.ones(2)}, single)
    with pytest.raises(ValueError, match=r"expected a checkpoint of slices .* got another; go on"):
        parts(single)
    with pytest.raises(ValueError, match=r"expected a checkpoint of one file.* set sft.strategy"):
        DurableIO().load_checkpoint(saved(tmp_path, 4))


@given(rows=st.integers(1, 40), before=st.integers(1, 9), after=st.integers(1, 9))
def test_slices_of_some_processes_are_dealt_out_to_others(rows, before, after):
    """As FSDP2 does: torch.chunk, empty for processes beyond."""
    whole = torch.arange(3.0 * rows).view(rows, 3)
    given_out = [dealt([whole], (rank, before)) for rank in range(before)]
    again = [dealt(given_out, (rank, after)) for rank in range(after)]
    assert torch.equal(torch.cat(again), whole)
    most = -(-rows // after)
    assert [len(one) for one in again] == [
        max(0, min(most, rows - rank * most)) for rank in range(after)
    ]


def test_the_log_says_how_large_a_folder_was(tmp_path, caplog):
    from types import SimpleNamespace

    from callbacks.resume import Resume

    caplog.set_level(logging.INFO)
    path = saved(tmp_path, 4)
    resume = Resume(tmp_path, every=1, validated=())
    resume.saves = 1
    trainer = SimpleNamespace(is_global_zero=True, loggers=[], global_step=4)
    resume.on_train_end(trainer, None)
    size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
    assert f"1 checkpoints of {size:.1f} MB" in caplog.text
