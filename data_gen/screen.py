"""What every stage that writes training data does with it before it is written.

The rows that stay are given back in order. Those that go are written to `removed.jsonl` with the
reason, counted in the manifest and printed; nothing is lost.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_gen.adversarial import suite
from data_gen.filters import Removal, Screening, balanced
from data_gen.firewall import EVALUATION, evaluation_files
from minicrit.data_config import FilterConfig
from minicrit.files import sha256_file
from minicrit.jsonl import write_rows
from minicrit.records import Example, read_examples

#: Name of the file of removed rows.
REMOVED = "removed.jsonl"
SUITE = "adversarial suite"


@dataclass(frozen=True)
class Screened:
    """What became of the rows of a stage.

    Attributes:
        composed: own rows that stay. others: foreign rows that stay.
        removed: rows that go, and why.
        items: how many evaluation items they were compared with.
    """

    composed: list[Example]
    others: list[Example]
    removed: list[tuple[Example, Removal]]
    items: int

    def write(self, folder: Path) -> None:
        """Writes the rows that go, if there are any."""
        if self.removed:
            write_rows(folder / REMOVED, (
                {"reason": why.reason, "detail": why.detail, "example": example.to_row()}
                for example, why in self.removed
            ))  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """For the manifest: evaluation items, and rows removed by set and reason."""
        counts: dict[str, Counter[str]] = {}
        for example, why in self.removed:
            counts.setdefault(_set_of(example), Counter())[why.reason] += 1
        return {"evaluation_items": self.items,
                "removed": {name: dict(count) for name, count in counts.items()}}  # fmt: skip

    def lines(self) -> str:
        """The same for people."""
        rows = len(self.composed) + len(self.others) + len(self.removed)
        text = f"firewall: {rows} training rows against {self.items} evaluation items\n"
        for name, count in sorted(self.facts()["removed"].items()):
            reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(count.items()))
            text += f"removed from {name}: {reasons}; see {REMOVED}\n"
        return text


def screened(
    composed: Sequence[Example],
    others: Sequence[Example],
    own: Mapping[str, Sequence[Example]],
    settings: FilterConfig,
    seed: int,
) -> Screened:
    """Keeps what may be trained on.

    Args:
        composed: rows of our composer. It sees to language, length and copies itself, and what two
            of its cases share is meant; so the firewall alone can take them out.
        others: rows of any other origin.
        own: evaluation items that the same stage makes, by file; suite and held-out files are
            known here.
        settings: bars of the filters.
        seed: of the draw that balances.

    Raises:
        ValueError: if a held-out file is missing or not to be read.
    """
    evaluation = {**own, SUITE: suite(), **held_out(settings)}
    screening = Screening(evaluation, settings)
    screening.add(composed, fixed=True)
    screening.add(others)
    rows = [*composed, *others]
    removed = {row: _named(why, rows) for row, why in screening.removed().items()}
    left = [row for row in range(len(composed), len(rows)) if row not in removed]
    surplus = balanced([rows[row] for row in left], settings.balance, seed)
    removed |= {left[place]: why for place, why in surplus.items()}
    return Screened(
        composed=[e for row, e in enumerate(composed) if row not in removed],
        others=[e for row, e in enumerate(others, len(composed)) if row not in removed],
        removed=[(rows[row], removed[row]) for row in sorted(removed)],
        items=sum(map(len, evaluation.values())),
    )


def asked(settings: FilterConfig) -> dict[str, Any]:
    """What decides which rows stay, beside the held-out files."""
    bars = ("near", "min_words", "max_words", "english", "balance")
    return {name: getattr(settings, name) for name in bars}


def held_out_inputs(settings: FilterConfig) -> dict[str, Path]:
    """The held-out files, for the manifest."""
    return {f"held_out/{path.as_posix()}": path for path in held_out_files(settings)}


def held_out(settings: FilterConfig) -> dict[str, list[Example]]:
    """The evaluation files that the settings name, by path."""
    return {str(path): read_examples(path).examples for path in held_out_files(settings)}


def held_out_files(settings: FilterConfig) -> list[Path]:
    """Files as named, folders by the evaluation files in them."""
    found: list[Path] = []
    for name in filter(None, settings.held_out.split(",")):
        path = Path(name)
        files = evaluation_files(path, below=True) if path.is_dir() else [path]
        if not files:
            raise ValueError(f"filters.held_out: expected evaluation files ({', '.join(EVALUATION)}"
                             f".jsonl) in {path}, got none; check the path")  # fmt: skip
        found += files
    return found


def measured_on(settings: FilterConfig, data: Path) -> list[str]:
    """Hashes of what the rows of a file are held against: what lies beside it or is held out."""
    files = [*evaluation_files(data.parent), *held_out_files(settings)]
    return [sha256_file(path) for path in files]


def _named(why: Removal, rows: Sequence[Example]) -> Removal:
    """The reason with the id of the row it speaks of."""
    return why if why.like is None else Removal(why.reason, f"of {rows[why.like].id}")


def _set_of(example: Example) -> str:
    return example.source.partition("/")[0]
