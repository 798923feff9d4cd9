"""Tables of the page that are not the benchmark's: quantized critics, sizes of the data."""

from collections.abc import Callable, Mapping
from typing import Any

from minicrit.tables import Row, bounds, number

Report = Mapping[str, Any]
SIZES = ("examples", "groups", "flawed", "words_mean", "words_max")
Show = Callable[[Any], str]


def _rate(found: Report) -> str:
    """Value and interval of a metric, four decimals as flips are rare."""
    return f"{number(found['value'], 4)} {bounds(found.get('low'), found.get('high'))}"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f}"


def _tenths(value: float) -> str:
    return f"{value:.1f}"


def _gap(found: Report) -> str:
    """A difference with its sign and interval."""
    return f"{found['value']:+.4f} {bounds(found.get('low'), found.get('high'))}"


def _twice(value: float) -> str:
    return f"{value:.2f} x"


#: Label, where the float critic's figure stands in a report, where the quantized one's, its form.
_LINES: tuple[tuple[str, str | None, str, Show], ...] = (
    ("status", None, "status", str),
    ("the flips bar holds by", None, "basis", str),
    ("bits", None, "bits", str),
    ("weights, MB", "size.float_critic", "size.quantized", _megabytes),
    ("verdicts flipped", None, "flips", _rate),
    ("at most, 95 % sure", None, "flips.upper", lambda x: number(x, 4)),
    ("groups to certify the bar", None, "flips.needed", str),
    ("threshold", "thresholds.float", "thresholds.quantized", lambda x: number(x, 4)),
    ("F1", "metrics.f1.float", "metrics.f1.quantized", _rate),
    ("F1, quantized - float", None, "metrics.f1.difference", _gap),
    ("false-positive rate", "metrics.fpr.float", "metrics.fpr.quantized", _rate),
    ("false-positive rate, quantized - float", None, "metrics.fpr.difference", _gap),
    ("perplexity of plain English", "perplexity.float", "perplexity.quantized", _tenths),
    *(line for batch in (1, 8, 64) for line in (
        (f"verdict, batch {batch}, ms", f"measured.verdict.{batch}.float.wall_ms",
         f"measured.verdict.{batch}.quantized.wall_ms", _tenths),
        (f"verdict, batch {batch}, times as fast", None, f"measured.verdict.{batch}.speedup",
         _twice),
        (f"verdict, batch {batch}, times as fast by processor time", None,
         f"measured.verdict.{batch}.speedup_cpu", _twice),
    )),
    ("writing, tokens a second", "measured.writing.float.tokens_per_wall_second",
     "measured.writing.quantized.tokens_per_wall_second", _tenths),
    ("writing, times as fast", None, "measured.writing.speedup", _twice),
)  # fmt: skip


def quantize_rows(
    reports: Mapping[str, Report], benchmark: Report | None = None
) -> tuple[Row, list[Row]] | None:
    """Each quantized critic beside the float critic that it was measured with; None without any.

    Of one whose adapter no judge of the benchmark has it is said: its own may be trained anew.
    """
    if not reports:
        return None
    adapters = {judge.get("adapter") for judge in (benchmark or {}).get("judges", {}).values()}
    told = {name: name if not (benchmark and report.get("adapter"))
            or report["adapter"] in adapters else f"{name}, of another critic than the benchmark's"
            for name, report in reports.items()}  # fmt: skip
    head = ("", *(cell for name in reports for cell in (f"float for {name}", told[name])))
    rows = [
        (label, *(_cell(r, path, show) for r in reports.values() for path in (floating, quantized)))
        for label, floating, quantized, show in _LINES
    ]
    return head, rows


def coverage_rows(coverage: Report | None) -> tuple[Row, list[Row]] | None:
    """Sizes of the data by split; None where there is no coverage."""
    rows = [
        (split, *(str(found.get(key, "-")) for key in SIZES), str(len(found.get("sources", {}))))
        for split, found in (coverage or {}).items()
        if isinstance(found, Mapping) and "examples" in found
    ]
    return (("data", *(key.replace("_", " ") for key in SIZES), "sources"), rows) if rows else None


def _cell(report: Report, path: str | None, show: Show) -> str:
    """The figure at the end of a path; `-` where a step is missing or the value undefined."""
    if path is None:
        return ""
    found: Any = report
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    undefined = isinstance(found, Mapping) and found.get("value") is None
    return "-" if found is None or undefined else show(found)
