"""Before an experiment: what it would find and when; and how often it would cry wolf."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from minicrit.feedback.entries import AUDIT_SHARE
from minicrit.feedback.experiment import Experiment
from minicrit.feedback.sequential import Bools, Floats, contrast, log_capital, msprt, reach
from minicrit.measures import plain
from minicrit.statistics import wilson

RUNS = 400  # simulated experiments for a plan
GAINS = (1.0, 2.0, 4.0)  # of `least`
ROWS = 100  # experiments at once
FIRST_LOOK = 20  # of the z-test, which means nothing with fewer
_Z = 1.959964  # two-sided 5 %


@dataclass(frozen=True)
class World:
    """What is simulated: the rate under control, the gain, and how the critics hang together."""

    rate: float
    gain: float
    discordance: float

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Floats, Floats]:
        """What control and treatment do on each unit; on `discordance` of them they differ."""
        first = rng.random(shape)
        control = first < self.rate
        lost = (self.discordance - self.gain) / 2 / self.rate
        won = (self.discordance + self.gain) / 2 / (1 - self.rate)
        flips = rng.random(shape) < np.where(control, lost, won)
        return control.astype(np.float64), (control ^ flips).astype(np.float64)


def plan(experiment: Experiment, rate: float, discordance: float, seed: int) -> dict[str, Any]:
    """Chance to find some gains, and after how many decisions.

    Args:
        experiment: its share, error, metrics and `most`.
        rate: of the metric under control; of outcomes how far they lie from least to greatest.
        discordance: share of units on which the critics differ; counts in shadow mode alone.
        seed: of the simulation.

    Returns:
        Per gain, in the metric's own units: power within `most`, median number of `decisions`
        where it is found (None if it never is), and rationales that must be asked for so many. What
        counts, for `most` as well, is what the primary metric is over: decisions of the audit, of
        valid rationales alone for `false_positives`, or outcomes, which any rationale may have.
    """
    rows = []
    share = 1.0 if experiment.primary == "outcome" else AUDIT_SHARE
    for times in GAINS:
        gain = round(times * experiment.least, 6)
        won = gain / experiment.width(experiment.primary)  # what is simulated lies on [0, 1]
        apart = max(discordance, won) if experiment.shadow else _independent(rate, won)
        world = World(rate, won, apart)
        if not _possible(world):
            continue
        ends = np.concatenate(list(_ends(experiment, world, seed)))
        found = np.isfinite(ends)
        median = float(np.median(ends[found])) if found.any() else None
        power = wilson(int(found.sum()), RUNS)
        rows.append({"gain": gain, "power": plain(power.value), "low": plain(power.low),
                     "high": plain(power.high), "decisions": median,
                     "rationales": None if median is None else round(median / share)
                     })  # fmt: skip
    if not rows:
        raise ValueError(f"ab.least: expected a gain that a rate of {rate} leaves room for, got "
                         f"{experiment.least}; lower it, or mend ab.rate")  # fmt: skip
    return {"rate": rate, "runs": RUNS, "most": experiment.most, "rows": rows}


def cry_wolf(
    experiment: Experiment, rate: float, discordance: float, runs: int, seed: int
) -> dict[str, Any]:
    """A/A experiments looked at after every unit: the share that ever refutes "no difference".

    Both arms are the same critic, with as many independent metrics as the experiment has. In shadow
    mode, where the same critic would never differ from itself, two are as good as one another and
    differ on `discordance` of the units.

    Returns:
        Rates with 95 % intervals: `betting` (this project's, any metric, at the shared error) and,
        of one metric at alpha each: `msprt`, and `z`, the z-test that peeking spoils.

    Raises:
        ValueError: if two critics of this rate cannot differ on so many units.
    """
    rng = np.random.default_rng(seed)
    apart = discordance if experiment.shadow else 0.0
    world, each = World(rate, 0.0, apart), experiment.alpha / len(experiment.metrics)
    if not _possible(world):
        raise ValueError(f"ab.discordance: expected 0 to {2 * min(rate, 1 - rate):g}, as two "
                         f"critics at a rate of {rate:g} can differ on no more, got "
                         f"{discordance:g}; lower it, or mend ab.rate")  # fmt: skip
    wrong = {"betting": 0, "msprt": 0, "z": 0}
    for start in tqdm(range(0, runs, ROWS), desc="A/A", unit="batch", disable=None):
        shape = (min(ROWS, runs - start), experiment.most)
        treated = None if experiment.shadow else rng.random(shape) < experiment.share
        alarms = np.zeros(shape[0], dtype=bool)
        for _ in experiment.metrics:
            alarms |= _alarmed(*_seen(*world.draw(rng, shape), treated, experiment.share), each)
        wrong["betting"] += int(alarms.sum())
        a, b = world.draw(rng, shape)
        if not experiment.shadow:  # each arm has units of its own
            b = world.draw(rng, shape)[0]
        wrong["msprt"] += int(np.any(msprt(a, b, 0.05**2) >= -np.log(experiment.alpha), 1).sum())
        wrong["z"] += int(_peeking(b - a).sum())
    told = {name: wilson(count, runs) for name, count in wrong.items()}
    return {"runs": runs, "units": experiment.most, "rate": rate, "alpha": experiment.alpha,
            "shadow": experiment.shadow, "share": experiment.share, "discordance": apart,
            "false_alarms": {name: {"value": plain(r.value), "low": plain(r.low),
                                    "high": plain(r.high), "n": r.n}
                             for name, r in told.items()}}  # fmt: skip


def _ends(experiment: Experiment, world: World, seed: int) -> Iterator[Floats]:
    """Of each simulated experiment after how many units its primary metric is found better."""
    rng = np.random.default_rng(seed)
    for _ in range(0, RUNS, ROWS):
        shape = (ROWS, experiment.most)
        control, treatment = world.draw(rng, shape)
        treated = None if experiment.shadow else rng.random(shape) < experiment.share
        psi, bound = _seen(control, treatment, treated, experiment.share)
        each = experiment.alpha / len(experiment.metrics)
        capital = log_capital((psi + bound) / (2 * bound), 0.5, each)
        better = np.cumsum(psi, axis=1) > 0
        crossed = (capital >= -np.log(each)) & better
        yield np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1.0, np.inf)


def _seen(
    control: Floats, treatment: Floats, treated: Bools | None, share: float
) -> tuple[Floats, float]:
    """What is seen of what both would do, and its bound; in shadow, where none is treated, all."""
    if treated is None:
        return treatment - control, 1.0
    return contrast(np.where(treated, treatment, control), treated, share), reach(share)


def _alarmed(psi: Floats, bound: float, alpha: float) -> Bools:
    capital = log_capital((psi + bound) / (2 * bound), 0.5, alpha)
    return np.asarray(capital.max(axis=1) >= -np.log(alpha))


def _peeking(gap: Floats) -> Bools:
    n = np.arange(1, gap.shape[1] + 1)
    mean = np.cumsum(gap, axis=1) / n
    variance = np.maximum(np.cumsum(gap**2, axis=1) / n - mean**2, 1e-12) / n
    return np.asarray(np.any((np.abs(mean) > _Z * np.sqrt(variance))[:, FIRST_LOOK:], axis=1))


def _independent(rate: float, gain: float) -> float:
    other = rate + gain
    return rate * (1 - other) + other * (1 - rate)


def _possible(world: World) -> bool:
    lost, won = (world.discordance - world.gain) / 2, (world.discordance + world.gain) / 2
    return 0 <= lost <= world.rate and 0 <= won <= 1 - world.rate and world.rate + world.gain <= 1
