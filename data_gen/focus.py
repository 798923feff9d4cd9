"""What the composer makes more of, and less: by choice, or where a critic errs."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from data_gen.mechanisms import MECHANISMS

#: Share of a mechanism that was never judged wrongly, beside 1 of one that is wrong every time.
LEAST = 0.15
#: Right and wrong answers added to every mechanism, so that few items say little (Laplace).
PRIOR = 1


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
    """How often each mechanism should come, from `model_1` of a benchmark report.

    The share is twice the error rate, from `LEAST` to 1: a mechanism at chance gets the most.

    Raises:
        ValueError: if it is no such report, or was measured on test items, which must not steer
            training.
    """
    report = _read(path)
    split = report["settings"]["split"]
    if split not in ("validation", "calibration"):
        raise ValueError(f"{path}: expected a report on validation or calibration items, got "
                         f"split {split}; what is tested on must not steer training")  # fmt: skip
    found = report["judges"]["model_1"]["slices"].get("mechanism", {})
    rates = {name: _error_rate(found[name]) for name in MECHANISMS if name in found}
    if not rates:
        raise ValueError(f"{path}: expected figures by mechanism, got none; judge composed items")
    return {name: min(1.0, max(LEAST, 2 * rate)) for name, rate in rates.items()}


def _error_rate(row: dict[str, Any]) -> float:
    right = row["accuracy"]["value"] * row["n"]
    return float((row["n"] - right + PRIOR) / (row["n"] + 2 * PRIOR))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"data.focus: expected a report of the benchmark, got no file {path}; "
                         "run the benchmark with benchmark.split validation")  # fmt: skip
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        _ = report["settings"]["split"], report["judges"]["model_1"]["slices"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: expected the JSON report of a benchmark, got something else; "
                         "give the file that ends in .json") from None  # fmt: skip
    return dict(report)
