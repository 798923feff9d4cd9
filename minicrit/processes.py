"""Several processes of one run: what only one may do, the others wait for."""

import os
from collections.abc import Callable
from datetime import timedelta
from subprocess import Popen
from typing import Literal, TypeVar

import torch
from torch import distributed

#: Sampling and reference likelihoods may take long; a process that died is noticed at once.
_PATIENCE = timedelta(days=3)
T = TypeVar("T")


def under_slurm() -> bool:
    """Whether srun started this process; a shell inside of an interactive job is none of its."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_PROCID" in os.environ and "SLURM_NTASKS" in os.environ and not interactive


def nodes_of_step() -> int | None:
    """The machines that srun started this step on; None if it was not srun."""
    return int(os.environ.get("SLURM_STEP_NUM_NODES", "1")) if under_slurm() else None


def started_outside() -> bool:
    """Whether there are other processes of this run which torchrun or srun started."""
    several = under_slurm() and int(os.environ["SLURM_NTASKS"]) > 1
    return several or "TORCHELASTIC_RUN_ID" in os.environ


def started_by_lightning() -> bool:
    """Whether the first process of this run, not torchrun or srun, has started this one."""
    return os.environ.get("LOCAL_RANK", "0") != "0" and not started_outside()


def leads() -> bool:
    """Whether this is the first process of its run, as what started it says: none has met yet."""
    told = os.environ.get
    if "RANK" in os.environ:
        return told("RANK") == "0"
    return all(told(name, "0") == "0" for name in ("NODE_RANK", "LOCAL_RANK", "SLURM_PROCID"))


def let_go(started: list[Popen[bytes]]) -> None:
    """Ends the processes that Lightning has started for this one, which would wait for it.

    The list is emptied first: Lightning watches it, and kills this process if one of them fails.
    """
    processes = list(started)
    started.clear()
    for process in processes:
        process.kill()
        process.wait()


def device_kind() -> Literal["cuda", "cpu"]:
    """What critics run and are trained on: the GPU if there is one that CUDA knows.

    Never Apple's GPU (mps), which has no float64: losses and metrics are summed in it.
    """
    return "cuda" if torch.cuda.is_available() else "cpu"


def refuse_devices(stage: str, devices: int | str) -> None:
    """Refuses devices that are not there, or no number of them, before anything is loaded.

    Raises:
        ValueError: with the setting to change.
    """
    if devices == "auto":
        return
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise ValueError(f"{stage}.devices: expected auto or a whole number from 1, got "
                         f"{devices!r}; which GPUs is for CUDA_VISIBLE_DEVICES to say")  # fmt: skip
    if device_kind() == "cuda" and devices > (there := torch.cuda.device_count()):
        raise ValueError(f"{stage}.devices: expected at most the GPUs that are here ({there}), got "
                         f"{devices}; lower it, or set auto")  # fmt: skip


def refuse_nodes(stage: str, nodes: int) -> None:
    """Refuses machines on which nothing has started the run: it would wait for them, and not stop.

    Raises:
        ValueError: with the setting to change.
    """
    names = ["NODE_RANK", "RANK"]
    if "SLURM_JOB_ID" not in os.environ:  # slurm/env.sh exports it where nothing is started yet
        names.append("MASTER_ADDR")
    told = any(name in os.environ for name in names)
    if nodes > 1 and nodes_of_step() is None and not told:
        raise ValueError(f"{stage}.nodes: expected 1, as nothing has started the run on other "
                         f"machines, got {nodes}; set 1, or start it on all of them by srun "
                         "(slurm/README.md) or torchrun")  # fmt: skip


def take_gpu() -> None:
    """Makes the GPU that is this process's, of several on a machine, the one that `cuda` means."""
    if torch.cuda.is_available():
        local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID", "0")
        torch.cuda.set_device(int(local))


def meet() -> None:
    """Brings the processes of a run together, as torchrun says or, under Slurm, as srun does.

    Under Slurm, MASTER_ADDR is the first machine (slurm/env.sh) and the port follows from the job,
    as with Lightning.
    """
    if under_slurm():
        os.environ.setdefault("MASTER_PORT", str(15000 + int(os.environ["SLURM_JOB_ID"][-4:])))
        os.environ["RANK"] = os.environ["SLURM_PROCID"]
        os.environ["WORLD_SIZE"] = os.environ["SLURM_NTASKS"]
    take_gpu()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def first_alone(work: Callable[[], T]) -> T:
    """Process zero does the work; then the others, who should find it done.

    Outside of a group of processes this is a plain call. Processes that were started from outside
    (torchrun, srun) find each other here, if they have not yet.
    """
    if not distributed.is_initialized() and started_outside():
        meet()
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return work()
    group = distributed.new_group(timeout=_PATIENCE, backend="gloo")
    first = distributed.get_rank() == 0
    found = work() if first else None
    distributed.barrier(group)
    if not first:
        found = work()
    distributed.destroy_process_group(group)
    return found  # type: ignore[return-value]
