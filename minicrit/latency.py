"""Times, memory and the machine they hold for: the part of a report that differs between runs."""

# mypy: disable-error-code="import-untyped"
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from minicrit.judging import Judge, Readable, item_of, keep

WARM_UP = 3
PERCENTILES = (50, 95, 99)
_MIB = 1 << 20
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): sets the peak resident size to the present one


class PeakMemory:
    """Most memory since `PeakMemory()` above what was in use then, in MiB; None if unknown."""

    def __init__(self) -> None:
        """Starts a new peak; without Linux's /proc there is none."""
        self._start: int | None = None
        if _STATUS.exists() and _reset_peak():
            self._start = _status("VmRSS")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def mib(self) -> dict[str, float | None]:
        """Of the process, and of the current GPU."""
        cuda = torch.cuda.max_memory_allocated() / _MIB if torch.cuda.is_available() else None
        host = None if self._start is None else (_status("VmHWM") - self._start) / 1024
        return {"peak_memory_mib": _one(host), "peak_gpu_memory_mib": _one(cuda)}


def verdict_times(judge: Judge, examples: Sequence[Readable], out: Path) -> list[float]:
    """Seconds of each verdict, asked one by one after a warm-up; kept as they are taken."""
    items = [item_of(e) for e in examples]
    with keep(judge, examples, out, "times") as kept:
        places = range(len(kept.rows), len(items))
        for item in items[:WARM_UP] if places else ():
            judge.verdict([item])
        for place in tqdm(places, unit="item", desc=f"latency {judge.name}"):
            item = items[place]
            spent = seconds(lambda item=item: judge.verdict([item]))  # type: ignore[misc]
            kept.add({"item": place, "seconds": spent})
    return [row["seconds"] for row in kept.rows]


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes, until the GPU has finished too."""
    begin = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def milliseconds(times: Sequence[float]) -> dict[str, float | int | None]:
    """p50, p95, p99 and mean in ms; with few items p99 is little more than the slowest."""
    if not times:
        return {"n": 0}
    found = {f"p{q}": _one(1000 * float(np.percentile(times, q)), 2) for q in PERCENTILES}
    return {**found, "mean": _one(1000 * float(np.mean(times)), 2), "n": len(times)}


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, torch's threads, memory, GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_model(),
        "cores": cores,
        "torch_threads": torch.get_num_threads(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
    }


def _cpu_model() -> str:
    """As the kernel names it; on ARM it often does not."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def _reset_peak() -> bool:
    """Whether the kernel let us start a new peak (some containers do not)."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _status(key: str) -> int:
    """A size of this process in KiB."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise ValueError(f"{_STATUS}: expected {key}, got none; this kernel does not report memory")


def _one(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)
