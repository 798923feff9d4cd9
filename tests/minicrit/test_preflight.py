"""The check of all machines: alone, and as two processes that srun started."""

import os
import socket
import sys

import pytest
import torch
from torch import distributed

from minicrit.care_config import PreflightConfig
from minicrit.config import Recipe
from minicrit.findings import ok
from minicrit.preflight import network, preflight, unlike, write_speed
from minicrit.processes import nodes_of_step, started_outside, under_slurm


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith(("SLURM_", "TORCHELASTIC", "MASTER_"))]:
        monkeypatch.delenv(name)


def recipe() -> Recipe:
    return Recipe(preflight=PreflightConfig(megabytes=2, disk_megabytes=1))


def test_one_process_checks_itself(capsys):
    preflight(recipe())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [
        "machine", "cuda", "precision", "bitsandbytes", "disk", "disk", "network",
    ]  # fmt: skip
    assert lines[-1].endswith("one process, nothing to sum")


def test_a_disk_is_written_and_left_clean(tmp_path):
    assert write_speed(tmp_path, 1) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_bad_disk_is_a_finding_and_keeps_nobody_waiting(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.touch()
    told = recipe()
    told.preflight.folder = blocked / "checkpoints"
    with pytest.raises(
        ValueError, match="expected a machine that is ready, got trouble with disk;"
    ):
        preflight(told)
    lines = [line for line in capsys.readouterr().out.splitlines() if " disk " in line]
    assert f"{blocked}/checkpoints: Not a directory" in lines[0]
    assert "temporary: " in lines[1]


def test_two_processes_of_srun_meet_and_sum(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        if not (child := os.fork()):
            status = 1
            try:
                os.environ |= {
                    "SLURM_PROCID": str(rank), "SLURM_NTASKS": "2", "SLURM_JOB_ID": "100001",
                    "SLURM_STEP_NUM_NODES": "2", "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port), "SLURM_LOCALID": "0",
                }  # fmt: skip
                with open(f"out-{rank}", "w") as out:
                    sys.stdout = out
                    preflight(recipe())
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    lines = (tmp_path / "out-0").read_text().splitlines()
    assert (tmp_path / "out-1").read_text() == ""
    assert sum(line.split()[1] == "machine" for line in lines) == 2
    assert "2 processes, gloo, sums are right" in lines[-3]
    assert lines[-1].split()[2:4] == ["2", "MB"]


def test_who_cannot_take_part_is_told_of_and_no_sum_waits_for_it(monkeypatch, capsys):
    def gather(everybody, mine):
        everybody[:] = [mine, ([ok("machine", "other")], "")]

    ended = []
    monkeypatch.setattr("minicrit.preflight.started_outside", lambda: True)
    monkeypatch.setattr("minicrit.preflight.meet", lambda: None)
    monkeypatch.setattr("minicrit.preflight.network", lambda *_: pytest.fail("nobody would answer"))
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_gather_object", gather)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: ended.append("group"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="got trouble with cuda; mend each as its line says"):
        preflight(recipe())
    told = capsys.readouterr().out.splitlines()[-1]
    assert f"cuda         1 of 2 processes cannot use CUDA, on {socket.gethostname()}; " in told
    assert ended == ["group"]


def test_processes_are_alike_with_cuda_or_without():
    assert unlike(["", ""]) == unlike(["a", "b"]) == []
    (finding,) = unlike(["b", "", "a", "a"])
    assert (finding.level, finding.said) == ("fail", "3 of 4 processes cannot use CUDA, on a, b")


def test_a_wrong_sum_is_a_failure(monkeypatch):
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor.fill_(7.0))
    (finding,) = network(PreflightConfig(), world=4)
    assert finding.level == "fail"
    assert "gave 7.0 for 6.0" in finding.said


def test_who_is_started_by_srun(monkeypatch):
    assert not under_slurm()
    assert nodes_of_step() is None
    monkeypatch.setenv("SLURM_NTASKS", "4")  # the shell of a job is no step
    assert not under_slurm()
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "4")
    assert under_slurm()
    assert started_outside()
    assert nodes_of_step() == 4
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert not started_outside()
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert not under_slurm()
