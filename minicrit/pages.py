"""What the pages share: the template engine, results read back, text that can do nothing.

All text is escaped by the engine, and every page forbids itself scripts and requests
(`minicrit/page.html`). `visible` also shows what would hide: marks that turn the direction of the
text around, or that have no width.
"""

import unicodedata
from collections.abc import Set
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from minicrit.jsonl import parse_object

_HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Co"}
_KNOWN = "\n\t"


def render(template: str, *folders: Path, **values: Any) -> str:
    """The page that a template makes of values; `folders` are looked through before this room."""
    environment = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    return environment.get_template(template).render(values)


def visible(text: str) -> Markup:
    """Escaped text in which characters that cannot be seen stand as their numbers."""
    parts = []
    for hidden, run in groupby(text, _is_hidden):
        if hidden:
            parts += [Markup('<span class="code">U+{:04X}</span>').format(ord(c)) for c in run]
        else:
            parts.append(escape("".join(run)))
    return Markup("").join(parts)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN and character not in _KNOWN


def pieces(text: str, *marked: Set[int]) -> list[tuple[str, tuple[bool, ...]]]:
    """The text cut where a mark begins or ends; of each piece, which marks it carries.

    Args:
        text: any text.
        marked: for each mark the offsets of the characters that carry it.
    """
    marks = (tuple(place in mark for mark in marked) for place in range(len(text)))
    runs = groupby(zip(text, marks, strict=True), key=lambda pair: pair[1])
    return [("".join(character for character, _ in run), found) for found, run in runs]


def read_results(path: Path) -> dict[str, Any] | None:
    """A JSON object, None if the file is not there; ValueError if it is no such object."""
    if not path.is_file():
        return None
    try:
        return parse_object(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}; make it again") from error
