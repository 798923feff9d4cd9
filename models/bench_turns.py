"""The clock of one side of the training bench, and the process that it runs in.

Each side trains in a process of its own, so that its peak memory is its own. After each step it
waits until the others have had their turn: whatever else the machine does hits all alike, and no
two of them ever hold the memory of a step at the same time. That of a GPU each keeps from its first
step on, as torch does: to let go of it would be paid for in the next step.
"""

import logging
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch

from minicrit.latency import PeakMemory


@dataclass(frozen=True)
class Step:
    """One optimizer step: its loss, seconds of processors and of the clock, peak memory so far.

    Attributes:
        loss: before the step.
        cpu: seconds of all threads of the process.
        wall: seconds.
        memory: MiB of the process above the loaded model; None if the kernel does not tell.
        gpu_memory: MiB of the GPU above the loaded model; None without a GPU.
        tokens: that were computed, padding left out.
    """

    loss: float
    cpu: float
    wall: float
    memory: float | None
    gpu_memory: float | None
    tokens: int


@dataclass
class Turns:
    """Times the steps of a training; with a connection, it waits for a word before each.

    Attributes:
        connection: to whoever gives the word; None to go on at once.
        last: number of steps, after which nobody waits.
        steps: those that were done.
    """

    connection: Connection | None
    last: int
    steps: list[Step] = field(default_factory=list)
    _loss: float = 0.0
    _tokens: int = 0

    def loaded(self) -> None:
        """The model is there: memory counts from here."""
        self._peak = PeakMemory()
        gpu = torch.cuda.is_available()
        self._held = torch.cuda.memory_allocated() / (1 << 20) if gpu else 0.0
        self._start()

    def seen(self, loss: torch.Tensor, tokens: int) -> None:
        """What the step that is being done had to do."""
        self._loss, self._tokens = float(loss), tokens

    def beat(self) -> None:
        """A step is done: reports it and waits."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        peak = self._peak.mib()
        gpu = peak["peak_gpu_memory_mib"]
        step = Step(self._loss, cpu, wall, peak["peak_memory_mib"],
                    None if gpu is None else gpu - self._held, self._tokens)  # fmt: skip
        self.steps.append(step)
        if self.connection:
            self.connection.send(step)
            if len(self.steps) < self.last:
                self.connection.recv()
        self._start()

    def _start(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()


class Side:
    """A side in a process of its own. It starts, like every step of it, when it is told to.

    Args:
        train: trains with the turns it is given; can be imported by name.
        steps: how many it does.
        threads: of the process.
    """

    def __init__(self, train: Callable[[Turns], None], *, steps: int, threads: int) -> None:
        context = get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(train, other, steps, threads))
        told = surroundings(threads)
        before = {name: os.environ.get(name) for name in told}
        os.environ.update(told)  # read when the process starts
        try:
            self._process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        other.close()
        self.failure: str | None = None

    def step(self) -> Step | None:
        """Lets it do its next step; None once it has failed, and then `failure` says how."""
        if self.failure:
            return None
        try:
            self._connection.send("go")
            step = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            self.failure = f"exit status {self._process.exitcode}"
            return None
        assert isinstance(step, Step)
        return step

    def close(self) -> None:
        """Ends the process, finished or not."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def surroundings(threads: int) -> dict[str, str]:
    """Environment of a side: its threads, and one GPU, as TRL would split a batch over all."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    return {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": first}


def _work(train: Callable[[Turns], None], connection: Connection, steps: int, threads: int) -> None:
    torch.set_num_threads(threads)
    os.environ["TQDM_DISABLE"] = "1"
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    connection.recv()
    train(Turns(connection, steps))
