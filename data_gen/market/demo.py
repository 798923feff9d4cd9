"""A book to try the gate on: published rules trade real prices, each entry with a rationale.

    minicrit sharpe-demo

Writes `<out>/trades.csv` (label and flaw type known) and `<out>/prices.csv` for `minicrit sharpe`.
Within every rule and side as many entries are flawed as asked for, so that neither tells the label.
"""

import logging
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_gen.market.facts import Facts, History
from data_gen.market.prices import FILE, WHEEL, Market, load_market
from data_gen.market.reasons import REASONS, compose
from data_gen.market.rules import RULES
from minicrit.config import Recipe
from minicrit.gate_config import SharpeDemoConfig
from minicrit.manifest import write_manifest
from minicrit.tabular import write_table

HEADER = ("id", "date", "exit_date", "instrument", "side", "size", "entry", "exit", "return",
          "strategy", "label", "flaw_type", "rationale")  # fmt: skip
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """An entry that can be argued for: trade number `at` of a rule, and in which way."""

    at: int
    facts: Facts
    reason: str
    flawed: bool


def make_demo(recipe: Recipe, market: Market | None = None) -> Path:
    """Write the trades and the prices; the path of the trades.

    Args:
        recipe: uses `sharpe_demo` and `seed`.
        market: prices; those of the wheel unless given.
    """
    settings = recipe.sharpe_demo
    if not 0 <= settings.flawed <= 1 or settings.count < 1:
        raise ValueError("sharpe_demo: expected count >= 1 and flawed in [0, 1], got "
                         f"{settings.count} and {settings.flawed}; mend the recipe")  # fmt: skip
    market = market or load_market()
    history = History(market, settings.cost_bp / 1e4)
    chosen = choose(history, settings, recipe.seed)
    rows = [_row(number, entry, history, settings, recipe.seed)
            for number, entry in enumerate(chosen)]  # fmt: skip
    trades = settings.out / "trades.csv"
    write_table(settings.out / "prices.csv", ("date", "instrument", "close"), _price_rows(market))
    write_table(trades, HEADER, rows)
    write_manifest(settings.out, stage="sharpe-demo", inputs={}, settings={
        "seed": recipe.seed, "count": settings.count, "flawed": settings.flawed,
        "size": settings.size, "cost_bp": settings.cost_bp,
    }, facts={
        "prices": f"{WHEEL}: {FILE}", "licence": "BSD-3-Clause (the wheel)",
        "trades": dict(Counter(e.facts.rule for e in chosen)),
        "reasons": dict(Counter(f"{e.reason} {_label(e)}" for e in chosen)),
    })  # fmt: skip
    _log.info("%s: %d trades, %d flawed", trades, len(rows), sum(e.flawed for e in chosen))
    sys.stdout.write(f"{trades}\n")
    return trades


def choose(history: History, settings: SharpeDemoConfig, seed: int) -> list[Entry]:
    """Entries in the order of their days, spread over rules, sides and reasons."""
    rng = random.Random(seed)  # noqa: S311
    strata = {(rule, side): _candidates(history, rule, side, settings.count, rng)
              for rule in RULES for side in (1, -1)}  # fmt: skip
    chosen: list[Entry] = []
    taken: set[tuple[str, int]] = set()
    quotas = {key: 0 for key in strata}
    share = settings.flawed
    while len(chosen) < settings.count:
        before = len(chosen)
        for key, (sound, flawed) in strata.items():
            wanted = round((quotas[key] + 1) * share) - round(quotas[key] * share)
            pool = flawed if wanted else sound
            if len(chosen) < settings.count and (entry := _next(pool, taken)):
                chosen.append(entry)
                quotas[key] += 1
        if len(chosen) == before:
            raise ValueError(f"sharpe_demo.count: expected at most {before} trades, got "
                             f"{settings.count}; ask for fewer")  # fmt: skip
    return sorted(chosen, key=lambda e: (e.facts.day, e.facts.rule, e.facts.name))


def _next(pool: list[Entry], taken: set[tuple[str, int]]) -> Entry | None:
    """Takes the next entry of a pool; one that can be argued for both ways is taken once."""
    while pool:
        entry = pool.pop()
        if (key := (entry.facts.rule, entry.at)) not in taken:
            taken.add(key)
            return entry
    return None


def _candidates(
    history: History, rule: str, side: int, most: int, rng: random.Random
) -> tuple[list[Entry], list[Entry]]:
    """At most `most` sound and flawed entries each, the last of which are to be taken first.

    Where there is a choice of reasons, flawed entries take the rarest so far, and sound ones that
    in which they are most behind: so that a reason does not tell the label either. Both lists are
    empty where one would be.
    """
    entries = history.published(rule)
    order = [at for at in range(len(entries.entry))
             if entries.side[at] == side and entries.exit[at] >= 0]  # fmt: skip
    rng.shuffle(order)
    used: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    found: tuple[list[Entry], list[Entry]] = ([], [])
    for flawed in (True, False):
        for at in order:
            if len(found[flawed]) == most:
                break
            facts = history.facts(rule, at)
            if facts and (ways := [r for r, fits in REASONS.items() if fits(facts, flawed)]):
                behind = {r: used[flawed][r] - (not flawed) * used[True][r] for r in ways}
                reason = min(ways, key=lambda r: (behind[r], rng.random()))
                used[flawed][reason] += 1
                found[flawed].append(Entry(at, facts, reason, flawed))
    return found if all(found) else ([], [])


def _row(
    number: int, entry: Entry, history: History, settings: SharpeDemoConfig, seed: int
) -> tuple[object, ...]:
    facts, market = entry.facts, history.market
    entries = history.published(facts.rule)
    opened, closed, name = (int(a[entry.at]) for a in (entries.entry, entries.exit, entries.name))
    text = compose(
        facts, entry.reason, flawed=entry.flawed, cost=history.cost, size=settings.size,
        rng=random.Random(f"{seed} {number}"),  # noqa: S311
    )  # fmt: skip
    closes = market.closes[:, name]
    net = facts.side * (closes[closed] / closes[opened] - 1) - history.cost
    return (
        f"{facts.rule}-{facts.name}-{facts.day}", facts.day, market.days[closed], facts.name,
        "long" if facts.side > 0 else "short", settings.size, closes[opened], closes[closed],
        round(float(net), 6), facts.rule, _label(entry), entry.reason if entry.flawed else None,
        text,
    )  # fmt: skip


def _label(entry: Entry) -> str:
    return "flawed" if entry.flawed else "valid"


def _price_rows(market: Market) -> Iterator[tuple[object, ...]]:
    for day, closes in zip(market.days, market.closes, strict=True):
        for name, close in zip(market.names, closes, strict=True):
            yield day, name, close
