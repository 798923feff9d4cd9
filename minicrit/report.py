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

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from minicrit import plots, tables
from minicrit.config import Recipe
from minicrit.files import write_atomic
from minicrit.jsonl import parse_object, raw_lines
from minicrit.plots import Dot, Line
from minicrit.written import places

MAX_FPR, MIN_F1, MAX_MS = 0.08, 0.90, 30.0  # what the critic has to keep people's trust
MAX_SAMPLES = 12
CURVES = ("val/f1", "val/fpr", "val/auroc", "val/twin_consistency")
Table = tuple[tables.Row, list[tables.Row]]


def write_report(recipe: Recipe) -> Path:
    """Write `index.html` and `summary.md` into the folder of the benchmark; the page's path."""
    out = recipe.benchmark.out
    benchmark = _read(out.with_name(f"{out.name}.json"))
    quantized = {p.stem: _read(p) for p in sorted(out.parent.glob("quantize-*.json"))}
    history = _history(recipe.sft.out / "history.jsonl")
    coverage = _read(recipe.data.folder / "coverage.json")
    if not (benchmark or quantized or history or coverage):
        raise ValueError(f"{out}.json: expected results to report, got none; run the benchmark")
    page = _environment().get_template("report.html").render(
        title=out.parent.name,
        benchmark=benchmark,
        targets=targets(benchmark) if benchmark else [],
        learning=_learning(history),
        last=history[-1] if history else {},
        quantized=_flat_table(quantized),
        coverage=_coverage_table(coverage),
        samples=[_marked(s) for s in _samples(benchmark)],
        **(_views(benchmark) if benchmark else {}),
    )  # fmt: skip
    target = out.with_name("index.html")
    write_atomic(out.with_name("summary.md"), summary(benchmark, history))
    write_atomic(target, page)
    return target


