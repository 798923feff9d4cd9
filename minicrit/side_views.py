"""What the page shows of other stages' reports: judge, errors, critiques, experiments, gate.

Each of them is looked for beside the benchmark; what is not there is left out, and where a report
lacks a figure its cell says `-`. What is read of each:

    benchmark.judge.json  models.model_1|2.name, judge.name, win_rate, corrected, rates,
                          outcomes.{wins_1, wins_2, tie, identical, leaning, flips, unscored},
                          qualification.{qualified, forced, failings, rates}
    errors.json           critic.name, split, n, slices.worst, rest.{items, read},
                          counts.<kind>.{count, value, low, high}
    explain.json          critic.name, split, n, unscored, figures.<name>.{value, low, high, n}
    adapters.json         see `adapter_report`
    experiments.json      model.name, items.all.n, arms.<name>, comparisons, measured.arms
    sharpe.json, agreement.json   see `gating` and `agreement`
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minicrit.adapter_page import adapters_view
from minicrit.contrast_tables import chance
from minicrit.pages import read_results
from minicrit.tables import Row, cell, left_out, named, number

Report = Mapping[str, Any]
Table = tuple[Row, list[Row]]
View = dict[str, Any]

OUTCOMES = {
    "wins_1": "model 1 preferred in both orders",
    "wins_2": "model 2 preferred in both orders",
    "tie": "equal in both orders",
    "identical": "the same words, not asked",
    "leaning": "equal in one order, a side in the other",
    "flips": "the side changes with the order",
    "unscored": "no judgement",
}
KINDS = {
    "right": "right",
    "false_positive": "false positive",
    "false_negative": "false negative",
    "wrong_flaw_type": "wrong flaw type",
    "poor_explanation": "right, but poorly explained",
    "label": "the label is doubtful",
    "harness": "harness: unparsed or cut off",
}
EXPLAINED = {
    "parsed": "in the fixed form, to its end",
    "verdict_right": "verdict right",
    "no_invented_figure": "no invented figure",
    "no_false_sum": "no false sum, nothing worked out wrongly",
    "flaw_type_right": "flawed: names the flaw",
    "evidence_overlap": "flawed: evidence, F1 over characters",
    "evidence_verbatim": "flawed: evidence word for word",
    "reasons": "flawed: content words of the reference's reasons, F1",
    "reasons_elsewhere": "flawed: those of other references of its kind",
    "valid_reasons": "valid: content words of the reference's reasons, F1",
    "valid_reasons_elsewhere": "valid: those of other references of its kind",
    "flawed_right": "flawed: verdict, type, place, figures, sums and some reasons",
    "valid_right": "valid: verdict, figures, sums and some reasons",
}
#: Of reports from before a right critique had to give any reasons, and to work out what it says.
OLDER = {
    "no_false_sum": "no false sum",
    "flawed_right": "flawed: verdict, type, place, figures and sums",
    "valid_right": "valid: verdict, figures and sums",
}
ARM_FIGURES = {"accuracy": "accuracy", "f1": "F1", "fpr": "false positives", "auroc": "AUROC",
               "verdict_right": "verdict right", "parsed": "parsed"}  # fmt: skip


def read_sides(out: Path, benchmark: Report | None = None) -> dict[str, View | None]:
    """The views of all that lies beside a benchmark `out`, by section.

    Args:
        out: of the benchmark.
        benchmark: its report; of a critic that has changed between it and another report it is
            said, as names are those of folders.
    """
    names: dict[str, tuple[Path, Callable[[Report], View]]] = {
        "judged": (out.with_name(f"{out.name}.judge.json"), judge_view),
        "explained": (out.with_name("explain.json"), explained_view),
        "errors": (out.with_name("errors.json"), errors_view),
        "adapters": (out.with_name("adapters.json"), adapters_view),
        "experiments": (out.with_name("experiments.json"), experiments_view),
    }
    found = {name: (read_results(path), view) for name, (path, view) in names.items()}
    judges = list((benchmark or {}).get("judges", {}).values())
    return {name: view(_dated(report, judges)) if report else None
            for name, (report, view) in found.items()}  # fmt: skip


def _dated(report: Report, judges: Sequence[Report]) -> Report:
    """The report with the names of its critics as `tables.named` has them."""

    def told(critic: Any) -> Any:
        if not (isinstance(critic, Mapping) and {"name", "identity"} <= critic.keys()):
            return critic
        return {**critic, "name": named(critic, judges)}

    alone = {key: told(report[key]) for key in ("critic", "model") if key in report}
    models = report.get("models")
    if isinstance(models, Mapping):
        alone["models"] = {key: told(one) for key, one in models.items()}
    return {**report, **alone}


def judge_view(report: Report) -> View:
    """Win rate, outcomes and whether the judge qualified."""
    rate, outcomes = report.get("win_rate"), report.get("outcomes") or {}
    exam = report.get("qualification") or {}
    rows: list[Row] = [("win rate of model 1, ties half", cell(rate), _n(rate))]
    rows.append(("the same, corrected for the judge's errors", cell(report.get("corrected")),
                 _n(report.get("corrected"))))  # fmt: skip
    rows += [(f"rate: {name.replace('_', ' ')}", cell(one), _n(one))
             for name, one in (report.get("rates") or {}).items()]  # fmt: skip
    return {
        "models": [str(_at(report, f"models.model_{n}.name") or "-") for n in (1, 2)],
        "judge": str(_at(report, "judge.name") or "-"),
        "qualified": _qualified(exam),
        "exam": (("examination", "value", "n"),
                 [(name.replace("_", " "), cell(one), _n(one))
                  for name, one in (exam.get("rates") or {}).items()]),
        "rates": (("", "value", "n"), rows),
        "outcomes": (("outcome", "comparisons"),
                     [(label, str(outcomes.get(key, "-"))) for key, label in OUTCOMES.items()]),
    }  # fmt: skip


def _qualified(exam: Report) -> tuple[str, str]:
    """A word with its class, and what it failed."""
    failings = ", ".join(map(str, exam.get("failings") or []))
    if exam.get("qualified"):
        return "met", "The judge qualified."
    if "qualified" not in exam:
        return "open", "It is not said whether the judge qualified."
    forced = " and was used all the same (forced)" if exam.get("forced") else ""
    return "missed", f"The judge did not qualify{forced}: {failings or 'no reason given'}."


def explained_view(report: Report) -> View:
    """What whole critiques are worth, a row a figure."""
    asked = _at(report, "settings.reasons") is not None
    known = EXPLAINED if asked else EXPLAINED | OLDER
    figures = report.get("figures") or {}  # in the file by name
    names = [*(name for name in known if name in figures),
             *(name for name in figures if name not in known)]  # fmt: skip
    rows = [(known.get(name, name), cell(figures[name]), _n(figures[name])) for name in names]
    return {
        "about": f"{_at(report, 'critic.name') or '-'} on {report.get('n', '-')} items of split "
        f"{report.get('split', '-')}{left_out(report)}. What is cut off or does not parse is a "
        "miss in each row but that of the verdict, which is the readout's.",
        "figures": (("", "value", "n"), rows),
    }


def errors_view(report: Report) -> View:
    """What became of every item, and the worst slices."""
    counts = report.get("counts") or {}
    names = [*KINDS, *(kind for kind in counts if kind not in KINDS)]
    rows = [(KINDS.get(kind, kind), str(counts[kind].get("count", "-")), cell(counts[kind]))
            for kind in names if kind in counts]  # fmt: skip
    return {
        "about": f"{_at(report, 'critic.name') or '-'} on {report.get('n', '-')} items of split "
        f"{report.get('split', '-')}. Every item counts once.{_unread(report.get('rest') or {})}",
        "counts": (("outcome", "items", "share"), rows),
        "worst": _worst(_at(report, "slices.worst") or []),
    }


def _unread(rest: Report) -> str:
    """Of how many items nobody knows how well they are explained."""
    items, read = rest.get("items", 0), rest.get("read", 0)
    return (f" Of the {items} that are right by verdict and flaw type, the critiques of {read} "
            f"were read; the other {items - read} count as right." if items > read
            else "")  # fmt: skip


def _worst(slices: Sequence[Report]) -> Table | None:
    head: Row = ("worst slices", "missed", "n", "share", "among the rest",
                 "Holm, of these families", "p by family")  # fmt: skip
    rows: list[Row] = [
        (_slice_name(row.get("slice")), str(row.get("misses", "-")), _n(row), cell(row),
         cell(row.get("rest")), chance(row.get("p_over_all")), chance(row.get("p_by_family")))
        for row in slices
    ]  # fmt: skip
    return (head, rows) if rows else None


def _slice_name(name: object) -> str:
    if isinstance(name, Mapping):
        return ", ".join(f"{axis.replace('_', ' ')}: {value}" for axis, value in name.items())
    return str(name)


def experiments_view(report: Report) -> View:
    """A row an arm, with the test against the trained prompt or greedy writing."""
    tests: dict[str, Report] = {}
    for row in report.get("comparisons") or []:
        tests.setdefault(row.get("a", ""), row)
    arms: Report = report.get("arms") or {}
    shown = {key: label for key, label in ARM_FIGURES.items()
             if any(_figure(arm, key) for arm in arms.values())}  # fmt: skip
    head = (
        "arm",
        "n",
        *shown.values(),
        "against",
        "only it : only that",
        "Holm",
        "ms an item, p50",
    )
    rows = [
        (name, str(arm.get("n", "-")), *(cell(_figure(arm, key)) for key in shown),
         *_against(tests.get(name)), number(_at(report, f"measured.arms.{name}.p50", name), 0))
        for name, arm in arms.items()
    ]  # fmt: skip
    n = _at(report, "items.all.n") or "-"
    return {"about": f"{_at(report, 'model.name') or '-'}, {n} items.", "arms": (head, rows)}


def _figure(arm: Report, key: str) -> Report | None:
    found = (arm.get("metrics") or {}).get(key) or arm.get(key)
    return found if isinstance(found, Mapping) else None


def _against(row: Report | None) -> Row:
    if row is None:
        return ("-", "-", "-")
    both = f"{row.get('only_a_right', '-')} : {row.get('only_b_right', '-')}"
    return (str(row.get("b", "-")), both, chance(row.get("mcnemar_holm_p", row.get("holm_p"))))


def _n(found: Report | None) -> str:
    return "-" if not found or found.get("n") is None else str(found["n"])


def _at(report: Any, path: str, dotted: str = "") -> Any:
    """What stands at the end of a path, None where a step is missing; one step may hold dots."""
    for key in path.replace(dotted, "\0").split(".") if dotted else path.split("."):
        name = dotted if key == "\0" else key
        report = report.get(name) if isinstance(report, Mapping) else None
    return report
