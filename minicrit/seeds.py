"""The ladder over several seeds: which of its steps are the stage's, and which one run's luck.

    minicrit seeds --config recipe.yaml --seeds.reports reports/cpu-seed0,reports/cpu-seed1

Each run of the ladder composes its data, draws its first weights and its order by its own seed; a
run's intervals hold for its one critic. Here the run is the unit: means over runs with their lowest
and highest, and of every step up the ladder the gain in accuracy, and in AUROC, over the rung
below, on the same items in each run, with Student's interval over runs and its test (Holm over all
steps). Won and lost verdicts are added up beside it: they speak of these runs alone. All are read
at 0.5, as in `ladder`. Writes `<out>.md`, `<out>.html` and, last, `<out>.json`.
"""

# mypy: disable-error-code="import-untyped"
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from minicrit.config import Recipe
from minicrit.contrast_tables import chance
from minicrit.files import sha256_file, write_atomic, write_json
from minicrit.ladder import BASE, Rung, at_half, below, benchmarks_in, only_right, place, rungs_of
from minicrit.manifest import provenance
from minicrit.pages import render
from minicrit.paired import holm
from minicrit.plots import Dot, dot_plot
from minicrit.statistics import mcnemar_exact
from minicrit.tables import LABELS, Row, bounds, markdown, number

METRICS = ("fpr", "f1", "auroc")
LEVEL = 0.95
Runs = Mapping[str, Sequence[Rung]]
Found = Mapping[str, Any]

READ = (
    "Read at 0.5. A mean stands with the lowest and the highest run. A step is held against the "
    "rung below on the same items of the same run; its interval is Student's, 95 %, over runs, "
    "which differ in data, first weights and order, as is its p; Holm: over all steps of a table. "
    "Few runs make it wide. Won and lost verdicts of all runs together say what held for these "
    "runs alone."
)


def compare_seeds(recipe: Recipe) -> dict[str, Any]:
    """Compare the runs, write the report, and return what `<out>.json` holds.

    Raises:
        ValueError: if there are not two runs with two rungs each, a run has two critics of one
            stage, or two runs have the same critic.
    """
    settings = recipe.seeds
    folders = [Path(name.strip()) for name in settings.reports.split(",") if name.strip()]
    runs = _read(folders)
    files = sorted(path for folder in folders for path, _ in benchmarks_in(folder))
    steps, ranks = _steps(runs)
    report = {
        **provenance(recipe.seed, settings, {p.as_posix(): sha256_file(p) for p in files}),
        "runs": list(runs),
        "rungs": _rungs(runs),
        "steps": steps,
        "ranks": ranks,
    }
    page = seeds_markdown(report)
    write_atomic(f"{settings.out}.md", page)
    write_atomic(f"{settings.out}.html", seeds_html(report))
    write_json(f"{settings.out}.json", report)
    sys.stdout.write(page)
    return report


def _read(folders: Sequence[Path]) -> dict[str, list[Rung]]:
    if len(set(folders)) < 2:  # noqa: PLR2004
        raise ValueError(f"seeds.reports: expected the folders of two runs or more, got "
                         f"{len(set(folders))}; run make ladder SEEDS=\"0 1 2\"")  # fmt: skip
    runs: dict[str, list[Rung]] = {}
    seen: dict[str, Path] = {}
    for folder in dict.fromkeys(folders):
        rungs = rungs_of(folder)
        if len(rungs) < 2:  # noqa: PLR2004
            raise ValueError(f"{folder}: expected benchmark reports of two critics or more, got "
                             f"{len(rungs)}; run make ladder with its RUN and SEED")  # fmt: skip
        for rung in rungs:
            if sum(other.stage == rung.stage for other in rungs) > 1:
                raise ValueError(f"{folder}: expected one critic a stage, got two of {rung.stage}; "
                                 "remove the report of one")  # fmt: skip
            before = seen.setdefault(rung.judge["identity"], folder)
            if rung.stage != BASE and before != folder:
                raise ValueError(f"{folder}: expected critics of a seed of its own, got the "
                                 f"{rung.stage} of {before}; name each run once")  # fmt: skip
        runs[folder.as_posix()] = rungs
    return runs


def _rungs(runs: Runs) -> list[dict[str, Any]]:
    """Of each stage its metrics by run, in the order of the ladder."""
    found: dict[str, dict[str, Any]] = {}
    for run, rungs in runs.items():
        for rung in rungs:
            row = found.setdefault(rung.stage, {"stage": rung.stage, **{k: {} for k in METRICS}})
            for key in METRICS:
                entry = at_half(rung, key)
                row[key][run] = entry and entry["value"]
    return sorted(found.values(), key=lambda row: place(row["stage"]))


