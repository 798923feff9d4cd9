"""One pass over a data folder: counts, lengths, and what is drawn to be read and to be probed.

Memory does not grow with the rows: names beyond a limit count together, samples are drawn by hash.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from data_gen.reservoir import Distinct, GroupReservoir
from minicrit.jsonl import BadLine, RefusedError, read_lines
from minicrit.records import SPLITS, Example, labelled
from minicrit.row_files import example_files, split_of
from minicrit.slices import mechanism_of

#: What every name beyond the limit counts as.
OTHERS = "(others)"
#: All sets of a file together.
ALL = "all sets"
VALID, FLAWED = "valid", "flawed"
_FIRST = 5  # refused lines that are shown
#: Fields of small vocabularies, counted by their values.
FIELDS = ("label", "domain", "kind", "flaw_type", "severity", "split")


@dataclass(frozen=True)
class Limits:
    """What is kept of a stream of any length.

    Attributes:
        shown: groups of a set and file that are drawn to be read.
        probed: groups of a set and file that are drawn for the probes.
        members: examples that are kept of a group.
        characters: of a text that is kept; the rest is cut off.
        groups: number of groups up to which they are counted exactly.
        names: sets, mechanisms or licences a file that are counted by themselves.
    """

    shown: int = 3
    probed: int = 500
    members: int = 6
    characters: int = 6000
    groups: int = 1 << 16
    names: int = 40


@dataclass
class Part:
    """The rows of one set in one file."""

    shown: GroupReservoir[Example]
    probed: GroupReservoir[Example]
    labels: Counter[str] = field(default_factory=Counter)


class FileSurvey:
    """What one file holds.

    Attributes:
        name: of the file, without endings.
        rows: examples that were read.
        bad, first_bad: number of refused lines, and what is wrong with the first of them.
        unlabelled: rows whose label is null.
        fields: of each of `FIELDS` how often each value occurs.
        cells: examples by (domain, flaw type or `valid`, kind).
        mechanisms, licences: of each how many examples have which label.
        characters, words: by label, how many rationales have which length.
        groups: different groups.
        parts: rows by set; `ALL` has what is drawn from all of them.
    """

    def __init__(self, path: Path, seed: int, limits: Limits) -> None:
        """Nothing is read yet."""
        self.path = path
        self.name = path.name.removesuffix(".gz").removesuffix(".jsonl")
        self.rows = self.bad = self.unlabelled = 0
        self.first_bad: list[str] = []
        self.fields: dict[str, Counter[str]] = {name: Counter() for name in FIELDS}
        self.cells: Counter[tuple[str, str, str]] = Counter()
        self.mechanisms: dict[str, Counter[str]] = defaultdict(Counter)
        self.licences: dict[str, Counter[str]] = defaultdict(Counter)
        self.characters: dict[str, Counter[int]] = defaultdict(Counter)
        self.words: dict[str, Counter[int]] = defaultdict(Counter)
        self.groups = Distinct(limits.groups)
        self.parts: dict[str, Part] = {}
        self._seed, self._limits = seed, limits

    def add(self, example: Example) -> None:
        """Counts one row."""
        self.rows += 1
        for name in FIELDS:
            if (value := getattr(example, name)) is not None:
                self.fields[name][value] += 1
        self.cells[example.domain, example.flaw_type or example.label, example.kind] += 1
        self.characters[example.label][len(example.rationale)] += 1
        self.words[example.label][len(example.rationale.split())] += 1
        self.groups.add(example.group)
        for counts, value in ((self.mechanisms, mechanism_of(example)),
                              (self.licences, example.licence)):  # fmt: skip
            if value is not None:
                counts[self._bounded(counts, value)][example.label] += 1
        self._draw(example)

    def refuse(self, line: BadLine) -> None:
        """Counts a line that is no example."""
        self.bad += 1
        if self.bad <= _FIRST:
            self.first_bad.append(str(line))

    def _draw(self, example: Example) -> None:
        kept = _cut(example, self._limits.characters)
        own = self._bounded(self.parts, set_of(example))
        for name in (ALL, own):
            if name not in self.parts:
                self.parts[name] = self._part(name)
            part = self.parts[name]
            part.labels[example.label] += 1
            part.probed.add(example.group, kept)
        self.parts[own].shown.add(example.group, _with_rest(kept, example))

    def _part(self, name: str) -> Part:
        seed, limits = f"{self._seed}/{self.name}/{name}", self._limits
        return Part(GroupReservoir(f"{seed}/shown", groups=limits.shown, members=limits.members),
                    GroupReservoir(f"{seed}/probed", groups=limits.probed, members=limits.members),
                    )  # fmt: skip

    def _bounded(self, known: Mapping[str, object], name: str) -> str:
        return name if name in known or len(known) < self._limits.names else OTHERS


def set_of(example: Example) -> str:
    """The set that an example comes from: the first part of its source."""
    return example.source.split("/")[0]


def survey(folder: Path, seed: int, limits: Limits | None = None) -> list[FileSurvey]:
    """Reads all example files of a folder once, the splits first.

    Raises:
        ValueError: if there are no files, or one is not whole.
    """
    found = []
    for path in sorted(example_files(folder), key=_order):
        one = FileSurvey(path, seed, limits or Limits())
        for row in tqdm(_rows(path, one), unit="row", desc=path.name):
            one.add(row)
        found.append(one)
    return found


def _rows(path: Path, counts: FileSurvey) -> Iterator[Example]:
    """The examples of a file; what is none is counted."""
    for found in read_lines(path):
        if isinstance(found, BadLine):
            counts.refuse(found)
            continue
        line, raw = found
        try:
            row = labelled(raw)
            if row is None:
                counts.unlabelled += 1
                continue
            yield Example.from_row(row, source=counts.name, split=split_of(counts.name))
        except RefusedError as error:
            counts.refuse(BadLine(path, line, error.expected, error.got, error.remedy, b""))


def _order(path: Path) -> tuple[int, str]:
    stem = path.name.split(".")[0]
    split = stem.removesuffix("-public")
    return SPLITS.index(split) if split in SPLITS else len(SPLITS), stem


def _with_rest(kept: Example, example: Example) -> Example:
    """What was kept of an example, saying how much of its rationale was not."""
    rest = len(example.rationale) - len(kept.rationale)
    if rest == 0:
        return kept
    return replace(kept, rationale=f"{kept.rationale} [... {rest:,} more characters]")


def _cut(example: Example, most: int) -> Example:
    """The example with no text longer than `most`, so that what is kept stays small."""
    long = {name: value[:most] for name in ("rationale", "evidence", "critique", "fix", "strengths")
            if len(value := getattr(example, name) or "") > most}  # fmt: skip
    return replace(example, **long) if long else example
