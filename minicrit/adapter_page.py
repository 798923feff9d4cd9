"""The report on adapters by domain for people: tables for Markdown and for the page of a run."""

from collections.abc import Mapping
from typing import Any

from minicrit.contrast_tables import chance
from minicrit.tables import Row, bounds, cell, markdown, number

FALLBACK, GENERAL = "fallback", "general"  # the adapter that all are compared with, and its name


def page(found: Mapping[str, Any]) -> str:
    """The report for people."""
    return "\n\n".join([
        "# Adapters by domain",
        markdown(*worth_rows(found)), ABOUT_WORTH,
        markdown(*against_rows(found)), ABOUT_TESTS,
        about_sizes(found), about_detector(found), about_times(found),
    ]) + "\n"  # fmt: skip


ABOUT_WORTH = (
    "Accuracy at p = 0.5, before calibration, with its widest 95 % interval (by item, group, "
    "family). A star: the specialist of that domain."
)
ABOUT_TESTS = (
    "Each specialist minus the general adapter on the same items: accuracy by exact McNemar, AUROC "
    "with its 95 % by twin group and by family, the wider. Holm: over both tests of all cells; G "
    "groups or families give no p below 2^(1 - G), so fewer than six cannot be tested. Open: not "
    "told apart. At 0.5: accuracy alone tells, whose test counts items as independent, and which "
    "log-odds that are all moved by a constant change as well; a calibration takes that away."
)


def about_sizes(found: Mapping[str, Any]) -> str:
    """Megabytes on disk."""
    told = found["sizes"]
    each = ", ".join(f"{_name(key)} {n / 1e6:.1f}" for key, n in told["adapters"].items())
    return (f"On disk, MB: base {told['base'] / 1e6:.1f}; adapters: {each}; what routes "
            f"{told['routing'] / 1e6:.2f}.")  # fmt: skip


def about_detector(found: Mapping[str, Any]) -> str:
    """What becomes of items whose domain nobody tells."""
    seen = found["detector"]
    return (f"Domains not told ({seen['n']} items of families that the detector has not seen, bar "
            f"{seen['bar']:g}): {seen['right']} to the right specialist, {seen['wrong']} to a "
            f"wrong one, {seen['general']} to the general adapter; right if routed "
            f"{cell(seen['right_if_routed'])}.")  # fmt: skip


def about_times(found: Mapping[str, Any]) -> str:
    """One forward for all adapters against the other ways."""
    spent = found["measured"]
    return (
        f"A batch of {spent['items']} items of {spent['adapters']} adapters in one forward takes "
        f"{number(spent['mixed_to_one_adapter'], 2)} times as long as one adapter for all; one "
        f"adapter after the other, {number(spent['separate_to_mixed'], 2)} times as long as that "
        f"({number(spent['seconds']['mixed'])} s; medians of {spent['rounds']} paired rounds). "
        f"Log-odds apart by at most {spent['log_odds_apart']:.1e}."
    )


def worth_rows(found: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows of accuracy by adapter and domain; `*` marks a specialist at home."""
    matrix = found.get("matrix") or {}
    first: Mapping[str, Any] = next(iter(matrix.values()), {})
    head = ("adapter", *(f"{domain} (n={one['n']})" for domain, one in first.items()))
    rows = [(_name(key), *(cell(row[domain]["accuracy"]) + ("*" if domain == key else "")
                           for domain in first)) for key, row in matrix.items()]  # fmt: skip
    return head, rows or [("-",)]


def against_rows(found: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows of every specialist's cell against the general adapter's."""
    head = ("specialist", "on", "accuracy", "only it : only general", "Holm", "AUROC", "95 %",
            "Holm", "says")  # fmt: skip
    rows: list[Row] = [
        (_name(key) + ("*" if domain == key else ""), domain, _signed(told["accuracy"]),
         f"{told['only_it_right']} : {told['only_general_right']}",
         chance(told["mcnemar_holm_p"]), _signed(told["auroc"]["value"]),
         bounds(told["auroc"]["low"], told["auroc"]["high"]), _adjusted(told["auroc"]),
         told["says"])
        for key, row in (found.get("matrix") or {}).items()
        for domain, one in row.items()
        if (told := one.get("against"))
    ]  # fmt: skip
    return head, rows


_PARTS = {"sizes": about_sizes, "detector": about_detector, "measured": about_times}


def adapters_view(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of a run shows."""
    return {
        "worth": worth_rows(found),
        "against": against_rows(found),
        "notes": [ABOUT_WORTH, ABOUT_TESTS],
        "about": [say(found) for part, say in _PARTS.items() if found.get(part)],
    }


def _adjusted(auroc: Mapping[str, Any]) -> str:
    if auroc.get("testable", True):  # as reports from before had it
        return chance(auroc["holm_p"])
    return f"cannot be tested, {auroc['clusters']} families"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _name(key: str) -> str:
    return GENERAL if key == FALLBACK else key
