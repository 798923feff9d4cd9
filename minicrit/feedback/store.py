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
    check_name,
    check_number,
    check_text,
)
from minicrit.feedback.rows import (
    ConflictError,
    columns_of,
    decision_of,
    in_group,
    request_of,
    same_decision,
    time_of,
)
from minicrit.feedback.schema import connect
from minicrit.feedback.waiting import waiting
from minicrit.jsonl import RefusedError, shown

__all__ = ["ConflictError", "FeedbackStore", "UnavailableError", "UnknownRequestError"]
_GAP = 0.0005  # seconds left to other processes after a commit, so that none of them starves
_PAGE = 500  # rows read at once by an iterator, so that no reader holds the log for long
_MOST = 10_000  # places of a queue
#: What is told of the request beside a decision or an outcome; r is the request.
_ASKED = "r.unit, r.domain, r.rationale, r.experiment, r.arm"
T = TypeVar("T")


class UnknownRequestError(ValueError):
    """Feedback on a request that the store does not hold."""


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
        shadow: Mapping[str, Any] | None = None, critic: str | None = None,
        at: float | None = None,
    ) -> None:  # fmt: skip
        """Adds one request; see `entries.Request`."""
        self.add_requests([Request(
            request_id=request_id, domain=domain, rationale=rationale, result=result,
            experiment=experiment, arm=arm, shadow=shadow, critic=critic, at=at,
        )])  # fmt: skip

    def add_requests(self, requests: Sequence[Request]) -> None:
        """Adds all of them in one commit, or none.

        Raises:
            ValueError: for a request that is not as it should be.
            ConflictError: for an id that is there already, or twice among them.
        """
        for request in requests:
            request.check()
        rows = list(map(columns_of, requests))

        def write(connection: sqlite3.Connection) -> None:
            for row in rows:
                if _row(connection, row["request_id"]) is not None:
                    raise ConflictError("request_id: expected a new one, got "
                                        f"{shown(row['request_id'])}, which is there; give each "
                                        "request its own")  # fmt: skip
                _insert(connection, "requests", row | {"chance": _draw(connection, row)})

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
                return same_decision(found, row)
            return _insert(connection, "decisions",
                           {**row, "at": time_of(at), "idempotency_key": key})  # fmt: skip

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
               "at": time_of(at)}  # fmt: skip
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
            return {**request_of(found), "decisions": list(map(decision_of, made))}

    def requests(self) -> Iterator[dict[str, Any]]:
        """All requests, in the order in which they came."""
        return map(request_of, self._pages("requests", "seq"))

    def decisions(self) -> Iterator[dict[str, Any]]:
        """All decisions, in the order in which they came."""
        return map(decision_of, self._pages("decisions", "id"))

    def outcomes(self) -> Iterator[dict[str, Any]]:
        """All outcomes, in the order in which they came."""
        return map(dict, self._pages("outcomes", "id"))

    def queue(self, limit: int) -> list[dict[str, Any]]:
        """Requests to decide on: the least certain first, every other one drawn; see `waiting`."""
        if not 0 < limit <= _MOST:
            raise RefusedError(f"limit from 1 to {_MOST}", str(limit), "ask for fewer")
        with self._connection() as connection:
            return list(map(request_of, waiting(connection, limit)))

    def audited(self) -> int:
        """How many rationales were drawn for the audit."""
        with self._connection() as connection:
            found = connection.execute("SELECT count(DISTINCT unit) FROM requests WHERE chance < ?",
                                       (AUDIT_SHARE,)).fetchone()  # fmt: skip
        return int(found[0])

    def judged(self) -> Iterator[dict[str, Any]]:
        """All decisions in order, each with what the request was answered: `answered`, `shadowed`.

        Also `unit`, `group`, `experiment`, `arm`, `critic` and whether it is for the `audit`.
        """
        about = f"{_ASKED}, r.answered, r.shadowed, r.critic, r.chance"
        both = "decisions AS d JOIN requests AS r USING (request_id)"
        join = f"(SELECT d.*, {about} FROM {both})"  # noqa: S608
        for row in self._pages(join, "id"):
            yield {**in_group(decision_of(row)), "audit": row["chance"] < AUDIT_SHARE}

    def rewarded(self) -> Iterator[dict[str, Any]]:
        """All outcomes in order, with `unit`, `group`, `experiment` and `arm` of the request."""
        both = "outcomes AS o JOIN requests AS r USING (request_id)"
        join = f"(SELECT o.*, {_ASKED} FROM {both})"  # noqa: S608
        return map(in_group, map(dict, self._pages(join, "id")))

    def counts(self) -> list[dict[str, Any]]:
        """How many `requests` there are, and `rationales` in them.

        By `experiment`, `arm`, `audit`, `answered`, `shadowed`.
        """
        by = "experiment, arm, chance < ? AS audit, answered, shadowed"
        of = "count(*) AS requests, count(DISTINCT unit) AS rationales FROM requests"
        with self._connection() as connection:
            rows = connection.execute(
                f"SELECT {by}, {of} GROUP BY experiment, arm, audit, answered, shadowed",
                (AUDIT_SHARE,),
            ).fetchall()
        return list(map(dict, rows))

    def state(self, critic: str | None = None, experiment: str | None = None) -> dict[str, Any]:
        """How a critic stands with its operators, see `standing.standing`."""
        from minicrit.feedback.standing import standing

        return standing(self, critic, experiment)

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
        with self._writing:
            done = self._committed(act)
            time.sleep(_GAP)
        return done

    def _committed(self, act: Callable[[sqlite3.Connection], T]) -> T:
        with self._connection() as connection:
            self._begin(connection)
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

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begins to write; SQLite itself would look for a gap ten times a second only."""
        end = time.monotonic() + self._patience
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as error:
                    busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                    if not busy or time.monotonic() > end:
                        raise
                time.sleep(_GAP)
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(1000 * self._patience)}")

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


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _row(connection: sqlite3.Connection, request_id: str) -> sqlite3.Row | None:
    found: sqlite3.Row | None = connection.execute(
        "SELECT * FROM requests WHERE request_id = ?", (request_id,)
    ).fetchone()
    return found


def _draw(connection: sqlite3.Connection, row: Mapping[str, Any]) -> float:
    """The chance of a request: that of the rationale's first one, else its own."""
    found = connection.execute("SELECT chance FROM requests WHERE unit = ? ORDER BY seq LIMIT 1",
                               (row["unit"],)).fetchone()  # fmt: skip
    return float(row["chance"] if found is None else found[0])


def _known(connection: sqlite3.Connection, request_id: str) -> sqlite3.Row:
    found = _row(connection, request_id)
    if found is None:
        raise UnknownRequestError(f"request_id: expected one that was answered here, got "
                                  f"{shown(request_id)}; copy that of a result")  # fmt: skip
    return found


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    done = connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608
                              tuple(row.values()))  # fmt: skip
    return int(done.lastrowid or 0)
