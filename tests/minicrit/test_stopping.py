"""Signals that wait for a better moment; processes that are let go."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from minicrit import stopping
from minicrit.cli import main
from minicrit.processes import let_go, started_by_lightning
from minicrit.stopping import Stopped, held_back, let_through, stoppable


def asked(number: signal.Signals, done: list[str], *, through: bool) -> None:
    with stoppable():
        with held_back():
            os.kill(os.getpid(), number)
            done.append("goes on")
            if through:
                with stoppable():
                    let_through()
                    wait()
                    done.append("goes on after that")
        wait()
        done.append("goes on at the end")


def wait() -> None:
    """What another thread of the process receives reaches the main thread later, by the kernel."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        time.sleep(0.01)


@pytest.fixture(params=[False, True], ids=["alone", "with a thread"])
def _threads(request):
    """Another thread, older than the block, receives what the main thread does not."""
    over = threading.Event()
    if request.param:
        threading.Thread(target=over.wait).start()
    yield
    over.set()


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_that_is_held_back_counts_at_the_end_or_when_it_is_let_through(number, through):
    done: list[str] = []
    with pytest.raises(Stopped, match=f"stopped by {number.name}"):
        asked(number, done, through=through)
    assert done == ["goes on"]
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGUSR1}


def test_one_that_comes_while_handlers_are_put_back_leaves_nothing_blocked(monkeypatch):
    """Another thread received it: the main thread's mask does not hold it."""
    put = signal.signal

    def interrupted(number, handler):
        before = put(number, handler)
        if handler is stopping._stop and before is stopping._note:
            handler(number, None)
        return before

    monkeypatch.setattr(signal, "signal", interrupted)
    with pytest.raises(Stopped, match="stopped by SIGUSR1"), stoppable(), held_back():
        pass
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(stopping.SIGNALS)


@pytest.mark.parametrize(("number", "status", "said"), [
    (signal.SIGTERM, 85, "minicrit: stopped by SIGTERM; it keeps nothing, so the same command "
     "begins anew\n"),
    (signal.SIGINT, 130, "minicrit: interrupted; it keeps nothing, so the same command begins "
     "anew\n"),
])  # fmt: skip
def test_a_critique_that_is_stopped_has_nothing_to_go_on_from(
    capsys, monkeypatch, number, status, said
):
    class Stdin:
        @property
        def buffer(self):
            signal.raise_signal(number)  # as it waits for the text

    monkeypatch.setattr(sys, "stdin", Stdin())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["critique", "-"]) == status
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == said


def test_what_is_started_meanwhile_begins_so_too():
    """It would die of the signal otherwise, before it could set a handler."""
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM); print('alive')"
    with held_back():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"alive\n")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGTERM


def test_processes_are_let_go_and_nobody_watches_them_any_more():
    waiting = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    watched = [waiting]
    let_go(watched)
    assert watched == []
    assert waiting.returncode == -signal.SIGKILL
    let_go([])


@pytest.mark.parametrize(("environment", "expected"), [
    ({}, False), ({"LOCAL_RANK": "0"}, False), ({"LOCAL_RANK": "1"}, True),
    ({"LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}, False),
    ({"LOCAL_RANK": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, False),
])  # fmt: skip
def test_who_started_a_process(monkeypatch, environment, expected):
    for name in ("LOCAL_RANK", "TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_NTASKS",
                 "SLURM_JOB_NAME"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert started_by_lightning() is expected
