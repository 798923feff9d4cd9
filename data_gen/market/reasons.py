"""Why an entry was made, in words: composed from true figures, sound or resting on a bad reason.

An entry is sound where the record of rule, name and side speaks for it (mean at least 1.5 standard
errors above zero after costs) and the text rests on that. It is flawed where the record does not
(mean below zero), so that the entry was made for the bad reason alone: a lucky run, the best
years, costs passed over, another sort of market, money already lost, the best of many settings, a
certainty that nothing bears out, evidence waved away. Both quote the same kinds of figures.
"""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from data_gen.market.facts import BEST_YEARS, Facts, Sample
from data_gen.market.rules import RULES

LEAST = 12  # trades of a record
SURE_ERRORS = 1.5
_RUN = (3, 6)  # wins in a row that people fall for
_LOSSES = 2
_HIGH_RATE = 0.7  # of wins; above it 90 % is not far off
_ROUNDS = 1e-4  # figures are shown to a hundredth of a percent
_BELOW = 5e-4  # a mean nearer to zero than this speaks neither way
_WORDING = Path(__file__).with_name("wording.yaml")
_HEDGED = ("overconfidence",)  # a hedge would contradict the certainty
_TRIMMED = {"logical_contradiction": "cost", "extrapolation": "market"}  # says so already


def _speaks_for(sample: Sample) -> bool:
    return sample.n >= LEAST and sample.mean >= SURE_ERRORS * sample.error


def _against(sample: Sample) -> bool:
    return sample.n >= LEAST and sample.mean <= -_BELOW


def _stands(facts: Facts, flawed: bool) -> bool:
    return _against(facts.record) if flawed else _speaks_for(facts.record)


def _run(facts: Facts, flawed: bool) -> bool:
    return _stands(facts, flawed) and _RUN[0] <= facts.streak <= _RUN[1]


def _best_years(facts: Facts, flawed: bool) -> bool:
    few = len(facts.best_years) == BEST_YEARS and 2 * facts.best.n < facts.record.n
    return _stands(facts, flawed) and few and facts.best.mean > 2 * _ROUNDS


def _costs(facts: Facts, flawed: bool) -> bool:
    return _stands(facts, flawed) and facts.gross > _ROUNDS


def _market(facts: Facts, flawed: bool) -> bool:
    same, other = facts.same_market, facts.other_market
    if min(same.n, other.n) < LEAST:
        return False
    if flawed:
        return _speaks_for(other) and _against(same)
    return _speaks_for(same) and _speaks_for(facts.record)


def _losses(facts: Facts, flawed: bool) -> bool:
    return _stands(facts, flawed) and facts.streak <= -_LOSSES


def _settings(facts: Facts, flawed: bool) -> bool:
    best = max(mean for _, mean in facts.settings)
    better = best > facts.record.mean + 2 * _ROUNDS and best > 2 * _ROUNDS
    return _stands(facts, flawed) and len(facts.settings) > 2 and better  # noqa: PLR2004


def _certain(facts: Facts, flawed: bool) -> bool:
    return _stands(facts, flawed) and facts.record.wins <= _HIGH_RATE * facts.record.n


def _waved_away(facts: Facts, flawed: bool) -> bool:
    record = facts.record
    if flawed:
        return record.n >= LEAST and record.mean <= -SURE_ERRORS * record.error
    return _speaks_for(record)


#: Flaw type -> whether an entry can be flawed (or soundly argued) in that way.
REASONS: dict[str, Callable[[Facts, bool], bool]] = {
    "small_sample": _run,
    "cherry_picking": _best_years,
    "logical_contradiction": _costs,
    "extrapolation": _market,
    "sunk_cost": _losses,
    "overfitting": _settings,
    "overconfidence": _certain,
    "dismissed_evidence": _waved_away,
}


def compose(
    facts: Facts, reason: str, *, flawed: bool, cost: float, size: float, rng: random.Random
) -> str:
    """The rationale of an entry.

    Args:
        facts: of the entry.
        reason: flaw type that the text has, or avoids.
        flawed: which of the two.
        cost: of a round trip, as a share of the position.
        size: of the position, as a share of the capital.
        rng: chooses among wordings; the label does not reach it.
    """
    words = _wording()
    said = words["reasons"][reason]
    evidence = [rng.choice(words["records"]), rng.choice(said["bait"])]
    rng.shuffle(evidence)
    kinds = [k for k in words["trims"] if k != _TRIMMED.get(reason)]
    if reason in _HEDGED:
        kinds.remove("hedge")
    trims = [rng.choice(words["trims"][kind]) for kind in rng.sample(kinds, 2)]
    body = [rng.choice(words["signals"][facts.rule]), trims[0], *evidence]
    place = rng.randrange(2)
    verdict = [rng.choice(said["flawed" if flawed else "valid"]), rng.choice(words["takes"])]
    end = [trims[1], *verdict] if place else [*verdict, trims[1]]
    text = " ".join(part for part in [rng.choice(words["openings"]), *body, *end] if part)
    return text.format(**_values(facts, cost, size, rng))


def _values(facts: Facts, cost: float, size: float, rng: random.Random) -> dict[str, Any]:
    record, rule = facts.record, RULES[facts.rule]
    setting, best_setting = max(facts.settings, key=lambda one: one[1])
    years = [str(year) for year in facts.best_years]
    return {
        "name": facts.name, "rule": rule.title, "date": f"{facts.day:%d %B %Y}".lstrip("0"),
        "side": "long" if facts.side > 0 else "short",
        "across": "above" if facts.side > 0 else "below",
        "signal": _signal(facts), "since": facts.since, "n": record.n, "wins": record.wins,
        "mean": _percent(record.mean), "error": _percent(record.error),
        "errors": f"{abs(record.mean / record.error):.1f}", "rate": f"{record.wins / record.n:.0%}",
        "streak": facts.streak, "losses": -facts.streak, "loss": _percent(abs(facts.streak_sum)),
        "years": ", ".join(years[:-1]) + " and " + years[-1] if years else "",
        "best": _percent(facts.best.mean), "best_n": facts.best.n,
        "gross": _percent(facts.gross), "cost": _percent(cost), "size": f"{size:.0%}",
        "volatility": f"{facts.volatility:.0%}",
        "same": _market_name(facts.rough), "other": _market_name(not facts.rough),
        "same_n": facts.same_market.n, "same_mean": _percent(facts.same_market.mean),
        "other_n": facts.other_market.n, "other_mean": _percent(facts.other_market.mean),
        "tried": len(facts.settings), "told": rule.told.format(x=setting),
        "best_setting": _percent(best_setting), "sure": rng.choice(("90%", "95%")),
    }  # fmt: skip


def _signal(facts: Facts) -> str:
    return f"{facts.signal:.0f}" if facts.rule == "reversal" else f"{facts.signal:.0%}"


def _market_name(rough: bool) -> str:
    return "rough" if rough else "calm"


def _percent(share: float) -> str:
    """Two decimals; never `-0.00%`."""
    return f"{100 * share:.2f}%".replace("-0.00%", "0.00%")


@cache
def _wording() -> dict[str, Any]:
    return dict(yaml.safe_load(_WORDING.read_text(encoding="utf-8")))
