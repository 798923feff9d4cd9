"""Long work in passes, each kept in one line of a file, from which a killed run goes on."""

# mypy: disable-error-code="import-untyped"
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from tqdm import tqdm

from minicrit.files import open_alone, to_json
from minicrit.jsonl import parse_object

T = TypeVar("T")


def in_passes(
    path: Path,
    rows: Sequence[T],
    size: int,
    make: Callable[[Sequence[T]], list[Any]],
    *,
    unit: str,
    about: str,
) -> list[Any]:
    """What `make` gives for each row, in order.

    Args:
        path: file of what is done so far; its name has to say what is asked, and of whom.
        rows: what is worked on.
        size: rows a pass; a run that was killed repeats the pass it was in, in the same company.
        make: gives one JSON value for each row of a pass.
        unit: what a row is, for the bar.
        about: what is done, for the bar.
    """
    with (
        open_alone(path) as file,
        tqdm(total=len(rows), unit=unit, desc=about, disable=not rows) as bar,
    ):
        made = _done(file, [len(rows[at : at + size]) for at in range(0, len(rows), size)])
        bar.update(len(made))
        for at in range(len(made), len(rows), size):
            found = make(rows[at : at + size])
            file.write(to_json({"made": found}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            made += found
            bar.update(len(found))
    return made


def _done(file: BinaryIO, sizes: Sequence[int]) -> list[Any]:
    """The whole passes of an earlier run; what follows the last good line is cut off."""
    made: list[Any] = []
    good = 0
    for raw, size in zip(file.read().splitlines(keepends=True), sizes, strict=False):
        found = _line(raw)
        if found is None or len(found) != size:
            break
        made += found
        good += len(raw)
    file.truncate(good)
    return made


def _line(raw: bytes) -> list[Any] | None:
    """The values of a line; None if the run was killed while writing it."""
    if not raw.endswith(b"\n"):
        return None
    try:
        found = parse_object(raw).get("made")
    except ValueError:
        return None
    return found if isinstance(found, list) else None
