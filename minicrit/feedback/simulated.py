"""Experiments that never were: drawn as real ones arrive, ended by the same rules.

Rationales come one after another, and a share of them is valid. What is decided on is the audit; on
its valid rationales to be right is to let them through, so there `agreement` and `false_positives`
are one number, and on the others only `agreement` counts. Any rationale has an outcome, at one of
its limits, which is as spread as outcomes can be.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from minicrit.feedback.entries import AUDIT_SHARE
from minicrit.feedback.experiment import RULES, Experiment
from minicrit.feedback.sequential import (
    MEANS,
    Bools,
    Floats,
    confidence_sequence,
    contrast,
    in_units,
    reach,
)

Ints = npt.NDArray[np.int_]
Pair = tuple[Floats, Floats]  # what control and treatment do on each unit, on [0, 1]

_SLACK = 1e-9  # of sums of shares


@dataclass(frozen=True)
class World:
    """What is simulated: the rate under control, the gain, and how the critics hang together."""

    rate: float
    gain: float
    discordance: float

    @property
    def possible(self) -> bool:
        """Whether two critics can be so: none is right on more than all or less than none."""
        lost, won = (self.discordance - self.gain) / 2, (self.discordance + self.gain) / 2
        return (-_SLACK <= lost <= self.rate + _SLACK
                and -_SLACK <= won <= 1 - self.rate + _SLACK)  # fmt: skip

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Pair:
        """What control and treatment do on each unit; on `discordance` of them they differ."""
        first = rng.random(shape)
        control = first < self.rate
        lost = (self.discordance - self.gain) / 2 / self.rate
        won = (self.discordance + self.gain) / 2 / (1 - self.rate)
        flips = rng.random(shape) < np.where(control, lost, won)
        return control.astype(np.float64), (control ^ flips).astype(np.float64)


@dataclass(frozen=True)
class Assumed:
    """What nobody knows before an experiment.

    Attributes:
        rate: of each metric under control, on [0, 1].
        discordance: share of units on which two critics differ; counts in shadow mode alone.
        valid_share: of the rationales that are decided on.
    """

    rate: float
    discordance: float
    valid_share: float

    def world(self, gain: float, *, shadow: bool) -> World:
        """That of one kind of unit, in which they differ as nearly as assumed as the gain lets."""
        if not shadow:
            other = min(self.rate + gain, 1.0)
            return World(self.rate, gain, self.rate * (1 - other) + other * (1 - self.rate))
        room = min(2 * (1 - self.rate) - gain, 2 * self.rate + gain)
        return World(self.rate, gain, min(max(self.discordance, abs(gain)), room))

    def leaves_room(self, gain: float, *, shadow: bool) -> bool:
        """Whether a gain in a metric can be, with as much discordance as assumed."""
        if not shadow:
            return self.rate + gain <= 1 + _SLACK
        return World(self.rate, gain, max(self.discordance, gain)).possible


@dataclass(frozen=True)
class Arrived:
    """Some simulated experiments, (experiments, rationales) each.

    Attributes:
        treated: which arm answers; None in shadow mode, where both do.
        does: by metric what both critics do.
        counts: by metric which rationales it is over.
    """

    treated: Bools | None
    does: Mapping[str, Pair]
    counts: Mapping[str, Bools]


def gains(experiment: Experiment, assumed: Assumed, gain: float) -> dict[str, float]:
    """True gains on `valid` and on `flawed` rationales and in `outcome`, on [0, 1].

    Where agreement and false positives are both metrics, one of them gains and the other one does
    not as far as there is room: what flawed rationales cannot gain or lose falls to the valid ones,
    or is left.
    """
    share = assumed.valid_share
    if experiment.primary == "outcome":
        return {"valid": 0.0, "flawed": 0.0, "outcome": gain}
    if not {"agreement", "false_positives"} <= set(experiment.metrics) or share == 1:
        return {"valid": gain, "flawed": gain, "outcome": 0.0}
    wanted = gain if experiment.primary == "agreement" else -share * gain
    flawed = min(max(wanted / (1 - share), -assumed.rate), 1 - assumed.rate)
    valid = gain if experiment.primary == "false_positives" else max(
        0.0, (gain - (1 - share) * flawed) / share)  # fmt: skip
    return {"valid": valid, "flawed": flawed, "outcome": 0.0}


def counted_share(experiment: Experiment, valid_share: float) -> float:
    """Share of all rationales that the primary metric is over, if the whole audit is decided on."""
    audited = {"agreement": AUDIT_SHARE, "false_positives": AUDIT_SHARE * valid_share}
    return audited.get(experiment.primary, 1.0)


def units(experiment: Experiment, valid_share: float) -> int:
    """Rationales to simulate, so that the primary metric gets its `most` numbers of them.

    Without outcomes what lies outside the audit counts for nothing and is not simulated. Six
    standard deviations, and some for few, are added where chance decides what counts.
    """
    share = counted_share(experiment, valid_share)
    if "outcome" not in experiment.metrics:
        share /= AUDIT_SHARE
    most = experiment.most
    return most if share == 1 else ceil((most + 6 * sqrt(most * (1 - share)) + 20) / share)


def draw(
    experiment: Experiment, assumed: Assumed, gain: float, rng: np.random.Generator, rows: int
) -> Arrived:
    """Some experiments with one true gain of the primary metric, on [0, 1]."""
    shape = (rows, units(experiment, assumed.valid_share))
    worlds = {name: assumed.world(one, shadow=experiment.shadow)
              for name, one in gains(experiment, assumed, gain).items()}  # fmt: skip
    treated = None if experiment.shadow else rng.random(shape) < experiment.share
    audit, valid = np.ones(shape, dtype=bool), rng.random(shape) < assumed.valid_share
    kinds = [worlds[name].draw(rng, shape) for name in ("valid", "flawed")]
    right = (np.where(valid, kinds[0][0], kinds[1][0]), np.where(valid, kinds[0][1], kinds[1][1]))
    does = {"agreement": right, "false_positives": right}
    if "outcome" in experiment.metrics:
        audit = rng.random(shape) < AUDIT_SHARE
        does["outcome"] = worlds["outcome"].draw(rng, shape)
    counts = {"agreement": audit, "false_positives": audit & valid, "outcome": np.ones_like(audit)}
    return Arrived(treated, does, counts)


def ended(experiment: Experiment, arrived: Arrived) -> tuple[Ints, Ints]:
    """How each one ends that is looked at after every rationale.

    Returns:
        Place of the rule in `RULES`, and how many numbers the primary metric had. That the arms are
        not as drawn is not looked for: here they are.
    """
    bounds = {name: _bounds(experiment, name, arrived) for name in experiment.metrics}
    rules = experiment.rules(bounds)
    first = np.argmax(rules >= 0, axis=1)[:, None]
    rule = np.take_along_axis(rules, first, 1)[:, 0]
    n = np.take_along_axis(bounds[experiment.primary]["n"], first, 1)[:, 0]
    return np.where(rule < 0, RULES.index("maximum"), rule), n


def seen(does: Pair, treated: Bools | None, share: float) -> tuple[Floats, float]:
    """What is seen of what both would do, and its bound; in shadow, where none is treated, all."""
    control, treatment = does
    if treated is None:
        return treatment - control, 1.0
    return contrast(np.where(treated, treatment, control), treated, share), reach(share)


def _bounds(experiment: Experiment, name: str, arrived: Arrived) -> dict[str, Any]:
    """What `Experiment.state` would say of a metric after each rationale."""
    counts = arrived.counts[name]
    n: Ints = np.cumsum(counts, axis=1, dtype=np.int_)
    # What counts comes first; what follows it changes nothing before it and is not looked at.
    order = np.argsort(~counts, axis=1, kind="stable")[:, : max(1, int(n[:, -1].max()))]
    first, second = (np.take_along_axis(does, order, 1) for does in arrived.does[name])
    treated = None if arrived.treated is None else np.take_along_axis(arrived.treated, order, 1)
    psi, bound = seen((first, second), treated, experiment.share)
    width = experiment.width(name)
    found = confidence_sequence(width * psi, width * bound, experiment.alpha
                                / len(experiment.metrics),
                                _telling(experiment, name, width * bound))  # fmt: skip
    told: dict[str, Any] = {"n": n}
    for side, whole, nothing in (("low", found.low, -width), ("high", found.high, width)):
        after = np.pad(experiment.told(name, whole), ((0, 0), (1, 0)), constant_values=nothing)
        told[side] = np.take_along_axis(after, n, 1)
    return told


def _telling(experiment: Experiment, name: str, bound: float) -> Floats:
    """The means next to what the rules ask: a bound beyond none of them changes no rule."""
    grid, places = experiment.told(name, in_units(MEANS, bound)), set[int]()
    for asked in experiment.asked(name):
        places |= {*np.flatnonzero(grid > asked)[:1], *np.flatnonzero(grid < asked)[-1:]}
    return np.asarray(MEANS[sorted(places - {0, len(MEANS) - 1})])
