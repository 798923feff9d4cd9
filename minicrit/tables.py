"""The benchmark as Markdown: for the terminal, for a pull request, for people without a browser."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = tuple[str, ...]

LABELS = {
    "f1": "F1",
    "fpr": "false-positive rate",
    "recall": "recall",
    "precision": "precision",
    "accuracy": "accuracy",
    "twin_consistency": "both twins right",
    "auroc": "AUROC",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
    "nll": "log loss (nats)",
    "f1_at_50": "F1 where 50 % are flawed",
    "f1_at_10": "F1 where 10 % are flawed",
    "f1_threshold_half": "F1 at threshold 0.5",
}
AXES = {
    "domain": "Domain",
    "flaw_type": "Flaw type",
    "kind": "Kind",
    "source": "Source set",
    "mechanism": "Mechanism (composed items)",
    "suite_part": "Part of the adversarial suite",
    "suite_origin": "Origin or change (adversarial suite)",
}
UNITS = ("wilson", "by group", "by family")
CONSTANTS = {"majority": "majority label", "always_flawed": "always flawed"}
SHARES = {
    "parsed": "parsed",
    "text_agrees_with_readout": "verdict in the text = verdict of the readout",
    "flaw_type_right": "flaw type exactly right (flawed items)",
    "evidence_verbatim": "evidence word for word in the rationale",
    "evidence_overlap": "evidence overlap (character F1, flawed items)",
}
LEAST_CHANCE = 1e-4  # what four decimals can show
INTERVALS = (
    "Intervals are 95 %. `wilson` takes items as independent; `by group` and `by family` resample "
    "whole twin groups and whole scenario families (for items that were not composed, the group). "
    "In short tables the widest of them is shown. With few families even that is too narrow: 91 % "
    "instead of 95 % with 20, 87 % with 10."
)


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; `-` where it is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"


def bounds(low: float | None, high: float | None, digits: int = 3) -> str:
    """`[low, high]`, or `-`."""
    return "-" if low is None or high is None else f"[{low:.{digits}f}, {high:.{digits}f}]"


def cell(entry: Mapping[str, Any] | None) -> str:
    """`0.912 [0.880, 0.941]` of a metric or rate."""
    if entry is None or entry.get("value") is None:
        return "-"
    return f"{number(entry['value'])} {bounds(entry.get('low'), entry.get('high'))}"


def name_of(report: Mapping[str, Any], key: str) -> str:
    """What a judge is called in tables."""
    return str(report["judges"][key]["name"])


def metric_rows(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows of the table of judges."""
    judges, constants = report["judges"], report.get("constants", {})
    head = ("metric", *(name_of(report, k) for k in judges), *(CONSTANTS[k] for k in constants))
    rows = [
        (
            label,
            *(cell(judge["metrics"].get(key)) for judge in judges.values()),
            *(number(constant.get(key)) for constant in constants.values()),
        )
        for key, label in LABELS.items()
        if any(key in judge["metrics"] for judge in judges.values())
    ]
    return head, rows


