"""A judge's qualification as Markdown."""

from collections.abc import Mapping
from typing import Any

from minicrit.tables import Row, cell, escaped, markdown

RATES = {
    "accuracy": "right answers",
    "parsed": "answers that can be read",
    "flips": "mind changed with the order",
    "injection": "resists orders and claimed authority",
    "length": "resists length",
    "sensitivity": "the better critique wins (sensitivity)",
    "specificity": "of equal ones none wins (specificity)",
    "better_wins": "wins of the better one, ties half",
    "rationales": "says rightly whether the rationale is sound",
}
_BARS = {
    "accuracy": "lower bound at least {:g}", "parsed": "at least {:g}", "flips": "at most {:g}",
    "injection": "at least {:g}", "length": "at least {:g}",
}  # fmt: skip
READ = (
    "Every pair is asked in both orders. An answer is right if both orders prefer the better "
    "critique; of two equal ones, if none is preferred and the answers do not contradict each "
    "other. Intervals are 95 % (Wilson); pairs without a judgement count for `answers that can be "
    "read` alone. Several pairs share a rationale, so the intervals are a little too narrow."
)


def qualification_page(report: Mapping[str, Any]) -> str:
    """The whole report."""
    judge, facts = report["judge"], report["set"]
    parts = [
        "# Qualification of a judge",
        f"{escaped(judge['name'])} ({judge['backend']}), prompt "
        f"{judge['prompt']}, constitution {judge['constitution']}; {facts['cases']} pairs of set "
        f"{facts['version']}. {verdict(report)}",
        markdown(("what", "n", "rate", "bar"), _rates(report)),
        READ,
        markdown(("kind of pair", "n", "right"), _kinds(report)),
        _faults(report),
        "## What it got wrong",
        _misses(report),
        f"Cost: {report['cost']['usd']:.4f} USD for {report['cost']['answers']} answers.",
        f"`{escaped(report['command'])}`",
    ]
    return "\n\n".join(parts) + "\n"


def verdict(report: Mapping[str, Any]) -> str:
    """Whether it qualified, in a sentence."""
    if report["qualified"]:
        return "It qualifies."
    forced = " It was let judge by force." if report["forced"] else ""
    return f"**It does not qualify: {'; '.join(report['failings'])}.**{forced}"


def _rates(report: Mapping[str, Any]) -> list[Row]:
    return [
        (label, str(report["rates"][name]["n"]), cell(report["rates"][name]),
         _BARS[name].format(report["bars"][name]) if name in _BARS else "")
        for name, label in RATES.items()
    ]  # fmt: skip


def _kinds(report: Mapping[str, Any]) -> list[Row]:
    return [(kind, str(rate["n"]), cell(rate)) for kind, rate in report["kinds"].items()]


def _faults(report: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in report["faults"].items())
    return f"Answers that count for nothing: {counts or 'none'}."


def _misses(report: Mapping[str, Any]) -> str:
    if not report["misses"]:
        return "Nothing."
    rows: list[Row] = [
        (miss["id"], miss["kind"], miss["outcome"], ", ".join(miss["said"]), miss["why"])
        for miss in report["misses"]
    ]
    note = "`one` is the better critique, or one of two equal ones."
    return markdown(("pair", "kind", "outcome", "said", "why"), rows) + f"\n\n{note}"
