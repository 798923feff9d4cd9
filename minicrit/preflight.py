"""All machines of a job before anything long: who is there, and how fast they talk and write.

    minicrit preflight          (srun starts it on every machine of the job; alone it works, too)

Each process says what it is and writes a file to the disk of the checkpoints and to the temporary
one. If all are fit for it, they sum a tensor that each fills with its rank, which has one right
result, and time larger ones. Bandwidth of a sum is 2 (n - 1) / n times its bytes over its time,
what a ring moves each way.
"""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import distributed

from minicrit.care_config import PreflightConfig
from minicrit.config import Recipe
from minicrit.findings import Finding, fail, lines, ok, refuse_failures
from minicrit.graphics import check_bitsandbytes, check_cuda, check_precision
from minicrit.processes import device_kind, meet, started_outside

MB = 1 << 20
_REPEATS = 5


def preflight(recipe: Recipe) -> None:
    """Checks and prints, on process zero.

    Raises:
        ValueError: if a sum over all processes is wrong or any machine cannot use its GPU.
    """
    told = recipe.preflight
    several = started_outside()
    if several:
        meet()
    mine = [*about(), *disks(told)], "" if torch.cuda.is_available() else socket.gethostname()
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
    everybody = [mine] * world
    if several:
        distributed.all_gather_object(everybody, mine)
    findings = [f for found, _ in everybody for f in found]
    findings += unlike([without for _, without in everybody])
    _write(findings, rank)
    shared = [ok("network", "one process, nothing to sum")]
    if several:
        # All know the same by now, so either all sum or none: a sum waits for every process.
        ready = not any(one.level == "fail" for one in findings)
        shared = network(told, world) if ready else []
        distributed.destroy_process_group()
    _write(shared, rank)
    refuse_failures([*findings, *shared])


def _write(findings: Sequence[Finding], rank: int) -> None:
    """On process zero, and at once: what comes next may take long."""
    if rank == 0:
        sys.stdout.write(lines(findings))
        sys.stdout.flush()


def unlike(without: Sequence[str]) -> list[Finding]:
    """A failure if some processes can use CUDA and others cannot: no sum is made of both.

    Args:
        without: of each process, its machine if it cannot use CUDA, else nothing.
    """
    found = [machine for machine in without if machine]
    if len(found) in (0, len(without)):
        return []
    return [fail("cuda", f"{len(found)} of {len(without)} processes cannot use CUDA, on "
                 f"{', '.join(sorted(set(found)))}", "look at the driver there, or leave these "
                 "machines out")]  # fmt: skip


def about() -> list[Finding]:
    """What this process is and what it can use."""
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return [ok("machine", f"{socket.gethostname()}, {threads}"), check_cuda(), check_precision(),
            check_bitsandbytes()]  # fmt: skip


def disks(told: PreflightConfig) -> list[Finding]:
    """Seconds to write and sync a file where checkpoints go and where temporary files go."""
    found = []
    for name, folder in (("checkpoints", told.folder), ("temporary", Path(tempfile.gettempdir()))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            speed = write_speed(folder, told.disk_megabytes)
        except OSError as error:  # to be told of with the others, which wait for this process
            said = f"{socket.gethostname()}: {name}: {folder}: {error.strerror}"
            found.append(fail("disk", said, "free it, or leave the machine out"))
            continue
        found.append(ok("disk", f"{name}: {speed:.0f} MB/s to {folder}"))
    return found


def write_speed(folder: Path, megabytes: int) -> float:
    """MB/s of one file, synced."""
    block = os.urandom(MB)
    start = time.perf_counter()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".preflight-") as file:
        for _ in range(megabytes):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return megabytes / (time.perf_counter() - start)


def network(told: PreflightConfig, world: int) -> list[Finding]:
    """One sum with a known result, then larger ones against the clock."""
    device = device_kind()
    total = torch.full((1024,), float(distributed.get_rank()), device=device)
    distributed.all_reduce(total)
    right = world * (world - 1) / 2
    if not bool((total == right).all()):
        return [fail("network", f"a sum of ranks gave {total[0].item()} for {right}",
                     "try other nodes; tell the operators")]  # fmt: skip
    found = [ok("network", f"{world} processes, {distributed.get_backend()}, sums are right")]
    for megabytes in _sizes(told.megabytes):
        seconds = _time_sum(torch.ones(megabytes * MB // 4, device=device))
        moved = 2 * (world - 1) / world * megabytes * MB / seconds / 1e9
        found.append(ok("network", f"{megabytes} MB in {seconds * 1e3:.1f} ms: {moved:.2f} GB/s"))
    return found


def _sizes(largest: int) -> Sequence[int]:
    return sorted({1, max(1, largest // 16), largest})


def _time_sum(tensor: torch.Tensor) -> float:
    """Seconds of the fastest of some sums."""
    best = float("inf")
    for _ in range(_REPEATS):
        distributed.barrier()
        start = time.perf_counter()
        distributed.all_reduce(tensor)
        if tensor.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
