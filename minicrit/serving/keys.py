"""API keys: made by a command, shown once, kept as hashes.

A key is 32 random bytes, so SHA-256 is enough: there is nothing to guess that salt or a slow hash
would protect.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

from minicrit.files import folder_alone, write_json
from minicrit.jsonl import parse_object, shown

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PREFIX = "mc_"


def make_key(path: Path, name: str) -> str:
    """Adds a key to the file and gives it: the only time that anybody sees it.

    Raises:
        ValueError: if the name is not a plain one, or is taken.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"serve.new_key: expected a name of letters, digits, dots and dashes, got "
                         f"{shown(repr(name))}; choose another")  # fmt: skip
    key = _PREFIX + secrets.token_urlsafe(32)
    with folder_alone(Path(os.path.realpath(path)).parent):
        rows = _read(path) if path.is_file() else {}
        if name in rows:
            raise ValueError(f"{path}: expected a new name, got {name}; choose another or remove "
                             "it")  # fmt: skip
        rows[name] = {"sha256": _hash(key), "made": datetime.now(UTC).isoformat(timespec="seconds")}
        write_json(path, {"keys": rows})
        path.chmod(0o600)
    return key


class Keys:
    """The keys that a service takes; no file of them lets everybody in.

    What changes in the file counts from the next request on, so that a key that got into wrong
    hands opens nothing once it is taken out.
    """

    def __init__(self, path: Path | None) -> None:
        """Reads the file.

        Raises:
            ValueError: if it is missing, holds no key, or is something else.
        """
        self._path = path
        self._hashes: dict[str, str] = {}
        self._state: object = None
        self._fault: str | None = None  # why the file could not be read, as last told
        if path is not None:
            if not path.is_file():
                raise ValueError(f"serve.key_file: expected keys in {path}, got no file; make "
                                 "one with --serve.new_key NAME")  # fmt: skip
            self._state = _state_of(path)
            self._hashes = _hashes(path)
            if not self._hashes:
                raise ValueError(f"{path}: expected at least one key, got none; make one with "
                                 "--serve.new_key NAME")  # fmt: skip

    def __bool__(self) -> bool:
        """Whether a key is needed."""
        return self._path is not None

    def owner(self, key: str) -> str | None:
        """The name of a key; None if it is none of them. Every one is compared, in equal time."""
        self._look()
        found, hashed = None, _hash(key)
        for name, known in self._hashes.items():
            if hmac.compare_digest(hashed, known):
                found = name
        return found

    def _look(self) -> None:
        """Takes over what the file holds now; while it cannot be read, its last keys count.

        Each request tries again: what kept it from being read, like a permission or too many open
        files, may pass and leave the file as it is.
        """
        if self._path is None or (state := _state_of(self._path)) == self._state:
            return
        try:
            self._hashes, self._state, self._fault = _hashes(self._path), state, None
            log.info("%s: %d keys now", self._path, len(self._hashes))
        except (OSError, ValueError) as error:
            if str(error) != self._fault:  # once, not with every request
                log.error("%s; the keys that were read last go on to count", error)
            self._fault = str(error)


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """What differs once a file was written anew; None of one that is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _hashes(path: Path) -> dict[str, str]:
    return {name: row["sha256"] for name, row in _read(path).items()}


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        rows = parse_object(path.read_bytes())["keys"]
        if not all(re.fullmatch("[0-9a-f]{64}", row["sha256"]) for row in rows.values()):
            raise ValueError("something else than hashes")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: expected a file of keys, got {shown(str(error))}; make it with "
                         "--serve.new_key NAME") from error  # fmt: skip
    return {str(name): dict(row) for name, row in rows.items()}
