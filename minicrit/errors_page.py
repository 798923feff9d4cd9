"""What a critic gets wrong, for people: Markdown for the terminal, one HTML page."""

from collections.abc import Iterator, Mapping
from typing import Any

from minicrit import plots
from minicrit.contrast_tables import chance
from minicrit.misses import KINDS, LEAST_AGREEMENT, LEAST_CONTROL, RIGHT
from minicrit.pages import render
from minicrit.plots import Dot, Line
from minicrit.tables import Row, bounds, cell, markdown, number
from minicrit.weak_slices import ALPHA

Report = Mapping[str, Any]

NAMES = {
    "right": "right",
    "false_positive": "false alarm: sound, but flagged",
    "false_negative": "flaw missed",
    "wrong_flaw_type": "flaw found, wrong name",
    "poor_explanation": "right, but badly explained",
    "label": "the label is doubtful",
    "harness": "could not be read",
}
SHORT = {
    "false_positive": "false alarm", "false_negative": "flaw missed",
    "wrong_flaw_type": "wrong flaw type", "poor_explanation": "badly explained",
    "label": "doubtful label", "harness": "not readable",
}  # fmt: skip
READ = (
    "Every item counts once, under the first that applies: no verdict; label doubtful; wrong "
    "verdict; no or another flaw type; critique cut off or unparsed; badly explained; right. "
    "Intervals are 95 % by Wilson, in slices the widest of Wilson's and that by twin group."
)
SLICES = (
    "Misses by verdict or flaw type, which are known of every item. A slice is compared with all "
    "other items by Fisher's exact test, by item and by twin group, whichever says less; `p over "
    "all` is corrected for all slices (Holm). That is about these families of scenarios alone: if "
    "families differ by themselves, some slice often has a small one and is not to blame. Beyond "
    "chance is what a test by family bears out as well (`p by family`, made where p over all is "
    "small): one hard family cannot be told from a hard domain, and few families can show nothing. "
    "Slices most of whose items lie in a worse one are left out."
)


