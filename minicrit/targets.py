"""The numbers people ask for first, against their targets, and the summary for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from minicrit import tables

MAX_FPR, MIN_F1, MAX_MS = 0.08, 0.90, 30.0  # what the critic has to keep people's trust
CURVES = ("val/f1", "val/fpr", "val/auroc", "val/twin_consistency")


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
            f"{fpr['n']} valid items" + _promise(judge),
            "target": f"under {100 * MAX_FPR:.0f} %",
            "status": _status(fpr["value"], fpr["low"], fpr["high"], MAX_FPR, below=True),
        },
        {
            "name": "Flaw detection F1",
            "value": tables.number(f1["value"]),
            "detail": f"95 %: {tables.number(f1['low'])} to {tables.number(f1['high'])}, "
            f"{100 * report['items']['prevalence']:.0f} % flawed",
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
        known = [(key, tables.number(last.get(key))) for key in CURVES if key in last]
        return (
            f"# Summary\n\nNo benchmark yet.\n\n{tables.markdown(('validation', 'last'), known)}\n"
        )
    keys = ("name", "value", "detail", "target", "status")
    rows = [tuple(found[key] for key in keys) for found in targets(benchmark)]
    head = ("", "value", "", "target", "status")
    parts = [
        "# Summary",
        tables.markdown(head, rows),
        tables.markdown(*tables.metric_rows(benchmark)),
    ]
    return "\n\n".join(parts) + "\n"


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


def _promise(judge: Mapping[str, Any]) -> str:
    found = judge.get("calibration")
    return f"; threshold certified for <= {100 * found['alpha']:g} %" if found else ""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
