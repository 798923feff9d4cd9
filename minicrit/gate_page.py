"""What the gate did to the book, for people: Markdown for the terminal, one HTML page."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from minicrit import plots
from minicrit.contrast_tables import chance, said_p
from minicrit.pages import render
from minicrit.plots import Line
from minicrit.tables import Row, bounds, cell, markdown, number
from minicrit.trades import SLACK

Report = Mapping[str, Any]

BOOKS = {"before": "all trades", "after": "gated", "oracle": "gated by the labels"}
GAPS = {"after": "the gate", "oracle": "a gate that knows the labels"}
_BOOK_LINES = (
    ("trades", "trades", 1.0, 0),
    ("Sharpe ratio, annual", "sharpe", 1.0, 2),
    ("P(Sharpe > 0)", "psr", 1.0, 3),
    ("P(Sharpe > best of so many worthless trials: {trials})", "dsr", 1.0, 3),
    ("mean return a year, % of capital", "mean", 100.0, 2),
    ("volatility a year, %", "volatility", 100.0, 2),
    ("total return, %", "total", 100.0, 1),
    ("largest drawdown, %", "drawdown", 100.0, 1),
    ("turnover a year, times capital", "turnover", 1.0, 2),
    ("periods with a position, %", "busy", 100.0, 1),
)
READ = (
    "A difference is worth what it is above gates that drop as many trades at random: leaving "
    "trades out changes a Sharpe ratio whoever chooses them. Returns add up on a fixed capital and "
    "count as excess returns; a period without a position counts as zero. Ratios are annualised by "
    "the square root of the periods in a year."
)


def gate_markdown(report: Report) -> str:
    """The report for the terminal and for pull requests."""
    parts = [
        "# What the gate does to the book",
        about(report),
        markdown(*book_rows(report)),
        "## Difference of the annual Sharpe ratios",
        markdown(*difference_rows(report)),
        markdown(*world_rows(report)),
        world_note(report),
        READ,
        "## Verdicts",
        markdown(*verdict_rows(report)),
    ]
    return "\n\n".join(parts) + "\n"


def gate_html(report: Report) -> str:
    """One page without scripts and requests."""
    return render(
        "sharpe.html",
        title="what the gate does to the book",
        report=report,
        about=about(report),
        cards=_cards(report),
        books=book_rows(report),
        differences=difference_rows(report),
        against=world_rows(report),
        note=world_note(report),
        verdicts=verdict_rows(report),
        plot=_equity(report["curves"]),
        legend_of=[(name, color) for _, name, color in _lines(report["curves"])],
        read=READ,
    )


def about(report: Report) -> str:
    """What was measured, and whether the prices fit."""
    facts = report["trades"]
    lost = sum(facts["unscored"].values())
    way = "marked to market" if facts["marked"] else "booked on their exit days"
    off = facts["off_prices"]
    odd = (f" Of {off['n']} of them the closes leave more than {100 * SLACK:g} % of the position "
           f"to the exit day, most of that in line {off['line']} ({100 * off['rest']:+.1f} %): are "
           "splits taken into account?") if off["n"] else ""  # fmt: skip
    return (
        f"{facts['n']} trades in {facts['instruments']} instruments from {facts['first']} to "
        f"{facts['last']} ({facts['years']:.1f} years, {facts['periods']} periods of a "
        f"{facts['period']}, {facts['periods_a_year']:.1f} a year), {way}.{odd} "
        f"{report['critic']['name']} flags {report['flagged']} of them at threshold "
        f"{report['critic']['threshold']:.3f}; {lost} could not be read and passed. Gate: "
        f"{report['settings']['gate']}."
    )


def book_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of the books side by side."""
    books, trials = report["books"], report["settings"]["trials"]
    rows = [
        (label.format(trials=trials),
         *(number(None if book[key] is None else scale * book[key], digits)
           for book in books.values()))
        for label, key, scale, digits in _BOOK_LINES
    ]  # fmt: skip
    return ("book", *(BOOKS[name] for name in books)), rows


def difference_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of the differences from the book before the gate."""
    gain = report["settings"]["gain"]
    head = ("against all trades", "difference", "Ledoit-Wolf 95 %", "p", "Jobson-Korkie-Memmel "
            "95 %", "correlation", f"years to prove +{gain:.2f}")  # fmt: skip
    rows: list[Row] = [
        (GAPS[name], _signed(row["value"]), bounds(row["low"], row["high"], 2),
         chance(row["p"]), bounds(row["memmel_low"], row["memmel_high"], 2),
         number(row["rho"], 2), _years(row))
        for name, row in report["differences"].items()
    ]  # fmt: skip
    return head, rows


def world_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of the gated book against random gates."""
    head = ("gated book against", "median", "95 % of them", "gain over the median", "p, one-sided")
    if report["placebo"] is None:
        rows: list[Row] = [("random gates: all trades or none are flagged", "-", "-", "-", "-")]
    else:
        rows = [
            ("as many flagged at random", *_against(report["placebo"])),
            (f"flags exchanged within a block ({report['settings']['blocks']})",
             *_against(report["null"])),
        ]  # fmt: skip
    if oracle := report["oracle_placebo"]:
        rows.append(("the labels' book: as many flagged at random", *_against(oracle)))
    return head, rows


