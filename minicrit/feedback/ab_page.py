"""An experiment for people: Markdown for the terminal, one HTML page."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from minicrit import plots
from minicrit.contrast_tables import chance, said_p
from minicrit.feedback.experiment import DECIMALS
from minicrit.feedback.planning import ENDS
from minicrit.pages import render
from minicrit.plots import Line
from minicrit.tables import Row, bounds, cell, markdown, number

if TYPE_CHECKING:
    from minicrit.feedback.experiment import Experiment

Report = Mapping[str, Any]

LABELS = {
    "agreement": "agreement with operators",
    "false_positives": "valid rationales let through",
    "outcome": "outcome",
}
#: What the numbers of a primary metric and `most` count.
COUNTED = {
    "agreement": "decisions",
    "false_positives": "valid rationales decided on",
    "outcome": "outcomes",
}
HALF = 0.5  # a gain that succeeds more rarely is told as one that is rather not found
RULES = {
    "mismatch": "stopped: the arms are not as frequent as they were drawn, so something filters "
    "them",
    "harm": "stopped: a metric is worse",
    "success": "stopped: better, and nothing else worse by more than the margin",
    "futility": "stopped: a gain worth having is ruled out",
    "maximum": "stopped: the primary metric has as many numbers as were allowed, and no result",
}
READ = (
    "Gains are treatment minus control, better above zero. Bounds hold at all times and for all "
    "metrics at once, whenever and however often one looks; p is valid in the same way. They count "
    "operators' first decisions on rationales drawn for the audit, not those that somebody picked. "
    "Outcomes are those of any rationale, in the units in which they were reported."
)
#: Whose verdict operators see while they decide, by whether the treatment is in shadow.
SEEN = {
    True: "Operators see control's verdict alone while they decide. Where that draws them to it, "
    "control gains and treatment loses: a better one may look worse, or not worth having.",
    False: "Operators see the verdict while they decide, which may draw them to it, in both arms: "
    "gains look smaller than they are.",
}


def ab_markdown(report: Report) -> str:
    """The state for the terminal."""
    parts = [f"# Experiment {report['name']}", about(report), markdown(*metric_rows(report)),
             standing(report), read(report)]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def ab_html(report: Report) -> str:
    """One page without scripts and requests."""
    return render(
        "ab.html", title=f"experiment {report['name']}", report=report, about=about(report),
        standing=standing(report), metrics=metric_rows(report), read=read(report),
        plots=[(LABELS[name], _plot(metric["series"]))
               for name, metric in report["metrics"].items() if len(metric["series"]) > 1],
        log=log_rows(report), mismatch=said_p(report["mismatch_p"]),
    )  # fmt: skip


def read(report: Report) -> str:
    """How to read the figures."""
    return f"{READ} {SEEN[report['shadow']]}"


def about(report: Report) -> str:
    """What is compared and how the error is shared."""
    mode = "in shadow: its answers are not given" if report["shadow"] else (
        f"which gets {100 * report['share']:g} % of the rationales")  # fmt: skip
    return (f"Control {report['control']} against treatment {report['treatment']}, {mode}. "
            f"{100 * report['alpha']:g} % error in all, {100 * report['alpha_each']:.3g} % for "
            f"each metric; {report['primary'].replace('_', ' ')} decides.")  # fmt: skip


def standing(report: Report) -> str:
    """Whether it runs, and whether its limits are those of the outcomes."""
    ended, told = report["ended"], report["settings"]
    text = ("It runs: no rule says to stop." if ended is None else
            f"It is over; {RULES[ended['reason']]}. Everything goes to control.")  # fmt: skip
    found = report["metrics"].get("outcome")
    if found and found["beyond"]:
        text += (f" {found['beyond']} of {found['n']} outcomes lie beyond the limits, "
                 f"{told['outcome_low']:g} to {told['outcome_high']:g}, and count as these: what "
                 "they gain or lose beyond is not seen.")  # fmt: skip
    return text


def metric_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of the metrics."""
    rows: list[Row] = []
    told = report["settings"]
    for name, one in report["metrics"].items():
        width = told["outcome_high"] - told["outcome_low"] if name == "outcome" else 1.0
        digits = _digits(width)
        arms = [f"{number(one['arms'][arm]['mean'], digits)} (n={one['arms'][arm]['n']})"
                for arm in ("control", "treatment")]  # fmt: skip
        gain = number(one["gain"], digits), bounds(one["low"], one["high"], digits)
        rows.append((LABELS[name], *arms, *gain, chance(one["p"]), str(one["n"])))
    return ("metric", "control", "treatment", "gain", "bounds", "p", "n"), rows


