"""Stopping when asked: SIGUSR1, which Slurm sends before the time limit, and SIGTERM.

Either stops a command so that the same command goes on where it stopped, if it keeps anything, with
the exit status `CONTINUE`. Stages whose files are atomic or journalled stop where they are, as for
Ctrl-C; training stops at an optimizer step that all processes agree on, with a checkpoint
(`callbacks/stopping.py`).
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

#: Exit status: stopped as asked, nothing is lost, there is more to do.
CONTINUE = 85
SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
_NOTED: list[int] = []


class Stopped(BaseException):
    """A run that was asked to stop has stopped. No `Exception`, so that no handler swallows it.

    It says by what, and after what; the command line adds whether the same command goes on.
    """


@contextmanager
def stoppable() -> Iterator[None]:
    """Lets either signal raise `Stopped` in the block; outside of the main thread it does nothing.

    What the signals did before is put back at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Both signals wait until the block ends, or until `let_through`; in the main thread only.

    They are noted, as other threads may receive them; and blocked, as processes that are started
    meanwhile begin so, too: none is lost while it loads.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _NOTED.clear()
    handlers = {number: signal.signal(number, _note) for number in SIGNALS}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        # First, as one that another thread receives now may raise between any two of these lines.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        let_through()


def let_through() -> None:
    """Both signals are handled from here on, by what handles them now; those that came, too."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    noted = _NOTED.copy()
    _NOTED.clear()
    for number in noted:
        signal.raise_signal(number)


def _note(number: int, frame: FrameType | None) -> None:
    _NOTED.append(number)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(f"stopped by {signal.Signals(number).name}")
