"""Which items a benchmark asks about, and what the bag of words may learn from."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicrit import tables
from minicrit.files import sha256_json, sha256_path
from minicrit.jsonl import shown
from minicrit.measure_config import BenchmarkConfig
from minicrit.measures import Truth, plain
from minicrit.records import SPLITS, Example, read_examples, read_folder

_log = logging.getLogger(__name__)
#: Splits that critics learn from, or whose rows set their temperatures and thresholds.
_STEER = ("train", "calibration")


def select(settings: BenchmarkConfig, seed: int) -> tuple[list[Example], dict[str, int]]:
    """The items, and how many were left out and why."""
    if settings.split not in (*SPLITS, "all"):
        raise ValueError(f"benchmark.split: expected {', '.join(SPLITS)} or all, got "
                         f"{settings.split!r}; name the rows to use")  # fmt: skip
    chosen, others = of_split(data_paths(settings), settings.split, "benchmark")
    kept = limited(chosen, settings.limit, seed) if settings.limit else chosen
    return kept, {"other_split": others, "limit": len(chosen) - len(kept)}


def of_split(paths: Sequence[Path], split: str, stage: str) -> tuple[list[Example], int]:
    """The rows of a split (or of `all`) in files and folders, and how many others there are.

    Raises:
        ValueError: if there are none, or an id comes twice; `stage` is whose settings it names.
    """
    rows = [e for path in paths for e in _read(path)]
    chosen = [e for e in rows if split in (e.split, "all")]
    named = ",".join(path.as_posix() for path in paths)
    if not chosen:
        raise ValueError(f"{named}: expected rows of split {split}, got none of {len(rows)}; "
                         f"change {stage}.split or {stage}.data")  # fmt: skip
    seen = Counter(e.id for e in chosen)
    twice = [name for name, count in seen.items() if count > 1]
    if twice:
        raise ValueError(f"{named}: expected each id once over all files, got {len(twice)} twice, "
                         f"such as {shown(twice[0])}; name each file once, or put the name of the "
                         "file before its ids")  # fmt: skip
    return chosen, len(rows) - len(chosen)


def data_paths(settings: BenchmarkConfig) -> list[Path]:
    """Where the items come from."""
    return [Path(name.strip()) for name in settings.data.split(",") if name.strip()]


def _read(path: Path) -> list[Example]:
    readings = read_folder(path) if path.is_dir() else [read_examples(path)]
    return [example for reading in readings for example in reading.examples]


def limited(examples: Sequence[Example], limit: int, seed: int) -> list[Example]:
    """Whole groups in a seeded order, as long as they fit; the items keep their order."""
    sizes = Counter(e.group for e in examples)
    room, kept = limit, set()
    for group in sorted(sizes, key=lambda name: sha256_json([seed, name])):
        if sizes[group] <= room:
            room -= sizes[group]
            kept.add(group)
    if not kept:
        raise ValueError(f"limit: expected room for a whole group, got {limit}; the "
                         f"smallest holds {min(sizes.values())} items")  # fmt: skip
    return [e for e in examples if e.group in kept]


def lessons_of(settings: BenchmarkConfig) -> list[Example]:
    """Training rows of the bag of words; none if it is not asked for."""
    if not settings.words or settings.words_data is None:
        return []
    rows = [e for e in _read(settings.words_data) if e.split == "train"]
    if not rows:
        raise ValueError(f"{settings.words_data}: expected rows of split train, got none; change "
                         "benchmark.words_data or switch benchmark.words off")  # fmt: skip
    return rows


def input_hashes(settings: BenchmarkConfig) -> dict[str, str]:
    """SHA-256 of every file or folder that is read, by its path."""
    paths = data_paths(settings)
    if settings.words and settings.words_data:
        paths.append(settings.words_data)
    return {p.as_posix(): sha256_path(p) for p in paths}


def facts_of(
    examples: list[Example], truth: Truth, lessons: list[Example], left_out: dict[str, int]
) -> dict[str, Any]:
    """Sizes of what was asked, and a hash of it; warns of items that a judge may know."""
    learnt = {e.rationale for e in lessons}
    seen = sum(e.rationale in learnt for e in examples)
    if seen:
        _log.warning("%s of %s items are training rows of the bag of words", seen, len(examples))
    known = Counter(e.split for e in examples if e.split in _STEER)
    if known:
        _log.warning("%s", tables.known_items(known))
    return {
        "n": len(examples),
        "flawed": int(truth.flawed.sum()),
        "prevalence": plain(float(truth.flawed.mean())),
        "groups": len(set(truth.groups)),
        "families": len(set(truth.families)),
        "twins": truth.num_twins(),
        "words_mean": plain(float(np.mean([len(e.rationale.split()) for e in examples]))),
        "left_out": left_out,
        "seen_by_words": seen,
        "known": dict(known),
        "sha256": sha256_json([e.to_row() for e in examples]),
    }
