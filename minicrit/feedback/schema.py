"""The tables of the feedback database, and how a connection to it is opened.

SQLite in WAL mode with synchronous=FULL: a commit has returned only once the log is synced to disk,
so what was acknowledged survives kill -9 and a power cut. Triggers refuse every UPDATE and DELETE,
and the INSERT that would replace a row.
"""

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from minicrit.feedback.entries import chance_of, unit_of

#: Of the file; raise it with a step that brings older files up to date.
VERSION = 4
APPLICATION = 0x4D436642  # "MCfB", so that another program's database is not taken for ours

_TABLES = """
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL UNIQUE,
    at REAL NOT NULL,
    domain TEXT NOT NULL,
    rationale TEXT NOT NULL,
    result TEXT NOT NULL,
    experiment TEXT,
    arm TEXT,
    shadow TEXT,
    unit TEXT NOT NULL,
    answered TEXT NOT NULL,
    shadowed TEXT,
    certainty REAL NOT NULL,
    chance REAL NOT NULL,
    critic TEXT
) STRICT;
CREATE INDEX requests_by_certainty ON requests (certainty, seq);
CREATE INDEX requests_by_chance ON requests (chance);
CREATE INDEX requests_by_unit ON requests (unit, seq);
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL REFERENCES requests (request_id),
    at REAL NOT NULL,
    decision TEXT NOT NULL CHECK (decision IN ('agree', 'disagree', 'correct')),
    operator TEXT NOT NULL,
    label TEXT NOT NULL CHECK (label IN ('valid', 'flawed')),
    flaw_type TEXT,
    evidence TEXT,
    critique TEXT,
    note TEXT,
    idempotency_key TEXT UNIQUE
) STRICT;
CREATE INDEX decisions_by_request ON decisions (request_id);
CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL REFERENCES requests (request_id),
    at REAL NOT NULL,
    value REAL NOT NULL,
    note TEXT
) STRICT;
CREATE INDEX outcomes_by_request ON outcomes (request_id);
"""
#: From version 1, in which each request had a chance of its own, so that what is asked often came
#: into the audit more often.
_FIRST_TO_SECOND = (
    "DROP TRIGGER requests_no_update",
    "CREATE INDEX requests_by_unit ON requests (unit, seq)",
    "UPDATE requests SET chance = (SELECT s.chance FROM requests AS s WHERE s.unit = requests.unit "
    "ORDER BY s.seq LIMIT 1)",
)
#: From version 2, in which nobody knew which critic had answered.
_SECOND_TO_THIRD = ("ALTER TABLE requests ADD COLUMN critic TEXT",)
#: From version 3, in which texts that differ in case or in forms of letters were one rationale.
_THIRD_TO_FOURTH = (
    "DROP TRIGGER requests_no_update",
    "UPDATE requests SET unit = unit_of(domain, rationale)",
    "UPDATE requests SET chance = chance_of((SELECT s.request_id FROM requests AS s "
    "WHERE s.unit = requests.unit ORDER BY s.seq LIMIT 1))",
)
_KEYS = {"requests": ("seq", "request_id"), "decisions": ("id", "idempotency_key"),
         "outcomes": ("id",)}  # fmt: skip


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """A connection in autocommit mode; `patience` is how long it waits for a lock, in seconds.

    Raises:
        ValueError: if the file is not one of ours, or is of a newer version.
        sqlite3.Error: if it cannot be opened.
    """
    make_private(path)
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None,
                                 check_same_thread=False)  # fmt: skip
    try:
        connection.row_factory = sqlite3.Row
        _check_owner(connection, path)
        into_wal(connection, path, patience)
        for pragma in ("synchronous = FULL", "foreign_keys = ON", "recursive_triggers = ON"):
            connection.execute(f"PRAGMA {pragma}")
        _create(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def make_private(path: Path) -> None:
    """A new database's file, for its owner alone: SQLite would make it for everybody to read.

    Its log takes the rights of the file. One that is there keeps the rights that it has, and is not
    opened: to close it would take every lock away that SQLite holds on it in this process, and
    whoever then closes it elsewhere would delete the log of what was acknowledged
    (sqlite.org/howtocorrupt.html, 2.2).

    Raises:
        OSError: if it cannot be made.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    """In one snapshot, as another process may be making the tables."""
    try:
        connection.execute("BEGIN")
        owner = _number(connection, "application_id")
        version = _number(connection, "user_version")
        empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        connection.execute("COMMIT")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise _foreign(path, str(error)) from error
    if owner != APPLICATION and not (empty and owner == 0):
        raise _foreign(path, "another program's database")
    if version > VERSION:
        raise ValueError(f"{path}: expected a feedback database of version {VERSION} at most, got "
                         f"version {version}; use the newer code that made it")  # fmt: skip


def _foreign(path: Path, got: str) -> ValueError:
    return ValueError(f"{path}: expected a feedback database, got {got}; give another path, or "
                      "restore the file")  # fmt: skip


def into_wal(connection: sqlite3.Connection, path: Path, patience: float) -> None:
    """Turns the write-ahead log on; refused at once while another makes the file, so tried again.

    Raises:
        ValueError: if the file system cannot do it.
        sqlite3.OperationalError: if it is refused for longer than `patience`, in seconds.
    """
    end = time.monotonic() + patience
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            break
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
    if mode != "wal":
        raise ValueError(f"{path}: expected a file system that allows a write-ahead log, got "
                         f"journal mode {mode}; put it on a local disk")  # fmt: skip


def _create(connection: sqlite3.Connection) -> None:
    """Makes the tables or brings them up to date, unless another process is faster."""
    if _number(connection, "user_version") == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _number(connection, "user_version")
        third = (*_THIRD_TO_FOURTH, _no_update())
        steps = {0: (*_TABLES.split(";\n"), *_triggers()),
                 1: (*_FIRST_TO_SECOND, _no_update(), *_SECOND_TO_THIRD, *third),
                 2: (*_SECOND_TO_THIRD, *third),
                 3: third}  # fmt: skip
        if version in steps:
            connection.create_function("unit_of", 2, unit_of, deterministic=True)
            connection.create_function("chance_of", 1, chance_of, deterministic=True)
            for statement in steps[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _no_update() -> str:
    return next(trigger for trigger in _triggers() if "requests_no_update" in trigger)


def _triggers() -> list[str]:
    found = []
    for table, keys in _KEYS.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for act in ("UPDATE", "DELETE"):
            name = f"{table}_no_{act.lower()}"
            found.append(f"CREATE TRIGGER {name} BEFORE {act} ON {table} {refuse}")
        for key in keys:  # INSERT OR REPLACE deletes without asking the trigger above
            there = f"EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})"  # noqa: S608
            found.append(f"CREATE TRIGGER {table}_no_other_{key} BEFORE INSERT ON {table} "
                         f"WHEN {there} {refuse}")  # fmt: skip
    return found


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
