r"""Strict JSON Lines: one object a line, split at b"\n" only, plain or gzip'd.

What the standard parser lets through and what hurts later (NaN, duplicate keys, lone surrogates,
control characters, deep nesting) is refused here, with file and line. Text is not normalised:
an evidence span has to be found again verbatim in its rationale.
"""

import gzip
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from minicrit.files import atomic_file

LINE_CAP = 1 << 20
"""Longest line, in bytes without its newline."""
MAX_DEPTH = 64
"""Deepest nesting of objects and arrays."""
_SET_ASIDE = LINE_CAP // 8  # bytes kept of a refused line: escaped (\\xff), it still fits one line
_MAX_DIGITS = 300  # a longer int does not fit a float
_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile("[\ud800-\udfff]")
# C0 and DEL. U+0080-U+009F occur in published texts (as damage) and are escaped when shown.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")


class RefusedError(ValueError):
    """Input that does not meet an expectation; the reader adds file and line."""

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        """Say what was expected, what came instead, and what to do."""
        super().__init__(f"expected {shown(expected, 300)}, got {shown(got)}; {shown(remedy, 300)}")
        self.expected, self.got, self.remedy = expected, got, remedy

    def at(self, where: str) -> str:
        """What a reader says of it: `where: expected ..., got ...; remedy`, a line a fault."""
        return f"{where}: {self}"


@dataclass(frozen=True)
class BadLine:
    """A line that was refused, and why; `raw` holds at most LINE_CAP + 1 bytes of it."""

    path: Path
    line: int
    expected: str
    got: str
    remedy: str
    raw: bytes

    def __str__(self) -> str:
        """`path:line: expected ..., got ...; remedy`, safe to print on a terminal."""
        return f"{shown(str(self.path), 4096)}:{self.line}: {self.reason}"

    @property
    def reason(self) -> str:
        """`expected ..., got ...; remedy`."""
        return str(RefusedError(self.expected, self.got, self.remedy))

    def to_row(self) -> dict[str, Any]:
        """What a file of refused lines holds: line, reason and the text, cut and escaped."""
        text = self.raw[:_SET_ASIDE].decode("utf-8", "backslashreplace")
        text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
        return {"line": self.line, "reason": self.reason, "raw": text}


def shown(text: str, limit: int = 80) -> str:
    r"""At most `limit` characters of `text` in which nothing can steer a terminal (ESC -> \x1b)."""
    head = text[: limit + 1]
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in head)
    return safe if len(safe) <= limit else safe[: limit - 3] + "..."


def read_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]] | BadLine]:
    """Stream the objects of a file with their line numbers; what is refused comes as `BadLine`.

    Empty lines are passed over. A damaged archive or a missing file is a ValueError.
    """
    for line, raw in raw_lines(path):
        try:
            yield line, parse_line(raw)
        except RefusedError as error:
            yield BadLine(Path(path), line, error.expected, error.got, error.remedy, raw)


def raw_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Stream number and bytes of each non-empty line; of too long ones LINE_CAP + 1 bytes."""
    number = 0
    try:
        with _open(Path(path)) as file:
            while raw := file.readline(LINE_CAP + 2):
                number += 1
                whole = raw.endswith(b"\n")
                while not whole and (rest := file.readline(LINE_CAP)):
                    whole = rest.endswith(b"\n")
                if raw.strip(b" \t\r\n"):
                    yield number, raw.removesuffix(b"\n")[: LINE_CAP + 1]
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(f"{path}: expected a file, got none; check the path") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        where = f"{path}:{number + 1}"
        message = f"{where}: expected a whole gzip file, got {error}; copy or make it again"
        raise ValueError(message) from error


def parse_line(raw: bytes) -> dict[str, Any]:
    """The object that one line holds; `RefusedError` if it is too long or not strict."""
    if len(raw) > LINE_CAP:
        raise RefusedError(
            f"at most {LINE_CAP} bytes a line", "a longer line", "split or shorten it"
        )
    return parse_object(raw)


def parse_object(raw: bytes) -> dict[str, Any]:
    """The object that UTF-8 bytes hold; `RefusedError` names the first thing that is not strict."""
    if raw.startswith(_BOM):
        raise RefusedError("UTF-8 without a mark", "a byte order mark", "save it without BOM")
    try:
        value = json.loads(
            raw.decode(),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_short_int,
            object_pairs_hook=_unique,
        )
    except UnicodeDecodeError as error:
        got = f"byte 0x{raw[error.start]:02x} at {error.start}"
        raise RefusedError("UTF-8", got, "convert the file to UTF-8") from error
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError as error:
        raise _not_json(raw, error) from error
    if not isinstance(value, dict):
        raise RefusedError("an object", type(value).__name__, 'write {"key": value}, one a line')
    _check_text(value)
    return value


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one object a line (gzip'd if the name ends in .gz), atomically; the number of rows.

    Refuses what `read_lines` would refuse. The same rows give the same bytes.
    """
    count = 0
    zipped = _zipped if str(path).endswith(".gz") else nullcontext
    with atomic_file(path) as plain, zipped(plain) as out:
        for count, row in enumerate(rows, start=1):
            out.write(_encode(row, f"{path}:{count}") + b"\n")
    return count


