"""Tables of the page about the data: a head, and rows that begin with their name."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from data_gen.survey import ALL, FIELDS, FLAWED, VALID, FileSurvey
from minicrit.measures import COMPOSER
from minicrit.plots import quantile
from minicrit.records import SPLITS
from minicrit.taxonomy import DOMAINS, FLAW_TYPES, KINDS, LABELS, SEVERITIES

#: Below this share of the table's average cell something is thin; one example always is.
THIN = 0.25
#: What is said of a probe's result; of a good one nothing.
STATUS = {
    "hidden": "",
    "open": "open",
    "told": "tells",
    "unknown": "not asked",
}
_ORDER = {"label": LABELS, "domain": DOMAINS, "kind": KINDS, "flaw_type": tuple(FLAW_TYPES),
          "severity": SEVERITIES, "split": SPLITS}  # fmt: skip
_FATES = ("kept", "unlabelled", "bad", "too_long", "over_limit", "in_another_split")


class Cell(NamedTuple):
    """A figure, and what is remarkable about it: `thin`, `none` or nothing."""

    text: str
    mark: str = ""


class Line(NamedTuple):
    """A row of a table."""

    name: str
    cells: list[Cell]


class Grid(NamedTuple):
    """A table; the first name of the head is that of the names of the rows."""

    head: list[str]
    rows: list[Line]


@dataclass(frozen=True)
class Coverage:
    """Domain by flaw type, flaw type by kind, and the same for each domain.

    Attributes:
        examples: number of examples.
        missing: flaw types of the taxonomy that never occur.
        empty, thin, cells: of the cells of domain and flaw type, for flaw types that do occur.
    """

    examples: int
    missing: list[str]
    empty: int
    thin: int
    cells: int
    by_domain: Grid
    by_kind: Grid
    domains: list[tuple[str, int, Grid]]


def counts(files: Sequence[FileSurvey]) -> Grid:
    """Sizes of each file."""
    head = ["file", "examples", "groups", VALID, FLAWED, "flawed, %", "refused", "unlabelled"]
    return Grid(head, [_sizes(file) for file in files])


def _sizes(file: FileSurvey) -> Line:
    labels = file.fields["label"]
    groups, exact = file.groups.count()
    share = f"{100 * labels[FLAWED] / file.rows:.1f}" if file.rows else "-"
    cells = [Cell(f"{file.rows:,}"), Cell(("" if exact else "about ") + f"{groups:,}"),
             Cell(f"{labels[VALID]:,}"), Cell(f"{labels[FLAWED]:,}"), Cell(share),
             Cell(f"{file.bad:,}"), Cell(f"{file.unlabelled:,}")]  # fmt: skip
    return Line(file.name, cells)


def by_field(files: Sequence[FileSurvey]) -> list[tuple[str, Grid]]:
    """For each field how often each of its values occurs in each file; values that never do not."""
    found = []
    for name in (name for name in FIELDS if name not in ("label", "split")):
        met = [v for v in _ORDER[name] if any(file.fields[name][v] for file in files)]
        title = name.replace("_", " ")
        rows = [Line(plain(v), [_count(file.fields[name][v]) for file in files]) for v in met]
        if rows:
            found.append((title, Grid([title, *(file.name for file in files)], rows)))
    return found


def mechanisms(files: Sequence[FileSurvey]) -> Grid | None:
    """Composed examples by mechanism; None without any."""
    return _shares(files, lambda file: file.mechanisms, "mechanism")


def licences(files: Sequence[FileSurvey]) -> Grid | None:
    """Examples by licence; None where no row names one."""
    return _shares(files, lambda file: file.licences, "licence")


def sets(files: Sequence[FileSurvey], manifest: Mapping[str, Any] | None) -> list[Grid]:
    """Sets by file, and what became of the rows of public ones, by name."""
    found = _shares(files, lambda f: {k: p.labels for k, p in f.parts.items() if k != ALL}, "set")
    grids = [found] if found else []
    public = (manifest or {}).get("facts", {}).get("public")
    if isinstance(public, dict) and public:
        rows = [Line(name, [_count(fates.get(fate, 0)) for fate in _FATES])
                for name, fates in sorted(public.items()) if isinstance(fates, dict)]  # fmt: skip
        grids.append(Grid(["public set", *(plain(fate) for fate in _FATES)], rows))
    return grids


def lengths(files: Sequence[FileSurvey]) -> Grid:
    """Quantiles of characters and words by file and label."""
    shares = {"median": 0.5, "90 %": 0.9, "99 %": 0.99, "longest": 1.0}
    head = ["rationales", *(f"{what}, {name}" for what in ("characters", "words")
                            for name in shares)]  # fmt: skip
    rows = []
    for file in files:
        for label in LABELS:
            if file.fields["label"][label]:
                cells = [Cell(f"{quantile(found[label], share):,}")
                         for found in (file.characters, file.words)
                         for share in shares.values()]  # fmt: skip
                rows.append(Line(f"{file.name}, {label}", cells))
    return Grid(head, rows)


def flaws_met(files: Sequence[FileSurvey]) -> tuple[int, int]:
    """How many flaw types occur, and how many there are."""
    met = {name for file in files for name in file.fields["flaw_type"]}
    return len(met), len(FLAW_TYPES)


def coverage(files: Sequence[FileSurvey]) -> Coverage:
    """What the files together hold of each domain, flaw type and kind."""
    cells = sum((file.cells for file in files), Counter[tuple[str, str, str]]())
    met = {flaw for _, flaw, _ in cells}
    rows = [f for f in (*FLAW_TYPES, FLAWED, VALID) if f in met]
    flaws = [f for f in rows if f != VALID]
    by_domain = _table(cells, rows, 0, DOMAINS, "flaw type", say_none=True)
    marks = Counter(c.mark for line in by_domain.rows[: len(flaws)] for c in line.cells)
    return Coverage(
        examples=cells.total(),
        missing=[plain(name) for name in FLAW_TYPES if name not in met],
        empty=marks["none"], thin=marks["thin"], cells=len(flaws) * len(DOMAINS),
        by_domain=by_domain,
        by_kind=_table(cells, rows, 2, _met(KINDS, cells, 2), "flaw type"),
        domains=list(_domains(cells, rows)),
    )  # fmt: skip


def _domains(
    cells: Counter[tuple[str, str, str]], rows: Sequence[str]
) -> Iterator[tuple[str, int, Grid]]:
    for domain in DOMAINS:
        inside = Counter({cell: n for cell, n in cells.items() if cell[0] == domain})
        if inside:
            met = [row for row in rows if any(flaw == row for _, flaw, _ in inside)]
            kinds = _met(KINDS, inside, 2)
            yield domain, inside.total(), _table(inside, met, 2, kinds, f"in {domain}")


def _met(names: Sequence[str], cells: Mapping[tuple[str, str, str], int], place: int) -> list[str]:
    return [name for name in names if any(cell[place] == name for cell in cells)]


def _table(
    cells: Counter[tuple[str, str, str]], rows: Sequence[str], place: int, names: Sequence[str],
    corner: str, *, say_none: bool = False,
) -> Grid:  # fmt: skip
    """Rows by the names of one more dimension; what is thin among the flawed is marked."""
    sums: Counter[tuple[str, str]] = Counter()
    for cell, number in cells.items():
        sums[cell[1], cell[place]] += number
    flawed = [n for (flaw, _), n in sums.items() if flaw != VALID]
    bar = THIN * sum(flawed) / max(1, len(flawed))

    def mark(flaw: str, number: int) -> Cell:
        if number == 0:
            return Cell("0", "none") if say_none else Cell("-")
        return Cell(
            f"{number:,}", "thin" if flaw != VALID and (number == 1 or number < bar) else ""
        )

    lines = [Line(plain(row), [mark(row, sums[row, name]) for name in names]) for row in rows]
    return Grid([corner, *map(plain, names)], lines)


def _shares(
    files: Sequence[FileSurvey],
    counts_of: Callable[[FileSurvey], Mapping[str, Counter[str]]],
    title: str,
) -> Grid | None:
    """Number and share of flawed ones by name and file."""
    found = [counts_of(file) for file in files]
    names = sorted({name for one in found for name in one}, key=lambda n: (n != COMPOSER, n))
    rows = [Line(name, [_share(one.get(name, Counter())) for one in found]) for name in names]
    return Grid([title, *(file.name for file in files)], rows) if rows else None


def _share(labels: Counter[str]) -> Cell:
    total = labels.total()
    return Cell(f"{total:,} ({labels[FLAWED] / total:.0%} flawed)") if total else Cell("-")


def _count(number: int) -> Cell:
    return Cell(f"{number:,}" if number else "-")


def plain(name: str) -> str:
    """A name as people write it."""
    return name.replace("_", " ")
