r"""Raw files of public sets, record by record, each with the line it begins on.

`.jsonl` (one object a line), `.json` (an array of objects, an object whose values are such arrays,
or JSON Lines under that name) and `.csv` with a header, each plain or gzip'd. Every record goes
through the strict parser of `minicrit.jsonl`; only `\r\n` inside a text becomes `\n`. A record that
cannot be used comes as `BadLine`; where nothing behind a fault can be read, it is a ValueError.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minicrit.jsonl import LINE_CAP, BadLine, RefusedError, parse_line, raw_lines, shown
from minicrit.tabular import cell_rows, read_text

Record = tuple[int, dict[str, Any]] | BadLine

ENDINGS = (".jsonl", ".json", ".csv")
#: As JSON escapes it; a backslash in front would come in pairs.
_CRLF = re.compile(rb"(?<!\\)((?:\\\\)*)\\r\\n")
_SPACE = re.compile(r"[ \t\r\n]*")
_MAP_OF_LISTS = re.compile(r'\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\[')
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def ending(path: Path) -> str:
    """The ending of a file without `.gz`, in small letters."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def records(path: Path) -> Iterator[Record]:
    """The records of a file, in order.

    Raises:
        ValueError: `file:line: expected ..., got ...; remedy` for a file that is no such file.
    """
    if ending(path) == ".jsonl":
        yield from _lines(path)
    elif ending(path) == ".csv":
        yield from _table(path)
    else:
        yield from _document(path)


def _lines(path: Path) -> Iterator[Record]:
    for line, raw in raw_lines(path):
        yield _record(path, line, raw)


def _document(path: Path) -> Iterator[Record]:
    text = read_text(path)
    start = _end_of_space(text, 0)
    if text[start : start + 1] == "[":
        walk = _Walk(path, text, start)
        yield from walk.array()
        walk.end()
    elif _MAP_OF_LISTS.match(text, start):
        walk = _Walk(path, text, start)
        yield from walk.map_of_arrays()
        walk.end()
    else:
        yield from _lines(path)


class _Walk:
    """Goes through a JSON document and hands out the records, not the whole."""

    def __init__(self, path: Path, text: str, start: int) -> None:
        self.path, self.text, self.at = path, text, start
        self._line, self._counted = 1, 0

    def array(self) -> Iterator[Record]:
        """The items of the array that begins here."""
        self._take("[")
        if self._next() == "]":
            self._take("]")
            return
        while True:
            yield self._value()
            if self._take(",]") == "]":
                return

    def map_of_arrays(self) -> Iterator[Record]:
        """The items of all arrays of the object that begins here."""
        self._take("{")
        while True:
            self._next()
            self._skip_value()  # the key; records say themselves whose they are
            self._take(":")
            yield from self.array()
            if self._take(",}") == "}":
                return

    def end(self) -> None:
        """Refuses what stands behind the document: it would be lost."""
        if rest := self._next():
            raise self._refused("the end of the file", rest)

    def _value(self) -> Record:
        self._next()
        start, line = self.at, self._line_here()
        self._skip_value()
        raw = self.text[start : self.at].encode("utf-8", "surrogateescape")
        return _record(self.path, line, raw)

    def _skip_value(self) -> None:
        try:
            _, self.at = _DECODER.raw_decode(self.text, self.at)
        except (json.JSONDecodeError, RecursionError) as error:
            raise self._refused("whole JSON", str(getattr(error, "msg", error))) from error

    def _next(self) -> str:
        self.at = _end_of_space(self.text, self.at)
        return self.text[self.at : self.at + 1]

    def _take(self, wanted: str) -> str:
        found = self._next()
        if not found or found not in wanted:
            raise self._refused(" or ".join(wanted), found or "the end of the file")
        self.at += 1
        return found

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def _refused(self, expected: str, got: str) -> ValueError:
        return ValueError(f"{self.path}:{self._line_here()}: expected {expected}, got "
                          f"{shown(got)}; copy the file again or mend it")  # fmt: skip


def _table(path: Path) -> Iterator[Record]:
    rows = cell_rows(path)
    _, header = next(rows)
    for line, cells in rows:
        if len(cells) == len(header):
            row = dict(zip(header, cells, strict=True))
            raw = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogateescape")
            yield _record(path, line, raw)
        else:
            raw = ",".join(cells).encode("utf-8", "surrogateescape")
            yield BadLine(path, line, f"{len(header)} columns", str(len(cells)),
                          "put quotes around texts that hold commas", raw)  # fmt: skip


def _record(path: Path, line: int, raw: bytes) -> Record:
    try:
        return line, parse_line(_CRLF.sub(rb"\1\\n", raw))
    except RefusedError as error:
        return BadLine(path, line, error.expected, error.got, error.remedy, raw[: LINE_CAP + 1])


def _end_of_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return match.end() if match else start
