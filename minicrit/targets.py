"""The numbers people ask for first, against their targets, and the summary for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from minicrit import tables
from minicrit.contrast_tables import said_p
from minicrit.ladder import SERVED
from minicrit.worlds import SURE

Report = Mapping[str, Any]
Card = dict[str, str]

MAX_FPR, MIN_F1, MAX_MS = 0.08, 0.90, 30.0  # what the critic has to keep people's trust
WHOLE_MS = 100.0  # from which tenths say nothing
MIN_AGREEMENT, MIN_SHARPE = 0.98, 0.40
MAX_MOVED = 0.05  # of the verdicts, by changes that must not move any
SHARPE = "Sharpe ratio over random gates"
MET, MISSED, OPEN, UNKNOWN = "met", "missed", "open", "not measured"
CURVES = ("val/f1", "val/fpr", "val/auroc", "val/twin_consistency")


def targets(
    benchmark: Report | None, sharpe: Report | None = None, agreement: Report | None = None
) -> list[Card]:
    """The five headline numbers, each with its interval; what nobody measured says so.

    A sixth, of changes that must not move the verdict, only where the benchmark's items hold any.

    Args:
        benchmark: of which model 1 counts.
        sharpe: the gate's report.
        agreement: the operators'.
    """
    return [
        *(_detection(benchmark) if benchmark else [
            _missing("False-positive rate", f"under {100 * MAX_FPR:.0f} %", "make benchmark"),
            _missing("Flaw detection F1", f"over {MIN_F1:.2f}", "make benchmark"),
        ]),
        *(_moved(benchmark) if benchmark else []),
        _agreement(agreement, benchmark),
        _sharpe(sharpe, benchmark),
        _time(benchmark) if benchmark
        else _missing("One verdict", f"under {MAX_MS:.0f} ms", "make benchmark"),
    ]  # fmt: skip


def _detection(report: Report) -> list[Card]:
    """What known items show is not met: training or the certificate may have made it so."""
    judge = report["judges"]["model_1"]
    known = sorted((report["items"].get("known") or {}).items())
    splits = ", ".join(f"{n} of split {split}" for split, n in known)
    told = f"; known items: {splits}" if known else ""
    fpr, f1 = judge["metrics"]["fpr"], judge["metrics"]["f1"]
    return [
        {
            "name": "False-positive rate",
            "value": _percent(fpr["value"]),
            "detail": f"95 %: {_percent(fpr['low'])} to {_percent(fpr['high'])}, "
            f"{fpr['n']} valid items" + _promise(judge) + told,
            "target": f"under {100 * MAX_FPR:.0f} %",
            "status": _of(fpr, MAX_FPR, below=True, known=bool(known)),
        },
        {
            "name": "Flaw detection F1",
            "value": tables.number(f1["value"]),
            "detail": f"95 %: {tables.number(f1['low'])} to {tables.number(f1['high'])}, "
            f"{100 * report['items']['prevalence']:.0f} % flawed" + told,
            "target": f"over {MIN_F1:.2f}",
            "status": _of(f1, MIN_F1, below=False, known=bool(known)),
        },
    ]


def _of(metric: Report, target: float, *, below: bool, known: bool) -> str:
    """The status of a metric; of known items at best open."""
    status = _status(metric["value"], metric["low"], metric["high"], target, below=below)
    return OPEN if known and status == MET else status


def _moved(report: Report) -> list[Card]:
    found = report["judges"]["model_1"].get("metamorphic")
    if not found:
        return []
    rate = found["rate"]
    return [
        {
            "name": "Verdicts moved by harmless changes",
            "value": _percent(rate["value"]),
            "detail": f"95 %: {_percent(rate['low'])} to {_percent(rate['high'])}, "
            f"{rate['n']} changed items",
            "target": f"at most {100 * MAX_MOVED:.0f} %",
            "status": _status(rate["value"], rate["low"], rate["high"], MAX_MOVED, below=True),
        }
    ]


def _time(report: Report) -> Card:
    measured = report["measured"]["model_1"]
    times = measured["verdict_ms"]
    middle, late = times.get("p50"), times.get("p95")
    return {
        "name": "One verdict",
        "value": _milliseconds(middle),
        "detail": f"p95 {_milliseconds(late)}, {_machine(report, measured.get('device'))}",
        "target": f"under {MAX_MS:.0f} ms",
        "status": _status(middle, middle, late, MAX_MS, below=True),
    }


def _machine(report: Report, device: str | None) -> str:
    """What the verdicts were computed by: int8 runs on the processor, whatever GPU there is."""
    if str(report["judges"]["model_1"].get("name")).startswith(SERVED):
        return "by its server, whose machine is not known"
    hardware = report["measured"]["hardware"]
    gpu = None if device == "cpu" else hardware["gpu"]
    return str(gpu or hardware["cpu"])


def _agreement(report: Report | None, benchmark: Report | None) -> Card:
    """Met is what the operators' page calls proven; missed is what the interval rules out.

    What who says the same of every rationale proves as well is open until the critic does better.
    """
    if not report:
        goal = f"{100 * MIN_AGREEMENT:.0f} %"
        return _missing("Operator agreement", goal, "make agreement LOG=...")
    rate, proof = report["agreement"], report["proof"]
    status = _status(rate["value"], rate["low"], rate["high"], proof["target"], below=False)
    said = "proven" if proof["proven"] else "not proven"
    constant = proof.get("constant") or {}
    blind = proof["proven"] and constant.get("proven") and not constant["beaten"]
    as_well = f", as of who always says {constant['verdict']}" if blind else ""
    return {
        "name": "Operator agreement",
        "value": _percent(rate["value"]),
        "detail": f"95 %: {_percent(rate['low'])} to {_percent(rate['high'])}, {rate['n']} "
        f"rationales; {said} one-sided at 95 %{as_well}" + _other_critic(report, benchmark),
        "target": f"{100 * proof['target']:g} %",
        "status": MET if proof["proven"] and not blind else MISSED if status == MISSED else OPEN,
    }


def _sharpe(report: Report | None, benchmark: Report | None) -> Card:
    """The gated book's ratio less that of gates that drop as many at random, within their spread.

    The difference from all trades would not do: where they lose, dropping any of them raises it.
    """
    goal = f"+{MIN_SHARPE:.2f}"
    if not report:
        return _missing(SHARPE, goal, "make sharpe TRADES=...")
    placebo = report["placebo"] or {}
    gain, gated = placebo.get("gain"), report["books"]["after"]["sharpe"]
    low, high, between = None, None, "no random gates"
    if gain is not None:
        low, high = gated - placebo["high"], gated - placebo["low"]
        between = f"95 %: {low:+.2f} to {high:+.2f}, {said_p(placebo['p'])}"
    status = _status(gain, low, high, MIN_SHARPE, below=False)
    if status == MET and placebo["p"] > SURE:  # random gates without a ratio count as better
        status = OPEN
    return {
        "name": SHARPE,
        "value": "-" if gain is None else f"{gain:+.2f}",
        "detail": f"{between}, {report['trades']['n']} trades" + _other_critic(report, benchmark),
        "target": goal,
        "status": status,
    }


def _missing(name: str, target: str, remedy: str) -> Card:
    return {"name": name, "value": "-", "detail": remedy, "target": target, "status": UNKNOWN}


def _other_critic(report: Report, benchmark: Report | None) -> str:
    """Says so where a figure is not that of the critic of the benchmark."""
    critic = report.get("critic") or {}
    judge = benchmark["judges"]["model_1"] if benchmark else critic
    if critic.get("identity") == judge.get("identity"):
        return ""
    return f"; critic {tables.named(critic, [judge])}"


def summary(
    benchmark: Report | None, history: Sequence[Report], sharpe: Report | None = None,
    agreement: Report | None = None,
) -> str:  # fmt: skip
    """The headline table, as Markdown for the terminal."""
    keys = ("name", "value", "detail", "target", "status")
    rows = [tuple(one[key] for key in keys) for one in targets(benchmark, sharpe, agreement)]
    parts = ["# Summary"]
    if benchmark or sharpe or agreement:
        parts.append(tables.markdown(("", "value", "", "target", "status"), rows))
    if benchmark:
        parts.append(tables.markdown(*tables.metric_rows(benchmark)))
        parts += filter(None, [tables.escaped(tables.unread(benchmark))])
    else:
        last = history[-1] if history else {}
        known = [(key, tables.number(last.get(key))) for key in CURVES if key in last]
        parts += ["No benchmark yet.", tables.markdown(("validation", "last"), known)]
    return "\n\n".join(parts) + "\n"


def _status(
    value: float | None, low: float | None, high: float | None, target: float, *, below: bool
) -> str:
    """`met` or `missed` if the whole interval is on one side, else, or without one, `open`."""
    if value is None:
        return UNKNOWN
    if low is None or high is None:
        return OPEN
    best, worst = (low, high) if below else (-high, -low)
    limit = target if below else -target
    return MET if worst < limit else MISSED if best >= limit else OPEN


def _promise(judge: Report) -> str:
    found = judge.get("calibration")
    return f"; threshold certified for <= {100 * found['alpha']:g} %" if found else ""


def _milliseconds(value: float | None) -> str:
    return f"{tables.number(value, 0 if (value or 0) >= WHOLE_MS else 1)} ms"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
