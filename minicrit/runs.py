"""All runs at a glance, and what two of them differ in.

    minicrit runs
    minicrit runs --runs.compare cpu,mine

Nothing is kept for this: everything comes from the manifests in `checkpoints/RUN/*`, the curves
beside them, the reports in `reports/RUN` and, for the minutes, the logs in `runs/RUN`.
"""

import logging
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicrit.care_config import RunsConfig
from minicrit.config import Recipe
from minicrit.eventlog import seconds_logged
from minicrit.files import to_json
from minicrit.jsonl import BadLine, parse_object, read_lines, shown
from minicrit.manifest import read_manifest
from minicrit.settings import NO_RUN

_log = logging.getLogger(__name__)

METRICS = ("f1", "fpr", "auroc", "twin_consistency")
HEAD = ("run", "recipe", "data", "stages", *METRICS, "minutes")
#: Of an adapter; as in `minicrit.lora`, which would load torch.
WEIGHTS = "adapter_model.safetensors"
_HASH = 8
_WIDE = 60  # characters of a value that is compared
_MARK = "v"  # behind what a validation said
_MARKED = f"{_MARK}: of the last validation, of few items; no benchmark was run\n"


@dataclass(frozen=True)
class Run:
    """What lies there of a run.

    Attributes:
        name: of its folders.
        stages: manifest of each finished folder, by the folder's name, in the order of descent.
        curves: last row of each learning curve. reports: the JSON reports, by name.
        minutes: of training, as logged; None if there are no logs.
    """

    name: str
    stages: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Mapping[str, Any]]
    reports: Mapping[str, Mapping[str, Any]]
    minutes: float | None


def show_runs(recipe: Recipe) -> None:
    """Prints the index, or the comparison that is asked for.

    Raises:
        ValueError: if a run that is to be compared is not there.
    """
    told = recipe.runs
    found = {run.name: run for run in find_runs(told)}
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    if told.compare is None:
        seen = list(found.values())
        head, rows = HEAD, [index_row(run) for run in seen]
    else:
        seen = [a, b] = _two(told.compare, found)
        head, rows = ("what", a.name, b.name), list(differences(a, b))
    if told.json:
        dicts = (dict(zip(head, row, strict=True)) for row in rows)
        sys.stdout.writelines(to_json(row) + "\n" for row in dicts)
    else:
        sys.stdout.write(table([head, *rows]))
        if told.compare is None and any(cell.endswith(_MARK) for row in rows for cell in row[4:-1]):
            sys.stdout.write(_MARKED)
    for run in seen:
        if whose := another(run):
            _log.warning("%s: the benchmark is %s; measure it again", run.name, whose)


def find_runs(told: RunsConfig) -> Iterator[Run]:
    """The runs that have a finished stage or a report, by name; released critics are no run."""
    folders = {p.parent.parent.name for p in told.checkpoints.glob("*/*/manifest.json")}
    folders |= {p.parent.name for p in told.reports.glob("*/*.json")}
    for name in sorted(folders.difference(NO_RUN)):
        below = sorted((told.checkpoints / name).glob("*/manifest.json"))
        stages = _by_descent(name, {p.parent.name: read_manifest(p.parent) for p in below})
        curves = {n: last_row(told.checkpoints / name / n / "history.jsonl") for n in stages}
        reports = {p.stem: report for p in sorted((told.reports / name).glob("*.json"))
                   if (report := _report(p))}  # fmt: skip
        seconds = [seconds_logged(told.logs / name / stage) for stage in stages]
        known = [s for s in seconds if s is not None]
        yield Run(name, stages, curves, reports, sum(known) / 60 if known else None)


