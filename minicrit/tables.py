"""Tables of the benchmark: head and rows, for the page and for Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = tuple[str, ...]

FORM = 2  # of the benchmark's report; raise it when a key changes its meaning

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
    "fpr_threshold_half": "false-positive rate at threshold 0.5",
    "recall_threshold_half": "recall at threshold 0.5",
    "aurc": "risk-coverage area (AURC)",
    "cost": "cost of errors, false alarms an item",
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
    "flaw_type_macro_f1": "flaw type, macro F1 (flawed items)",
    "evidence_verbatim": "evidence word for word in the rationale",
    "evidence_overlap": "evidence overlap (character F1, flawed items)",
}
MISSES = (
    "What is missing or unparsed counts as a miss, but not in two rows: whether text and readout "
    "agree is a share of what parsed, and evidence word for word of what quotes any."
)
TYPES = {
    "macro_f1": "macro F1 over sound items and flaws of known type",
    "macro_f1_if_flawed": "macro F1 of flawed items, whatever the verdict",
    "right_if_flawed": "type right of flawed items, whatever the verdict",
}
INTERVALS = (
    "Intervals are 95 %. `wilson` takes items as independent; `by group` and `by family` resample "
    "whole twin groups and whole scenario families (for items that were not composed, the group). "
    "In short tables the widest of them is shown. With few families even that is too narrow: 91 % "
    "instead of 95 % with 20, 87 % with 10. Those of the calibration error take off what chance "
    "adds to it, so it may lie at their upper end, and begin at 0 where all of it may be chance."
)

VIOLATIONS = (
    "How often the verdict on a text that was changed in a way that must not move it differs from "
    "the verdict on the text as it was, whichever is right. Intervals by change are Wilson's, over "
    "all changes the widest of his and of resampled groups and families. McNemar takes pairs as "
    "independent."
)

#: What may begin a tag; any other `<` is just that.
_OPENS = re.compile(r"<(?=[A-Za-z/!?])")


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


def left_out(report: Mapping[str, Any]) -> str:
    """Of how many items more there is no verdict, and why; empty if of all that were asked."""
    lost = report.get("unscored") or {}
    why = ", ".join(f"{count} {name}" for name, count in lost.items())
    return f", without {sum(lost.values())} more that could not be read ({why})" if lost else ""


def unread(report: Mapping[str, Any]) -> str:
    """Which judges of a benchmark have no p of some items, and why; empty if of all they have."""
    told = "; ".join(f"{j['name']}: {j['n']} of {report['items']['n']}{lost}"
                     for j in report["judges"].values() if (lost := left_out(j)))  # fmt: skip
    return f"Items that a judge's figures are of: {told}." if told else ""


def known_items(known: Mapping[str, int]) -> str:
    """What is to be said of items by their splits, if critics may have been made with them."""
    told = ", ".join(f"{count} of split {split}" for split, count in sorted(known.items()))
    return (f"Known items: {told}. Critics learn from such rows, or were certified on them: "
            "figures flatter, and say nothing of new texts." if told else "")  # fmt: skip


def where(found: Mapping[str, Any]) -> str:
    """Over what a certificate holds: what was certified on one domain says nothing of others.

    A domain of which there was no valid item is listed with n = 0, and certifies nothing.
    """
    if found["each_domain"]:
        return "in each domain"
    domains = [name for name, row in (found.get("domains") or {}).items() if row["n"]]
    return f"in the domain {domains[0]}" if len(domains) == 1 else "over all domains"


def certificate(judge: Mapping[str, Any]) -> str:
    """What a calibrated judge's threshold promises, in a sentence."""
    found = judge["calibration"]
    # That of a threshold over all: the one for each domain is another, with a k by domain.
    k = "" if found["each_domain"] else f" (k = {found['k']})"
    limit, sure = 100 * found["alpha"], 100 * (1 - found["delta"])
    return (f"{judge['name']}: threshold certified on {found['n']} other valid items{k}: false "
            f"positives <= {limit:g} % {where(found)} with confidence {sure:g} %, for items of the "
            "calibration families."
            + (f" Fitted to float32 weights; these are {found['rounded']}."
               if found.get("rounded") else ""))  # fmt: skip