def _steps(runs: Runs) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every rung against the one below it, over the runs in which both judged the same items.

    Gains in accuracy with won and lost verdicts, and gains in AUROC.
    """
    steps: dict[tuple[str, str], dict[str, Any]] = {}
    ranks: dict[tuple[str, str], dict[str, Any]] = {}
    for run, rungs in runs.items():
        for rung in rungs:
            other = below(rung, rungs)
            counts = only_right(rung, other)
            if other is None or counts is None:
                continue
            key, names = (rung.stage, other.stage), {"stage": rung.stage, "against": other.stage}
            step = steps.setdefault(key, {**names, "gains": {}, "won": 0, "lost": 0})
            n = len(rung.right.keys() & other.right.keys())
            step["gains"][run] = (counts[0] - counts[1]) / n
            step["won"] += counts[0]
            step["lost"] += counts[1]
            mine, theirs = at_half(rung, "auroc"), at_half(other, "auroc")
            if mine and theirs and rung.right.keys() == other.right.keys():
                rank = ranks.setdefault(key, {**names, "gains": {}})
                rank["gains"][run] = mine["value"] - theirs["value"]
    tested = _tested(steps.values())
    return [s | {"mcnemar_p": mcnemar_exact(s["won"], s["lost"])} for s in tested], _tested(
        ranks.values()
    )


def _tested(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The steps in the order of the ladder, with what `over_runs` says, and Holm over all."""
    found = [{**step, **over_runs(list(step["gains"].values()))} for step in steps]
    found.sort(key=lambda step: place(step["stage"]))
    known = [step for step in found if step["p"] is not None]
    for step, p in zip(known, holm([step["p"] for step in known]), strict=True):
        step["holm"] = p
    return found


def over_runs(gains: Sequence[float]) -> dict[str, float | None]:
    """Mean over runs with Student's 95 % interval and two-sided p.

    Where runs do not differ at all, or there is one, neither is known: None.

    Args:
        gains: one value a run.
    """
    mean = float(np.mean(gains))
    error = float(np.std(gains, ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else 0.0
    if error <= 1e-12:  # noqa: PLR2004 - what rounding leaves of equal values
        return {"mean": mean, "low": None, "high": None, "p": None, "holm": None}
    degrees = len(gains) - 1
    half = float(stats.t.ppf(0.5 + LEVEL / 2, degrees)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, degrees))
    return {"mean": mean, "low": mean - half, "high": mean + half, "p": p, "holm": None}


def seeds_markdown(report: Found) -> str:
    """The report for the terminal and for pull requests."""
    return "\n\n".join([
        "# The ladder over seeds", about(report), markdown(*rung_rows(report)),
        markdown(*step_rows(report)), markdown(*rank_rows(report)), READ,
    ]) + "\n"  # fmt: skip


def seeds_html(report: Found) -> str:
    """One page without scripts and requests."""
    plots = [(LABELS[key], dot_plot(_dots(report, key), f"{LABELS[key]} by stage, over runs"))
             for key in ("f1", "fpr")]  # fmt: skip
    return render("seeds.html", title="the ladder over seeds", report=report, about=about(report),
                  rungs=rung_rows(report), steps=step_rows(report), ranks=rank_rows(report),
                  plots=plots, read=READ)  # fmt: skip


def about(report: Found) -> str:
    """What was compared."""
    return f"{len(report['runs'])} runs: {', '.join(report['runs'])}."


def rung_rows(report: Found) -> tuple[Row, list[Row]]:
    """Head and rows of each stage's metrics: mean over runs, lowest and highest."""
    head = ("stage", "runs", *(f"{LABELS[key]} at 0.5" if key != "auroc" else LABELS[key]
                               for key in METRICS))  # fmt: skip
    rows = [(row["stage"], str(len(row["f1"])), *(_spread(row[key]) for key in METRICS))
            for row in report["rungs"]]  # fmt: skip
    return head, rows


def step_rows(report: Found) -> tuple[Row, list[Row]]:
    """Head and rows of what each stage gains in accuracy over the one below."""
    head = (*_gain_head("accuracy"), "won : lost, all runs", "McNemar p, these runs")
    return head, [
        (*_gain(step), f"{step['won']} : {step['lost']}", chance(step["mcnemar_p"]))
        for step in report["steps"]
    ]


def rank_rows(report: Found) -> tuple[Row, list[Row]]:
    """Head and rows of what each stage gains in AUROC, whatever the threshold."""
    return _gain_head("AUROC"), [_gain(step) for step in report["ranks"]]


def _gain_head(measure: str) -> Row:
    return "stage", "against", f"{measure} gained", "95 % over runs", "better in", "p", "Holm"


def _gain(step: Mapping[str, Any]) -> Row:
    better = sum(gain > 0 for gain in step["gains"].values())
    chances = [chance(step[key]) if step[key] is not None else "-" for key in ("p", "holm")]
    interval = bounds(step["low"], step["high"])
    of_runs = f"{better} of {len(step['gains'])}"
    return step["stage"], step["against"], f"{step['mean']:+.3f}", interval, of_runs, *chances


def _spread(by_run: Mapping[str, float | None]) -> str:
    known = [value for value in by_run.values() if value is not None]
    if not known:
        return "-"
    return f"{number(float(np.mean(known)))} ({number(min(known))} to {number(max(known))})"


def _dots(report: Found, key: str) -> list[Dot]:
    found = []
    for row in report["rungs"]:
        known = [value for value in row[key].values() if value is not None]
        if known:
            mean = float(np.mean(known))
            found.append(Dot(row["stage"], mean, min(known), max(known), len(known)))
    return found
