"""What a benchmark of n items may have missed by chance: the least p of a claim of no harm.

A resample draws from the items that there are, so a fault that none of them shows is in no draw.
How large a share of all flawed (or valid) items must be judged worse for a metric to lose so much,
and how likely is it that none of them was drawn?
"""

import math
from dataclasses import dataclass

import numpy as np

from minicrit import scores
from minicrit.measures import FALSE_ALARM, Floats, Truth
from minicrit.paired import Unseen, none_of


@dataclass(frozen=True)
class Side:
    """A judge in a comparison: its name in the report, p (n,) with nan where unscored."""

    name: str
    p: Floats
    threshold: float


def unseen(metric: str, side: Side, truth: Truth) -> Unseen:
    """Of a judge as it was seen: loss of the metric -> probability that its cause was not drawn.

    Groups are the independent units. Faults are misses or false alarms, whichever hides better; a
    change of one item in n changes a mean over n by 1 / n at most, F1 by more where few items are
    flawed, and the cost by what such a miss costs.
    """
    groups = {label: len(set(truth.groups[truth.flawed == label])) for label in (True, False)}

    def hidden(loss: float) -> float:
        shares = _shares(metric, side, truth, loss)
        return max(none_of(share, groups[label]) for label, share in shares.items())

    return hidden


def _shares(metric: str, side: Side, truth: Truth, loss: float) -> dict[bool, float]:
    """Least share of the flawed (True) or valid (False) items at fault that loses so much."""
    flawed, valid = int(truth.flawed.sum()), int((~truth.flawed).sum())
    match metric:
        case "fpr":
            return {False: loss}
        case "recall":
            return {True: loss}
        case "f1":
            return _of_f1(side, truth, loss)
        case "cost":
            worst = float(np.max(truth.costs, where=truth.flawed, initial=FALSE_ALARM))
            return {True: loss * len(truth.flawed) / max(flawed, 1) / worst,
                    False: loss * len(truth.flawed) / max(valid, 1) / FALSE_ALARM}  # fmt: skip
        case "aurc":  # the surest item weighs 1 + 1/2 + ... + 1/n times the mean
            loss /= 1 + math.log(len(truth.flawed))
    return dict.fromkeys((True, False), loss)


def _of_f1(side: Side, truth: Truth, loss: float) -> dict[bool, float]:
    """F1 = 2 TP / (TP + FP + flawed): what takes it down by `loss`, d misses or d false alarms.

    2 (TP - d) / (S - d) = F1 - loss gives d = loss S / (2 - F1 + loss), and
    2 TP / (S + d) = F1 - loss gives d = loss S / (F1 - loss), where S = TP + FP + flawed. An F1 of
    0 has nothing to lose, but falls as far behind a judge whose findings were not drawn: d of them
    have an F1 of 2 d / (S + d) = loss.
    """
    counts = scores.confusion(side.p, truth.flawed, side.threshold)
    flawed, valid = counts.tp + counts.fn, counts.fp + counts.tn
    total = counts.tp + counts.fp + flawed
    f1 = scores.f1(side.p, truth.flawed, side.threshold)
    left = f1 - loss
    if left <= 0 and (counts.tp or not flawed):
        return {True: 1.0}  # no alarms would do; to lose all of F1 every finding must be missed
    if left <= 0:
        return {True: loss * total / (2 - loss) / flawed}
    missed = {True: loss * total / (2 - left) / flawed}
    return {**missed, False: loss * total / left / valid} if valid else missed