def abstaining(judge: Mapping[str, Any]) -> str:
    """Between which p a calibrated judge should not be relied on, and what is left outside."""
    band, left = judge["calibration"].get("abstain"), judge.get("abstaining")
    if not band:
        return f"{judge['name']}: no band of p in which it should abstain was found."
    said, rest = (f"where p lies between {band['low']:.3f} and {band['high']:.3f}, somebody should "
                  "look.", "Outside of that, on")  # fmt: skip
    if band["low"] == band["high"]:
        said, rest = "it need not abstain: without a band few enough verdicts were wrong.", "On"
    if left and left["wrong"]:
        said += (f" {rest} these items: {100 * left['coverage']:.0f} % of the verdicts, "
                 f"{cell(left['wrong'])} of them wrong.")  # fmt: skip
    return f"{judge['name']}: {said}"


def name_of(report: Mapping[str, Any], key: str) -> str:
    """What a judge is called in tables."""
    return str(report["judges"][key]["name"])


def named(critic: Mapping[str, Any], judges: Iterable[Mapping[str, Any]]) -> str:
    """A critic's name; if judges bear it and none is this one, that it has changed since or before.

    A folder that was trained or calibrated anew has the name of what lay there.
    """
    alike = [judge for judge in judges if judge.get("name") == critic.get("name")]
    changed = alike and critic.get("identity") not in {judge.get("identity") for judge in alike}
    return f"{critic.get('name')}" + (" in another state than the benchmark's" if changed else "")


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


def slice_rows(title: str, found: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows of the slices of one axis."""
    rows = [(name, str(one["n"]), *(cell(one[key]) for key in ("accuracy", "recall", "fpr")))
            for name, one in found.items()]  # fmt: skip
    return (title, "n", "accuracy", "recall", "false-positive rate"), rows


def violation_rows(report: Mapping[str, Any]) -> tuple[Row, list[Row]] | None:
    """Head and rows of how often harmless changes move verdicts; None without any."""
    found = {k: one for k, j in report["judges"].items() if (one := j.get("metamorphic"))}
    if not found:
        return None
    rates = [{"all changes": one["rate"],
              "all changes, at threshold 0.5": one.get("rate_threshold_half"),
              **one["changes"]} for one in found.values()]  # fmt: skip
    names = dict.fromkeys(name for one in rates for name in one)
    rows: list[Row] = [
        (name, *(f"{cell(r)} n={r['n']}" if (r := one.get(name)) else "-" for one in rates))
        for name in names
        if any(one.get(name) for one in rates)
    ]
    rows += [
        (label, *(str(one["left_out"][key]) for one in found.values()))
        for key, label in (("unscored", "left out: no verdict"),
                           ("no_scored_base", "left out: no verdict on the text as it was"))
    ]  # fmt: skip
    return ("verdicts moved", *(name_of(report, k) for k in found)), rows


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
            ("batched_typed_verdicts_per_second", "verdicts with flaw types a second in batches"),
            ("peak_memory_mib", "peak memory above what was in use before loading, MiB"),
            ("peak_gpu_memory_mib", "peak GPU memory, MiB"),
        )
        if any(key in m for m in measured.values())
    ]
    rows.append(("timed verdicts", *(str(m["verdict_ms"]["n"]) for m in measured.values())))
    return head, rows


def markdown(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(escaped(c) for c in row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def escaped(text: str) -> str:
    """Text that cannot leave its table cell, nor be read as HTML; `<=` and `< 3` stay to read."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("|", "\\|")
    return _OPENS.sub("&lt;", flat)
