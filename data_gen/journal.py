"""What was sent, answered and spent, on disk before anything else happens with it.

One JSON object a line, synced before it counts. `kill -9` loses at most the line being written,
which is cut off at the next start; what a full disk leaves of one is cut off before anything is
written behind it. A request whose answer never came back counts as spent at what was reserved for
it, as nobody knows whether the server charged for it.

A batch is written down twice: as an intent with everything in it before it is created, and with the
server's id after. So an intent without an id says that a kill came in between (see `batcher`).
"""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from data_gen.backends.protocol import UNREADABLE, Answer, Usage
from minicrit.files import open_alone, to_json

_SENT, _ANSWER, _FAILED, _REFUSED = "sent", "answer", "failed", "refused"
_INTENT, _CREATED, _ENDED = "batch intent", "batch created", "batch ended"
_LOSSLESS = "surrogatepass"


@dataclass
class OpenBatch:
    """A batch that may be with the server.

    Attributes:
        name: ours. id: the server's; None if we never heard it.
        at: when it was written down, in seconds since 1970.
        size: requests in it. left: keys of those whose result has not been read.
    """

    name: str
    at: float
    size: int
    left: set[str]
    id: str | None = None


@dataclass
class Past:
    """What a journal says, without being able to write it.

    Attributes:
        answers: by key of the request.
        refused: why a request was not accepted, by its key, where that may have been charged.
        seconds: that each answer took, where it was asked for alone.
        spent: USD for all answers.
        counts: events by name: how many were sent, answered, failed.
        batches: those that may be with the server, by name, in the order of their intents.
        ids: the server's ids of all batches ever.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    spent: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    batches: dict[str, OpenBatch] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    _open: dict[str, list[float]] = field(default_factory=dict)

    @property
    def reserved(self) -> float:
        """USD for requests whose answer is still out or lost: they may have been spent."""
        return sum(sum(held) for held in self._open.values())

    @property
    def committed(self) -> float:
        """USD spent at most."""
        return self.spent + self.reserved

    def ledger(self) -> dict[str, float]:
        """USD, tokens by kind and events by name, for people."""
        tokens: Counter[str] = Counter()
        for answer in self.answers.values():
            tokens.update(asdict(answer.usage))
        spent = {"usd": round(self.spent, 6), "usd_lost_at_most": round(self.reserved, 6)}
        return {**spent, **tokens, **self.counts}

    @classmethod
    def read(cls, path: Path) -> Self:
        """The past of a run that may be going on; empty if there is no journal."""
        past = cls()
        if path.is_file():
            past.replay(path.read_bytes(), path)
        return past

    def replay(self, content: bytes, path: Path) -> int:
        """Takes all whole lines; how many bytes they are."""
        good = 0
        for number, raw in enumerate(content.splitlines(keepends=True), 1):
            if not raw.endswith(b"\n"):
                break  # killed while writing it
            try:
                # Answers are kept as they came, with whatever characters are in them.
                self.take(json.loads(raw.decode(errors=_LOSSLESS)))
            except UNREADABLE as error:
                raise ValueError(
                    f"{path}:{number}: expected a line of a journal, got one that is damaged "
                    f"({error}); restore the file"
                ) from error
            good += len(raw)
        return good

    def take(self, row: Mapping[str, Any]) -> None:
        """Accounts for one event."""
        event, key = row["event"], row["key"]
        if event in (_INTENT, _CREATED, _ENDED):
            self._take_batch(row)
        elif event == _SENT:
            self._open.setdefault(key, []).append(float(row["reserved"]))
        elif event == _REFUSED:  # what was reserved for it stays so
            self.refused[key] = str(row["why"])
        elif event in (_ANSWER, _FAILED):
            self._close(key)
            if "batch" in row:
                self.batches[row["batch"]].left.discard(key)
        else:
            raise ValueError(f"unknown event {event!r}")
        if event == _ANSWER:
            usage = Usage(**row["usage"])
            self.answers[key] = Answer(row["text"], row["stop"], usage, row["model"], row["reason"])
            self.spent += float(row["cost"])
            if "seconds" in row:
                self.seconds.append(float(row["seconds"]))
        self.counts[event] += 1

    def _take_batch(self, row: Mapping[str, Any]) -> None:
        name = row["key"]
        if row["event"] == _INTENT:
            held = {str(key): float(cost) for key, cost in row["reserved"].items()}
            self.batches[name] = OpenBatch(name, float(row["at"]), len(held), set(held))
            for key, cost in held.items():
                self._open.setdefault(key, []).append(cost)
            self.counts[_SENT] += len(held)
        elif row["event"] == _CREATED:
            self.batches[name].id = row["id"]
            self.ids.add(row["id"])
        else:
            ended = self.batches.pop(name)
            if not row["created"]:  # it never was with the server, so nothing was charged
                for key in ended.left:
                    self._close(key)
                self.counts[_FAILED] += len(ended.left)

    def _close(self, key: str) -> None:
        self._open[key].pop()
        if not self._open[key]:
            del self._open[key]


class Journal(Past):
    """The memory of a run. One process at a time; many threads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._lock = threading.RLock()
        self._file = open_alone(path)
        self._whole = self.replay(self._file.read(), path)  # bytes of the lines that count
        self._file.truncate(self._whole)
        self._torn = False

    @property
    def reserved(self) -> float:
        """What `Past.reserved` says, while no other thread changes it."""
        with self._lock:
            return super().reserved

    def reserve(self, key: str, cost: float, budget: float | None) -> bool:
        """Writes down that a request is about to be sent; False, and nothing, if over budget."""
        with self._lock:
            if budget is not None and self.committed + cost > budget:
                return False
            self._write({"event": _SENT, "key": key, "reserved": cost})
            return True

    def settle(self, key: str, answer: Answer, cost: float, seconds: float) -> None:
        """Writes an answer down; from now on the request is never sent again."""
        with self._lock:
            self._write({"event": _ANSWER, "key": key, "cost": cost, "seconds": round(seconds, 3),
                         **asdict(answer)})  # fmt: skip

    def release(self, key: str, why: str) -> None:
        """Writes down that a request failed without being charged."""
        with self._lock:
            self._write({"event": _FAILED, "key": key, "why": why[:300]})

    def refuse(self, key: str, why: str) -> None:
        """Writes down that a request is not accepted, though it may be charged; not sent again."""
        with self._lock:
            self._write({"event": _REFUSED, "key": key, "why": why[:300]})

    def intend(self, name: str, reserved: Mapping[str, float]) -> OpenBatch:
        """Writes down that a batch is about to be created, with what each request may cost."""
        with self._lock:
            self._write({"event": _INTENT, "key": name, "at": time.time(), "reserved": reserved})
            return self.batches[name]

    def created(self, name: str, id_: str) -> None:
        """Writes down that the server has the batch, under which id."""
        with self._lock:
            self._write({"event": _CREATED, "key": name, "id": id_})

    def collect(self, name: str, results: Iterable[tuple[str, Answer | str, float]]) -> None:
        """Writes results of a batch down, with one sync: (key, answer or failure, USD) each."""
        rows: list[dict[str, Any]] = []
        for key, result, cost in results:
            row: dict[str, Any] = {"event": _FAILED, "key": key, "batch": name}
            if isinstance(result, Answer):
                row |= {"event": _ANSWER, "cost": cost, **asdict(result)}
            else:
                row["why"] = result[:300]
            rows.append(row)
        with self._lock:
            self._write(*rows)

    def ended(self, name: str, *, created: bool = True) -> None:
        """Writes down that a batch is over; what it holds no result of stays reserved.

        `created` is False if the server never got it: then nothing of it was charged.
        """
        with self._lock:
            self._write({"event": _ENDED, "key": name, "created": created})

    def close(self) -> None:
        """Lets another run open it."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, *rows: dict[str, Any]) -> None:
        lines = b"".join(to_json(row).encode(errors=_LOSSLESS) + b"\n" for row in rows)
        file = self._file.fileno()  # a buffer would keep what a full disk refuses, and add it later
        if self._torn:
            os.ftruncate(file, self._whole)
        self._torn = True  # until all of it is there
        left = memoryview(lines)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
        self._torn = False
        self._whole += len(lines)
        for row in rows:
            self.take(row)
