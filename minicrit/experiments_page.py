"""The experiments for people: Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

from minicrit.contrast_tables import chance
from minicrit.tables import Row, bounds, cell, cell_or_value, markdown, number

Report = Mapping[str, Any]

READING = ("accuracy", "f1", "fpr", "auroc", "ece")
WRITING = {
    "verdict_right": "verdict right",
    "parsed": "parsed",
    "flaw_type_right": "flaw type right",
    "evidence_overlap": "evidence overlap",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "verdicts_differ": "verdicts differ",
    "texts_apart": "texts apart",
}
NAMES = {"f1": "F1", "fpr": "FPR", "auroc": "AUROC", "ece": "ECE",
         "brier": "Brier score", **WRITING}  # fmt: skip
COST = ("tokens read", "tokens written", "ms an item", "asked at once")
READ = (
    "Intervals are 95 %, the widest of those that take items as independent, by group and by "
    "family. `only`: items that one of two alone judges right (of sampled critiques: the first "
    "sample); their p is exact McNemar's, of differences that of a bootstrap; `Holm`: adjusted "
    "for all tests of the experiment. Where no p is small, these items do not tell the arms apart, "
    "which is not to say that they are alike. The trained prompt and its layouts are read at the "
    "critic's own threshold, other prompts at 0.5 of the likelihoods as they are; AUROC needs "
    "none. Where the critic's calibration counts sums, a false one counts whatever the prompt."
)


def experiments_markdown(report: Report) -> str:
    """The report for the terminal and for pull requests."""
    reading, writing = (
        {k: a for k, a in report["arms"].items() if (a["experiment"] == "temperature") is sampled}
        for sampled in (False, True)
    )
    parts = ["# Experiments", about(report)]
    if reading:
        parts += ["## Verdicts by the readout", markdown(*reading_rows(report, reading))]
    parts += [*thought_lines(reading), *spread_lines(report)]
    if writing:
        parts += ["## Sampled critiques", markdown(*writing_rows(report, writing))]
        parts.append(sampled(report))
    parts += ["## Differences", markdown(*difference_rows(report)), READ]
    return "\n\n".join(parts) + "\n"


def about(report: Report) -> str:
    """Who was asked about what, and whether it has learnt any of these prompts."""
    model, items = report["model"], report["items"]["all"]
    learnt = (
        "It is a base, read zero-shot: it was trained on none of these prompts."
        if model["zero_shot"]
        else f"It was trained on the prompt `{model['prompt_version']}` alone: every other prompt "
        "is new to it, so this is no trial of their worth, but of what changing them costs."
    )
    return (f"{model['name']} at threshold {model['threshold']:.3f}, {items['n']} items in "
            f"{items['groups']} groups of {items['families']} families, {items['flawed']} flawed. "
            f"{learnt}")  # fmt: skip


def reading_rows(report: Report, arms: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows of the arms that end in a readout, each against the trained prompt."""
    first = next(iter(arms))
    tests = {row["a"]: row for row in report["comparisons"] if row["b"] == first}
    head = ("arm", "trained", "n", *(NAMES.get(k, k) for k in READING), "threshold",
            f"only it : only {first}", "p", "Holm", *COST)  # fmt: skip
    rows = [
        (name, "yes" if arm["trained"] else "no", str(arm["n"]),
         *(cell(arm["metrics"][key]) for key in READING), number(arm["threshold"]),
         *_test(tests.get(name)), *_cost(report, name, arm))
        for name, arm in arms.items()
    ]  # fmt: skip
    return head, rows


def writing_rows(report: Report, arms: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows of the arms that sample, each against greedy."""
    tests = {row["a"]: row for row in report["comparisons"] if row["experiment"] == "temperature"}
    head = ("arm", "n", "samples", *WRITING.values(), "only it : only greedy", "p", "Holm", *COST)
    rows = [
        (name, str(arm["n"]), str(arm["samples"]), 
         *(cell_or_value(arm[key]) if key in arm else "-" for key in WRITING),
         *_test(tests.get(name)), *_cost(report, name, arm))
        for name, arm in arms.items()
    ]  # fmt: skip
    return head, rows


def _cost(report: Report, name: str, arm: Mapping[str, Any]) -> Row:
    times = report["measured"]["arms"][name]
    return (number(arm["tokens_read"], 0), number(arm["tokens_written"], 0),
            number(times.get("mean"), 0), str(arm["at_once"]))  # fmt: skip


def _test(row: Mapping[str, Any] | None) -> Row:
    if row is None:
        return ("-", "-", "-")
    return (f"{row['only_a_right']} : {row['only_b_right']}", chance(row["mcnemar_p"]),
            chance(row["mcnemar_holm_p"]))  # fmt: skip


def difference_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of every difference that was tested."""
    rows: list[Row] = [
        (row["a"], row["b"], str(row["n"]), NAMES[name],
         f"{number(gap['value'])} {bounds(gap['low'], gap['high'])}", chance(gap["p"]),
         chance(gap["holm_p"]))
        for row in report["comparisons"] for name, gap in row["differences"].items()
    ]  # fmt: skip
    return ("a", "b", "n", "metric", "a minus b", "p", "Holm"), rows


def thought_lines(arms: Mapping[str, Any]) -> Iterable[str]:
    """How the reasoning ended."""
    for name, arm in arms.items():
        if "ended" in arm:
            ends = ", ".join(f"{count} by {end}" for end, count in arm["ended"].items())
            yield f"`{name}`: {arm['about']}. It ended: {ends}; {arm['empty']} wrote nothing."


def spread_lines(report: Report) -> Iterable[str]:
    """How far harmless layouts move the verdicts."""
    found = report["spread"]
    if found:
        worst = max(found["flips"], key=lambda name: found["flips"][name])
        yield (
            f"Over {found['formats']} layouts of one prompt (n={found['n']}): accuracy "
            f"{number(found['lowest'])} to {number(found['highest'])}, spread "
            f"{cell(found['accuracy'])} (a maximum over noisy numbers, so above zero by chance). "
            f"Items whose verdict flips under any of them: {cell(found['any_flip'])}; most "
            f"flips: {worst}, {number(found['flips'][worst])}. Standard deviation of the "
            f"log-odds over layouts {cell(found['log_odds_sd'])} nats."
        )


def sampled(report: Report) -> str:
    """What the columns of sampled critiques mean."""
    return (
        f"Of {report['items']['sampled']['n']} items. What does not parse is a miss; evidence "
        "overlap is the F1 of characters. `verdicts differ` and `texts apart`: of two samples of "
        "one rationale, how often the verdict is another, and the share of word pairs that they do "
        "not share. Milliseconds are of all samples of an item."
    )
