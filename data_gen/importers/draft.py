"""What every importer is made of: the draft of an example, and fields of a raw row, checked.

An importer turns one raw row into drafts. It raises `RefusedError` if the row is not as published;
the stage adds file and line. A draft becomes an example once its group and split are known.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minicrit.jsonl import RefusedError
from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES, flaw_type_of

Row = Mapping[str, Any]
_NOTHING = {"", "n/a", "na", "nan", "none", "null"}


class SetApartError(RefusedError):
    """A sound row that is of no use here; `why` is counted."""

    def __init__(self, why: str) -> None:
        """Say why, in a word or two."""
        super().__init__("rows of use for a verdict", why, "nothing is to be done")
        self.why = why


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An example without group and split.

    Attributes:
        fields: of the example; a flaw may have the source's own name (see `minicrit.taxonomy`).
        key: text of the problem that this is about; everything with one key shares a group.
        split: the source's own part, or None where it has none.
        group: the source's own group, in place of one made from the key.
        apart: why it is of no use here although its row is sound, in a few words, which are
            counted; None if it is of use.
    """

    fields: Mapping[str, str | None]
    key: str
    split: str | None = None
    group: str | None = None
    apart: str | None = None

    def example(self, group: str, split: str) -> Example:
        """The checked example; `RefusedError` says what is wrong with it.

        A flaw of the source that we have no name for is `other`.
        """
        flaw = flaw_type_of(self.fields.get("flaw_type"))
        ours = flaw if flaw is None or flaw in FLAW_TYPES else "other"
        return Example.from_row({**self.fields, "flaw_type": ours, "group": group, "split": split})


@dataclass(frozen=True)
class Place:
    """Where a raw row stands: on which line it begins, as the how manieth there."""

    path: Path
    line: int
    nth: int = 1

    @property
    def mark(self) -> str:
        """What tells rows of a file apart; the line alone where each row has its own."""
        return str(self.line) if self.nth == 1 else f"{self.line}.{self.nth}"

    @property
    def stem(self) -> str:
        """The file's name without folder and endings."""
        return self.path.name.split(".", 1)[0]


def _apart(drafts: Sequence[Draft]) -> list[str]:
    return [draft.key for draft in drafts]


@dataclass(frozen=True, kw_only=True)
class Importer:
    """One public set.

    Attributes:
        kind: its name on the command line and in file names.
        home: where it is published.
        licence: of its rows.
        valid: what the label `valid` says there.
        keys: keys by which a row of it is recognised. older: other names of these that it may have.
        convert: the drafts of one row.
        keys_of: the key of every draft, given all of them, where rows alone do not tell.
    """

    kind: str
    home: str
    licence: str
    valid: str
    keys: frozenset[str]
    convert: Callable[[Row, Place], list[Draft]]
    keys_of: Callable[[Sequence[Draft]], list[str]] = field(default=_apart)
    older: Mapping[str, str] = field(default_factory=dict)

    def fits(self, row: Row) -> bool:
        """Whether a row looks like one of this set."""
        return not self.lacks(row)

    def lacks(self, row: Row) -> list[str]:
        """The keys by which it would be recognised and that it does not have."""
        return sorted(self.keys - {self.older.get(key, key) for key in row})


def in_context(context: str, reasoning: str) -> str:
    """The rationale: what was asked, and the reasoning to judge."""
    return f"Context: {context.strip()}\n\nReasoning: {reasoning.strip()}"


def text(row: Row, key: str) -> str:
    """A text that must be there."""
    value = _value(row, key)
    if not isinstance(value, str) or not value.strip():
        raise _wrong(key, "text", value)
    return value


def text_or_none(row: Row, key: str) -> str | None:
    """A text, stripped; None for null and for `N/A` and the like."""
    value = _value(row, key)
    if value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING):
        return None
    if not isinstance(value, str):
        raise _wrong(key, "text or null", value)
    return value.strip()


def texts(row: Row, key: str) -> list[str]:
    """A list of texts, some of which may be empty."""
    return _listed(row, key, str, "texts")


def whole(row: Row, key: str) -> int:
    """A whole number."""
    value = _value(row, key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(key, "a whole number", value)
    return value


def objects(row: Row, key: str) -> list[Row]:
    """A list of objects."""
    return _listed(row, key, Mapping, "objects")


def inner(row: Row, key: str) -> Row:
    """An object."""
    value = _value(row, key)
    if not isinstance(value, Mapping):
        raise _wrong(key, "an object", value)
    return value


def one_of(row: Row, key: str, known: Iterable[str]) -> str:
    """A text out of a few."""
    value = _value(row, key)
    if value not in known:
        raise _wrong(key, " or ".join(known), value)
    return str(value)


def item_at(steps: Sequence[str], index: int, *, first: int, key: str) -> str:
    """The step of an index that counts from `first`."""
    if not first <= index < first + len(steps):
        last = first + len(steps) - 1
        raise RefusedError(f"{key} from {first} to {last}", str(index), "look it up in the source")
    return steps[index - first].strip()


def told_apart(
    steps: Sequence[str], begin: int, end: int, whole_text: str, between: str = "\n"
) -> str:
    """The lines `begin` to before `end`, with as many before them as it takes to stand there once.

    Evidence is looked up by its words: lines that stand twice would be found at the first place.
    `between` is what stands between lines there.
    """
    for first in range(begin, -1, -1):
        span = between.join(steps[first:end]).strip()
        if whole_text.find(span) == whole_text.rfind(span):
            return span
    return between.join(steps[begin:end]).strip()  # nothing before them tells them apart


def located(span: str, whole_text: str, key: str) -> str:
    """The span as it stands in the text, where blanks may differ."""
    words = r"\s+".join(map(re.escape, span.split()))
    found = re.search(words, whole_text) if words else None
    if found is None:
        raise RefusedError(f"{key} verbatim in the text", repr(span), "mend the text or the span")
    return found[0]


def _listed(row: Row, key: str, kind: type, name: str) -> list[Any]:
    value = _value(row, key)
    if not isinstance(value, list) or not value or not all(isinstance(v, kind) for v in value):
        raise _wrong(key, f"a list of {name}", value)
    return value


def _value(row: Row, key: str) -> Any:
    if key not in row:
        raise RefusedError(f"the key {key!r}", ", ".join(row) or "none", "use the published file")
    return row[key]


def _wrong(key: str, expected: str, value: object) -> RefusedError:
    got = "null" if value is None else f"{type(value).__name__} {value!r}"
    return RefusedError(f"{key!r} as {expected}", got, "use the published file")
