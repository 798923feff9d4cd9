"""Strict CSV: a header that names every column once, rows as wide as it, each with its line.

for line, row in table_rows("trades.csv", required=("date",), optional=("label",)): ...
"""

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from minicrit.files import write_atomic
from minicrit.jsonl import RefusedError, check_string, shown

Cells = tuple[int, list[str]]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what makes a spreadsheet compute a cell
_BOM = "\ufeff"
_MAX_CELL = 1 << 20  # characters; Python's own limit is an eighth of it
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}  # of what spreadsheets call CSV, too
_BYTE = re.compile("[\udc80-\udcff]")  # one that is no UTF-8, as `read_text` keeps it
_BYTE_OR_ZERO = re.compile("[\0\udc80-\udcff]")  # in a header: of UTF-16, or of a workbook


def read_text(path: Path) -> str:
    """The text of a file, plain or .gz; bytes that are no UTF-8 stay as lone surrogates.

    Raises:
        ValueError: there is no file, its archive is damaged, or it begins with a byte order mark.
    """
    text = _bytes(path).decode("utf-8", "surrogateescape")
    if text.startswith(_BOM):
        raise ValueError(f"{path}:1: expected UTF-8 without a mark, got a byte order mark; save it "
                         "without BOM")  # fmt: skip
    return text


def cell_rows(path: Path) -> Iterator[Cells]:
    """Header first, then every row that holds something: (line it begins on, cells).

    A byte order mark is passed over, as a spreadsheet saves no UTF-8 without one.

    Raises:
        ValueError: `file:line: expected ..., got ...; remedy` for what is no CSV or has no header.
    """
    csv.field_size_limit(_MAX_CELL)
    text = _bytes(path).decode("utf-8", "surrogateescape").removeprefix(_BOM)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = _cells(path, reader) or []
    names = Counter(name.strip() for name in header)
    if not header or len(names) < len(header):
        twice = shown(max(names, key=names.__getitem__, default=""))
        got = f"a name twice ({twice or 'an empty one'})" if header else "none"
        raise ValueError(f"{path}:1: expected a header with every column once, got {got}; put the "
                         "published header back, or name each column once")  # fmt: skip
    _check_utf8(path, 1, header, _BYTE_OR_ZERO)
    _check_commas(path, header)
    yield 1, header
    line = reader.line_num + 1
    while (cells := _cells(path, reader)) is not None:
        if any(cells):  # spreadsheets leave hundreds of empty rows at the end
            yield line, cells
        line = reader.line_num + 1


def table_rows(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cell by column, without blanks around) of each row; every fault is a ValueError.

    Lines within a cell end by a newline alone, as everywhere else, whatever the file has. An
    unknown column is refused: passed over in silence, a misspelt one would change the result.
    """
    rows = cell_rows(path)
    header = [name.strip() for name in next(rows)[1]]
    _check_header(path, header, required, optional)
    for line, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"{path}:{line}: expected {len(header)} columns, got {len(cells)}; "
                             "put quotes around texts that hold commas")  # fmt: skip
        _check_utf8(path, line, cells)
        row = {name: cell.replace("\r\n", "\n").strip()
               for name, cell in zip(header, cells, strict=True)}  # fmt: skip
        for name, cell in row.items():
            try:
                check_string(cell)
            except RefusedError as error:
                raise ValueError(f"{path}:{line}: {name}: {error}") from error
        yield line, row


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV that `table_rows` reads back, atomically; None is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def inert(cell: object) -> object:
    """The cell for a table that people open: text that a spreadsheet would compute stays text.

    An apostrophe goes before what begins a formula (OWASP, CSV injection); numbers stay.
    """
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in _FORMULA else cell


def _check_commas(path: Path, header: Sequence[str]) -> None:
    """Of another separator all columns are one, whose cells would be told to lack all others."""
    found = next((name for mark, name in _SEPARATORS.items() if mark in header[0]), None)
    if found and len(header) == 1:
        raise ValueError(f"{path}:1: expected columns separated by commas, got {found}; save the "
                         "table with commas, and its numbers with a point")  # fmt: skip


def _check_utf8(path: Path, line: int, cells: Sequence[str], odd: re.Pattern[str] = _BYTE) -> None:
    """What spreadsheets save unasked is a workbook or in the encoding of their language."""
    if found := odd.search("".join(cells)):
        raise ValueError(f"{path}:{line}: expected UTF-8, got byte 0x{ord(found[0]) & 0xFF:02x}; "
                         "save or convert the table as CSV in UTF-8")  # fmt: skip


def _check_header(
    path: Path, header: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> None:
    """Names all columns that are unknown and all that are missing, as one may be the other."""
    free = [name for name in (*required, *optional) if name not in header]
    missing = [name for name in required if name not in header]
    remedies = []
    for name in header:
        if name not in required and name not in optional:
            meant = get_close_matches(name, free, n=1)
            way = "rename or remove it" if missing else "remove it"
            way = f"did you mean {meant[0]}? else remove it" if meant else way
            remedies.append(f"{shown(name) or 'a column without a name'}: {way}")
    remedies += [f"{name}: it is missing, add it" for name in missing]
    if remedies:
        perhaps = f", and perhaps {', '.join(optional)}" if optional else ""
        raise ValueError(f"{path}:1: expected columns {', '.join(required)}{perhaps}, got "
                         f"{shown(', '.join(header), 300)}; {'; '.join(remedies)}")  # fmt: skip


def _cells(path: Path, reader: Any) -> list[str] | None:
    try:
        cells: list[str] | None = next(reader, None)
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: expected a CSV row, got {error}; look for a "
                         "quote that is not closed") from error  # fmt: skip
    return cells


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(f"{path}: expected a file, got none; check the path") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: expected a whole gzip file, got {error}; copy or make it "
                         "again") from error  # fmt: skip
