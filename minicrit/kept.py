"""Lines of a long step, on disk as they are made, from which a killed run goes on.

The name of the file holds a hash of all that decides its lines, so what was made by another model,
of other data or by other code is never met again.
"""

# mypy: disable-error-code="import-untyped"
import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tqdm import tqdm

from minicrit.files import open_alone, sha256_json
from minicrit.jsonl import whole_rows

T = TypeVar("T")
Row = dict[str, Any]
Fits = Sequence[Callable[[Row], bool]]


class Kept:
    """The lines of one step; inside `with`, `rows` begins with those that an earlier run has left.

    The file is locked meanwhile: lines that two runs add in turn would stand in each other's place.

    Args:
        out: the report that the step belongs to. part: which of its steps.
        key: all that decides the lines, as JSON values.
        fits: for each line there is to be, whether a row may be it; from the first that may not,
            all are dropped.

    Raises:
        ValueError: on entering, if another run has the file open.
    """

    def __init__(self, out: Path, part: str, key: Iterable[Any], fits: Fits) -> None:
        self.path = out.with_name(f"{out.name}.{sha256_json(list(key))[:16]}.{part}.jsonl")
        self._fits = fits
        self.rows: list[Row] = []
        self.resumed = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            file = stack.enter_context(open_alone(self.path))
            self.rows = whole_rows(self.path, self._fits)
            stack.pop_all()
        self._file = file
        self.resumed = len(self.rows) > 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._file.close()

    def add(self, row: Row) -> None:
        """One line more; it survives a kill from here on."""
        self._file.write((json.dumps(row) + "\n").encode())
        self._file.flush()
        self.rows.append(row)


def in_passes(
    out: Path,
    part: str,
    key: Iterable[Any],
    rows: Sequence[T],
    size: int,
    make: Callable[[Sequence[T]], list[Any]],
    *,
    unit: str,
) -> list[Any]:
    """What `make` gives for each row, in order; a killed run repeats the pass it was in.

    Args:
        out: see `Kept`, as `part` and `key`.
        part: also what the bar says.
        key: all that decides what is made.
        rows: what is worked on.
        size: rows a pass, which come again in the same company.
        make: gives one JSON value for each row of a pass.
        unit: what a row is, for the bar.
    """
    passes = [rows[at : at + size] for at in range(0, len(rows), size)]
    fits = [partial(_has, size=len(some)) for some in passes]
    with (
        Kept(out, part, key, fits) as kept,
        tqdm(total=len(rows), unit=unit, desc=part, disable=not rows) as bar,
    ):
        bar.update(sum(map(len, passes[: len(kept.rows)])))
        for some in passes[len(kept.rows) :]:
            kept.add({"made": make(some)})
            bar.update(len(some))
    return [one for row in kept.rows for one in row["made"]]


def _has(row: Row, size: int) -> bool:
    made = row.get("made")
    return isinstance(made, list) and len(made) == size


def remove_kept(out: Path) -> None:
    """Remove what this report has kept, also of models or data since changed."""
    ours = re.compile(re.escape(out.name) + r"\.[0-9a-f]{16}\.[a-z]+\.jsonl")
    for path in out.parent.iterdir():
        if ours.fullmatch(path.name):
            path.unlink()
