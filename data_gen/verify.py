"""The chain from data to reports, recomputed, and the firewall over all of it.

`lineage` compares every file with its manifest; here every training file is held against every
evaluation file of every run, and against the adversarial suite. A file of rows that a manifest
lists is a training file unless its name says that it is measured on (`firewall`) or was set aside,
or `import` made it (`lineage`); so the file of a stage that is new is checked, too.
"""

import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_gen.adversarial import suite
from data_gen.firewall import Firewall, Hit, Incoming, is_evaluation
from data_gen.lineage import Lineage, trace
from data_gen.screen import SUITE
from minicrit.config import Recipe, VerifyConfig
from minicrit.jsonl import BadLine, read_lines, shown
from minicrit.records import Example, read_examples
from minicrit.row_files import ASIDE, stem_of

#: Rows that were set aside, or that describe a run; nobody trains on them.
_ASIDE = (*ASIDE, ".history", ".items", ".journal")
_FIRST = 5  # hits shown of each file
_BATCH = 4096


def verify(recipe: Recipe) -> None:
    """Prints what is wrong and what was checked.

    Raises:
        ValueError: if anything is wrong.
    """
    folders = _folders(recipe.verify.folders)
    lineage = trace(folders, inputs_are_here=recipe.verify.inputs)
    files = list(dict.fromkeys(p for p in lineage.listed if _is_rows(p)))
    leaks, checked = _leaks(files)
    faults = [*lineage.faults, *leaks]
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    sys.stdout.writelines(f"not here: {shown(name, 200)}\n" for name in lineage.absent)
    sys.stdout.write(_summary(lineage, len(faults)) + f"; {checked}\n")
    if faults:
        raise ValueError(f"expected an unbroken chain, got {len(faults)} faults, see above; mend "
                         "each as it says")  # fmt: skip


def _folders(named: str) -> list[Path]:
    """Those that are there; one that was asked for by name has to be."""
    asked = [Path(name.strip()) for name in named.split(",") if name.strip()]
    gone = [path.as_posix() for path in asked if not path.is_dir()]
    if named != VerifyConfig().folders and (gone or not asked):  # before the first run none is yet
        raise ValueError("verify.folders: expected folders that are there, got "
                         f"{', '.join(gone) or 'none'}; check the paths")  # fmt: skip
    return [path for path in asked if path.is_dir()]


def _summary(lineage: Lineage, faults: int) -> str:
    return (f"verified {lineage.records} manifests and reports, {lineage.files} files, "
            f"{len(lineage.absent)} inputs not here, {faults} faults")  # fmt: skip


def _is_rows(path: Path) -> bool:
    ending = path.name.endswith((".jsonl", ".jsonl.gz"))
    return ending and not f".{stem_of(path)}".endswith(_ASIDE)


def _leaks(files: list[Path]) -> tuple[list[str], str]:
    """Hits of all training files, and a sentence about how many rows were compared."""
    measured = [path for path in files if is_evaluation(path)]
    evaluation, groups = _evaluation(measured)
    firewall = Firewall(evaluation)
    incoming = Incoming(firewall)
    training = {p: _taken(p, incoming, groups) for p in files if not is_evaluation(p)}
    hits, found, first = incoming.hits(), list[str](), 0
    for path, rows in training.items():
        found += _leaks_of(path, rows, {n - first: hit for n, hit in hits.items() if n >= first})
        first += len(rows.lines)
    return found, (f"{first} rows of {len(training)} training files against {len(firewall)} items "
                   f"of {len(measured)} evaluation files and the {SUITE}")  # fmt: skip


def _evaluation(files: list[Path]) -> tuple[dict[str, list[Example]], dict[str, str]]:
    """Evaluation items, each text once, by file; and the file of each group."""
    seen: set[str] = set()
    evaluation = {SUITE: list(suite())}
    for path in files:
        evaluation[str(path)] = read_examples(path).examples
    groups = {e.group: name for name, items in evaluation.items() for e in items}
    for name, items in evaluation.items():
        evaluation[name] = [e for e in items if e.rationale not in seen]
        seen.update(e.rationale for e in items)
    return evaluation, groups


@dataclass(frozen=True)
class _Rows:
    """Rows of a training file: the line of each, of those in a group that is measured on its name.

    `bad` are the lines that are none.
    """

    lines: "array[int]" = field(default_factory=lambda: array("q"))
    held: dict[int, str] = field(default_factory=dict)
    bad: list[BadLine] = field(default_factory=list)


def _taken(path: Path, incoming: Incoming, groups: dict[str, str]) -> _Rows:
    """Shows the rows of a file to the firewall."""
    rows = _Rows()
    for batch in _batches(path, rows.bad):
        names = [str(row.get("group")) for _, row in batch]
        rows.held.update((len(rows.lines) + place, groups[name])
                         for place, name in enumerate(names) if name in groups)  # fmt: skip
        rows.lines.extend(line for line, _ in batch)
        incoming.add([str(row["rationale"]) for _, row in batch], names)
    return rows


def _leaks_of(path: Path, rows: _Rows, found: dict[int, Hit]) -> list[str]:
    """The faults of a file, given the hits by row."""
    hits = []
    for number, line in enumerate(rows.lines):
        if number in found:
            hits.append(f"{path}:{line}: {found[number].item}: {found[number].how}")
        elif number in rows.held:
            hits.append(f"{path}:{line}: a row of a group of {rows.held[number]}")
    if len(hits) > _FIRST:
        hits = [*hits[:_FIRST], f"{path}: {len(hits) - _FIRST} more"]
    remedy = "make the file again, and anew what was trained on it"
    faults = [f"{hit}; expected no evaluation item in training data, {remedy}" for hit in hits]
    return [*faults, *map(str, rows.bad[:_FIRST])]


def _batches(path: Path, bad: list[BadLine]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Rows that have a rationale, with their lines, a few thousand at a time; others to `bad`."""
    batch: list[tuple[int, dict[str, Any]]] = []
    for found in read_lines(path):
        if isinstance(found, BadLine):
            bad.append(found)
            continue
        if isinstance(found[1].get("rationale"), str):
            batch.append(found)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
