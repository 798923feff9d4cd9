"""The judge's report as Markdown."""

from collections.abc import Mapping
from typing import Any

from data_gen.court.qualification_page import verdict
from minicrit.contrast_tables import said_p
from minicrit.tables import Row, cell, escaped, markdown

Report = Mapping[str, Any]
OUTCOMES = {
    "wins_1": "model 1 preferred in both orders", "wins_2": "model 2 preferred in both orders",
    "tie": "equal in both orders", "identical": "the same words: not asked",
    "leaning": "equal in one order, a side in the other",
    "flips": "the side changes with the order", "unscored": "no judgement",
}  # fmt: skip
RATES = {
    "flips": "flips, of what was asked", "leaning": "leaning, of what was asked",
    "tie": "ties, of what was asked", "identical": "identical, of what is scored",
    "unscored": "unscored, of all",
    "judge_agrees_with_label": "the judge's own verdict on the rationale is the label",
}  # fmt: skip
READ = (
    "The judge saw rationale and critiques without names or labels, under the constitution, in "
    "both orders. A win needs both orders; every kind of tie counts half; what has no judgement is "
    "left out and counted. Intervals are 95 %, the widest of Wilson's and of those that resample "
    "whole twin groups and families."
)
CORRECTED = (
    "The corrected rate (Rogan and Gladen) asks what a faultless judge would have said, if this "
    "one is right as often as on the qualifying pairs. These are clearer than critics' own "
    "critiques, so the true correction is larger, away from 0.5."
)
_SHOWN = 600  # characters of a text


def verdicts_page(report: Report) -> str:
    """The whole report."""
    judge, models, items = report["judge"], report["models"], report["items"]
    names = [f"model {n}: {escaped(models[f'model_{n}']['name'])}" for n in (1, 2)]
    parts = [
        "# Critiques compared by a judge",
        headline(report),
        f"{'; '.join(names)}. Judge: {escaped(judge['name'])} "
        f"({judge['backend']}), prompt {judge['prompt']}, constitution "
        f"{judge['constitution']}. {verdict(report['qualification'])}",
        f"{items['n']} items ({items['flawed']} flawed, {items['groups']} groups) of "
        f"{items['drawn_from']}.",
        READ,
        markdown(("", "n", "win rate of model 1"), _win_rates(report)),
        CORRECTED,
        _signs(report["sign_test"]),
        markdown(("outcome", "comparisons"),
                 [(label, str(report["outcomes"][k])) for k, label in OUTCOMES.items()]),
        markdown(("rate", "n", "value"), _rates(report["rates"])),
        "## Length",
        markdown(("", "n", "value"), _length(report["length"])),
        "## To read",
        *(_comparison(row) for row in report["to_read"]),
        "## Made from",
        _cost(report["cost"]),
        f"`{escaped(report['command'])}`",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def headline(report: Report) -> str:
    """The result in a sentence."""
    rate, outcomes = report["win_rate"], report["outcomes"]
    return (
        f"**Model 1's critiques win {cell(rate)} of {rate['n']} comparisons with model 2's, ties "
        f"half; {outcomes['flips']} flips, {outcomes['unscored']} unscored.**"
    )


def _win_rates(report: Report) -> list[Row]:
    rows: list[Row] = [("all", str(report["win_rate"]["n"]), cell(report["win_rate"]))]
    found = report["corrected"]
    rows.append(("corrected for the judge's errors", str(found["n"]), cell(found)))
    for axis, slices in report["slices"].items():
        rows += [(f"{axis}: {name}", str(one["n"]), cell(one)) for name, one in slices.items()]
    return rows


def _rates(rates: Report) -> list[Row]:
    return [(label, str(rates[k]["n"]), cell(rates[k])) for k, label in RATES.items()]


def _signs(found: Report) -> str:
    groups = found["by_group"]
    return (
        f"Sign test (exact): {found['wins']} wins, {found['losses']} losses, "
        f"{said_p(found['p'])}; by groups {groups['wins']} to {groups['losses']}, "
        f"{said_p(groups['p'])}."
    )


def _length(found: Report) -> list[Row]:
    return [
        ("the longer critique wins, of decided pairs", str(found["longer_wins"]["n"]),
         cell(found["longer_wins"])),
        ("correlation of winning with the ratio of the lengths", str(found["correlation"]["n"]),
         cell(found["correlation"])),
        (f"win rate of model 1 where neither is longer than {found['band']:g} times the other",
         str(found["controlled"]["n"]), cell(found["controlled"])),
    ]  # fmt: skip


def _comparison(row: Report) -> str:
    said = ", ".join(str(one) for one in row["said"]) or "not asked"
    head = f"### {OUTCOMES[row['what']]}: {escaped(row['id'])} ({row['label']})"
    texts = [
        ("rationale", row["rationale"]),
        ("model 1", row["text_1"]),
        ("model 2", row["text_2"]),
    ]
    body = markdown(("", "text"), [(name, _cut(text)) for name, text in texts])
    return f"{head}\n\nSaid of critiques one and two: {said}. {'; '.join(row['faults'])}\n\n{body}"


def _cut(text: str | None) -> str:
    shown = text or "(nothing)"
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + " ..."


def _cost(cost: Report) -> str:
    parts = (f"{name} {found['usd']:.4f} USD for {found['answers']} answers"
             for name, found in cost.items())  # fmt: skip
    return f"Cost: {'; '.join(parts)}."
