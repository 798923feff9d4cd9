"""The mechanisms: one function a way of reasoning, each giving a sound and a broken form.

`MECHANISMS` maps a name to the function and the slots it needs, so that a family that lacks a
slot is simply not asked for that mechanism.
"""

from collections.abc import Callable
from dataclasses import dataclass

from data_gen.case import Draw, Hinge
from data_gen.mechanisms import (
    causal,
    decision,
    figures,
    groups,
    logic,
    probability,
    sampling,
    transfer,
)
from data_gen.scene import Scene


@dataclass(frozen=True)
class Mechanism:
    """A builder of hinges and the scene slots it reads."""

    build: Callable[[Draw], Hinge]
    needs: tuple[str, ...]


MECHANISMS: dict[str, Mechanism] = {
    "small_sample": Mechanism(sampling.small_sample, ("units",)),
    "survivorship": Mechanism(sampling.survivorship, ("rosters",)),
    "cherry_picking": Mechanism(sampling.cherry_picking, ("series",)),
    "selection_bias": Mechanism(groups.selection_bias, ("assignments", "metric")),
    "regression_to_mean": Mechanism(groups.regression_to_mean, ("extremes", "metric")),
    "difference_in_differences": Mechanism(causal.difference_in_differences, ("groups", "metric")),
    "reverse_causation": Mechanism(causal.reverse_causation, ("sequences",)),
    "missing_alternative": Mechanism(causal.missing_alternative, ("confounders", "metric")),
    "base_rate": Mechanism(probability.base_rate, ("alarms",)),
    "calibration": Mechanism(probability.calibration, ("trackers",)),
    "denominators": Mechanism(figures.denominators, ("exposures",)),
    "overfitting": Mechanism(probability.overfitting, ("rules",)),
    "extrapolation": Mechanism(transfer.extrapolation, ("conditions",)),
    "stale_evidence": Mechanism(transfer.stale_evidence, ("changes",)),
    "irrelevant_evidence": Mechanism(transfer.irrelevant_evidence, ("relevance",)),
    "appeal_to_authority": Mechanism(transfer.appeal_to_authority, ("experts",)),
    "product": Mechanism(figures.product, ("batches",)),
    "anchoring": Mechanism(figures.anchoring, ("estimates",)),
    "contradiction": Mechanism(logic.contradiction, ("entailments",)),
    "false_dichotomy": Mechanism(logic.false_dichotomy, ("options",)),
    "circular_reasoning": Mechanism(logic.circular_reasoning, ("checks",)),
    "fixed_criterion": Mechanism(decision.fixed_criterion, ("criteria",)),
    "sunk_cost": Mechanism(decision.sunk_cost, ("projects",)),
    "warning_sign": Mechanism(decision.warning_sign, ("signs",)),
}


def mechanisms_for(scene: Scene) -> list[str]:
    """Names of the mechanisms whose slots this family has, in a fixed order."""
    return [n for n, m in MECHANISMS.items() if all(slot in scene.slots for slot in m.needs)]
