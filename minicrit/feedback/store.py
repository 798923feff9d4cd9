"""The feedback database: requests, operators' decisions and outcomes, append-only and durable.

    with FeedbackStore(Path("feedback/store.db")) as store:
        store.add_request(request_id, "trading", rationale, result)
        store.add_decision(request_id, "disagree", "ann")

Any number of threads and processes may use one file. `add_*` return after a commit that is synced
to disk; if one raises, nothing was acknowledged, and the same call may be made again.
"""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from minicrit.feedback.entries import (
    AUDIT_SHARE,
    Decision,
    Request,
    chance_of,
    check_name,
    check_number,
    check_text,
    unit_of,
)
from minicrit.feedback.schema import connect
from minicrit.files import to_json
from minicrit.jsonl import RefusedError, shown

AUDIT_EVERY = 2  # one of so many places of the queue is for the audit
_PAGE = 500  # rows read at once by an iterator, so that no reader holds the log for long
_INNER = ("seq", "chance", "answered", "shadowed")  # columns that repeat what others hold
_MOST = 10_000  # places of a queue
T = TypeVar("T")


class UnknownRequestError(ValueError):
    """Feedback on a request that the store does not hold."""


class ConflictError(ValueError):
    """Another row stands under the same id or key."""


class UnavailableError(OSError):
    """The file cannot be written or read now: locked, full, damaged or moved away."""


