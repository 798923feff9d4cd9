"""The page about a data folder: what is in it, what is thin, what leaks, and texts to read.

    minicrit data-report --config recipe.yaml

Reads the folder once, in flat memory, and the run's preference pairs if there are any; writes
`data.html` beside the benchmark's report. A page like that of `minicrit/report.py`: one file, no
script, no request.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_gen import data_tables, shortcuts
from data_gen.pairs_survey import PairsSurvey, scorer_rows, survey_pairs
from data_gen.shortcuts import BAR, Finding
from data_gen.side_by_side import Sample, sample_of
from data_gen.survey import ALL, FLAWED, VALID, FileSurvey, survey
from minicrit import plots
from minicrit.config import Recipe
from minicrit.files import write_atomic
from minicrit.manifest import check_outputs, read_manifest
from minicrit.pages import render, visible
from minicrit.records import SPLITS
from minicrit.row_files import split_of

#: Facts of the manifest that say what was kept out of the data, and why; each is shown if present.
SCREENING = ("removed", "filters", "screening", "duplicates", "firewall")
_HELD_OUT = "what is measured on"


def write_data_report(recipe: Recipe) -> Path:
    """Writes the page; its path.

    Raises:
        ValueError: if there is no data, or what is there cannot be read.
    """
    folder = recipe.data.folder
    files = survey(folder, recipe.seed)
    if not any(file.rows or file.bad for file in files):
        raise ValueError(f"{folder}: expected examples, got none in {len(files)} files; run the "
                         "stage data")  # fmt: skip
    manifest = read_manifest(folder) if (folder / "manifest.json").exists() else None
    probed = [found for file in files for found in shortcuts.findings(file, recipe.seed)]
    pairs = survey_pairs(recipe.pairs.out, recipe.seed, folder)
    page = render(
        "data_report.html",
        Path(__file__).parent,
        name=visible(folder.name),
        seed=recipe.seed,
        files=files,
        cards=_cards(files, probed),
        notes=[*_notes(folder, manifest, files), *_pairs_notes(pairs)],
        counts=data_tables.counts(files),
        by_field=data_tables.by_field(files),
        mechanisms=data_tables.mechanisms(files),
        sets=data_tables.sets(files, manifest),
        licences=data_tables.licences(files),
        coverage=list(_coverage(files)),
        lengths=data_tables.lengths(files),
        plots=[(file.name, list(_plots(file))) for file in files if file.rows],
        probes=list(_probe_rows(probed)),
        asked=shortcuts.ASKED,
        few=shortcuts.FEW,
        statuses=data_tables.STATUS,
        bar=BAR,
        screening=_screening(manifest),
        samples=list(_samples(files)),
        pairs=pairs,
        scorers=scorer_rows(pairs) if pairs else [],
        pairs_plot=_pairs_plot(pairs) if pairs and pairs.rows else None,
        manifest=manifest,
    )
    target = recipe.benchmark.out.with_name("data.html")
    write_atomic(target, page)
    sys.stdout.write(f"{target}\n")
    return target


def _cards(files: Sequence[FileSurvey], probed: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """(name, figure, what it means) of what people look at first."""
    rows = sum(file.rows for file in files)
    flawed = sum(file.fields["label"][FLAWED] for file in files)
    learnt, known = data_tables.flaws_met(files)
    asked = [f for f in probed if f.status != "unknown"]  # without an interval it may be chance
    worst = max(asked, key=lambda f: abs(f.auc.value - shortcuts.CHANCE) if f.auc else 0.0,
                default=None)  # fmt: skip
    cards = [
        ("Examples", f"{rows:,}", f"in {len(files)} files"),
        ("Flawed", f"{flawed / max(1, rows):.1%}", f"{flawed:,} of {rows:,}"),
        ("Flaw types", f"{learnt} of {known}", "of the taxonomy occur"),
    ]
    if worst is not None and worst.auc is not None:
        where = f"{worst.what} in {worst.file}, {worst.part}"
        detail = f"AUC of {where}; 0.5 says nothing, the bar is {BAR:.2f}"
        cards.append(("Strongest shortcut", f"{worst.auc.value:.3f}", detail))
    return cards


def _probe_rows(
    probed: Sequence[Finding],
) -> Iterator[tuple[str, str, dict[str, Finding]]]:
    """(file, set, finding by what was asked)."""
    for (file, part), found in groupby(probed, lambda f: (f.file, f.part)):
        yield file, part, {one.what: one for one in found}


def _notes(
    folder: Path, manifest: Mapping[str, Any] | None, files: Sequence[FileSurvey]
) -> Iterator[str]:
    """What somebody should know before believing the rest."""
    if manifest is None:
        yield "There is no manifest: the folder is not finished, or was not made by a stage."
    else:
        yield from (f"Not as it was made: {line}" for line in check_outputs(folder))
    for file in files:
        if file.rows == 0:
            yield f"{file.name} holds no examples."
        if file.bad:
            yield f"{file.name}: {file.bad:,} lines were refused; the first of them:"
            yield from file.first_bad
        home = file.name.partition("-")[0]
        wrong = {s for s in file.fields["split"] if s != home}
        if wrong and home in SPLITS:
            yield f"{file.name} holds rows of other splits: {', '.join(sorted(wrong))}."


def _pairs_notes(pairs: PairsSurvey | None) -> Iterator[str]:
    if pairs and pairs.stale:
        yield f"{pairs.folder} was made from other training rows than these; make pairs again."
    if pairs and pairs.bad:
        yield f"{pairs.folder}: {pairs.bad:,} lines were refused."


def _coverage(files: Sequence[FileSurvey]) -> Iterator[tuple[str, data_tables.Coverage]]:
    """What is trained on, and what is measured on, as the firewall tells them apart."""
    measured = [split_of(file.name) != "train" for file in files]
    for name, held in (("train", False), (_HELD_OUT, True)):
        some = [file for file, is_held in zip(files, measured, strict=True) if is_held is held]
        if any(file.rows for file in some):
            yield name, data_tables.coverage(some)


def _plots(file: FileSurvey) -> Iterator[tuple[str, Markup]]:
    for what, lengths in (("characters", file.characters), ("words", file.words)):
        counts = [(label, lengths[label], n) for n, label in enumerate((VALID, FLAWED))
                  if lengths[label]]  # fmt: skip
        about = "; ".join(f"{label}: half have at most {plots.quantile(c, 0.5)} {what}, 90 % at "
                          f"most {plots.quantile(c, 0.9)}" for label, c, _ in counts)  # fmt: skip
        yield what, plots.histogram(counts, what, f"{file.name}, {what} a rationale. {about}.")


def _pairs_plot(pairs: PairsSurvey) -> Markup:
    counts = [(name, found, n) for n, (name, found) in enumerate(pairs.words.items())]
    middles = (f"{name}: half have at most {plots.quantile(c, 0.5)}" for name, c, _ in counts)
    return plots.histogram(counts, "words", f"Words a critique. {'; '.join(middles)}.")


def _samples(files: Sequence[FileSurvey]) -> Iterator[tuple[str, list[Sample]]]:
    """For each file and set, the groups that were drawn from it."""
    for file in files:
        for name, part in sorted(file.parts.items()):
            if name != ALL:
                drawn = [sample_of(members) for members in part.shown.drawn()]
                yield f"{file.name}: {name}", drawn


def _screening(manifest: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """(what, figure) of everything that the manifest says about what was kept out."""
    facts = manifest["facts"] if manifest else {}
    return [row for name in SCREENING if name in facts for row in _flat(name, facts[name])]


def _flat(name: str, fact: object) -> Iterator[tuple[str, str]]:
    if isinstance(fact, Mapping):
        for key, value in fact.items():
            yield from _flat(f"{name}: {key}", value)
    elif isinstance(fact, list):
        yield name, ", ".join(map(str, fact))
    else:
        yield name, f"{fact:,}" if isinstance(fact, int) else str(fact)