def whole_rows(
    path: Path, fits: Sequence[Callable[[dict[str, Any]], bool]]
) -> list[dict[str, Any]]:
    """The rows that an interrupted run has left, at most one for each of `fits`, in order.

    The file is cut behind the last whole line that fits its place; a missing file has none.
    """
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    good = 0
    for raw, fit in zip(path.read_bytes().splitlines(keepends=True), fits, strict=False):
        row = _whole(raw)
        if row is None or not fit(row):
            break
        rows.append(row)
        good += len(raw)
    with path.open("r+b") as file:
        file.truncate(good)
    return rows


def _whole(raw: bytes) -> dict[str, Any] | None:
    """The object of a line, or None if the run was killed while writing it."""
    if not raw.endswith(b"\n"):
        return None
    try:
        return parse_object(raw)
    except ValueError:
        return None


def _open(path: Path) -> BinaryIO:
    if path.name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


def _zipped(plain: BinaryIO) -> BinaryIO:
    """A gzip stream into `plain` whose header holds neither name nor time."""
    return cast(BinaryIO, gzip.GzipFile(filename="", mode="wb", fileobj=plain, mtime=0))


def line_of(row: Mapping[str, Any]) -> bytes:
    """A row as it is written, without its newline; `RefusedError` if no file may hold it."""
    raw = json.dumps(dict(row), ensure_ascii=False, allow_nan=False).encode()
    parse_line(raw)
    return raw


def _encode(row: Mapping[str, Any], where: str) -> bytes:
    try:
        return line_of(row)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{where}: cannot be written: {shown(str(error), 400)}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise RefusedError("a finite number", name, "use null or leave the key out")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise RefusedError("a finite number", text, "use null or leave the key out")
    return number


def _short_int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        got = f"{len(text)} digits"
        raise RefusedError(f"a number of at most {_MAX_DIGITS} digits", got, "write it as text")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise RefusedError("each key once", f"{twice!r} twice", "keep one of them")
    return row


def _not_json(raw: bytes, error: json.JSONDecodeError) -> RefusedError:
    got = f"{error.msg} at character {error.pos}: {error.doc[error.pos :][:40]}"
    remedy = "check that the line is whole, is one object, and ends with a newline"
    return RefusedError("JSON", got, remedy if raw.lstrip()[:1] == b"{" else 'begin it with "{"')


def _too_deep() -> RefusedError:
    got = "deeper nesting"
    return RefusedError(f"at most {MAX_DEPTH} levels of objects and arrays", got, "flatten the row")


def _check_text(value: object) -> None:
    """Refuse surrogates and control characters in any key or string, and deep nesting."""
    level: list[object] = [value]
    depth = 0
    while level:
        depth += 1
        below: list[object] = []
        for item in level:
            if isinstance(item, str):
                check_string(item)
            elif depth > MAX_DEPTH and isinstance(item, dict | list):
                raise _too_deep()
            elif isinstance(item, dict):
                below += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                below += item
        level = below


def check_string(text: str) -> None:
    """Refuse (`RefusedError`) lone surrogates and control characters but newline and tab."""
    if match := _SURROGATE.search(text):
        got = f"lone surrogate U+{ord(match[0]):04X}"
        raise RefusedError("whole characters", got, "write the pair or the character itself")
    if match := _CONTROL.search(text):
        got = f"control character U+{ord(match[0]):04X}"
        raise RefusedError("text with no control characters but newline and tab", got, "remove it")


def readable(text: str) -> str:
    """What a model wrote, with the control characters that no record may hold as unreadable."""
    return _CONTROL.sub("\ufffd", text)
