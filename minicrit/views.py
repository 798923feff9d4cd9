"""What the page shows of a benchmark: its tables, and its plots as inline SVG."""

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from minicrit import contrast_tables, heat, plots, tables
from minicrit.plots import Dot, Line

Report = Mapping[str, Any]


def views(report: Report) -> dict[str, Any]:
    """Everything that the template asks for of a benchmark."""
    judges = report["judges"]
    curves = [Line(j["name"], j["roc"], n) for n, j in enumerate(judges.values()) if j["roc"]]
    risks = [Line(j["name"], j["risk_coverage"], n) for n, j in enumerate(judges.values())]
    return {
        "judges": tables.metric_rows(report),
        "unread": tables.unread(report),
        "intervals": tables.INTERVALS.replace("`", ""),
        **_comparisons(report),
        "violations": tables.violation_rows(report),
        "violations_compared": contrast_tables.violation_rows(report),
        "about_violations": tables.VIOLATIONS,
        "promises": [_promise(judge) for judge in judges.values() if judge.get("calibration")],
        "written": tables.critique_rows(report),
        "misses": tables.MISSES,
        "measured": tables.measured_rows(report),
        "roc": plots.square(curves, ("false-positive rate", "recall"), list(_points(judges)),
                            limits=_limits(judges)),
        "roc_legend": [(_named(judges, line), line.color) for line in curves],
        "reliability": plots.square([], ("p(flawed)", "share flawed"), list(_bins(judges))),
        "reliability_legend": [(judge["name"], n) for n, judge in enumerate(judges.values())
                               if "identity" in judge],
        "risk_coverage": plots.curves(risks, ("share of the items judged, surest first", "wrong"),
                                      dots=list(_bands(judges))),
        "risk_legend": [(line.name, line.color) for line in risks],
        "heat": heat.heat_table(_confusion(judges["model_1"])),
        "types": _types(judges),
        "identities": [(j["name"], j["identity"]) for j in judges.values() if "identity" in j],
        "slices": list(_slice_plots(judges["model_1"]["slices"])),
    }  # fmt: skip


def _comparisons(report: Report) -> dict[str, Any]:
    return {
        "pairs": contrast_tables.pair_rows(report),
        "differences": contrast_tables.difference_rows(report),
        "contrasted": contrast_tables.slice_rows(report),
        "foreseen": contrast_tables.foreseen(report),
        "about_pairs": contrast_tables.NOTE,
        "about_slices": contrast_tables.SLICES.replace("`", ""),
    }


def _named(judges: Report, line: Line) -> str:
    judge = list(judges.values())[line.color]
    return f"{line.name}, dot: {'certified' if judge.get('calibration') else 'its'} threshold"


def _points(judges: Report) -> Iterator[tuple[Dot, int]]:
    """Where each judge stands on its ROC curve, with the intervals of both rates."""
    for color, judge in enumerate(judges.values()):
        fpr, recall = judge["operating_point"]["fpr"], judge["operating_point"]["recall"]
        if fpr and recall:
            yield Dot(str(fpr["value"]), recall["value"], recall["low"], recall["high"],
                      recall["n"], (fpr["low"], fpr["high"])), color  # fmt: skip


def _limits(judges: Report) -> list[tuple[float, str]]:
    """The certified false-positive rates, once each."""
    alphas = {judge["calibration"]["alpha"] for judge in judges.values()
              if judge.get("calibration")}  # fmt: skip
    return [(alpha, f"certified: at most {100 * alpha:g} %") for alpha in sorted(alphas)]


def _bins(judges: Report) -> Iterator[tuple[Dot, int]]:
    """The reliability bins of the critics; the baselines have no p to be believed."""
    for color, judge in enumerate(judges.values()):
        for b in judge["reliability"] if "identity" in judge else ():
            yield Dot(str(b["mean_p"]), b["value"], b["low"], b["high"], b["n"]), color


def _bands(judges: Report) -> Iterator[tuple[Dot, int]]:
    """What is left, and wrong, outside of the band in which a calibrated critic abstains."""
    for color, judge in enumerate(judges.values()):
        left = judge.get("abstaining")
        if left and left["wrong"]:
            wrong = left["wrong"]
            yield Dot(str(left["coverage"]), wrong["value"], wrong["low"], wrong["high"],
                      wrong["n"]), color  # fmt: skip


def _promise(judge: Report) -> dict[str, Any]:
    """A calibrated critic's certificate and band, in words and by domain."""
    found = judge["calibration"]
    domains = [
        (name, str(row["n"]), str(row.get("k", "-")), tables.number(row.get("threshold")),
         f"needs {row['needed']} items" if "needed" in row else "certified")
        for name, row in sorted((found.get("domains") or {}).items())
    ]  # fmt: skip
    return {
        "certificate": tables.certificate(judge),
        "band": tables.abstaining(judge),
        "domains": (("domain", "valid items", "k", "threshold", "by itself"), domains)
        if domains else None,
    }  # fmt: skip


def _confusion(judge: Report) -> Report:
    return (judge.get("flaw_types") or {}).get("confusion") or {}


def _types(judges: Report) -> tuple[tables.Row, list[tables.Row]] | None:
    """Figures of the flaw types by judge; None where nobody was asked."""
    found = {j["name"]: j["flaw_types"] for j in judges.values() if j.get("flaw_types")}
    rows: list[tables.Row] = [
        (label, *(f"{tables.cell(one[key])} n={one[key]['n']}" for one in found.values()))
        for key, label in tables.TYPES.items()
    ]
    return (("flaw types, of every item by its readout", *found), rows) if found else None


def _slice_plots(found: Report) -> Iterator[tuple[str, Markup]]:
    """Accuracy by slice (recall by flaw type), worst first; none for an axis of one slice."""
    for axis, title in tables.AXES.items():
        what = "recall" if axis == "flaw_type" else "accuracy"
        dots = [
            Dot(name, rate["value"], rate["low"], rate["high"], rate["n"])
            for name, rates in found.get(axis, {}).items()
            if (rate := rates[what])
        ]
        if len(dots) > 1:
            dots.sort(key=lambda dot: (dot.value, dot.name))
            yield f"{title}: {what}", plots.dot_plot(dots, title)