def targets(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The three headline numbers of model 1 against their targets."""
    judge = report["judges"]["model_1"]
    fpr, f1 = judge["metrics"]["fpr"], judge["metrics"]["f1"]
    times = report["measured"]["model_1"]["verdict_ms"]
    hardware = report["measured"]["hardware"]
    return [
        {
            "name": "False-positive rate",
            "value": _percent(fpr["value"]),
            "detail": f"95 %: {_percent(fpr['low'])} to {_percent(fpr['high'])}, "
            f"{fpr['n']} valid items",
            "target": f"under {MAX_FPR:.0%}",
            "status": _status(fpr["value"], fpr["low"], fpr["high"], MAX_FPR, below=True),
        },
        {
            "name": "Flaw detection F1",
            "value": tables.number(f1["value"]),
            "detail": f"95 %: {tables.number(f1['low'])} to {tables.number(f1['high'])}, "
            f"{report['items']['prevalence']:.0%} flawed",
            "target": f"over {MIN_F1:.2f}",
            "status": _status(f1["value"], f1["low"], f1["high"], MIN_F1, below=False),
        },
        {
            "name": "One verdict",
            "value": f"{tables.number(times.get('p50'), 1)} ms",
            "detail": f"p95 {tables.number(times.get('p95'), 1)} ms, "
            f"{hardware['gpu'] or hardware['cpu']}",
            "target": f"under {MAX_MS:.0f} ms",
            "status": _status(
                times.get("p50"), times.get("p50"), times.get("p95"), MAX_MS, below=True
            ),
        },
    ]


def summary(benchmark: Mapping[str, Any] | None, history: Sequence[Mapping[str, Any]]) -> str:
    """The headline table, as Markdown for the terminal."""
    if not benchmark:
        last = history[-1] if history else {}
        rows = [(key, tables.number(last.get(key))) for key in CURVES if key in last]
        return "# Summary\n\nNo benchmark yet.\n\n" + tables.markdown(("validation", "last"), rows)
    rows = [(t["name"], t["value"], t["detail"], t["target"], t["status"])
            for t in targets(benchmark)]  # fmt: skip
    head = ("", "value", "", "target", "status")
    parts = ["# Summary", tables.markdown(head, rows), tables.markdown(*_main_rows(benchmark))]
    return "\n\n".join(parts) + "\n"


def _main_rows(report: Mapping[str, Any]) -> Table:
    """The table of judges without what a constant cannot have."""
    head, rows = tables.metric_rows(report)
    return head, rows[: len(tables.LABELS) - 3]


def _status(
    value: float | None, low: float | None, high: float | None, target: float, *, below: bool
) -> str:
    """`met` or `missed` if the whole interval is on one side, else `open`."""
    if value is None:
        return "unknown"
    low, high = (value if low is None else low), (value if high is None else high)
    best, worst = (low, high) if below else (-high, -low)
    limit = target if below else -target
    return "met" if worst < limit else "missed" if best >= limit else "open"


def _views(report: Mapping[str, Any]) -> dict[str, Any]:
    """Tables and plots of the benchmark."""
    judges = report["judges"]
    curves = [Line(j["name"], j["roc"], n) for n, j in enumerate(judges.values()) if j["roc"]]
    bins = judges["model_1"]["reliability"]
    dots = [(Dot(str(b["mean_p"]), b["value"], b["low"], b["high"], b["n"]), 0) for b in bins]
    return {
        "judges": tables.metric_rows(report),
        "pairs": tables.pair_rows(report),
        "written": tables.critique_rows(report),
        "measured": tables.measured_rows(report),
        "intervals": tables.INTERVALS.replace("`", ""),
        "roc": plots.square(curves, ("false-positive rate", "recall")),
        "roc_legend": [(line.name, line.color) for line in curves],
        "reliability": plots.square([], ("p(flawed)", "share flawed"), dots),
        "identities": [(j["name"], j["identity"]) for j in judges.values() if "identity" in j],
        "slices": list(_slice_plots(judges["model_1"]["slices"])),
    }


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
    """The sample with its rationale cut into (text, marked by the critic, marked by reference)."""
    text = sample["rationale"]
    said, true = (places(text, sample[k] or "") for k in ("written_evidence", "evidence"))
    pieces: list[tuple[str, bool, bool]] = []
    start = 0
    for end in range(1, len(text) + 1):
        here = (start in said, start in true)
        if end == len(text) or (end in said, end in true) != here:
            pieces.append((text[start:end], *here))
            start = end
    return {**sample, "pieces": pieces, "right": sample["verdict"] == sample["label"]}


def _flat_table(reports: Mapping[str, Any]) -> Table | None:
    """Numbers and words of the quantization reports side by side; None without any."""
    flat = {name: dict(_leaves(report)) for name, report in reports.items() if report}
    keys = list(dict.fromkeys(key for leaves in flat.values() for key in leaves))
    if not keys:
        return None
    return ("", *flat), [(key, *(leaves.get(key, "-") for leaves in flat.values())) for key in keys]


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of every number, word or switch; lists and hashes are left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path} {key}".strip())
    elif isinstance(value, float):
        yield path, f"{value:.4g}"
    elif isinstance(value, bool | int) or (isinstance(value, str) and len(value) < 64):
        yield path, str(value)


def _coverage_table(coverage: Mapping[str, Any] | None) -> Table | None:
    """Sizes of the data by split; None where there is no coverage."""
    keys = ("examples", "groups", "flawed", "words_mean", "words_max")
    rows = [
        (split, *(str(found.get(key, "-")) for key in keys), str(len(found.get("sources", {}))))
        for split, found in (coverage or {}).items()
        if isinstance(found, Mapping) and "examples" in found
    ]
    return (("data", *(k.replace("_", " ") for k in keys), "sources"), rows) if rows else None


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, None if the file is not there."""
    if not path.is_file():
        return None
    try:
        return parse_object(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}; make it again") from error


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


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