def world_note(report: Report) -> str:
    """How the random gates were drawn, and how often an interval would have been fooled."""
    null = report["null"]
    if null is None:
        return "There are no random gates to compare with."
    return (
        f"{report['placebo']['draws']} gates each. {100 * (null['exchangeable'] or 0):.0f} % of "
        "the trades lie in blocks with flagged and other ones, so that flags can move; of "
        f"{null['alarm_worlds']} such worlds an interval promises a gain in "
        f"{number(_percent(null['alarms']), 1)} %."
    )


def verdict_rows(report: Report) -> tuple[Row, list[Row]]:
    """Head and rows of how right the gate was, and how the trades came out."""
    gap = report["per_trade"]["difference"]
    rows: list[Row] = [
        ("mean return of kept trades, %", number(_percent(report["per_trade"]["kept"]), 2)),
        ("mean return of flagged trades, %", number(_percent(report["per_trade"]["flagged"]), 2)),
        ("kept less flagged, % (95 %, by month of entry)",
         f"{number(_percent(gap['value']), 2)} "
         f"{bounds(_percent(gap['low']), _percent(gap['high']), 2)} {said_p(gap['p'])}"),
    ]  # fmt: skip
    if found := report["verdicts"]:
        rate = {key: f"{cell(found[key])} n={found[key]['n']}" for key in ("recall", "fpr")}
        capture = report["capture"]
        share = capture["why"] or " ".join([
            number(capture["value"], 2), bounds(capture.get("low"), capture.get("high"), 2)
        ])  # fmt: skip
        rows += [
            ("flawed trades that are flagged", rate["recall"]),
            ("sound trades that are flagged", rate["fpr"]),
            ("F1, AUROC", f"{number(found['f1'])}, {number(found['auroc'])}"),
            ("share of the oracle's gain over random gates (95 %, by their spread)", share),
        ]
    return ("verdicts and outcomes", "value"), rows


def _cards(report: Report) -> list[tuple[str, str, str]]:
    """(name, figure, what it means) of what people look at first."""
    books, gap = report["books"], report["differences"]["after"]
    placebo = report["placebo"]
    cards = [
        ("Sharpe ratio, annual", f"{number(books['before']['sharpe'], 2)} to "
         f"{number(books['after']['sharpe'], 2)}", "all trades, then those that pass"),
        ("Difference", _signed(gap["value"]),
         f"95 %: {bounds(gap['low'], gap['high'], 2)}, {said_p(gap['p'])}"),
        ("Years to prove " + f"+{report['settings']['gain']:.2f}", number(gap["years"], 1),
         f"there are {report['trades']['years']:.1f}; 80 % power, one-sided 5 %"),
    ]  # fmt: skip
    if placebo is not None:
        cards.insert(2, ("Over random gates", _signed(placebo.get("gain")),
                         f"{said_p(placebo['p'])}, one-sided"))  # fmt: skip
    return cards


def _equity(curves: Mapping[str, Any]) -> Markup:
    band = []
    if "placebo_low" in curves:
        low, high = (list(zip(curves["years"], curves[f"placebo_{side}"], strict=True))
                     for side in ("low", "high"))  # fmt: skip
        band = low + high[::-1]
    lines = [Line(name, list(zip(curves["years"], curves[key], strict=True)), color)
             for key, name, color in _lines(curves)]  # fmt: skip
    scaled = [Line(one.name, [(x, 100 * y) for x, y in one.points], one.color) for one in lines]
    return plots.paths(scaled, [(x, 100 * y) for x, y in band], ("years", "% of capital"))


def _lines(curves: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    known = (("before", "all trades", 0), ("after", "gated", 1),
             ("placebo", "random gates, median and 95 %", 2),
             ("oracle", "gated by the labels", 3))  # fmt: skip
    return [one for one in known if one[0] in curves]


def _against(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return (number(row.get("median"), 2), bounds(row.get("low"), row.get("high"), 2),
            _signed(row.get("gain")), chance(row["p"]))  # fmt: skip


def _years(row: Mapping[str, Any]) -> str:
    return f"{number(row['years'], 1)} (normal: {number(row['years_memmel'], 1)})"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