def log_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of the log."""
    rows: list[Row] = [
        (row["event"], row["reason"], _time(row["at"]), row["experiment"][:12])
        for row in report["log"]
    ]
    return ("event", "reason", "at", "settings"), rows


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def plan_markdown(found: Report, experiment: "Experiment") -> str:
    """The plan for the terminal."""
    others = [name for name in experiment.metrics if name != experiment.primary]
    rows: list[Row] = [
        (_gain(row["gain"], experiment),
         *(f"{row['others'][name]:+.{_digits(experiment.width(name))}f}" for name in others),
         *(cell(row[rule]) for rule in ENDS), number(row["decisions"], 0),
         str(row["rationales"] or "-"))
        for row in found["rows"]
    ]  # fmt: skip
    head: Row = ("true gain", *(f"in {LABELS[name]}" for name in others), *ENDS,
                 f"{COUNTED[experiment.primary]} (median)", "rationales for them")  # fmt: skip
    low, high = experiment.outcome_low, experiment.outcome_high
    of = f" of the way from {low:g} to {high:g}" if experiment.primary == "outcome" else ""
    mode = _mode(shadow=experiment.shadow, share=experiment.share)
    if experiment.shadow:
        mode += f" with critics that differ on {100 * found['discordance']:g} %"
    return (f"# Plan: {experiment.primary} at {found['rate']:g}{of}, {mode}, "
            f"{len(experiment.metrics)} metrics, {100 * found['valid_share']:g} % valid, at most "
            f"{found['most']}; {found['runs']} simulated experiments each\n\n"
            f"{markdown(head, rows)}\n\n{_judged(found, experiment)}\n\n")  # fmt: skip


def _judged(found: Report, experiment: "Experiment") -> str:
    """How to read the plan, and what to do where a gain would rather not be found."""
    text = ("Shares of them that each rule ends, looked at after every rationale; medians are of "
            "those that are a success.")  # fmt: skip
    missed = [_gain(row["gain"], experiment) for row in found["rows"]
              if row["gain"] > 0 and row["success"]["value"] < HALF]  # fmt: skip
    if not missed:
        return text
    remedies = ["a larger ab.most"]
    if not experiment.shadow and "outcome" not in experiment.metrics:
        remedies.insert(0, "ab.shadow")
    if len(experiment.metrics) > 1:
        remedies.append("an ab.margin that allows more")
    return (f"{text} A true gain of {', '.join(missed)} will rather end without a success; what "
            f"helps: {', or '.join(remedies)}.")  # fmt: skip


def wolf_markdown(found: Report) -> str:
    """The A/A simulation for the terminal."""
    names = {"betting": "these bounds, any metric", "msprt": "mSPRT, one metric",
             "z": "z-test after every decision"}  # fmt: skip
    rows: list[Row] = [(names[name], cell(rate), str(rate["n"]))
                       for name, rate in found["false_alarms"].items()]  # fmt: skip
    mode = _mode(shadow=found["shadow"], share=found["share"])
    if found["shadow"]:
        mode += f" with critics that differ on {100 * found['discordance']:g} %"
    return (f"# A/A: {found['runs']} experiments of {found['units']} decisions at a rate of "
            f"{found['rate']:g}, {mode}, looked at after each; at most {100 * found['alpha']:g} % "
            f"may cry wolf\n\n{markdown(('test', 'false alarms', 'n'), rows)}\n\n")  # fmt: skip


def _gain(gain: float, experiment: "Experiment") -> str:
    """A gain in the primary metric, with its sign."""
    return f"{gain:+.{_digits(experiment.width(experiment.primary))}f}"


def _digits(width: float) -> int:
    """Decimals of what differs by at most so much: three, more where outcomes are small."""
    return min(DECIMALS, 3 + max(0, -math.floor(math.log10(width))))


def _mode(*, shadow: bool, share: float) -> str:
    return "shadow" if shadow else f"{100 * share:g} % treatment"


def _plot(series: list[list[float]]) -> Any:
    low = [(row[0], row[2]) for row in series]
    high = [(row[0], row[3]) for row in series]
    return plots.paths([Line("gain", [(row[0], row[1]) for row in series], 0)],
                       low + high[::-1], ("decisions", "gain"))  # fmt: skip
