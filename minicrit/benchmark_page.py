"""The benchmark as Markdown: for the terminal, for a pull request, for people without a browser."""

from collections.abc import Mapping
from typing import Any

from minicrit import contrast_tables, tables
from minicrit.tables import (
    AXES,
    LABELS,
    UNITS,
    Row,
    bounds,
    certificate,
    escaped,
    markdown,
    number,
)


def benchmark_page(report: Mapping[str, Any]) -> str:
    """The whole report as Markdown."""
    facts = report["items"]
    parts = [
        "# Benchmark",
        f"{facts['n']} items ({facts['flawed']} flawed, {facts['twins']} twin groups, "
        f"{facts['groups']} groups, {facts['families']} families). Left out: "
        f"{facts['left_out']['other_split']} of other splits, {facts['left_out']['limit']} over "
        f"the limit. {_thresholds(report)}",
        *([known] if (known := tables.known_items(facts.get("known") or {})) else []),
        markdown(*tables.metric_rows(report)),
        tables.INTERVALS,
        "## Comparisons",
        *_comparisons(report),
        *_violations(report),
        "## Whole critiques",
        markdown(*tables.critique_rows(report)),
        tables.MISSES,
        *_details(report),
        "## Times and memory",
        _hardware(report["measured"]["hardware"]),
        markdown(*tables.measured_rows(report)),
        "## Made from",
        markdown(("what", "sha256 or version"), _sources(report)),
        f"`{escaped(report['command'])}`",
    ]
    return "\n\n".join(parts) + "\n"


def _comparisons(report: Mapping[str, Any]) -> list[str]:
    if not report["pairs"]:
        return ["There is one judge alone."]
    found = contrast_tables.slice_rows(report)
    return [
        contrast_tables.foreseen(report),
        markdown(*contrast_tables.pair_rows(report)),
        markdown(*contrast_tables.difference_rows(report)),
        contrast_tables.NOTE,
        *([markdown(*found), contrast_tables.SLICES] if found else []),
    ]


def _violations(report: Mapping[str, Any]) -> list[str]:
    """Nothing where no item is a change of another."""
    found = tables.violation_rows(report)
    if not found:
        return []
    compared = contrast_tables.violation_rows(report)
    return [
        "## Changes that must not move the verdict",
        markdown(*found),
        *([markdown(*compared)] if compared else []),
        tables.VIOLATIONS,
    ]


def _thresholds(report: Mapping[str, Any]) -> str:
    said = ", ".join(f"{number(j['threshold'])} ({j['name']})" for j in report["judges"].values())
    certified = " ".join(certificate(j) for j in report["judges"].values() if j.get("calibration"))
    lost = tables.unread(report) or "No item is unscored."
    return (f"Flawed means p above the judge's own threshold: {escaped(said)}. "
            f"{escaped(certified)} {escaped(lost)}")  # fmt: skip


def _details(report: Mapping[str, Any]) -> list[str]:
    """For each judge every interval by itself, and the slices."""
    parts = []
    for judge in report["judges"].values():
        rows = [
            (label, number(m["value"]), str(m["n"]),
             *(bounds(*m["intervals"].get(unit, (None, None))) for unit in UNITS))
            for key, label in LABELS.items() if (m := judge["metrics"].get(key))
        ]  # fmt: skip
        parts += [f"## {escaped(judge['name'])}", markdown(("metric", "value", "n", *UNITS), rows)]
        for axis, title in AXES.items():
            found = judge["slices"].get(axis)
            if found:
                parts.append(markdown(*tables.slice_rows(title, found)))
    return [*parts, "Intervals of slices are Wilson's."]


def _hardware(machine: Mapping[str, Any]) -> str:
    gpu = machine["gpu"] or "no GPU"
    return escaped(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['torch_threads']} threads, {gpu}, "
        f"torch {machine['torch']}. One by one, after a warm-up."
    )


def _sources(report: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = [("code", report["code"]), ("seed", str(report["seed"]))]
    rows += [(name, digest) for name, digest in report["inputs"].items()]
    rows += [
        (judge["name"], f"{judge['identity']} (prompt {judge['prompt_version']})")
        for judge in report["judges"].values()
        if "identity" in judge
    ]
    return rows
