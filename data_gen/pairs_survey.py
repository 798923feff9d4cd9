"""What a folder of preference pairs holds: its counts, the bias of length, pairs to read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_gen.preferences import TWINS
from data_gen.reservoir import GroupReservoir
from data_gen.side_by_side import Sample, compared
from minicrit.files import sha256_file
from minicrit.jsonl import BadLine, RefusedError, read_lines
from minicrit.manifest import read_manifest
from minicrit.pages import read_results
from minicrit.records import Preference

SHOWN = 10


@dataclass
class PairsSurvey:
    """What is known of a folder of pairs.

    Attributes:
        folder: where it lies.
        counts: what became of the candidates, from the stage's own report.
        by_scorer: for each scorer its pairs and biases, from the same report.
        rows, bad: pairs that could be read, lines that could not.
        words: how many chosen and rejected critiques have how many words.
        samples: pairs drawn by seed.
        stale: whether they were made from other training rows than these.
    """

    folder: Path
    counts: Mapping[str, int]
    by_scorer: Mapping[str, Mapping[str, Any]]
    rows: int = 0
    bad: int = 0
    words: dict[str, Counter[int]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    stale: bool = False


def survey_pairs(folder: Path, seed: int, data: Path) -> PairsSurvey | None:
    """Reads a folder of pairs; None where there is none.

    Args:
        folder: what the stage `pairs` made.
        seed: of the draw.
        data: folder of the data that the pairs should have been made from.

    Raises:
        ValueError: if the folder is not as the stage leaves it.
    """
    if not folder.is_dir():
        return None
    report = read_results(folder / "report.json")
    if report is None or not all(isinstance(report.get(k), dict) for k in ("counts", "by_scorer")):
        raise ValueError(f"{folder / 'report.json'}: expected counts and by_scorer, got none; make "
                         "the pairs again")  # fmt: skip
    found = PairsSurvey(folder, report["counts"], report["by_scorer"])
    found.words = {"chosen": Counter(), "rejected": Counter()}
    fresh = data / "train-fresh.jsonl"
    found.stale = _is_stale(folder, fresh if fresh.is_file() else data / "train.jsonl")
    drawn: GroupReservoir[Preference] = GroupReservoir(f"{seed}/pairs", groups=SHOWN, members=1)
    for number, row in enumerate(read_lines(folder / "pairs.jsonl")):
        pair = None if isinstance(row, BadLine) else _pair(row[1])
        if pair is None:
            found.bad += 1
            continue
        found.rows += 1
        found.words["chosen"][len(pair.chosen.split())] += 1
        found.words["rejected"][len(pair.rejected.split())] += 1
        drawn.add(str(number), pair)
    found.samples = [compared(pair) for pairs in drawn.drawn() for pair in pairs]
    return found


def scorer_rows(found: PairsSurvey) -> list[tuple[str, ...]]:
    """Scorer, pairs, shares of longer and shorter chosen ones, words more, AUC of words."""
    rows = []
    for scorer, bias in sorted(found.by_scorer.items(), key=lambda item: item[0] == TWINS):
        split = [str(bias.get(f"chosen_{name}", "-")) for name in ("longer", "equal", "shorter")]
        auc = bias.get("words_auc")
        rows.append((scorer, str(bias.get("pairs", "-")), *split,
                     f"{round(bias.get('mean_words_more', 0), 1) + 0.0:+.1f}",
                     "not asked: too few" if auc is None else f"{auc:.3f}"))  # fmt: skip
    return rows


def _pair(row: Mapping[str, Any]) -> Preference | None:
    try:
        return Preference.from_row(row)
    except RefusedError:
        return None


def _is_stale(folder: Path, train: Path) -> bool:
    made_from = read_manifest(folder)["inputs"].get("data", {}).get("sha256")
    return train.is_file() and made_from != sha256_file(train)