def pair_rows(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows of the paired comparisons."""
    head = ("A against B", "n", "only A right", "only B right", "McNemar p", "F1, A - B",
            "AUROC, A - B")  # fmt: skip
    rows = [
        (
            f"{name_of(report, pair['a'])} against {name_of(report, pair['b'])}",
            str(pair["n"]),
            str(pair["only_a_right"]),
            str(pair["only_b_right"]),
            _chance(pair["mcnemar_p"]),
            *(_difference(pair[f"{name}_difference"]) for name in ("f1", "auroc")),
        )
        for pair in report["pairs"]
    ]
    return head, rows


def critique_rows(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows on whole critiques."""
    written = {k: j["critiques"] for k, j in report["judges"].items() if "critiques" in j}
    head = ("whole critiques", *(f"{name_of(report, k)} (n={w['n']})" for k, w in written.items()))
    rows = [
        (label, *(f"{cell_or_value(w[key])} n={w[key]['n']}" for w in written.values()))
        for key, label in SHARES.items()
    ]
    return head, rows


def cell_or_value(entry: Mapping[str, Any]) -> str:
    """With an interval where there is one."""
    return cell(entry) if "low" in entry else number(entry["value"])


def measured_rows(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows of times and memory."""
    measured = {k: v for k, v in report["measured"].items() if k != "hardware"}
    head = ("measured", *(name_of(report, k) for k in measured))
    rows: list[Row] = []
    for key, label in (("verdict_ms", "one verdict"), ("critique_ms", "one whole critique")):
        rows += [
            (f"{label}, {q}, ms", *(number(m[key].get(q), 1) for m in measured.values()))
            for q in ("p50", "p95", "p99")
        ]
    rows += [
        (label, *(number(m.get(key), 1) for m in measured.values()))
        for key, label in (
            ("tokens_per_second", "tokens a second while writing"),
            ("batched_verdicts_per_second", "verdicts a second in batches"),
            ("peak_memory_mib", "peak memory above what was in use before loading, MiB"),
            ("peak_gpu_memory_mib", "peak GPU memory, MiB"),
        )
    ]
    rows.append(("timed verdicts", *(str(m["verdict_ms"]["n"]) for m in measured.values())))
    return head, rows


def benchmark_page(report: Mapping[str, Any]) -> str:
    """The whole report as Markdown."""
    facts = report["items"]
    parts = [
        "# Benchmark",
        f"{facts['n']} items ({facts['flawed']} flawed, {facts['twins']} twin groups, "
        f"{facts['groups']} groups, {facts['families']} families). Left out: "
        f"{facts['left_out']['other_split']} of other splits, {facts['left_out']['limit']} over "
        f"the limit. {_thresholds(report)}",
        markdown(*metric_rows(report)),
        INTERVALS,
        "## Comparisons",
        markdown(*pair_rows(report)),
        "McNemar takes items as independent; the differences are resampled by family.",
        "## Whole critiques",
        markdown(*critique_rows(report)),
        "What is missing or unparsed counts as a miss.",
        *_details(report),
        "## Times and memory",
        _hardware(report["measured"]["hardware"]),
        markdown(*measured_rows(report)),
        "## Made from",
        markdown(("what", "sha256 or version"), _sources(report)),
        f"`{escaped(report['command'])}`",
    ]
    return "\n\n".join(parts) + "\n"


def markdown(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(escaped(c) for c in row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def escaped(text: str) -> str:
    """Text that cannot leave its table cell, nor be read as HTML."""
    flat = " ".join(text.split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _thresholds(report: Mapping[str, Any]) -> str:
    said = ", ".join(f"{number(j['threshold'])} ({j['name']})" for j in report["judges"].values())
    lost = sum(sum(j["unscored"].values()) for j in report["judges"].values())
    return f"Flawed means p above the judge's own threshold: {escaped(said)}. Unscored: {lost}."


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
        head = ("n", "accuracy", "recall", "false-positive rate")
        for axis, title in AXES.items():
            found = judge["slices"].get(axis)
            if found:
                parts.append(markdown((title, *head), [_slice(k, v) for k, v in found.items()]))
    return [*parts, "Intervals of slices are Wilson's."]


def _slice(name: str, found: Mapping[str, Any]) -> Row:
    return (name, str(found["n"]), *(cell(found[key]) for key in ("accuracy", "recall", "fpr")))


def _difference(gap: Mapping[str, Any]) -> str:
    if gap["value"] is None:
        return "-"
    if gap["low"] is None:
        return f"{gap['value']:+.3f}"
    return f"{gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}] p={_chance(gap['p'])}"


def _chance(p: float | None) -> str:
    return "-" if p is None else "< 0.0001" if p < LEAST_CHANCE else f"{p:.4f}"


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