def _by_descent(run: str, stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The stages of a run, each behind the one it started from; by name where none decides."""

    def line(name: str) -> int:
        """How many stages it came through."""
        through: list[str] = []
        while name in stages and name not in through:
            through.append(name)
            start = Path(stages[name]["inputs"].get("start", {}).get("path", "")).parent
            name = start.name if start.parent.name == run else ""
        return len(through)

    return {name: stages[name] for name in sorted(stages, key=lambda name: (line(name), name))}


def last_row(path: Path) -> dict[str, Any]:
    """The last validation of a learning curve; empty if there is none."""
    if not path.is_file():
        return {}
    rows = [row for row in read_lines(path) if not isinstance(row, BadLine)]
    return rows[-1][1] if rows else {}


def metrics(run: Run) -> dict[str, float | None]:
    """Values of the benchmark; where it was not run, of the last stage's last validation.

    None, where the benchmark is of another critic than those that lie there.
    """
    if another(run):
        return dict.fromkeys(METRICS)
    if measured := _measured(run):
        return {name: (measured.get(name) or {}).get("value") for name in METRICS}
    rows = [row for row in run.curves.values() if row]
    return {name: rows[-1].get(f"val/{name}") if rows else None for name in METRICS}


def index_row(run: Run) -> tuple[str, ...]:
    """One line; values of a validation, which are of few items, are marked with a v."""
    mark = "" if _measured(run) else _MARK
    values = metrics(run).values()
    cells = ("-" if value is None else f"{value:.3f}{mark}" for value in values)
    minutes = "-" if run.minutes is None else f"{run.minutes:.1f}"
    return (run.name, _recipe(run), _data(run), " ".join(run.stages) or "-", *cells, minutes)


def differences(a: Run, b: Run) -> Iterator[tuple[str, str, str]]:
    """Name and both values of each setting, input, fact and metric that differs."""
    one, two = facts(a), facts(b)
    for name in sorted(one.keys() | two.keys()):
        if one.get(name) != two.get(name):
            was, now = (shown(str(found.get(name, "-")), _WIDE) for found in (one, two))
            yield name, was, now


def facts(run: Run) -> dict[str, Any]:
    """Everything of a run that can differ, by dotted name."""
    source = "benchmark" if _measured(run) else "validation"
    known = {k: v for k, v in metrics(run).items() if v is not None}
    found: dict[str, Any] = {f"{source}.{k}": v for k, v in known.items()}
    if whose := another(run):
        found["benchmark"] = whose
    for name, record in run.stages.items():
        inputs = {k: v["sha256"][:12] for k, v in record["inputs"].items()}
        kept = {"settings": record["settings"], "inputs": inputs, "facts": record["facts"],
                "versions": record["versions"], "code": record["code"]}  # fmt: skip
        found |= {f"{name}.{k}": v for k, v in flat(kept).items()}
    return found


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        below = flat(value) if isinstance(value, Mapping) else None
        found |= {f"{name}.{k}": v for k, v in below.items()} if below else {name: value}
    return found


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be."""
    safe = [[shown(cell, _WIDE) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in safe)
    return "".join(line.rstrip() + "\n" for line in lines)


def _measured(run: Run) -> Mapping[str, Any]:
    """Metrics of the benchmark; empty if it was not run."""
    judges = run.reports.get("benchmark", {}).get("judges", {})
    found: Mapping[str, Any] = judges.get("model_1", {}).get("metrics", {})
    return found


def another(run: Run) -> str | None:
    """Whose the benchmark is, if it is of none of the critics that lie there now; else None."""
    judge = run.reports.get("benchmark", {}).get("judges", {}).get("model_1", {})
    name = str(judge.get("name", ""))
    path = Path(name)
    here = path.parent.name == run.name and path.name in run.stages
    records = [run.stages[path.name]] if here else list(run.stages.values())
    own = {found for record in records if (found := _weights(record))}
    said = judge.get("adapter") or judge.get("identity")
    if not own or not said or said in own:
        return None
    return "of an older critic" if here or not name else f"of {shown(name)}"


def _weights(record: Mapping[str, Any]) -> str | None:
    """The hash by which a benchmark names a critic; None for what is none, or has no such."""
    facts = record["facts"]
    found = record["outputs"].get(WEIGHTS) or facts.get("adapter") or facts.get("whole")
    return None if found is None else str(found)


def _two(names: str, found: Mapping[str, Run]) -> list[Run]:
    asked = [name.strip() for name in names.split(",")]
    unknown = [name for name in asked if name not in found]
    if len(asked) != 2 or unknown:  # noqa: PLR2004
        raise ValueError(f"runs.compare: expected two of {', '.join(found) or 'no runs'}, got "
                         f"{shown(names)}; see minicrit runs")  # fmt: skip
    return [found[name] for name in asked]


def _report(path: Path) -> Mapping[str, Any]:
    try:
        return parse_object(path.read_bytes())
    except ValueError:
        return {}


def _recipe(run: Run) -> str:
    """What the command of a report was told as recipe."""
    for report in run.reports.values():
        words = shlex.split(str(report.get("command", "")))
        if "--config" in words[:-1]:
            return Path(words[words.index("--config") + 1]).name
    return "-"


def _data(run: Run) -> str:
    """Hashes of what each stage was trained on, each once."""
    hashes = [r["inputs"]["train"]["sha256"][:_HASH] for r in run.stages.values()
              if "train" in r["inputs"]]  # fmt: skip
    return " ".join(dict.fromkeys(hashes)) or "-"
