"""What can happen to a running command, and when: by the clock, or before a given file operation.

Every change to a file below the working folder that Python makes raises an audit event just before
it: opening to write, renaming, removing, making or removing a folder. So the n-th of them is a
moment that can be met again: between a rename and the marker after it, in the middle of a manifest.
"""

import errno
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGUSR1": signal.SIGUSR1,
           "SIGINT": signal.SIGINT}  # fmt: skip
FULL, MEMORY = "full disk", "no memory"
KINDS = (*SIGNALS, FULL, MEMORY)
#: Exit statuses by kind: 0 where it came too late, the signal itself where it came before the
#: command had taken over. An allocator or a thread may fail by SIGABRT, glibc's loader, for what a
#: thread has of its own, by 127.
EXPECTED = {
    "SIGKILL": {-9, 0}, "SIGTERM": {85, 0, -15}, "SIGUSR1": {85, 0, -10}, "SIGINT": {130, 0},
    FULL: {1, 0}, MEMORY: {1, 0, -6, -11, 127, 134, 139},
}  # fmt: skip
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Harm:
    """One mishap.

    Attributes:
        kind: of `KINDS`.
        seconds: after the start; or
        operation: number of the file operation that it comes before, from 1.
        size: bytes of a file that still fit on a full disk, or of memory that is left.
    """

    kind: str
    seconds: float | None = None
    operation: int | None = None
    size: int = 0

    def __str__(self) -> str:
        when = f"after {self.seconds:.2f} s" if self.seconds is not None else (
            f"before file operation {self.operation}")  # fmt: skip
        return f"{self.kind} {when}"


def drawn(dice: random.Random, kind: str, seconds: float, operations: int) -> Harm:
    """A mishap of this kind at a random moment of a run so long, with so many operations."""
    size = dice.choice((0, dice.randrange(1 << 12), dice.randrange(1 << 20)))
    if kind == MEMORY:
        size = dice.randrange(1 << 25)
    if dice.random() < 0.5:
        return Harm(kind, seconds=dice.uniform(0, seconds), size=size)
    return Harm(kind, operation=dice.randint(1, operations), size=size)


def strike(harm: Harm, process: int) -> None:
    """Lets it happen to another process, now."""
    if harm.kind in SIGNALS:
        os.kill(process, SIGNALS[harm.kind])
    elif harm.kind == FULL:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (harm.size, harm.size))
    else:
        most = _memory(process) + harm.size
        resource.prlimit(process, resource.RLIMIT_AS, (most, most))


def _memory(process: int) -> int:
    """Bytes of address space that a process has."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[0]) * resource.getpagesize()


class Watch:
    """Counts the file operations of this process below its working folder, and harms it."""

    def __init__(self, harm: Harm | None) -> None:
        self.harm, self.folder, self.operations = harm, os.getcwd() + os.sep, 0
        sys.addaudithook(self._see)

    def _see(self, event: str, given: tuple[Any, ...]) -> None:
        if not (event in _CHANGES or (event == "open" and _writes(given))) or not self._ours(given):
            return
        self.operations += 1
        if self.harm and self.operations == self.harm.operation:
            _befall(self.harm)

    def _ours(self, given: tuple[Any, ...]) -> bool:
        path = given[0]
        if not isinstance(path, str | bytes):
            return False  # a descriptor, as of a pipe
        text = os.fsdecode(path)
        return not text.startswith("/") or text.startswith(self.folder)


def _writes(given: tuple[Any, ...]) -> bool:
    _, mode, flags = given
    return bool(set(mode) & set("wxa+")) if mode else bool(flags & _WRITES)


def _befall(harm: Harm) -> None:
    if harm.kind == FULL and harm.size % 2:
        strike(harm, os.getpid())  # the operation succeeds, what is written does not fit
    elif harm.kind == FULL:
        strike(harm, os.getpid())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif harm.kind == MEMORY:
        raise MemoryError
    else:
        strike(harm, os.getpid())


def strike_later(harm: Harm, process: int, ended: Callable[[], bool]) -> None:
    """Waits for the moment of a harm by the clock, unless the process ends before."""
    assert harm.seconds is not None
    moment = time.monotonic() + harm.seconds
    while time.monotonic() < moment and not ended():
        time.sleep(min(0.005, max(0.0, moment - time.monotonic())))
    if not ended():
        strike(harm, process)
