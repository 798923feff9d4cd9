"""The book on prices: rules by hand, no look-ahead, facts recomputed, labels that fit."""

import csv
import gzip
import random
import re
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from data_gen.market import demo, prices, rules
from data_gen.market.facts import Facts, History, Sample
from data_gen.market.prices import Market, load_market
from data_gen.market.reasons import REASONS, compose
from minicrit.book import build_book
from minicrit.cli import main
from minicrit.config import Recipe
from minicrit.files import sha256_file
from minicrit.gate_config import SharpeDemoConfig
from minicrit.manifest import check_outputs
from minicrit.taxonomy import FLAW_TYPES
from minicrit.trades import read_prices, read_trades

COST = 0.001


def weekdays(count: int) -> tuple[date, ...]:
    first = date(2000, 1, 3)
    return tuple(first + timedelta(days=7 * (n // 5) + n % 5) for n in range(count))


@pytest.fixture(scope="module")
def market() -> Market:
    """Random walks of five names over six years, with drifts of both signs and rough times."""
    rng = np.random.default_rng(0)
    size = 1560
    rough = 1 + np.sin(np.arange(size) / 150)[:, None] ** 2
    drift = np.linspace(-0.001, 0.0012, 5)
    moves = drift + 0.011 * rough * rng.standard_t(4, (size, 5))
    names = ("AA", "BB", "CC", "DD", "EE")
    return Market(weekdays(size), names, 50 * np.exp(np.cumsum(moves, axis=0)))


@pytest.fixture(scope="module")
def history(market: Market) -> History:
    return History(market, COST)


def flat(*closes: float, count: int = 600) -> Market:
    """One name that stands at 100 until its last closes."""
    column = np.array([100.0] * (count - len(closes)) + list(closes))
    return Market(weekdays(count), ("A",), column[:, None])


def table(entries: rules.Entries) -> list[tuple[int, int, int, int]]:
    return list(zip(*(a.tolist() for a in (entries.entry, entries.exit, entries.name,
                                            entries.side)), strict=True))  # fmt: skip


@pytest.mark.parametrize("key", list(rules.RULES))
@pytest.mark.parametrize("cut", [700, 1333])
def test_a_rule_does_not_look_ahead(market: Market, key: str, cut: int) -> None:
    """With the future cut off, the same entries, the same exits so far, the others open."""
    rule = rules.RULES[key]
    whole = table(rule.entries(market, rule.setting))
    known = table(rule.entries(market.until(cut), rule.setting))
    assert sorted(known) == sorted((a, b if b <= cut else -1, n, s) for a, b, n, s in whole
                                   if a <= cut)  # fmt: skip
    assert len(known) > 3


@pytest.mark.parametrize("key", list(rules.RULES))
def test_facts_do_not_look_ahead(market: Market, history: History, key: str) -> None:
    """What is said of an entry is the same if the prices end, or go wild, the day after it."""
    entries = history.published(key)
    late = [at for at in range(len(entries.entry)) if 1100 < entries.entry[at] < 1490]
    for at in random.Random(key).sample(late, 1):
        day, name = int(entries.entry[at]), int(entries.name[at])
        wild = market.closes.copy()
        wild[day + 1 :] *= np.random.default_rng(1).uniform(0.2, 5, wild[day + 1 :].shape)
        for other in (market.until(day), Market(market.days, market.names, wild)):
            again = History(other, COST)
            found = again.published(key)
            place = np.flatnonzero((found.entry == day) & (found.name == name))
            assert repr(again.facts(key, int(place[0]))) == repr(history.facts(key, at))


def test_the_momentum_rule_by_hand() -> None:
    """The close 21 days ago against that 252 days ago, at the first close of a month."""
    made = flat(count=400)
    made.closes[200:] = 120
    starts = [t for t in range(1, 400) if made.days[t].month != made.days[t - 1].month]
    wanted = [(t, t + 21 if t + 21 < 400 else -1, 0, 1) for t in starts
              if t >= 252 and t - 21 >= 200 > t - 252]  # fmt: skip
    assert table(rules.momentum(made, 252)) == wanted
    assert rules.momentum_level(made, wanted[0][0], 0) == pytest.approx(0.2)


def test_the_reversal_rule_by_hand() -> None:
    """Up by one for 250 days, then down twice, far above the 200-day mean; out at the rise."""
    closes = [100.0 + n for n in range(250)] + [345, 335, 330, 345, 346]
    made = Market(weekdays(255), ("A",), np.array(closes)[:, None])
    assert table(rules.reversal(made, 10)) == [(251, 253, 0, 1)]
    # Falls of 4 and 10: Wilder's means are 1/2 and 2, then 1/4 and 6. RSI = 100 * .25 / 6.25.
    assert rules.reversal_level(made, 250, 0) == pytest.approx(20, abs=0.01)
    assert rules.reversal_level(made, 251, 0) == pytest.approx(4, abs=0.01)


def test_the_crossover_rule_by_hand() -> None:
    """The 50-day mean leaves the 200-day mean only once it has been on the other side."""
    closes = np.concatenate([np.linspace(100, 60, 300), np.linspace(60, 120, 300)])
    made = Market(weekdays(600), ("A",), closes[:, None])
    fast = [closes[t - 49 : t + 1].mean() for t in range(199, 600)]
    slow = [closes[t - 199 : t + 1].mean() for t in range(199, 600)]
    above = np.array(fast) > np.array(slow)
    day = 199 + int(np.flatnonzero(above[1:] & ~above[:-1])[0]) + 1
    assert table(rules.crossover(made, 200)) == [(day, day + 21, 0, 1)]


def test_the_calendar_rules_by_hand(market: Market) -> None:
    found = rules.turn_of_month(market, 4)
    days = {market.days[t] for t in found.entry.tolist()}
    assert date(2000, 1, 31) in days  # a Monday
    assert date(2000, 4, 28) in days  # a Friday; the month ends on Sunday
    assert all((day + timedelta(days=3 if day.weekday() == 4 else 1)).month != day.month
               for day in days)  # fmt: skip
    calm = rules.low_volatility(market, 252)
    first = int(calm.entry[0])
    spread = np.log(market.closes[first - 252 : first + 1]).T
    wanted = np.argsort([np.diff(row).std() for row in spread])[:5]
    assert set(calm.name[calm.entry == first].tolist()) == set(wanted.tolist())
    assert market.days[first].month in (1, 4, 7, 10)


def test_facts_are_what_the_closed_trades_say(market: Market, history: History) -> None:
    """Recomputed trade by trade, without arrays."""
    entries = history.published("momentum")
    late = (entries.entry > 1300) & (entries.side > 0)
    at = int(np.flatnonzero(late)[0])
    facts = history.facts("momentum", at)
    assert facts is not None
    day, name = int(entries.entry[at]), int(entries.name[at])
    past = [(a, b) for a, b, n, s in table(entries) if n == name and s == 1 and 0 <= b < day]
    nets = [market.closes[b, name] / market.closes[a, name] - 1 - COST for a, b in past]
    assert (facts.record.n, facts.record.wins) == (len(nets), sum(x > 0 for x in nets))
    assert facts.record.mean == pytest.approx(np.mean(nets))
    assert facts.record.error == pytest.approx(np.std(nets, ddof=1) / len(nets) ** 0.5)
    assert facts.gross == pytest.approx(np.mean(nets) + COST)
    run = 0
    while run < len(nets) and (nets[-1 - run] > 0) == (nets[-1] > 0):
        run += 1
    assert abs(facts.streak) == run
    assert facts.streak_sum == pytest.approx(sum(nets[-run:]))
    assert facts.same_market.n + facts.other_market.n == len(nets)
    assert facts.settings[0][1] == pytest.approx(facts.record.mean)
    by_year: dict[int, list[float]] = {}
    for (a, _), net in zip(past, nets, strict=True):
        by_year.setdefault(market.days[a].year, []).append(net)
    means = {year: np.mean(some) for year, some in by_year.items() if len(some) > 1}
    assert facts.best_years == tuple(sorted(sorted(means, key=means.get)[-3:]))


def example(**changed: object) -> Facts:
    """An entry that every reason fits, before anything is changed."""
    sample = Sample(40, 22, 0.01, 0.004)
    given = {
        "rule": "momentum", "name": "AA", "side": 1, "day": date(2010, 3, 1), "since": 2001,
        "record": sample, "gross": 0.011, "streak": 4, "streak_sum": 0.05,
        "best_years": (2002, 2005, 2009), "best": Sample(9, 8, 0.05, 0.01), "rough": True,
        "signal": 0.12, "volatility": 0.2, "same_market": sample, "other_market": sample,
        "settings": ((252, 0.01), (63, 0.03), (126, 0.0)),
    }  # fmt: skip
    return Facts(**(given | changed))  # type: ignore[arg-type]


def test_which_entries_can_be_flawed_and_how() -> None:
    lost = Sample(40, 18, -0.01, 0.004)
    sound, bad = example(), example(record=lost, gross=0.0005, same_market=lost)
    for reason in set(REASONS) - {"sunk_cost"}:
        assert REASONS[reason](sound, False), reason
        assert not REASONS[reason](sound, True), reason
        assert REASONS[reason](bad, True), reason
        assert not REASONS[reason](bad, False), reason
    assert REASONS["sunk_cost"](example(streak=-2), False)
    assert REASONS["sunk_cost"](example(streak=-3, record=lost), True)
    unsure = example(record=Sample(40, 20, 0.004, 0.004), same_market=Sample(40, 20, 0.0, 0.004))
    assert not any(fits(unsure, flawed) for fits in REASONS.values() for flawed in (True, False))
    assert set(REASONS) <= set(FLAW_TYPES)


@pytest.mark.parametrize("reason", list(REASONS))
def test_texts_quote_their_figures_and_leave_no_brace(reason: str) -> None:
    facts = example(streak=-4 if reason == "sunk_cost" else 4)
    for flawed in (False, True):
        texts = {compose(facts, reason, flawed=flawed, cost=COST, size=0.1, rng=random.Random(n))
                 for n in range(40)}  # fmt: skip
        assert len(texts) > 30
        for text in texts:
            assert not re.search(r"[{}]|nan|None|  ", text)
            assert "AA" in text
            assert "1 March 2010" in text
            assert "40" in text
            assert "1.00%" in text


def test_the_label_is_in_what_the_entry_rests_on_alone() -> None:
    """The same seed gives twins that differ in one sentence."""
    for reason in REASONS:
        facts = example(streak=-4 if reason == "sunk_cost" else 4)
        pair = [compose(facts, reason, flawed=flawed, cost=COST, size=0.1, rng=random.Random(n))
                for n in range(5) for flawed in (False, True)]  # fmt: skip
        for sound, flawed in zip(pair[::2], pair[1::2], strict=True):
            one, two = (re.split(r"(?<=[.:]) ", text) for text in (sound, flawed))
            assert sound != flawed
            assert len(set(one) - set(two)) <= 2


def small(tmp_path: Path) -> Recipe:
    recipe = Recipe()
    recipe.sharpe_demo.count, recipe.sharpe_demo.out = 24, tmp_path / "demo"
    return recipe


def test_the_book_is_written_balanced_and_can_be_built(tmp_path: Path, market: Market) -> None:
    recipe = small(tmp_path)
    path = demo.make_demo(recipe, market)
    trades = read_trades(path)
    assert len(trades) == 24
    rows = list(csv.DictReader(path.open()))
    labels = Counter((row["strategy"], row["side"], row["label"]) for row in rows)
    for rule, side in {(row["strategy"], row["side"]) for row in rows}:
        assert abs(labels[rule, side, "valid"] - labels[rule, side, "flawed"]) <= 1
    assert {row["flaw_type"] for row in rows if row["label"] == "flawed"} <= set(REASONS)
    assert {row["flaw_type"] for row in rows if row["label"] == "valid"} == {""}
    assert len({row["id"] for row in rows}) == 24
    book = build_book(trades, "day", read_prices(path.with_name("prices.csv")), str(path))
    gained = sum(0.1 * trade.gain for trade in trades)
    assert book.series(np.ones(24)).sum() == pytest.approx(gained)
    assert check_outputs(recipe.sharpe_demo.out) == []
    before = path.read_bytes()
    demo.make_demo(recipe, market)
    assert path.read_bytes() == before


def test_an_entry_that_can_be_argued_both_ways_is_taken_once(history: History) -> None:
    """Soundly by one reason and wrongly by another, it stands in both pools."""
    settings = SharpeDemoConfig(count=60)
    chosen = demo.choose(history, settings, 3)
    assert len({(entry.facts.rule, entry.at) for entry in chosen}) == len(chosen) == 60


def test_more_trades_than_there_are_and_shares_that_are_none_are_refused(
    tmp_path: Path, market: Market
) -> None:
    recipe = small(tmp_path)
    recipe.sharpe_demo.count = 100_000
    with pytest.raises(ValueError, match=r"sharpe_demo.count: expected at most \d+ trades"):
        demo.make_demo(recipe, Market(market.days[:900], market.names, market.closes[:900]))
    recipe.sharpe_demo.flawed = 1.5
    with pytest.raises(ValueError, match=r"expected count >= 1 and flawed in \[0, 1\]"):
        demo.make_demo(recipe, market)


def test_prices_are_read_from_the_wheels_file_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv.gz"
    path.write_bytes(gzip.compress(b"Date,A,B\n2000-01-03,1.5,2\n2000-01-04,3,4\n"))
    found = load_market(path, sha256_file(path))
    assert found.names == ("A", "B")
    assert found.closes.tolist() == [[1.5, 2], [3, 4]]
    assert found.days[-1] == date(2000, 1, 4)
    with pytest.raises(ValueError, match=r"expected prices with sha256 .*; run make sharpe-demo"):
        load_market(path)
    with pytest.raises(ValueError, match=r"got no file"):
        load_market(tmp_path / "none.csv.gz")


def test_a_wheel_that_is_not_there_is_named(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(prices, "WHEEL", "no-such-wheel")
    assert main(["sharpe-demo", "--sharpe_demo.out", str(tmp_path)]) == 1
    assert "no-such-wheel: expected the wheel with the prices, got none" in capsys.readouterr().err
