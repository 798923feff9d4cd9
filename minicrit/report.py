"""The page people look at: everything a run has measured, in one HTML file without network.

    minicrit report --config recipe.yaml

Reads what is there of `benchmark.json`, `quantize-*.json` (beside the benchmark's), the coverage of
the data and the training history; writes `index.html` and `summary.md` beside them. All text is
escaped by the template engine, and the page forbids itself scripts and every request.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from minicrit import contrast_tables, plots, tables
from minicrit.config import Recipe
from minicrit.files import write_atomic
from minicrit.jsonl import parse_object, raw_lines
from minicrit.pages import pieces, read_results, render
from minicrit.plots import Dot, Line
from minicrit.side_tables import coverage_rows, quantize_rows
from minicrit.targets import CURVES, summary, targets
from minicrit.written import places

MAX_SAMPLES = 12
Table = tuple[tables.Row, list[tables.Row]]


def write_report(recipe: Recipe) -> Path:
    """Write `index.html` and `summary.md` into the folder of the benchmark; the page's path."""
    out = recipe.benchmark.out
    benchmark = read_results(out.with_name(f"{out.name}.json"))
    if benchmark and benchmark.get("form") != tables.FORM:
        raise ValueError(f"{out}.json: expected a benchmark of form {tables.FORM}, got "
                         f"{benchmark.get('form')}; run the benchmark again")  # fmt: skip
    quantized = {
        path.stem.removeprefix("quantize-"): read_results(path) or {}
        for path in sorted(out.parent.glob("quantize-*.json"), reverse=True)
    }
    history = _history(recipe.sft.out / "history.jsonl")
    coverage = read_results(recipe.data.folder / "coverage.json")
    if not (benchmark or quantized or history or coverage):
        raise ValueError(f"{out}.json: expected results to report, got none; run the benchmark")
    page = render(
        "report.html",
        title=out.parent.name,
        benchmark=benchmark,
        targets=targets(benchmark) if benchmark else [],
        learning=_learning(history),
        quantized=quantize_rows(quantized),
        coverage=coverage_rows(coverage),
        samples=[_marked(s) for s in _samples(benchmark)],
        **(_views(benchmark) if benchmark else {}),
    )  # fmt: skip
    target = out.with_name("index.html")
    write_atomic(out.with_name("summary.md"), summary(benchmark, history))
    write_atomic(target, page)
    return target


def _views(report: Mapping[str, Any]) -> dict[str, Any]:
    """Tables and plots of the benchmark."""
    judges = report["judges"]
    curves = [Line(j["name"], j["roc"], n) for n, j in enumerate(judges.values()) if j["roc"]]
    risks = [Line(j["name"], j["risk_coverage"], n) for n, j in enumerate(judges.values())]
    bins = judges["model_1"]["reliability"]
    dots = [(Dot(str(b["mean_p"]), b["value"], b["low"], b["high"], b["n"]), 0) for b in bins]
    return {
        "judges": tables.metric_rows(report),
        "pairs": contrast_tables.pair_rows(report),
        "differences": contrast_tables.difference_rows(report),
        "contrasted": contrast_tables.slice_rows(report),
        "foreseen": contrast_tables.foreseen(report),
        "about_pairs": contrast_tables.NOTE,
        "about_slices": contrast_tables.SLICES.replace("`", ""),
        "certified": [tables.certificate(j) for j in judges.values() if j.get("calibration")],
        "written": tables.critique_rows(report),
        "measured": tables.measured_rows(report),
        "intervals": tables.INTERVALS.replace("`", ""),
        "roc": plots.square(curves, ("false-positive rate", "recall"), list(_points(judges))),
        "risk_coverage": plots.curves(risks, ("share of the items judged, surest first", "wrong")),
        "roc_legend": [(_named(judges, line), line.color) for line in curves],
        "risk_legend": [(line.name, line.color) for line in risks],
        "reliability": plots.square([], ("p(flawed)", "share flawed"), dots),
        "identities": [(j["name"], j["identity"]) for j in judges.values() if "identity" in j],
        "slices": list(_slice_plots(judges["model_1"]["slices"])),
    }


def _named(judges: Mapping[str, Any], line: Line) -> str:
    judge = list(judges.values())[line.color]
    return f"{line.name}, dot: {'certified' if judge.get('calibration') else 'its'} threshold"


def _points(judges: Mapping[str, Any]) -> Iterator[tuple[Dot, int]]:
    """Where each judge stands on its ROC curve, with the interval of its recall."""
    for color, judge in enumerate(judges.values()):
        fpr, recall = judge["operating_point"]["fpr"], judge["operating_point"]["recall"]
        if fpr and recall:
            place = str(fpr["value"])
            yield Dot(place, recall["value"], recall["low"], recall["high"], recall["n"]), color


def _slice_plots(found: Mapping[str, Any]) -> Iterator[tuple[str, Markup]]:
    """Accuracy by slice (recall by flaw type), worst first; none for an axis of one slice."""
    for axis, title in tables.AXES.items():
        what = "recall" if axis == "flaw_type" else "accuracy"
        dots = [
            Dot(name, rate["value"], rate["low"], rate["high"], rate["n"])
            for name, rates in found.get(axis, {}).items()
            if (rate := rates[what])
        ]
        if len(dots) > 1:
            dots.sort(key=lambda dot: (dot.value, dot.name))
            yield f"{title}: {what}", plots.dot_plot(dots, title)


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