def errors_markdown(report: Report) -> str:
    """The report for the terminal and for pull requests."""
    parts = [
        "# What the critic gets wrong",
        about(report),
        markdown(*kind_rows(report)),
        *rest(report),
        doubts(report),
        "## Worst slices",
        slices_line(report),
        markdown(*slice_rows(report)) if report["slices"]["worst"] else "none",
        SLICES,
        *(["## Flaws called by another name", markdown(*type_rows(report))]
          if report["types"] else []),
        "## Nearest training texts",
        neighbours_line(report),
        "## What to do",
        *(f"`{line}`" if line.startswith("make ") else line for line in remedy(report)),
        READ,
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def errors_html(report: Report) -> str:
    """One page without scripts and requests."""
    worst = [row for row in report["slices"]["worst"] if row["low"] is not None]
    return render(
        "errors.html",
        title="what the critic gets wrong",
        report=report,
        about=about(report),
        cards=_cards(report),
        kinds=kind_rows(report),
        bars=plots.bars(_dots(report), "number of items of each kind of miss"),
        sampled=sampled(report),
        rest=list(rest(report)),
        doubts=doubts(report),
        slices=slice_rows(report),
        slices_line=slices_line(report),
        dots=plots.dot_plot([Dot(slice_name(r), r["value"], r["low"], r["high"], r["n"])
                             for r in worst], "share of misses in the worst slices"),
        confidence=_confidence(report),
        types=type_rows(report),
        nearby=neighbours_line(report),
        remedy=remedy(report),
        names=SHORT,
        read=READ,
        slices_read=SLICES,
    )  # fmt: skip


def about(report: Report) -> str:
    """What was looked at."""
    critic = report["critic"]
    use = ("its errors may steer training" if report["steers"]
           else "not for steering: what is tested on must not say what is trained on")  # fmt: skip
    return (f"{critic['name']} at threshold {critic['threshold']:.3f} on {report['n']} items of "
            f"split {report['split']} ({use}). {report['written']} critiques were written."
            )  # fmt: skip


def kind_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of the outcomes; the numbers add up to n."""
    rows: list[Row] = [
        (NAMES[kind], str(report["counts"][kind]["count"]), cell(report["counts"][kind]))
        for kind in (RIGHT, *KINDS)
    ]
    return ("outcome", "items", "share"), [*rows, ("all", str(report["n"]), "")]


def rest(report: Report) -> Iterator[str]:
    """What was not read of those that count as right, and what it probably holds."""
    found = report["rest"]
    unread = found["items"] - found["read"]
    yield (f"{found['items']} items are right by verdict and flaw type. The critiques of "
           f"{found['read']} of them, drawn at random, were read; those of the other {unread} were "
           "not, and count as right.")  # fmt: skip
    for name, what in (("poor_explanation", "are badly explained"),
                       ("harness", "were cut off, do not parse or had no room")):  # fmt: skip
        row = found[name]["all"]
        if row["read"]:
            sides = "; ".join(f"{part}: {found[name][part]['seen']} of {found[name][part]['read']}"
                              for part in ("valid", "flawed"))  # fmt: skip
            yield (f"{row['seen']} of those {row['read']} {what} ({sides}). Among all "
                   f"{row['items']} that makes about {row['value']:.0f} [{row['low']}, "
                   f"{row['high']}] (exact for a random sample; twins count as independent)."
                   )  # fmt: skip
    why = ", ".join(
        f"{what} ({count})" for what, count in report["why"]["poor_explanation"].items()
    )
    if why:
        yield f"What was wrong with the explanations: {why}."


def sampled(report: Report) -> str:
    """What the bar of a kind that was only looked for in a sample leaves out."""
    row = report["rest"]["poor_explanation"]["all"]
    if not row["read"]:
        return "No critique of an item right by verdict and flaw type was read."
    return (f"Badly explained: among the {row['read']} critiques that were read of {row['items']}; "
            f"all together about {row['value']:.0f}.")  # fmt: skip


def doubts(report: Report) -> str:
    """Labels that the critic is sure are wrong, and whether anybody agrees."""
    found = report["doubtful"]
    laid = report["counts"]["label"]["count"]
    start = (f"{len(found['ids']) + laid} labels are doubtful: the critic is at least "
             f"{100 * found['confident']:g}% sure of the opposite. ")  # fmt: skip
    if not found.get("by"):
        return start + ("Nobody else was asked, so all of them count as misses of the critic "
                        "(JUDGE=... asks a model).")  # fmt: skip
    control = found["control"]
    held = (f"It agrees with {control['value']:.1%} {bounds(control['low'], control['high'], 2)} "
            f"of {control['n']} labels that the critic agrees with" if control["n"]
            else "It was held against no other labels")  # fmt: skip
    trust = ("so it is believed" if found["trusted"]
             else f"so it is not believed (needed: {LEAST_AGREEMENT:.0%} of {LEAST_CONTROL}, and "
             f"more than the {control['one_label']} with which one label for all agrees)"
             )  # fmt: skip
    return (f"{start}Asked: {found['by']}. {held}, {trust}. {laid} labels are laid aside on its "
            f"word; {found['unanswered']} of {found['asked']} questions had no answer."
            )  # fmt: skip


def slice_name(row: Mapping[str, Any]) -> str:
    """`medical, base_rate`."""
    return ", ".join(row["slice"].values())


def slices_line(report: Report) -> str:
    """How many were compared, by what, and whether any is really worse."""
    found = report["slices"]
    axes = ", ".join(axis.replace("_", " ") for axis in found["axes"]) or "nothing that differs"
    return (f"{found['compared']} slices of at least {found['least']} items by {axes} and pairs of "
            f"these; {_how_sure(report)}. {found['misses']} misses among {found['n']} items."
            )  # fmt: skip


def _how_sure(report: Report) -> str:
    """How many of the shown slices are worse beyond chance, and how many on these families."""
    if not report["settings"]["slices"]:
        return "none was looked at (errors.slices 0), so it is not said whether any is worse"
    rows = report["slices"]["worst"]
    real, here = (sum(row[key] for row in rows) for key in ("worse", "worse_here"))
    if not here:
        return "none is worse than its rest beyond chance"
    only = (f", {here - real} on these families alone, which are too few or differ too much to say "
            "it of others") if here > real else ""  # fmt: skip
    return (f"worse than their rest are {real or 'none'} of the shown beyond chance{only} "
            f"(p over all <= {ALPHA:g})")  # fmt: skip


def slice_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of the worst slices."""
    head = ("slice", "misses", "n", "share of misses", "elsewhere", "p",
            "p over all, of these families", "p by family", "families")  # fmt: skip
    rows: list[Row] = [
        (", ".join(f"{axis.replace('_', ' ')}: {name}" for axis, name in row["slice"].items()),
         str(row["misses"]), str(row["n"]), cell(row), cell(row["rest"]), chance(row["p"]),
         chance(row["p_over_all"]), chance(row["p_by_family"]), str(row["families"]))
        for row in report["slices"]["worst"]
    ]  # fmt: skip
    return head, rows


def type_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of flaw types called by another name."""
    rows: list[Row] = [(row["flaw_type"], row["called"], str(row["count"]))
                       for row in report["types"]]  # fmt: skip
    return ("flaw", "called", "items"), rows


def neighbours_line(report: Report) -> str:
    """Whether misses are farther from what was taught than the rest."""
    found = report["neighbours"]
    if not found["training_rows"]:
        return "No training file was looked through (errors.train)."
    parts = [
        f"{name}: median {number(part['median'], 2)}, {part['otherwise']} of {part['n']} with all "
        "nearest rows of the other label"
        for name, part in (("misses", found["misses"]), ("right", found["right"])) if part["n"]
    ]  # fmt: skip
    return (f"Cosine of TF-IDF with the nearest of {found['training_rows']} training rows. "
            + "; ".join(parts) + ".")  # fmt: skip


def remedy(report: Report) -> list[str]:
    """What to do about it; a line that begins with `make` is a command."""
    if not report["steers"]:
        return [f"Nothing of this may steer training, as split {report['split']} is not for that; "
                "look at validation or calibration items instead."]  # fmt: skip
    if not report["items"]:
        return ["There is nothing to make more of: no verdict or flaw type was wrong."]
    return [f"make hard FOCUS={report['settings']['out']}.json",
            f"makes more of the mechanisms, domains and flaw types of these {len(report['items'])} "
            "misses by verdict or type."]  # fmt: skip


def _cards(report: Report) -> list[tuple[str, str, str]]:
    """(name, figure, detail) of what people look at first."""
    counts, found = report["counts"], report["slices"]
    early = sum(counts[kind]["count"] for kind in KINDS[:3])
    poor = report["rest"]["poor_explanation"]["all"]
    cards = [("Misses by verdict or type", f"{early} of {report['n']}",
              f"{counts['false_positive']['count']} false alarms, "
              f"{counts['false_negative']['count']} flaws missed, "
              f"{counts['wrong_flaw_type']['count']} wrong names")]  # fmt: skip
    if poor["read"]:
        cards.append(("Badly explained", f"{poor['seen']} of {poor['read']}",
                      "critiques that were read, of items right by verdict and type"))  # fmt: skip
    if found["worst"]:
        row = found["worst"][0]
        here = "on these families" if row["worse_here"] else "may be chance"
        sure = "beyond chance" if row["worse"] else here
        detail = f"{slice_name(row)}; elsewhere {row['rest']['value']:.0%}; {sure}"
        cards.append(("Worst slice", f"{row['misses']} of {row['n']}", detail))
    return cards


def _dots(report: Report) -> list[Dot]:
    rows = {kind: report["counts"][kind] for kind in KINDS}
    return [Dot(SHORT[kind], row["value"], row["low"], row["high"], row["count"])
            for kind, row in rows.items()]  # fmt: skip


def _confidence(report: Report) -> Any:
    """How sure verdicts are against how often they are right; None without any."""
    rows = report["confidence"]
    if not rows:
        return None
    dots = [(Dot(str(r["mean_p"]), r["value"], r["low"], r["high"], r["n"]), 0) for r in rows]
    line = Line("verdicts", [(r["mean_p"], r["value"]) for r in rows])
    return plots.square([line], ("how sure the verdict is", "share that is right"), dots)
