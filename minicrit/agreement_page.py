"""Agreement with operators for people: Markdown for the terminal, one HTML page."""

from collections.abc import Mapping
from typing import Any

from minicrit import plots
from minicrit.contrast_tables import said_p
from minicrit.pages import render
from minicrit.plots import Dot, Line
from minicrit.tables import Row, cell, markdown, number

Report = Mapping[str, Any]

AMONG = {
    "pairwise": "two operators on one rationale say the same",
    "against_the_others": "an operator agrees with the majority of the others",
    "alpha": "Krippendorff's alpha among operators",
    "critic_with_each": "the critic and one of the operators say the same, on these rationales",
}
READ = (
    "The unit is the rationale: the critic against the majority of its operators. Intervals are "
    "95 %, of rates exact (Clopper-Pearson), of kappa and alpha by resampling rationales; of rates "
    "where several decided, the wider of that and of Wilson's for so many rationales. Kappa falls "
    "where one verdict is rare; the prevalence-adjusted one does not. What operators say of each "
    "other is the ceiling: nobody can agree with people who do not agree. Beside it, and for each "
    "operator, all rationales that the critic could read count, those with a tie as well. A proof "
    "holds for one look at a log whose size was set before: of critics that are just at 98 %, 24 % "
    "are proven at some time by who looks after each of 3,000 rationales. Operators who saw the "
    "verdict before they decided are drawn to it; the log does not say who did."
)


def agreement_markdown(report: Report) -> str:
    """The report for the terminal and for pull requests."""
    parts = [
        "# Agreement with operators",
        about(report),
        markdown(*rate_rows(report)),
        proof(report),
        markdown(*table_rows(report)),
        "## Most certain first",
        markdown(*coverage_rows(report)),
        "## Operators",
        markdown(*among_rows(report)),
        markdown(*operator_rows(report)),
        READ,
    ]
    return "\n\n".join(parts) + "\n"


def agreement_html(report: Report) -> str:
    """One page without scripts and requests."""
    rate = report["agreement"]
    points = [(row["coverage"], row["value"]) for row in report["coverage"]]
    bounds = [[(row["coverage"], row[side]) for row in report["coverage"]]
              for side in ("low", "high")]  # fmt: skip
    dots = [Dot(name, row["value"], row["low"], row["high"], row["n"])
            for name, row in report["operators"]["each"].items()]  # fmt: skip
    return render(
        "agreement.html",
        title="agreement with operators",
        report=report,
        about=about(report),
        value=f"{100 * rate['value']:.1f} %",
        bounds=f"95 %: {100 * rate['low']:.1f} to {100 * rate['high']:.1f} %",
        proof=proof(report),
        rates=rate_rows(report),
        table_of=table_rows(report),
        coverage=coverage_rows(report),
        plot=plots.paths([Line("agreement", points, 0)], bounds[0] + bounds[1][::-1],
                         ("share of the rationales, most certain first", "")),
        among=among_rows(report),
        each=plots.dot_plot(dots, "agreement of each operator with the critic"),
        read=READ,
    )  # fmt: skip


def about(report: Report) -> str:
    """What was compared."""
    log, critic = report["log"], report["critic"]
    lost = sum(log["unscored"].values())
    return (
        f"{log['decisions']} decisions of {log['operators']} operators on {log['rationales']} "
        f"rationales; {log['ties']} without a majority and {lost} that could not be read are left "
        f"out of the rate. Critic: {critic['name']} at threshold {critic['threshold']:.3f}."
    )


def proof(report: Report) -> str:
    """Whether the target is proven, what would prove it, and who reads nothing beside it."""
    return " ".join(filter(None, [_proof(report), _constant(report["proof"].get("constant"))]))


def _constant(found: Report | None) -> str:
    """Who says the same of every rationale; nothing in reports from before had it."""
    if not found:
        return ""
    told = (f"Who says {found['verdict']} of every rationale has {found['disagreements']} "
            "disagreements")  # fmt: skip
    if not found["proven"]:
        return f"{told}."
    more = "more" if found["beaten"] else "no more"
    return (f"{told}, which proves it as well; the critic agrees {more} than that beyond chance "
            f"(McNemar, {said_p(found['p'])}).")  # fmt: skip


def _proof(report: Report) -> str:
    facts = report["proof"]
    target = f"{100 * facts['target']:g} %"
    if facts["proven"]:
        return (f"An agreement of at least {target} is proven (one-sided 95 %): "
                f"{facts['disagreements']} disagreements of {facts['n']}, {facts['allowed']} "
                "allowed.")  # fmt: skip
    room = "none would be few enough" if facts["allowed"] < 0 else f"{facts['allowed']} allowed"
    return (f"An agreement of at least {target} is not proven (one-sided 95 %): "
            f"{facts['disagreements']} disagreements of {facts['n']}, {room}. So many "
            f"disagreements of a new log would prove it among {facts['needed']} rationales."
            )  # fmt: skip


def rate_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of rate and kappas, over all and by domain."""
    parts = {"all": report, **report["domains"]}
    rows: list[Row] = [
        (name, str(part["agreement"]["n"]), cell(part["agreement"]), cell(part["kappa"]),
         cell(part["adjusted_kappa"]))
        for name, part in parts.items()
    ]  # fmt: skip
    return ("domain", "n", "agreement", "Cohen's kappa", "prevalence-adjusted kappa"), rows


def table_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of who said what."""
    found = report["table"]
    rows: list[Row] = [
        (f"critic: {said}", str(found[f"{said}_valid"]), str(found[f"{said}_flawed"]))
        for said in ("valid", "flawed")
    ]
    return ("", "operators: valid", "operators: flawed"), rows


def coverage_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of agreement at coverage."""
    rows: list[Row] = [
        (f"{100 * row['coverage']:.0f} %", str(row["n"]), cell(row)) for row in report["coverage"]
    ]
    return ("most certain", "n", "agreement"), rows


def among_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of the ceiling."""
    found = report["operators"]["among"]
    rows: list[Row] = [(label, str(found[key]["n"]), cell(found[key]))
                       for key, label in AMONG.items() if key in found]  # fmt: skip
    return ("where several decided", "n", "value"), rows


def operator_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of each operator."""
    rows: list[Row] = [
        (name, str(row["n"]), cell(row), number(row["flawed"], 2))
        for name, row in report["operators"]["each"].items()
    ]
    return ("operator", "decisions", "agrees with the critic", "share called flawed"), rows
