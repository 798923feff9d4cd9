"""The chain from data to reports, recomputed, and the firewall over all of it.

`lineage` compares every file with its manifest; here every training file is held against every
evaluation file of every run, and against the adversarial suite. Below `data`, a file of rows that a
manifest lists is a training file unless its name says that it is measured on (`firewall`) or was
set aside; so the file of a stage that is new is checked, too.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_gen.adversarial import suite
from data_gen.firewall import Firewall, is_evaluation, stem_of
from data_gen.lineage import Lineage, trace
from data_gen.screen import SUITE
from minicrit.config import Recipe, VerifyConfig
from minicrit.jsonl import BadLine, read_lines, shown
from minicrit.records import ASIDE, Example, read_examples

#: Rows that were set aside, or that describe a run; nobody trains on them.
_ASIDE = (*ASIDE, ".history", ".items", ".journal")
_FIRST = 5  # hits shown of each file
_BATCH = 4096


def verify(recipe: Recipe) -> None:
    """Prints what is wrong and what was checked.

    Raises:
        ValueError: if anything is wrong.
    """
    named = recipe.verify.folders
    folders = [Path(name) for name in named.split(",") if Path(name).is_dir()]
    if not folders and named != VerifyConfig().folders:  # before the first run none is there yet
        raise ValueError(f"verify.folders: expected at least one folder that is there, got {named};"
                         " check the paths")  # fmt: skip
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
    found, rows = list[str](), 0
    training = [path for path in files if not is_evaluation(path)]
    for path in training:
        hits, number = _leaks_of(path, firewall, groups)
        found += hits
        rows += number
    return found, (f"{rows} rows of {len(training)} training files against {len(firewall)} items "
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


def _leaks_of(path: Path, firewall: Firewall, groups: dict[str, str]) -> tuple[list[str], int]:
    hits: list[str] = []
    rows = 0
    bad: list[BadLine] = []
    for batch in _batches(path, bad):
        rows += len(batch)
        found = firewall.hits([str(row["rationale"]) for _, row in batch])
        for number, (line, row) in enumerate(batch):
            if number in found:
                hits.append(f"{path}:{line}: {found[number].item}: {found[number].how}")
            elif row.get("group") in groups:
                hits.append(f"{path}:{line}: a row of a group of {groups[row['group']]}")
    if len(hits) > _FIRST:
        hits = [*hits[:_FIRST], f"{path}: {len(hits) - _FIRST} more"]
    remedy = "make the file again, and anew what was trained on it"
    faults = [f"{hit}; expected no evaluation item in training data, {remedy}" for hit in hits]
    return [*faults, *map(str, bad[:_FIRST])], rows


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
