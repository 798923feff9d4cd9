"""How many requests are out at once: fewer as soon as a server says that it is crowded."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from data_gen.backends.protocol import HopelessError

_STOPPED = "the run: expected to go on, got a stop; see the first error"


class Pace:
    """Lets threads send in turns.

    All threads meet one limit. If all ask again at once after a wait, one gets through and each of
    the others has failed once more. So every failure of that kind halves how many may be out, and
    a whole round of answers is needed for one more.

    Attributes:
        answers: how many came so far, to any thread.
    """

    def __init__(self) -> None:
        self.answers = 0
        self._out, self._most, self._not_before = 0, math.inf, 0.0
        self._stopped = ""
        self._changed = threading.Condition()

    def stop(self, why: str = _STOPPED) -> None:
        """Lets no further request start; the first reason is what all others are told."""
        with self._changed:
            self._stopped = self._stopped or why
            self._changed.notify_all()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One request, as soon as it may be sent.

        Raises:
            HopelessError: if the run is stopped before.
        """
        self._enter()
        try:
            yield
        finally:
            with self._changed:
                self._out -= 1
                self._changed.notify_all()

    def answered(self) -> None:
        """To be told within a turn that ends in an answer."""
        with self._changed:
            self.answers += 1
            self._most += 1 / self._most

    def crowded(self, seconds: float) -> None:
        """To be told within a turn that met the limit; nothing is sent for so many seconds."""
        with self._changed:
            self._most = max(1, min(self._most, self._out) // 2)
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def _enter(self) -> None:
        with self._changed:
            while not self._stopped:
                left = self._not_before - time.monotonic()
                if left <= 0 and self._out + 1 <= self._most:
                    self._out += 1
                    return
                self._changed.wait(left if left > 0 else None)
        raise HopelessError(self._stopped)
