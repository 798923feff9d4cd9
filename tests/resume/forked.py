"""Runs commands as forks of a process that has loaded everything: a start costs no seconds.

    python -m tests.resume.forked       # a server: requests on standard input, answers on output
    python -m tests.resume.forked data  # one that has loaded what makes data, and not torch

What forks must have one thread and have used no thread pool of torch.
"""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from minicrit.config import Recipe
from minicrit.entry import interrupted
from minicrit.manifest import code_version
from minicrit.settings import load_recipe
from tests.bars import lock_bars_apart
from tests.resume.harm import SIGNALS, Harm, Watch, strike_later

ROOT = Path(__file__).parents[2]
#: Seconds after which a command that was harmed counts as hanging and is killed.
PATIENCE = 300.0


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: of the exit; -n for signal n.
        seconds: it took.
        operations: file operations that it did, if it came to its end by itself.
        hung: whether it had to be killed.
        said: the last of what it wrote; of one that hung, where each thread stood, too.
    """

    status: int
    seconds: float
    operations: int
    hung: bool
    said: str


def run_forked(words: Sequence[str], folder: Path, harm: Harm | None = None) -> Ended:
    """`minicrit WORDS` in a folder, as a fork of this process; a harm may befall it."""
    _warmed(words)
    told, tell = os.pipe()
    counted, count = os.pipe()
    started = time.monotonic()
    if not (child := os.fork()):
        os.close(told)
        os.close(counted)
        _be(words, folder, harm, (tell, count))
    os.close(tell)
    os.close(count)
    hung, over = threading.Event(), threading.Event()

    def end() -> None:
        if harm and harm.seconds is not None:
            strike_later(harm, child, over.is_set)
        if not over.wait(PATIENCE):
            hung.set()
            os.kill(child, signal.SIGKILL)

    watcher = threading.Thread(target=end)
    watcher.start()
    said = _read(told)[-12000:].decode(errors="replace")
    status = _awaited(child, over)
    watcher.join()
    seconds = time.monotonic() - started
    return Ended(status, seconds, int(_read(counted) or 0), hung.is_set(), said)


def _awaited(child: int, over: threading.Event) -> int:
    """The exit status; while the zombie is there, nobody else has its number."""
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    over.set()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _be(words: Sequence[str], folder: Path, harm: Harm | None, pipes: tuple[int, int]) -> None:
    """The child: becomes the command and ends with it."""
    status = 1
    try:
        lock_bars_apart()
        for number in SIGNALS.values():
            if number != signal.SIGKILL:
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(pipes[0], 1)
        os.dup2(pipes[0], 2)
        os.close(pipes[0])
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1) for n in (1, 2))
        sys.argv = ["minicrit", *words]
        os.chdir(folder)
        tempfile.tempdir = str(folder / "tmp")
        status = _command(harm, pipes[1])
    except KeyboardInterrupt:  # before it is the command, which `entry` hears from its first line
        status = interrupted()
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(status)


@cache
def _parsed(*argv: object) -> Recipe:
    """Read before the fork: reading settings takes longer than the stages here."""
    configs, flags = argv
    return load_recipe(list(configs), list(flags))  # type: ignore[call-overload]


def _warmed(words: Sequence[str]) -> None:
    at = words.index("--config")
    _parsed((words[at + 1],), (*words[1:at], *words[at + 2 :]))


def _command(harm: Harm | None, count: int) -> int:
    from minicrit import cli

    cli.load_recipe = lambda configs, flags: deepcopy(_parsed(tuple(configs), tuple(flags)))
    main = cli.main
    watch = Watch(harm)
    faulthandler.dump_traceback_later(0.9 * PATIENCE)
    try:
        status = main()
    finally:
        # Not to be interrupted any more: it is over.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGINT})
        sys.stdout.flush()
        os.write(count, str(watch.operations).encode())
    return status


class Warm:
    """A server of its own, with hashes of its own: what depends on them would show.

    One for the stages that make data alone starts ten times as fast.
    """

    def __init__(self, hashes: int, *, data_alone: bool = False) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(hashes),
                       "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_PROXY": "*",
                       "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.resume.forked", *["data"] * data_alone], cwd=ROOT,
            env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, words: Sequence[str], folder: Path, harm: Harm | None = None) -> Ended:
        """As `run_forked`."""
        assert self._server.stdin
        assert self._server.stdout
        asked = {"words": list(words), "folder": str(folder), "harm": asdict(harm) if harm else 0}
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        return Ended(**json.loads(self._server.stdout.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()


def _load_data() -> None:
    """What the stages that make data load late."""
    import data_gen.backends.openai_like
    import data_gen.hard
    import data_gen.stage

    list(data_gen.stage.compose(8, 0, "train"))  # reads the families
    code_version()


def _load_all() -> None:
    """What the others load, too."""
    import lightning  # noqa: F401
    import torch
    from lightning.pytorch.loggers import TensorBoardLogger  # noqa: F401

    import data_gen.backends.readout_server
    import data_gen.rejection  # noqa: F401
    import minicrit.benchmark
    import minicrit.quantize
    import minicrit.train  # noqa: F401
    from callbacks import alarms, best, health, history, samples, throughput  # noqa: F401
    from models import data, dpo, rsf, sft  # noqa: F401

    torch.set_num_threads(1)


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _load_data()
    if sys.argv[1:] != ["data"]:
        _load_all()
    assert threading.active_count() == 1, threading.enumerate()
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        harm = Harm(**asked["harm"]) if asked["harm"] else None
        found = run_forked(asked["words"], Path(asked["folder"]), harm)
        answers.write(json.dumps(asdict(found)) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
