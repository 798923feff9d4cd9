"""What ends a run before its count: a spent budget, which keeps what is whole, or repetition."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import pytest

from data_gen.asker import Asker, BudgetError
from data_gen.asking import announce
from data_gen.backends.protocol import (
    Answer,
    HopelessError,
    Request,
    UnanswerableError,
    Usage,
)
from data_gen.batcher import Batcher
from data_gen.collect import Found, collect, first
from data_gen.estimate import estimate
from data_gen.hard import make_hard
from data_gen.journal import Journal
from data_gen.plans import plans
from data_gen.prices import FREE, price_of, read_price
from data_gen.rounds import collect_in_rounds
from minicrit.config import Recipe
from minicrit.data_config import HardConfig
from minicrit.records import read_examples
from tests.data_gen.scripted_server import ScriptedServer
from tests.data_gen.test_batches import PRICE, batcher
from tests.data_gen.test_hard import asker

pytestmark = pytest.mark.usefixtures("keyed")


def test_what_a_spent_budget_paid_for_is_written_and_more_goes_on(tmp_path):
    def made(usd: float) -> int:
        make_hard(Recipe(hard=HardConfig(backend="openai", model="claude-haiku-4-5", count=24,
                                         url=server.url, out=tmp_path / "hard", threads=2,
                                         budget_usd=usd)))  # fmt: skip
        return len(read_examples(tmp_path / "hard" / "train.jsonl").examples)

    with ScriptedServer() as server:
        with pytest.raises(BudgetError, match="raise BUDGET_USD"):
            made(0.005)
        assert not (tmp_path / "hard").exists()  # there is no whole pair yet
        with pytest.raises(BudgetError, match=r"raise BUDGET_USD .* of 24 examples were made"):
            made(0.03)
        part = read_examples(tmp_path / "hard" / "train.jsonl").examples
        ledger = json.loads((tmp_path / "hard" / "ledger.json").read_text())
        assert 2 * len(part) > ledger["answer"] - 6 > 6  # all but what two threads had begun
        assert ledger["usd"] <= 0.03
        assert made(1.0) == 24
        assert server.counted["answers"] == 48  # nothing twice


def in_rounds(server: ScriptedServer, folder, budget: float | None) -> tuple[Found, Batcher]:
    one = batcher(server, folder, price=PRICE, budget=budget)

    def rest():
        return estimate(8, plans(1), PRICE, one.journal, identity=one.backend.identity).rest

    found = collect_in_rounds(40, plans(1), one, source="s", rest=rest)
    one.journal.close()
    return found, one


def test_rounds_begin_only_what_the_budget_is_expected_to_finish(tmp_path):
    with ScriptedServer() as server:
        found, one = in_rounds(server, tmp_path, 0.04)
        pairs, _, over = found
        assert over is not None
        assert one.journal.committed <= 0.04
        asked = one.journal.counts["answer"]
        assert 4 * len(pairs) > asked - 12 > 8  # most of what was paid is in whole pairs
        first_of = {plan.number: plan for plan in islice(plans(1), 30)}
        done = {n: pair for n, pair in enumerate(pairs, 1)}  # number 0 was cut off
        assert first(first_of, done, len(pairs), over) == Found(pairs, [], None)
        assert first(first_of, done, len(pairs) + 1, over) == Found(pairs, [], over)
        whole, one = in_rounds(server, tmp_path, None)
        assert (len(whole.pairs), whole.over) == (20, None)
        assert whole.pairs[: len(pairs)] == pairs
        assert server.counted["answers"] == one.journal.counts["answer"] == 80


def test_a_model_that_only_repeats_itself_is_not_paid_without_end(tmp_path):
    reason = r"of \d\d \(\d\d x write: the text is that of another\); use a better model"

    def alike():
        return (replace(next(plans(1)), number=number) for number in range(200))

    with ScriptedServer() as server:
        with pytest.raises(ValueError, match=reason):
            collect(14, alike(), asker(server, tmp_path / "threads"), source="s", threads=2)
        with pytest.raises(ValueError, match=reason):
            collect_in_rounds(14, alike(), batcher(server, tmp_path / "rounds"), source="s")


def test_an_unknown_model_cannot_have_a_budget(tmp_path):
    for kind in ("anthropic", "ollama", "openai"):
        url = "http://127.0.0.1:9"
        recipe = Recipe(hard=HardConfig(backend=kind, model="nobody", url=url, budget_usd=1.0))
        with pytest.raises(ValueError, match=r"prices.yaml: expected a price of nobody"):
            make_hard(recipe)
    assert read_price("claude-haiku-4-5").cost(Usage(1_000_000, 200_000)) == pytest.approx(2.0)
    assert price_of("ollama", "nobody") == price_of("openai", "nobody") == FREE
    table = tmp_path / "p.yaml"
    table.write_text("m:\n  input: cheap\n")
    with pytest.raises(ValueError, match=r"p.yaml:2: expected input of m in USD"):
        read_price("m", table)


@pytest.mark.parametrize(
    ("host", "paid"),
    [("", False), ("0.0.0.0", False), ("gpubox:11434", False), ("ollama.com", True),
     ("https://ollama.com", True)],
)  # fmt: skip
def test_a_far_ollama_of_the_environment_is_paid_where_it_knows_us_by_a_key(
    host, paid, monkeypatch
):
    monkeypatch.setenv("OLLAMA_HOST", host)
    monkeypatch.setenv("OLLAMA_API_KEY", "k")
    if not paid:
        assert price_of("ollama", "nobody") == FREE
        return
    with pytest.raises(ValueError, match="expected a price of nobody"):
        price_of("ollama", "nobody")


class Hanging:
    """Answers the first row last, and refuses the fourth; what it was asked is in `asked`."""

    def __init__(self):
        self.identity = {"backend": "x", "model": "m"}
        self.refused, self.asked = threading.Event(), []

    def ask(self, request):
        self.asked.append(request.draw)
        if request.draw == 0:
            self.refused.wait(0.5)
        elif request.draw == 3:
            raise HopelessError("no money")
        elif request.draw > 50:
            self.refused.set()  # so that the first row comes to its end
        return Answer("x", "end")


def as_revisers_ask(asker, rows):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(asker.ask, rows))


@pytest.mark.parametrize("ask_all", [
    as_revisers_ask, lambda asker, rows: asker.each(asker.ask, rows, threads=2),
])  # fmt: skip
def test_the_first_error_in_time_stops_all_though_an_earlier_row_is_still_out(ask_all, tmp_path):
    """Results are looked at in the order of the rows, and the first of them comes last."""
    server, rows = Hanging(), [Request("s", "p", {}, draw=number) for number in range(60)]
    with Journal(tmp_path / "journal.jsonl") as journal:
        one = Asker(server, journal, price=FREE)
        with pytest.raises(HopelessError, match=r"^no money$"):
            ask_all(one, rows)
        assert sorted(server.asked) == [0, 1, 2, 3]
        assert len(journal.answers) == 3  # what was out is awaited and kept


def test_any_other_error_stops_all_others_too(tmp_path):
    server = Hanging()
    with Journal(tmp_path / "journal.jsonl") as journal:
        one = Asker(server, journal, price=FREE)

        def judged(number):
            one.ask(Request("s", "p", {}, draw=number))
            return 1 / (number - 2)

        with pytest.raises(ZeroDivisionError):
            one.each(judged, range(60), threads=2)
        assert sorted(server.asked) == [0, 1, 2]


def test_what_no_row_is_to_blame_for_is_said_as_it_is(tmp_path, monkeypatch):
    """It ended in the IndexError of an empty list of what rows had raised."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Journal(tmp_path / "journal.jsonl") as journal:
        one = Asker(Hanging(), journal, price=FREE)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            one.each(str, range(3), threads=2)


def test_what_a_filter_refuses_and_charges_is_not_sent_again_by_a_restart(tmp_path, capsys):
    class Filter(Hanging):
        def ask(self, request):
            self.asked.append(request.draw)
            raise UnanswerableError("content_filter", lost=True)

    server, request = Filter(), Request("s", "p", {})
    for _ in range(3):
        with Journal(tmp_path / "journal.jsonl") as journal:
            one = Asker(server, journal, price=PRICE)
            with pytest.raises(UnanswerableError, match="content_filter"):
                one.ask(request)
            assert journal.committed == PRICE.most(request)  # once
            announce([request], one, "judge")
            assert "judge: 0 requests, at most 0.00 USD" in capsys.readouterr().out
    assert len(server.asked) == 1
