"""The page people look at: everything a run has measured, in one HTML file without network.

    minicrit report --config recipe.yaml

Reads what is there beside the benchmark (`benchmark*.json` of all critics of the run,
`quantize-*.json`, `sharpe.json`, `agreement.json`, and what `side_views` names), the coverage of
the data and the training history; writes `index.html` and `summary.md` beside them. All text is
escaped by the template engine, and the page forbids itself scripts and every request.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from minicrit import plots, tables
from minicrit.config import Recipe
from minicrit.files import write_atomic
from minicrit.jsonl import parse_object, raw_lines
from minicrit.ladder import ladder, ladder_plots
from minicrit.pages import pieces, read_results, render
from minicrit.plots import Line
from minicrit.side_tables import coverage_rows, quantize_rows
from minicrit.side_views import read_sides
from minicrit.targets import CURVES, summary, targets
from minicrit.views import views
from minicrit.written import places

MAX_SAMPLES = 12
#: Sections of the page in their order: anchor, heading, and the value without which it is left out.
SECTIONS = (
    ("judges", "Judges on the same items", "benchmark"),
    ("calibration", "Calibration and operating points", "benchmark"),
    ("types", "Which flaw", "heat"),
    ("slices", "Where it is good and where not", "slices"),
    ("metamorphic", "Changes that must not move the verdict", "violations"),
    ("comparisons", "Comparisons", "contrasts"),
    ("ladder", "Ladder of stages", "ladder"),
    ("judged", "Critiques compared by a judge", "judged"),
    ("explained", "Critiques checked against references", "explained"),
    ("adapters", "Adapters by domain", "adapters"),
    ("errors", "Errors", "errors"),
    ("experiments", "Experiments", "experiments"),
    ("learning", "Learning", "learning"),
    ("times", "Times and memory", "benchmark"),
    ("quantization", "Quantization", "quantized"),
    ("data", "Data", "coverage"),
    ("critiques", "Whole critiques", "benchmark"),
    ("again", "How to make this again", "benchmark"),
)


def write_report(recipe: Recipe) -> Path:
    """Write `index.html` and `summary.md` into the folder of the benchmark; the page's path."""
    out = recipe.benchmark.out
    benchmark = _benchmark(out)
    found = _found(recipe, benchmark)
    gate, operators = (read_results(out.with_name(f"{name}.json"))
                       for name in ("sharpe", "agreement"))  # fmt: skip
    history = _history(recipe.sft.out / "history.jsonl")
    if not (any(found.values()) or gate or operators or history):
        raise ValueError(f"{out}.json: expected results to report, got none; run the benchmark")
    found["learning"] = _learning(history)
    page = render(
        "report.html",
        title=out.parent.name,
        targets=targets(benchmark, gate, operators),
        sections=[(anchor, name) for anchor, name, key in SECTIONS if found.get(key)],
        **found,
    )
    target = out.with_name("index.html")
    write_atomic(out.with_name("summary.md"), summary(benchmark, history, gate, operators))
    write_atomic(target, page)
    return target


def _benchmark(out: Path) -> dict[str, Any] | None:
    found = read_results(out.with_name(f"{out.name}.json"))
    if found and found.get("form") != tables.FORM:
        raise ValueError(f"{out}.json: expected a benchmark of form {tables.FORM}, got "
                         f"{found.get('form')}; run the benchmark again")  # fmt: skip
    return found


def _found(recipe: Recipe, benchmark: dict[str, Any] | None) -> dict[str, Any]:
    """What each section shows; None or empty where there is nothing."""
    out = recipe.benchmark.out
    quantized = {
        path.stem.removeprefix("quantize-"): read_results(path) or {}
        for path in sorted(out.parent.glob("quantize-*.json"), reverse=True)
    }
    return {
        "benchmark": benchmark,
        "contrasts": benchmark and benchmark["pairs"],
        "known": benchmark and tables.known_items(benchmark["items"].get("known") or {}),
        "ladder": ladder(out.parent) if out.parent.is_dir() else None,
        "ladder_plots": ladder_plots(out.parent) if out.parent.is_dir() else [],
        "quantized": quantize_rows(quantized, benchmark),
        "coverage": coverage_rows(read_results(recipe.data.folder / "coverage.json")),
        "samples": [_marked(s) for s in _samples(benchmark)],
        **read_sides(out, benchmark),
        **(views(benchmark) if benchmark else {}),
    }


def _learning(history: Sequence[Mapping[str, Any]]) -> list[tuple[Markup, list[tuple[str, int]]]]:
    """Validation curves, and the training loss by itself as its scale is another."""
    found = []
    for names, top in ((CURVES, 1.0), (("train/loss",), None)):
        lines = []
        for color, name in enumerate(names):
            points = [(row["step"], row[name]) for row in history if _finite(row.get(name))]
            if points:
                lines.append(Line(name, points, color))
        if lines:
            plot = plots.curves(lines, ("optimizer steps", ""), top=top)
            found.append((plot, [(line.name, line.color) for line in lines]))
    return found


def _samples(report: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if not report:
        return []
    found = report["judges"]["model_1"].get("critiques", {}).get("samples", [])
    return list(found[:MAX_SAMPLES])


def _marked(sample: Mapping[str, Any]) -> dict[str, Any]:
    """The sample with its rationale cut by what the critic and the reference mark as evidence."""
    text = sample["rationale"]
    said, true = (places(text, sample[k] or "") for k in ("written_evidence", "evidence"))
    right = sample["verdict"] == sample["label"]
    return {**sample, "pieces": pieces(text, said, true), "right": right}


def _history(path: Path) -> list[dict[str, Any]]:
    """The validations in the order of their steps; the last of each step counts."""
    if not path.is_file():
        return []
    rows = {}
    for line, raw in raw_lines(path):
        try:
            row = parse_object(raw)
            rows[int(row["step"])] = row
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{line}: expected an object with step, got {error}; remove "
                             "the line") from error  # fmt: skip
    return [rows[step] for step in sorted(rows)]


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
