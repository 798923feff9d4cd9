"""Where a critic errs: what to make more examples of.

Read from a report of its benchmark, or from a list of its errors, as the stage `errors` writes it:
`{"split": "validation", "items": [{"domain": ..., "flaw_type": ..., "mechanism": ...}, ...]}`, one
item an error, each with what is known of it; `judged` may say of how many items of each mechanism.
A sound text that was flagged has no flaw; what its
flawed twin has may stand as `twin_flaw_type`. What is tested on must not steer training, so reports
on other splits are refused.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from data_gen.mechanisms import MECHANISMS
from minicrit.taxonomy import DOMAINS, FLAW_TYPES

#: Share of what was never judged wrongly, beside 1 of what is wrong every time.
LEAST = 0.15
#: Right and wrong answers added to every slice, so that few items say little (Laplace).
PRIOR = 1
_SPLITS = ("validation", "calibration")
_ORDERED = [name for name in FLAW_TYPES if name != "other"]  # `other` cannot be written to order


@dataclass(frozen=True)
class Focus:
    """How often things should come, beside one another.

    Attributes:
        mechanisms: of the composer, by name. cells: (domain, flaw type), for language models.
    """

    mechanisms: Mapping[str, float] = field(default_factory=dict)
    cells: Mapping[tuple[str, str], float] = field(default_factory=dict)


def read_focus(path: Path) -> Focus:
    """The focus that a report of a benchmark, or a list of errors, asks for.

    From a benchmark (its `model_1`) the share of a mechanism, domain or flaw type is twice its
    error rate, from `LEAST` to 1: what is at chance gets the most, a mechanism that was not judged
    as much as the mean of the others; a cell has the product of both.
    From a list of errors it is the same for a mechanism of which `judged` says how many items there
    were, and else how often each occurs beside the most frequent one; for a cell, how often.

    Raises:
        ValueError: if it is neither, or was measured on test items.
    """
    report = _read(path)
    errors = _lists_errors(report)
    split = report.get("split") if errors else report["settings"]["split"]
    if split not in _SPLITS:
        raise ValueError(f"{path}: expected a report on validation or calibration items, got "
                         f"split {split}; what is tested on must not steer training")  # fmt: skip
    try:
        found = (_from_errors(report["items"], report.get("judged") or {}) if errors
                 else _from_slices(_slices(report)))  # fmt: skip
    except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _something_else(path) from error
    if not found.mechanisms and not found.cells:
        raise ValueError(f"{path}: expected figures by mechanism, or by domain and flaw type, got "
                         "none; give the report of a benchmark or a list of errors")  # fmt: skip
    return found


def shares_of(chosen: Sequence[str] | None, focus: Path | None) -> dict[str, float] | None:
    """How often each mechanism should come; None for all alike.

    Args:
        chosen: names of mechanisms; the others do not come. None for all.
        focus: see `mechanism_shares`.

    Raises:
        ValueError: if there is no such mechanism, or the report will not do.
    """
    if chosen is None and focus is None:
        return None
    for name in chosen or ():
        if name not in MECHANISMS:
            near = get_close_matches(name, MECHANISMS, n=1, cutoff=0.0)[0]
            raise ValueError(f"data.mechanisms: expected names of {', '.join(MECHANISMS)}, got "
                             f"{name}; did you mean {near}?")  # fmt: skip
    if chosen == []:
        raise ValueError("data.mechanisms: expected at least one name, got none; null means all")
    weights = mechanism_shares(focus) if focus else {}
    return {name: weights.get(name, 1.0) if chosen is None or name in chosen else 0.0
            for name in MECHANISMS}  # fmt: skip


def mechanism_shares(path: Path) -> dict[str, float]:
    """How often each mechanism should come; see `read_focus`.

    Raises:
        ValueError: as there, and if the report says nothing of mechanisms.
    """
    shares = dict(read_focus(path).mechanisms)
    if not shares:
        raise ValueError(f"{path}: expected figures by mechanism, got none; judge composed items")
    return shares


def cell_weights(path: Path) -> dict[tuple[str, str], float]:
    """How often each (domain, flaw type) should come; see `read_focus`.

    Raises:
        ValueError: as there, and if the report says nothing of domains and flaw types.
    """
    cells = dict(read_focus(path).cells)
    if not cells:
        raise ValueError(f"{path}: expected errors with domain and flaw_type, got none; judge "
                         "flawed items, too")  # fmt: skip
    return cells


def _from_slices(slices: Mapping[str, Any]) -> Focus:
    def shares(axis: str, known: Sequence[str]) -> dict[str, float]:
        rates = {name: _error_rate(row) for name, row in slices.get(axis, {}).items()}
        return {name: _share(rates[name]) for name in known if name in rates}

    domains, flaws = shares("domain", DOMAINS), shares("flaw_type", _ORDERED)
    cells = {(d, f): domains[d] * flaws[f] for d in domains for f in flaws}
    return Focus(_filled(shares("mechanism", list(MECHANISMS))), cells)


def _filled(shares: Mapping[str, float]) -> dict[str, float]:
    """With the mean share for mechanisms that were not judged; none if none was."""
    if not shares:
        return {}
    mean = sum(shares.values()) / len(shares)
    return {name: shares.get(name, mean) for name in MECHANISMS}


def _from_errors(items: Sequence[Mapping[str, Any]], judged: Mapping[str, int]) -> Focus:
    wrong = Counter(i["mechanism"] for i in items if i.get("mechanism") in MECHANISMS)
    named = ((i.get("domain"), i.get("flaw_type") or i.get("twin_flaw_type")) for i in items)
    cells = Counter((d, f) for d, f in named if d in DOMAINS and f in _ORDERED)
    most = max(wrong.values(), default=1)
    if judged:
        rates = {name: _shrunk(wrong[name], judged[name]) for name in MECHANISMS if name in judged}
        shares = {name: _share(rate) for name, rate in rates.items()}
    else:
        shares = {name: max(LEAST, wrong[name] / most) for name in MECHANISMS}
    return Focus(_filled(shares) if wrong else {}, {cell: float(n) for cell, n in cells.items()})


def _share(rate: float) -> float:
    return min(1.0, max(LEAST, 2 * rate))


def _error_rate(row: Mapping[str, Any]) -> float:
    return _shrunk(row["n"] - row["accuracy"]["value"] * row["n"], row["n"])


def _shrunk(wrong: float, n: int) -> float:
    return float((wrong + PRIOR) / (n + 2 * PRIOR))


def _lists_errors(report: Any) -> bool:
    """Whether it is a list of errors; a benchmark has `items`, too, but counts them."""
    return isinstance(report, dict) and isinstance(report.get("items"), list)


def _slices(report: Mapping[str, Any]) -> Mapping[str, Any]:
    slices: Mapping[str, Any] = report["judges"]["model_1"]["slices"]
    return slices


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"focus: expected a report of the benchmark, got no file {path}; "
                         "run the benchmark with benchmark.split validation")  # fmt: skip
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if _lists_errors(report):
            whole = all(isinstance(item, dict) for item in report["items"]) and all(
                isinstance(n, int) for n in (report.get("judged") or {}).values()
            )
        else:
            whole = bool(report["settings"]["split"]) and isinstance(_slices(report), dict)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise _something_else(path)
    return dict(report)


def _something_else(path: Path) -> ValueError:
    return ValueError(f"{path}: expected the JSON report of a benchmark, got something else; "
                      "give the file that ends in .json")  # fmt: skip
