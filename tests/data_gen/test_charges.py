"""What a request may have cost: counted, reserved, and never more than the budget."""

import itertools

import pytest

from data_gen.asker import BudgetError
from data_gen.asking import bill
from data_gen.backends.protocol import HopelessError, Usage, http_error
from tests.data_gen.scripted_server import ScriptedServer
from tests.data_gen.test_backends import KINDS, PRICE, asker, question

pytestmark = pytest.mark.usefixtures("keyed")


def test_the_budget_stops_before_the_request_that_could_pass_it_also_after_a_restart(tmp_path):
    most = PRICE.most(question())
    with ScriptedServer() as server:
        for restart in range(3):
            one = asker("anthropic", server, tmp_path, price=PRICE, budget=1.5 * most)
            draws = itertools.count(1000 * restart)
            with pytest.raises(BudgetError, match="raise BUDGET_USD"):
                next(None for draw in draws if not one.ask(question(draw)))
            assert one.journal.committed <= 1.5 * most
            one.journal.close()
        assert one.journal.spent == pytest.approx(
            PRICE.cost(Usage(server.counted["input"], server.counted["output"]))
        )


def test_what_may_have_been_charged_stays_reserved(tmp_path):
    with ScriptedServer(lambda body, attempt: "closed" if attempt == 1 else None) as server:
        one = asker("openai", server, tmp_path, price=PRICE)
        one.ask(question())
        assert one.journal.reserved == pytest.approx(PRICE.most(question()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_behind_which_an_answer_may_stand_stays_reserved(kind, tmp_path):
    faults = ["504", "429", "html"]
    with ScriptedServer(lambda body, attempt: dict(enumerate(faults, 1)).get(attempt)) as server:
        one = asker(kind, server, tmp_path, price=PRICE)
        one.ask(question())
    assert one.journal.counts == {"sent": 4, "failed": 1, "answer": 1}
    assert one.journal.reserved == pytest.approx(2 * PRICE.most(question()))


@pytest.mark.parametrize("usage", [
    "", ', "usage": null', ', "usage": {"prompt_tokens": 9}',
    ', "usage": {"prompt_tokens": 9, "completion_tokens": -4000}',
    ', "usage": {"prompt_tokens": null, "completion_tokens": null}',
])  # fmt: skip
def test_answers_whose_tokens_are_not_counted_count_as_the_most(usage, tmp_path, caplog):
    said = f'{{"choices": [{{"message": {{"content": "x"}}, "finish_reason": "stop"}}]{usage}}}'
    most = PRICE.most(question())
    with ScriptedServer(lambda body, attempt: said.encode()) as server:
        one = asker("openai", server, tmp_path, price=PRICE, budget=2.5 * most)
        one.ask(question(0))
        one.ask(question(1))
        with pytest.raises(BudgetError, match="raise BUDGET_USD"):
            one.ask(question(2))
    assert one.journal.spent == pytest.approx(2 * most)
    assert bill([question(0), question(1)], one)["usd"] == pytest.approx(2 * most, abs=1e-6)
    assert [record.getMessage()[:50] for record in caplog.records if record.levelname == "WARNING"
            ] == ["the server does not say how many tokens its answer"]  # fmt: skip


def test_which_statuses_may_stand_before_an_answer():
    tried = (408, 409, 429, 500, 502, 503, 504, 524, 529)
    assert [s for s in tried if http_error(s, "", None).lost] == [408, 500, 502, 504, 524]


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_a_server_that_is_not_reached_charges_nothing(kind, tmp_path):
    with ScriptedServer() as server:
        one = asker(kind, server, tmp_path, price=PRICE)
    with pytest.raises(HopelessError, match="within 4 attempts"):
        one.ask(question())  # nobody listens there any more
    assert one.journal.counts == {"sent": 4, "failed": 4}
    assert one.journal.committed == 0
