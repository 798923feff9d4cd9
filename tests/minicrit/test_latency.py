"""Times after a warm-up, and memory from a peak that was reset."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from minicrit import latency
from minicrit.verdict import Verdict
from tests.minicrit.benchmark_case import StandIn, small

MIB = 1 << 20


class Cold(StandIn):
    """Slow until it has been asked three times."""

    calls = 0

    def verdict(self, items: Sequence[tuple[str, str]]) -> list[Verdict]:
        self.calls += 1
        time.sleep(0.05 if self.calls <= latency.WARM_UP else 0.001)
        return super().verdict(items)


def test_the_warm_up_is_not_timed(tmp_path: Path) -> None:
    judge = Cold("a")
    times = latency.verdict_times(judge, small()[:6], tmp_path / "benchmark")
    assert (judge.calls, len(times)) == (3 + 6, 6)
    assert 0.001 <= min(times) <= float(np.median(times)) < 0.04


def test_percentiles_are_those_of_numpy() -> None:
    times = list(np.random.default_rng(0).exponential(0.1, 57))
    found = latency.milliseconds(times)
    for q in (50, 95, 99):
        assert found[f"p{q}"] == pytest.approx(1000 * np.percentile(times, q), abs=0.006)
    assert found["mean"] == pytest.approx(1000 * np.mean(times), abs=0.006)
    assert found["n"] == 57
    assert latency.milliseconds([]) == {"n": 0}


def test_a_peak_before_the_reset_does_not_count() -> None:
    """200 MiB come and go, then 60: the peak is that of the sixty."""
    if latency.PeakMemory().mib()["peak_memory_mib"] is None:
        pytest.skip("this kernel does not let a process reset its peak")
    np.ones(200 * MIB, dtype=np.uint8)
    memory = latency.PeakMemory()
    np.ones(60 * MIB, dtype=np.uint8)
    peak = memory.mib()["peak_memory_mib"]
    assert peak is not None
    assert 50 <= peak <= 110


def test_hardware_says_what_the_times_hold_for() -> None:
    found = latency.hardware()
    assert found["cores"] >= 1
    assert found["torch_threads"] >= 1
    assert found["cpu"]
