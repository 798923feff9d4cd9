"""Turns of two critics, one of which takes four times as long."""

import time

import pytest

from minicrit import quantize_speed


class Slow:
    """Keeps a processor busy for so long, and remembers what it was asked."""

    def __init__(self, busy: float) -> None:
        self.busy = busy
        self.asked: list[tuple[int, ...]] = []

    def p_flawed(self, items: list[int]) -> None:
        self.asked.append(tuple(items))
        end = time.process_time() + self.busy
        while time.process_time() < end:
            pass


def test_ratios_are_those_of_the_processor_time() -> None:
    critics = Slow(0.04), Slow(0.01)
    found = quantize_speed._verdicts(critics, [*range(5)], 2, 3)  # type: ignore[arg-type]
    assert found["speedup_cpu"] == pytest.approx(4, rel=0.3)
    assert found["float"]["cpu_ms"] == pytest.approx(40, rel=0.3)
    assert found["float"]["wall_ms"] >= found["float"]["cpu_ms"] * 0.9
    assert found["turns"] == 3


def test_both_get_the_same_whole_batches_and_the_items_start_again() -> None:
    """Batches of 2 of 5 items begin at 0, 2 and 0: 4 would leave only one."""
    critics = Slow(0), Slow(0)
    quantize_speed._verdicts(critics, [*range(5)], 2, 3)  # type: ignore[arg-type]
    assert critics[0].asked == critics[1].asked == [(0, 1), (2, 3), (0, 1)]
