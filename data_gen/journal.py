"""What was sent, answered and spent, on disk before anything else happens with it.

One JSON object a line, synced one by one. `kill -9` loses at most the line being written, which is
cut off at the next start. A request whose answer never came back counts as spent at what was
reserved for it, as nobody knows whether the server charged for it.
"""

import fcntl
import os
import threading
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from data_gen.backends.protocol import Answer, Usage
from minicrit.files import to_json
from minicrit.jsonl import parse_object

_SENT, _ANSWER, _FAILED = "sent", "answer", "failed"


class Journal:
    """The memory of a run. One process at a time; many threads.

    Attributes:
        answers: by key of the request.
        spent: USD for all answers. reserved: USD for requests whose answer is still out or lost.
        counts: how many were sent, answered, failed.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.spent = 0.0
        self.counts: Counter[str] = Counter()
        self._open: dict[str, list[float]] = {}
        self._lock = threading.Lock()
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{path}: expected to be the only run that writes it, got another; "
                             "wait for it or stop it") from error  # fmt: skip
        self._replay()

    @property
    def reserved(self) -> float:
        """USD that may have been spent beyond `spent`."""
        return sum(sum(held) for held in self._open.values())

    @property
    def committed(self) -> float:
        """USD spent at most."""
        return self.spent + self.reserved

    def reserve(self, key: str, cost: float, budget: float | None) -> bool:
        """Writes down that a request is about to be sent; False, and nothing, if over budget."""
        with self._lock:
            if budget is not None and self.committed + cost > budget:
                return False
            self._write({"event": _SENT, "key": key, "reserved": cost})
            return True

    def settle(self, key: str, answer: Answer, cost: float) -> None:
        """Writes an answer down; from now on the request is never sent again."""
        with self._lock:
            self._write({"event": _ANSWER, "key": key, "cost": cost, **asdict(answer)})

    def release(self, key: str, why: str) -> None:
        """Writes down that a request failed without being charged."""
        with self._lock:
            self._write({"event": _FAILED, "key": key, "why": why[:300]})

    def close(self) -> None:
        """Lets another run open it."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(to_json(row).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._take(row)

    def _replay(self) -> None:
        self._file.seek(0)
        good = 0
        for number, raw in enumerate(self._file.read().splitlines(keepends=True), 1):
            if not raw.endswith(b"\n"):
                break  # killed while writing it
            try:
                self._take(parse_object(raw))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path}:{number}: expected a line of a journal, got one that is damaged "
                    f"({error}); restore the file"
                ) from error
            good += len(raw)
        self._file.truncate(good)

    def _take(self, row: dict[str, Any]) -> None:
        event, key = row["event"], row["key"]
        if event == _SENT:
            self._open.setdefault(key, []).append(float(row["reserved"]))
        elif event in (_ANSWER, _FAILED):
            self._open[key].pop()
            if not self._open[key]:
                del self._open[key]
        else:
            raise ValueError(f"unknown event {event!r}")
        if event == _ANSWER:
            usage = Usage(**row["usage"])
            self.answers[key] = Answer(row["text"], row["stop"], usage, row["model"], row["reason"])
            self.spent += float(row["cost"])
        self.counts[event] += 1
