"""Every answer given goes to the database, in batches and behind the caller's back.

Feedback names an answer, so before it is written the answer it is about has to be (`settle`).
What was given in the last fraction of a second before a kill may be missing, and then no feedback
on it has been acknowledged either.
"""

import logging
import threading
import time
from collections.abc import Sequence

from minicrit.feedback.entries import Request
from minicrit.feedback.store import FeedbackStore, UnavailableError

log = logging.getLogger(__name__)

_PAUSE_S = 0.05  # so long answers are gathered into one transaction
_PATIENCE_S = 10.0  # that feedback waits for the disk
_MOST = 4096  # answers in memory; beyond that callers wait for the disk


class Recorder:
    """A buffer and the thread that empties it."""

    def __init__(self, store: FeedbackStore) -> None:
        self._store = store
        self._rows: list[Request] = []
        self._changed = threading.Condition()
        self._writing: list[Request] = []
        self._hurry = self._stopping = False
        self._fault: str | None = None  # why the last try failed, as told
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what is left and ends."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def pending(self) -> int:
        """Answers not yet on disk."""
        return len(self._rows) + len(self._writing)

    @property
    def full(self) -> bool:
        """Whether the disk is behind by so much that new requests should be refused."""
        return self.pending >= _MOST

    @property
    def failing(self) -> bool:
        """Whether the last try to write failed: what is answered is in memory alone."""
        return self._fault is not None

    def add(self, rows: Sequence[Request]) -> None:
        """Takes requests as `FeedbackStore.add_requests` does."""
        with self._changed:
            self._rows.extend(rows)
            self._changed.notify_all()

    def settle(self, request_id: str) -> None:
        """Waits until this request is on disk, if it is among those to be written.

        Raises:
            UnavailableError: if the disk does not take it within ten seconds.
        """
        until = time.monotonic() + _PATIENCE_S
        with self._changed:
            while any(row.request_id == request_id for row in (*self._rows, *self._writing)):
                if not self._hurry:  # told once, or two who wait wake each other without end
                    self._hurry = True
                    self._changed.notify_all()
                if not self._changed.wait(until - time.monotonic()) and until < time.monotonic():
                    raise UnavailableError("expected a database that takes what was answered, got "
                                           "one that does not; see the log")  # fmt: skip

    def settle_all(self) -> None:
        """Waits until everything that was given before is on disk."""
        with self._changed:
            last = (*self._writing, *self._rows)[-1:]
        if last:
            self.settle(last[0].request_id)

    def _work(self) -> None:
        while self._gather():
            last = self._stopping
            try:
                self._write()
            except Exception as error:  # noqa: BLE001 - a full disk, mostly: tried again
                self._say(error)
                if last:
                    log.critical("%d answers are lost: the service ends", len(self._writing))
                    return
                self._rest()
                continue
            if self._fault is not None:
                log.warning("answers are written again")
            with self._changed:
                self._fault, self._writing = None, []
                self._changed.notify_all()

    def _say(self, error: Exception) -> None:
        """Once, not with every try: a log on the same disk would help to fill it."""
        told, self._fault = self._fault, f"{type(error).__name__}: {error}"
        if told != self._fault:
            known = isinstance(error, UnavailableError)
            log.error("%d answers could not be written: %s; tried again each second",
                      len(self._writing), error, exc_info=None if known else error)  # fmt: skip

    def _write(self) -> None:
        """Writes all of them; one that the database refuses does not hold up the others."""
        try:
            self._store.add_requests(self._writing)
        except ValueError:
            for row in self._writing:
                try:
                    self._store.add_requests([row])
                except ValueError:
                    log.exception("answer %s is not recorded", row.request_id)

    def _gather(self) -> bool:
        """Takes what is there into `_writing`; False if there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._rows or self._writing or self._stopping)
            self._changed.wait_for(lambda: self._hurry or self._stopping, _PAUSE_S)
            self._hurry = False
            self._writing, self._rows = [*self._writing, *self._rows], []
            return bool(self._writing)

    def _rest(self) -> None:
        """Waits a little before the next try, which a stop makes the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, 1.0)
