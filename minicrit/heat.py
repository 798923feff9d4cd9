"""A confusion as a table with shades: rows what is true, columns what was said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHADES = 5  # beyond none; see page.html
VALID = "valid"


@dataclass(frozen=True)
class Cell:
    """A count, its shade from 0 to 5 by its share of the row, and whether it is on the diagonal."""

    count: int
    shade: int
    right: bool


@dataclass(frozen=True)
class Heat:
    """Columns by name; rows of (name, sum, cells)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[Cell, ...]], ...]


def heat_table(confusion: Mapping[str, Mapping[str, int]]) -> Heat | None:
    """The table of counts by what is true and what was said; None if it is empty.

    Columns are what is true or was said, in the order of names, `valid` last.
    """
    if not confusion:
        return None
    names = {*confusion, *(said for row in confusion.values() for said in row)}
    columns = tuple(sorted(names, key=lambda name: (name == VALID, name)))
    rows = tuple((true, sum(row.values()), _cells(true, row, columns))
                 for true, row in confusion.items())  # fmt: skip
    return Heat(columns, rows)


def _cells(true: str, row: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[Cell, ...]:
    total = sum(row.values())
    return tuple(Cell(count, _shade(count, total), name == true) for name in columns
                 for count in (row.get(name, 0),))  # fmt: skip


def _shade(count: int, total: int) -> int:
    """0 for none, else 1 to 5 in fifths of the row."""
    return -(-SHADES * count // total) if count else 0
