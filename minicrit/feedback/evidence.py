"""What an experiment may learn from: one bounded number a draw, in order of arrival.

A draw is that of a group (`entries.group_of`): rationales that differ in case or forms of letters
get one arm, and mostly one answer and one decision. Counted each, two such writings of every
rationale let 17 % of A/A experiments claim a difference at 5 %, and four of them 52 %.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from minicrit.feedback.sequential import Bools, Floats, contrast, reach
from minicrit.measures import plain

if TYPE_CHECKING:
    from minicrit.feedback.experiment import Experiment
    from minicrit.feedback.store import FeedbackStore

#: Of each, more is better: agreement with operators, valid rationales let through, outcomes.
METRICS = ("agreement", "false_positives", "outcome")


@dataclass(frozen=True)
class Evidence:
    """One metric, in its own units: outcomes as they were reported, all else on [0, 1].

    Attributes:
        psi: (n,) numbers within +-`bound` whose conditional mean is treatment minus control.
        bound: of `psi`.
        values: (n, 2) what control and treatment did, nan where one did not answer.
        treated: (n,) whether the treatment answered.
        beyond: how many outcomes counted as the limit that they lie beyond.
    """

    psi: Floats
    bound: float
    values: Floats
    treated: Bools
    beyond: int = 0

    def arms(self) -> dict[str, dict[str, Any]]:
        """Count and mean of each arm."""
        told = {}
        for name, column in zip(("control", "treatment"), self.values.T, strict=True):
            known = column[~np.isnan(column)]
            told[name] = {"n": len(known), "mean": plain(known.mean()) if len(known) else None}
        return told


def gathered(experiment: "Experiment", store: "FeedbackStore") -> dict[str, Evidence]:
    """The evidence of every metric, and `drawn`: of all rationales decided on, for the arms alone.

    Args:
        experiment: whose.
        store: where.
    """
    rows = [row for row in store.judged()
            if row["experiment"] == experiment.name and row["audit"]]  # fmt: skip
    firsts = list(_first(rows))
    valid = [row for row in firsts if row["label"] == "valid"]
    look = {"agreement": _agrees, "false_positives": _passes}
    found = {name: _evidence(experiment, valid if name == "false_positives" else firsts, see)
             for name, see in look.items()}  # fmt: skip
    rewards = [row for row in store.rewarded() if row["experiment"] == experiment.name]
    found["outcome"] = _outcomes(experiment, list(_first(rewards)))
    found["drawn"] = found["agreement"]
    return found


def _first(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The first row of each group: once it has counted it does not change any more."""
    seen: set[str] = set()
    for row in rows:
        if row["group"] not in seen:
            seen.add(row["group"])
            yield row


def _agrees(said: str, label: str) -> float:
    return float(said == label)


def _passes(said: str, _: str) -> float:
    return float(said == "valid")


def _evidence(experiment: "Experiment", rows: list[Mapping[str, Any]], see: Any) -> Evidence:
    if experiment.shadow:
        both = [row for row in rows if row["shadowed"] is not None]
        values = np.array([[see(row[key], row["label"]) for key in ("answered", "shadowed")]
                           for row in both], dtype=np.float64).reshape(-1, 2)  # fmt: skip
        psi = values[:, 1] - values[:, 0]
        return Evidence(psi, 1.0, values, np.zeros(len(psi), dtype=bool))
    x = np.array([see(row["answered"], row["label"]) for row in rows], dtype=np.float64)
    return _two_arms(experiment, x, rows)


def _outcomes(experiment: "Experiment", rows: list[Mapping[str, Any]]) -> Evidence:
    """An outcome beyond the limits counts as the limit, as bounds need bounds."""
    low, high = experiment.outcome_low, experiment.outcome_high
    x = np.array([row["value"] for row in rows], dtype=np.float64)
    found = _two_arms(experiment, np.clip(x, low, high), rows, low, high)
    return replace(found, beyond=int(np.sum((x < low) | (x > high))))


def _two_arms(
    experiment: "Experiment",
    x: Floats,
    rows: list[Mapping[str, Any]],
    low: float = 0.0,
    high: float = 1.0,
) -> Evidence:
    treated = np.array([row["arm"] == "treatment" for row in rows], dtype=bool)
    values = np.column_stack([np.where(treated, np.nan, x), np.where(treated, x, np.nan)])
    psi = contrast((x - low) / (high - low), treated, experiment.share)
    return Evidence((high - low) * psi, (high - low) * reach(experiment.share),
                    values.reshape(-1, 2), treated)  # fmt: skip
