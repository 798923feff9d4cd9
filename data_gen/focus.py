"""Where a critic errs, read from a report of its benchmark: what to make more examples of."""

import json
from pathlib import Path
from typing import Any

from data_gen.mechanisms import MECHANISMS

#: Share of a mechanism that was never judged wrongly, beside 1 of one that is wrong every time.
LEAST = 0.15
#: Right and wrong answers added to every mechanism, so that few items say little (Laplace).
PRIOR = 1


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
