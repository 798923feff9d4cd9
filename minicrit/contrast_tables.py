"""Tables of the comparisons: two judges on the same items."""

from collections.abc import Mapping
from typing import Any

from minicrit.tables import AXES, LABELS, Row, name_of, number

LEAST_CHANCE = 1e-4  # what four decimals can show
MOST_SLICES = 8
TESTED = ("f1", "fpr")  # for which it is said whether one is no worse
NOTE = (
    "McNemar takes items as independent. Differences are A - B with 95 % bounds (BCa), resampled "
    "by twin group and by family, the least sure of both; no p is below what those can show in "
    "which A and B differ. Less is better for false positives, Brier score, risk-coverage area and "
    "cost. 'Worse by the margin' and 'apart by the margin' are p values of one-sided tests: small "
    "says that A is no worse, or that both are equivalent, which fewer than five groups or families"
    " never show."
)
SLICES = "Slices with the smallest p; `Holm` is adjusted for all slices of the comparison."


def foreseen(report: Mapping[str, Any]) -> str:
    """What was known before the run of what it could find."""
    found = report["detectable"]
    gap = "no difference" if found["gap"] is None else f"differences from {found['gap']:.3f} on"
    share, power = 100 * found["discordance"], 100 * found["power"]
    return (f"Before the run: if two judges disagree on {share:g} % of the items, {gap} in "
            f"accuracy can be found with {power:.0f} % power.")  # fmt: skip


def pair_rows(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows of McNemar's tests."""
    head: Row = ("A against B", "n", "only A right", "only B right", "McNemar p",
            "gap in accuracy that n finds")  # fmt: skip
    rows: list[Row] = [
        (_pair(report, pair), str(pair["n"]), str(pair["only_a_right"]), str(pair["only_b_right"]),
         chance(pair["mcnemar_p"]), number(pair["detectable"]))
        for pair in report["pairs"]
    ]  # fmt: skip
    return head, rows


def difference_rows(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows of the differences, one comparison a column."""
    pairs = report["pairs"]
    head = ("A - B", *(_pair(report, pair) for pair in pairs))
    rows: list[Row] = []
    for name in LABELS:
        if not pairs or name not in pairs[0]["differences"]:
            continue
        rows.append((LABELS[name], *(_difference(pair["differences"][name]) for pair in pairs)))
        if name in TESTED:
            worse = "p_below" if name == "f1" else "p_above"
            margin = f"{pairs[0]['margin']:g}"
            rows += [
                (f"{LABELS[name]}: {said} by {margin}, p",
                 *(chance(pair["differences"][name][key]) for pair in pairs))
                for said, key in (("A worse", worse), ("apart", "p_apart"))
            ]  # fmt: skip
    return head, rows


def slice_rows(report: Mapping[str, Any]) -> tuple[Row, list[Row]] | None:
    """The slices in which the first two judges differ most surely; None without any."""
    pair = report["pairs"][0] if report["pairs"] else {"slices": []}
    order = sorted(pair["slices"], key=lambda r: (r["mcnemar_p"], r["axis"], r["slice"]))
    if not order:
        return None
    head: Row = (
        _pair(report, pair),
        "slice",
        "n",
        "only A right",
        "only B right",
        "McNemar p",
        "Holm",
    )
    rows: list[Row] = [
        (AXES[r["axis"]], r["slice"], str(r["n"]), str(r["only_a_right"]), str(r["only_b_right"]),
         chance(r["mcnemar_p"]), chance(r["holm_p"]))
        for r in order[:MOST_SLICES]
    ]  # fmt: skip
    return head, rows


def violation_rows(report: Mapping[str, Any]) -> tuple[Row, list[Row]] | None:
    """Head and rows of McNemar's tests of the verdicts that harmless changes move, or None."""
    rows: list[Row] = [
        (_pair(report, pair), str(found["n"]), str(found["only_a_moved"]),
         str(found["only_b_moved"]), chance(found["mcnemar_p"]))
        for pair in report["pairs"]
        if (found := pair.get("metamorphic"))
    ]  # fmt: skip
    head: Row = ("A against B", "n", "only A moved", "only B moved", "McNemar p")
    return (head, rows) if rows else None


def chance(p: float | None) -> str:
    """A p value for people."""
    return "-" if p is None else "< 0.0001" if p < LEAST_CHANCE else f"{p:.4f}"


def said_p(p: float | None) -> str:
    """The same within a sentence: `p=0.0312` or `p < 0.0001`."""
    return f"p {chance(p)}" if chance(p).startswith("<") else f"p={chance(p)}"


def _pair(report: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    return f"{name_of(report, pair['a'])} against {name_of(report, pair['b'])}"


def _difference(gap: Mapping[str, Any]) -> str:
    if gap["value"] is None:
        return "-"
    if gap["low"] is None:
        return f"{gap['value']:+.3f}"
    return f"{gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}] {said_p(gap['p'])}"