class FeedbackStore:
    """One feedback database; usable from several threads."""

    def __init__(self, path: Path, *, patience: float = 5.0) -> None:
        """Opens the file, or makes it.

        Args:
            path: of the database; beside it lie its log and index (-wal, -shm) while it is open.
            patience: seconds to wait for another writer.

        Raises:
            ValueError: if the file is not a feedback database of this version.
            UnavailableError: if it cannot be opened.
        """
        self.path = Path(path)
        self._patience = patience
        self._writing = threading.Lock()  # SQLite would let waiting threads sleep, not queue
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._closed = False
        with self._said():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._idle.append(connect(self.path, patience))
            self._file = _identity(self.path)

    def close(self) -> None:
        """Closes all connections; later calls raise."""
        with self._idle_lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def add_request(  # noqa: PLR0913  one name for each thing that is said of it
        self, request_id: str, domain: str, rationale: str, result: Mapping[str, Any], *,
        experiment: str | None = None, arm: str | None = None,
        shadow: Mapping[str, Any] | None = None, at: float | None = None,
    ) -> None:  # fmt: skip
        """Adds one request; see `entries.Request`."""
        self.add_requests([Request(
            request_id=request_id, domain=domain, rationale=rationale, result=result,
            experiment=experiment, arm=arm, shadow=shadow, at=at,
        )])  # fmt: skip

    def add_requests(self, requests: Sequence[Request]) -> None:
        """Adds all of them in one commit, or none.

        Raises:
            ValueError: for a request that is not as it should be.
            ConflictError: for an id that is there already, or twice among them.
        """
        for request in requests:
            request.check()
        rows = list(map(_columns, requests))

        def write(connection: sqlite3.Connection) -> None:
            for row in rows:
                if _row(connection, row["request_id"]) is not None:
                    raise ConflictError("request_id: expected a new one, got "
                                        f"{shown(row['request_id'])}, which is there; give each "
                                        "request its own")  # fmt: skip
                _insert(connection, "requests", row)

        self._write(write)

    def add_decision(  # noqa: PLR0913
        self, request_id: str, decision: str, operator: str, *, label: str | None = None,
        flaw_type: str | None = None, evidence: Mapping[str, Any] | None = None,
        critique: str | None = None, note: str | None = None,
        idempotency_key: str | None = None, at: float | None = None,
    ) -> int:  # fmt: skip
        """Adds one decision and returns its number; see `entries.Decision`.

        Raises:
            ValueError: if it is not as it should be.
            UnknownRequestError: for a request that is not there.
            ConflictError: if another decision was given under the same idempotency key.
        """
        given = Decision(
            request_id=request_id, decision=decision, operator=operator, label=label,
            flaw_type=flaw_type, evidence=evidence, critique=critique, note=note,
            idempotency_key=idempotency_key, at=at,
        )  # fmt: skip

        def write(connection: sqlite3.Connection) -> int:
            check_name("request_id", given.request_id)
            request = _known(connection, given.request_id)
            row = {"label": given.said(request["rationale"], json.loads(request["result"])),
                   **given.words()}  # fmt: skip
            key = given.idempotency_key
            found = connection.execute("SELECT * FROM decisions WHERE idempotency_key = ?",
                                       (key,)).fetchone()  # fmt: skip
            if found is not None:
                return _same(found, row)
            return _insert(connection, "decisions",
                           {**row, "at": _time(at), "idempotency_key": key})  # fmt: skip

        return self._write(write)

    def add_outcome(
        self, request_id: str, value: float, note: str | None = None, at: float | None = None
    ) -> int:
        """Adds what became of the matter, and returns its number.

        Raises:
            ValueError: if the value is no finite number.
            UnknownRequestError: for a request that is not there.
        """
        check_name("request_id", request_id)
        row = {"request_id": request_id, "value": check_number("value", value), "note": note,
               "at": _time(at)}  # fmt: skip
        if note is not None:
            check_text("note", note, layout=True)

        def write(connection: sqlite3.Connection) -> int:
            _known(connection, request_id)
            return _insert(connection, "outcomes", row)

        return self._write(write)

    def request(self, request_id: str) -> dict[str, Any] | None:
        """One request with its decisions, or None."""
        with self._connection() as connection:
            found = _row(connection, request_id)
            if found is None:
                return None
            made = connection.execute("SELECT * FROM decisions WHERE request_id = ? ORDER BY id",
                                      (request_id,)).fetchall()  # fmt: skip
            return {**_request(found), "decisions": list(map(_decision, made))}

    def requests(self) -> Iterator[dict[str, Any]]:
        """All requests, in the order in which they came."""
        return map(_request, self._pages("requests", "seq"))

    def decisions(self) -> Iterator[dict[str, Any]]:
        """All decisions, in the order in which they came."""
        return map(_decision, self._pages("decisions", "id"))

    def outcomes(self) -> Iterator[dict[str, Any]]:
        """All outcomes, in the order in which they came."""
        return map(dict, self._pages("outcomes", "id"))

    def queue(self, limit: int) -> list[dict[str, Any]]:
        """Requests that nobody has decided on: the least certain first, and every other one drawn.

        Every AUDIT_EVERY-th place, counted on from the decisions there are, is the next request of
        the audit in the order of its draw, so that an operator who works through the queue decides
        on a random sample of all requests beside the least certain ones. Requests of the audit
        stand in no other place: they would come earlier the less certain they are.
        """
        if not 0 < limit <= _MOST:
            raise RefusedError(f"limit from 1 to {_MOST}", str(limit), "ask for fewer")
        with self._connection() as connection:
            drawn = _undecided(connection, "chance < ? ORDER BY chance", limit)
            doubtful = _undecided(connection, "chance >= ? ORDER BY certainty, seq", limit)
            made = connection.execute("SELECT count(*) FROM decisions").fetchone()[0]
        found = []
        for place in range(made + 1, made + 1 + limit):
            first, second = (drawn, doubtful) if place % AUDIT_EVERY == 0 else (doubtful, drawn)
            if source := first or second:
                found.append(_request(source.pop(0)))
        return found

    def judged(self) -> Iterator[dict[str, Any]]:
        """All decisions in order, each with what the request was answered: `answered`, `shadowed`.

        Also `unit`, `experiment`, `arm` and whether it is for the `audit`.
        """
        about = "r.unit, r.answered, r.shadowed, r.experiment, r.arm, r.chance"
        both = "decisions AS d JOIN requests AS r USING (request_id)"
        join = f"(SELECT d.*, {about} FROM {both})"  # noqa: S608
        for row in self._pages(join, "id"):
            yield {**_decision(row), "audit": row["chance"] < AUDIT_SHARE}

    def rewarded(self) -> Iterator[dict[str, Any]]:
        """All outcomes in order, each with `unit`, `experiment` and `arm` of its request."""
        both = "outcomes AS o JOIN requests AS r USING (request_id)"
        join = f"(SELECT o.*, r.unit, r.experiment, r.arm FROM {both})"  # noqa: S608
        return map(dict, self._pages(join, "id"))

    def counts(self) -> list[dict[str, Any]]:
        """How many `requests` there are by `experiment`, `arm`, `audit`, `answered`, `shadowed`."""
        by = "experiment, arm, chance < ? AS audit, answered, shadowed"
        with self._connection() as connection:
            rows = connection.execute(
                f"SELECT {by}, count(*) AS requests FROM requests "  # noqa: S608
                "GROUP BY experiment, arm, audit, answered, shadowed",
                (AUDIT_SHARE,),
            ).fetchall()
        return list(map(dict, rows))

    def state(self) -> dict[str, Any]:
        """How the critic stands with its operators, see `standing.standing`."""
        from minicrit.feedback.standing import standing

        return standing(self)

    def _pages(self, table: str, key: str) -> Iterator[sqlite3.Row]:
        last = 0
        while True:
            with self._connection() as connection:
                rows = connection.execute(
                    f"SELECT * FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT {_PAGE}",  # noqa: S608
                    (last,),
                ).fetchall()
            yield from rows
            if len(rows) < _PAGE:
                return
            last = rows[-1][key]

    def _write(self, act: Callable[[sqlite3.Connection], T]) -> T:
        with self._writing, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                done = act(connection)
                if _identity(self.path) != self._file:
                    raise UnavailableError(
                        f"{self.path}: expected the database that was opened, got another file or "
                        "none; put it back, or open it anew")  # fmt: skip
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return done

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else uses meanwhile; one that failed is not used again."""
        with self._idle_lock:
            if self._closed:
                raise UnavailableError(f"{self.path}: expected an open store, got a closed one; "
                                       "open it again")  # fmt: skip
            connection = self._idle.pop() if self._idle else None
        with self._said():
            used = connection or connect(self.path, self._patience)
            try:
                yield used
            except sqlite3.Error:
                used.close()
                raise
            except BaseException:
                self._give_back(used)
                raise
            self._give_back(used)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._idle_lock:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except UnavailableError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise UnavailableError(
                f"{self.path}: expected a database that can be written, got {error}; free the "
                "disk, wait for the other writer or mend the path, then try again: nothing of "
                "this was kept") from error  # fmt: skip


def _columns(request: Request) -> dict[str, Any]:
    shadow = request.shadow
    return {
        "request_id": request.request_id, "at": _time(request.at), "domain": request.domain,
        "rationale": request.rationale, "result": to_json(dict(request.result)),
        "experiment": request.experiment, "arm": request.arm,
        "shadow": None if shadow is None else to_json(dict(shadow)),
        "unit": unit_of(request.domain, request.rationale), "answered": request.result["label"],
        "shadowed": None if shadow is None else shadow["label"],
        "certainty": request.certainty, "chance": chance_of(request.request_id),
    }  # fmt: skip


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _time(at: float | None) -> float:
    return time.time() if at is None else check_number("at", at)


def _row(connection: sqlite3.Connection, request_id: str) -> sqlite3.Row | None:
    found: sqlite3.Row | None = connection.execute(
        "SELECT * FROM requests WHERE request_id = ?", (request_id,)
    ).fetchone()
    return found


def _known(connection: sqlite3.Connection, request_id: str) -> sqlite3.Row:
    found = _row(connection, request_id)
    if found is None:
        raise UnknownRequestError(f"request_id: expected one that was answered here, got "
                                  f"{shown(request_id)}; copy it from the answer")  # fmt: skip
    return found


def _same(found: sqlite3.Row, row: Mapping[str, Any]) -> int:
    """The number of a decision given again; refused if its words differ."""
    if differing := [name for name, value in row.items() if found[name] != value]:
        raise ConflictError(f"idempotency_key: expected the same decision as the first time, got "
                            f"another {differing[0]}; use a new key")  # fmt: skip
    return int(found["id"])


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    done = connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608
                              tuple(row.values()))  # fmt: skip
    return int(done.lastrowid or 0)


def _undecided(connection: sqlite3.Connection, which: str, limit: int) -> list[sqlite3.Row]:
    return connection.execute(
        "SELECT * FROM requests AS r WHERE NOT EXISTS (SELECT 1 FROM decisions AS d WHERE "  # noqa: S608
        f"d.request_id = r.request_id) AND {which} LIMIT ?",
        (AUDIT_SHARE, limit),
    ).fetchall()


def _request(row: sqlite3.Row) -> dict[str, Any]:
    found = {name: row[name] for name in row.keys() if name not in _INNER}  # noqa: SIM118
    for name in ("result", "shadow"):
        found[name] = None if found[name] is None else json.loads(found[name])
    return {**found, "audit": row["chance"] < AUDIT_SHARE}


def _decision(row: sqlite3.Row) -> dict[str, Any]:
    span = row["evidence"]
    return {**dict(row), "evidence": None if span is None else json.loads(span)}
