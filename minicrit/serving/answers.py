"""Answers given before: an exact cache in one SQLite file that several services may share.

The key is a hash of everything that an answer depends on: the text, its domain, the name and the
identity of the critic (weights, adapter, calibration), the prompt's version, the threshold, how it
was decoded, the guard against texts that answer for the critic, and the words of the taxonomy. So
another critic can never be served from it, nor what an older guard let through. A text is found
again only if it is the same text: two that differ in one letter are two questions, as twins are.

The text is taken as `normalised` gives it, and that is also what the critic reads.
"""

import hashlib
import json
import logging
import sqlite3
import time
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minicrit.feedback.schema import into_wal, make_private
from minicrit.impostors import GUARD
from minicrit.recount import RULES
from minicrit.taxonomy import FLAW_TYPES

if TYPE_CHECKING:
    from minicrit.critic import Critic

log = logging.getLogger(__name__)

_FORM = "4"  # bumped whenever the fields of an answer, or what they mean, change
_WORDS = [[kind.name, kind.flag, kind.severity] for kind in FLAW_TYPES.values()]
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY, answer TEXT NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_used ON answers (used);
"""
_BUSY_S = 5.0  # seconds to wait for another process that writes
_SLACK = 20  # one twentieth of the answers goes when there are too many, so that it is seldom


def normalised(text: str) -> str:
    """The text in NFC without white space at its end; case, spacing and all else stay."""
    return unicodedata.normalize("NFC", text).rstrip()


def key_of(critic: "Critic", domain: str, rationale: str, decoding: str) -> bytes:
    """SHA-256 of all that the answer to a normalised rationale depends on."""
    parts = [_FORM, GUARD, RULES, _WORDS, critic.name, critic.identity, critic.prompt_version,
             repr(critic.threshold), decoding, domain, rationale]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).digest()


class Answers:
    """The cache. One thread may look up while another puts and flushes."""

    def __init__(self, path: Path, most: int) -> None:
        """Opens or creates the file.

        Args:
            path: of the file.
            most: answers kept.

        Raises:
            ValueError: if the file is something else.
        """
        self._most = most
        self._used: set[bytes] = set()
        self._fault: str | None = None  # why the last write failed, as told
        self._fresh: dict[bytes, Mapping[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._reading, self._writing = _opened(path), _opened(path)
        except sqlite3.OperationalError as error:  # it may well be in use
            raise ValueError(f"{path}: expected to open the file of answers, got {error}; mend "
                             "that and start again") from error  # fmt: skip
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path}: expected a file of answers, got {error}; move it away or "
                             "remove it, answers are computed again") from error  # fmt: skip

    def close(self) -> None:
        """Writes what is left and closes the file."""
        self.flush()
        self._reading.close()
        self._writing.close()

    def get(self, key: bytes) -> dict[str, Any] | None:
        """The answer, or None. A damaged one is none."""
        if (fresh := self._fresh.get(key)) is not None:
            return dict(fresh)
        try:
            row = self._reading.execute("SELECT answer FROM answers WHERE key = ?",
                                        (key,)).fetchone()  # fmt: skip
            of, found = json.loads(row[0]) if row else (None, None)
        except (sqlite3.Error, ValueError, TypeError, RecursionError):
            return None
        if of != key.hex() or not isinstance(found, dict):  # a damaged file may give another row
            return None
        self._used.add(key)
        return found

    def put(self, answers: Iterable[tuple[bytes, Mapping[str, Any]]]) -> None:
        """Keeps the answers, in memory until the next `flush`."""
        self._fresh |= dict(answers)

    def flush(self) -> None:
        """Writes them, notes which old ones were used, and lets those longest unused go.

        If the file cannot be written, that is said once and the answers are not kept; they can be
        computed again.
        """
        now, fresh = time.time(), dict(self._fresh)
        used, self._used = self._used, set()
        try:
            rows = [(key, json.dumps([key.hex(), dict(row)], allow_nan=False), now)
                    for key, row in fresh.items()]  # fmt: skip
            with self._writing:
                self._writing.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)
                self._writing.executemany("UPDATE answers SET used = ? WHERE key = ?",
                                          [(now, key) for key in used.copy()])  # fmt: skip
                self._forget()
            self._fault = None
        except (sqlite3.Error, ValueError) as error:
            if str(error) != self._fault:  # once, not with every batch
                log.warning("%d answers were not kept: %s", len(fresh), error)
            self._fault = str(error)
        for key in fresh:
            del self._fresh[key]

    @property
    def count(self) -> int:
        """Answers in the file."""
        return int(self._writing.execute("SELECT count(*) FROM answers").fetchone()[0])

    def _forget(self) -> None:
        spare = self.count - self._most
        if spare > 0:
            self._writing.execute("DELETE FROM answers WHERE key IN (SELECT key FROM answers "
                                  "ORDER BY used LIMIT ?)",
                                  (spare + self._most // _SLACK,))  # fmt: skip


def _opened(path: Path) -> sqlite3.Connection:
    make_private(path)  # what was found in a text is in it word for word
    connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
    into_wal(connection, path, _BUSY_S)
    # A lost answer is computed again, but a damaged file would have to be removed by hand.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.executescript(_SCHEMA)
    return connection
