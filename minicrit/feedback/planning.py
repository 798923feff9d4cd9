"""Before an experiment: how it would end and when; and how often it would cry wolf."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from tqdm import tqdm

from minicrit.feedback.experiment import RULES, Experiment
from minicrit.feedback.sequential import Bools, Floats, log_capital, msprt
from minicrit.feedback.simulated import (
    Assumed,
    Ints,
    World,
    counted_share,
    draw,
    ended,
    gains,
    seen,
    units,
)
from minicrit.measures import plain
from minicrit.statistics import Interval, wilson

RUNS = 400  # simulated experiments for a plan
GAINS = (0.0, 1.0, 2.0, 4.0)  # of `least`
ENDS = RULES[1:]  # a simulated draw is as it should be
ROWS = 100  # experiments at once
FIRST_LOOK = 20  # of the z-test, which means nothing with fewer
_CELLS = 1_000_000  # experiments times units at once, so that memory stays flat
_Z = 1.959964  # two-sided 5 %


def plan(experiment: Experiment, assumed: Assumed, seed: int) -> dict[str, Any]:
    """How experiments with some true gains end, by the rules that end the real one.

    Args:
        experiment: as it is to be.
        assumed: what nobody knows before it.
        seed: of the simulation.

    Returns:
        Per gain, in the primary metric's own units: true gains of the `others`; the share of
        simulated experiments that each rule ends, looked at after every rationale; the median
        number of `decisions` where it is a success (None if it never is), and rationales that must
        be asked for so many, if all of the audit is decided on. What counts, for `most` as well, is
        what the primary metric is over: decisions of the audit, of valid rationales alone for
        `false_positives`, or outcomes, which any rationale may have.
    """
    rows = []
    for gain in sorted({round(times * experiment.least, 6) for times in GAINS}):
        won = gain / experiment.width(experiment.primary)  # what is simulated lies on [0, 1]
        if assumed.leaves_room(won, shadow=experiment.shadow):
            rows.append({"gain": gain, **_row(experiment, assumed, won, seed)})
    if not any(row["gain"] >= experiment.least for row in rows):
        raise ValueError(f"ab.least: expected a gain that a rate of {assumed.rate} leaves room "
                         f"for, got {experiment.least}; lower it, or mend ab.rate")  # fmt: skip
    return {**asdict(assumed), "runs": RUNS, "most": experiment.most, "rows": rows}


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
    if not world.possible:
        raise ValueError(f"ab.discordance: expected 0 to {2 * min(rate, 1 - rate):g}, as two "
                         f"critics at a rate of {rate:g} can differ on no more, got "
                         f"{discordance:g}; lower it, or mend ab.rate")  # fmt: skip
    wrong = {"betting": 0, "msprt": 0, "z": 0}
    for start in tqdm(range(0, runs, ROWS), desc="A/A", unit="batch", disable=None):
        shape = (min(ROWS, runs - start), experiment.most)
        treated = None if experiment.shadow else rng.random(shape) < experiment.share
        alarms = np.zeros(shape[0], dtype=bool)
        for _ in experiment.metrics:
            alarms |= _alarmed(*seen(world.draw(rng, shape), treated, experiment.share), each)
        wrong["betting"] += int(alarms.sum())
        a, b = world.draw(rng, shape)
        if not experiment.shadow:  # each arm has units of its own
            b = world.draw(rng, shape)[0]
        wrong["msprt"] += int(np.any(msprt(a, b, 0.05**2) >= -np.log(experiment.alpha), 1).sum())
        wrong["z"] += int(_peeking(b - a).sum())
    told = {name: wilson(count, runs) for name, count in wrong.items()}
    return {"runs": runs, "units": experiment.most, "rate": rate, "alpha": experiment.alpha,
            "shadow": experiment.shadow, "share": experiment.share, "discordance": apart,
            "false_alarms": {name: _shown(rate) for name, rate in told.items()}}  # fmt: skip


def _row(experiment: Experiment, assumed: Assumed, gain: float, seed: int) -> dict[str, Any]:
    parts = list(_ends(experiment, assumed, gain, seed))
    rule, n = (np.concatenate(side) for side in zip(*parts, strict=True))
    success = n[rule == RULES.index("success")]
    median = float(np.median(success)) if len(success) else None
    asked = counted_share(experiment, assumed.valid_share)
    told = {name: _shown(wilson(int(np.sum(rule == RULES.index(name))), RUNS)) for name in ENDS}
    return {"others": _others(experiment, assumed, gain), **told, "decisions": median,
            "rationales": None if median is None else round(median / asked)}  # fmt: skip


def _ends(
    experiment: Experiment, assumed: Assumed, gain: float, seed: int
) -> Iterator[tuple[Ints, Ints]]:
    rng = np.random.default_rng(seed)
    at_once = max(1, min(ROWS, _CELLS // units(experiment, assumed.valid_share)))
    for start in tqdm(range(0, RUNS, at_once), desc="plan", unit="batch", disable=None):
        rows = min(at_once, RUNS - start)
        yield ended(experiment, draw(experiment, assumed, gain, rng, rows))


def _others(experiment: Experiment, assumed: Assumed, gain: float) -> dict[str, float | None]:
    """True gains of the other metrics, in their own units."""
    on, share = gains(experiment, assumed, gain), assumed.valid_share
    true = {"agreement": share * on["valid"] + (1 - share) * on["flawed"],
            "false_positives": on["valid"], "outcome": on["outcome"]}  # fmt: skip
    return {name: plain(true[name] * experiment.width(name)) for name in experiment.metrics
            if name != experiment.primary}  # fmt: skip


def _shown(rate: Interval) -> dict[str, Any]:
    return {"value": plain(rate.value), "low": plain(rate.low), "high": plain(rate.high),
            "n": rate.n}  # fmt: skip


def _alarmed(psi: Floats, bound: float, alpha: float) -> Bools:
    capital = log_capital((psi + bound) / (2 * bound), 0.5, alpha)
    return np.asarray(capital.max(axis=1) >= -np.log(alpha))


def _peeking(gap: Floats) -> Bools:
    n = np.arange(1, gap.shape[1] + 1)
    mean = np.cumsum(gap, axis=1) / n
    variance = np.maximum(np.cumsum(gap**2, axis=1) / n - mean**2, 1e-12) / n
    return np.asarray(np.any((np.abs(mean) > _Z * np.sqrt(variance))[:, FIRST_LOOK:], axis=1))
