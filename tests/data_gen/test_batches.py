"""Message batches through real HTTP: nothing is paid twice, whatever fails or is killed when."""

from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.asker import BudgetError, Patience
from data_gen.backends.protocol import (
    Answer,
    HopelessError,
    Request,
    TryAgainError,
    UnanswerableError,
    Usage,
)
from data_gen.batcher import Batcher, Waiting, _parts
from data_gen.hard import make_hard
from data_gen.journal import Journal
from data_gen.opening import open_batches
from data_gen.plans import plans
from data_gen.prices import FREE, Price, read_price
from data_gen.rounds import collect_in_rounds
from minicrit.config import Recipe
from minicrit.data_config import HardConfig
from tests.data_gen.scripted_server import ScriptedServer
from tests.data_gen.test_hard import asker, collect

pytestmark = pytest.mark.usefixtures("keyed")

QUICK = Patience(attempts=4, backoff=0.01, longest=1.0)
SOON = Waiting(first=0.01, longest=0.02, overdue=5.0, unseen=0.1)
PRICE = Price("m", 1.0, 5.0, 0.1, 1.25, "2026-01-01", batch=0.5)


def batcher(server: ScriptedServer, folder: Path, *, price=FREE, budget=None) -> Batcher:
    model = open_batches("anthropic", "claude-haiku-4-5", url=server.url)
    journal = Journal(folder / "journal.jsonl")
    return Batcher(model, journal, price=price, budget=budget, patience=QUICK, waiting=SOON)


def questions(count: int, start: int = 0) -> list[Request]:
    schema = {"type": "object", "properties": {"verdict": {"type": "string"}}, "required": []}
    return [
        Request("You judge.", f"Setting: {n}.", schema, 100) for n in range(start, start + count)
    ]


def is_entry(body) -> bool:
    return "entry" in body


def test_all_are_answered_in_order_and_never_asked_again(tmp_path):
    with ScriptedServer() as server:
        first = batcher(server, tmp_path, price=PRICE)
        answers = first.ask_all(questions(250))
        assert all(isinstance(answer, Answer) for answer in answers)
        assert len(set(answers)) == 250
        used = Usage(server.counted["input"], server.counted["output"])
        assert first.journal.spent == pytest.approx(PRICE.cost(used))
        assert first.journal.reserved == 0
        first.journal.close()
        assert batcher(server, tmp_path).ask_all(questions(250)) == answers
        assert (server.counted["batches"], server.counted["answers"]) == (1, 250)


@pytest.mark.parametrize(
    "fault", ["429", "429 after 0", "500", "529", "html", "half json", "closed", "500 created",
              "closed created", "html created", "half json created"],
)  # fmt: skip
def test_a_creation_that_fails_is_repeated_only_if_nothing_was_created(fault, tmp_path):
    def plan(body, attempt):
        return fault if "create" in body and attempt == 1 else None

    with ScriptedServer(plan) as server:
        one = batcher(server, tmp_path)
        assert len(one.ask_all(questions(5))) == 5
        assert (server.counted["batches"], server.counted["answers"]) == (1, 5)
        assert server.counted["creations"] == (1 if fault.endswith("created") else 2)
        assert one.journal.reserved == 0
        assert one.journal.counts["sent"] == 5


def test_a_batch_that_never_reached_a_server_is_not_looked_for(tmp_path):
    with ScriptedServer() as server:
        one = batcher(server, tmp_path, price=PRICE)
    with pytest.raises(TryAgainError) as caught:
        one.backend.create({"k": questions(1)[0]})  # nobody listens there any more
    assert not caught.value.lost


@pytest.mark.parametrize("what", ["look", "results"])
@pytest.mark.parametrize("fault", ["429 after 0", "500", "529", "html", "half json", "closed"])
def test_looking_and_reading_are_tried_again(what, fault, tmp_path):
    def plan(body, attempt):
        return fault if body.get("get") == what and attempt < 3 else None

    with ScriptedServer(plan) as server:
        assert len(batcher(server, tmp_path).ask_all(questions(3))) == 3
        assert server.counted["answers"] == 3


def test_results_that_break_off_are_read_on_not_paid_again(tmp_path):
    def plan(body, attempt):
        return "half" if body.get("get") == "results" and attempt < 3 else None

    with ScriptedServer(plan) as server:
        one = batcher(server, tmp_path)
        assert len(set(one.ask_all(questions(40)))) == 40
        assert server.counted["answers"] == one.journal.counts["answer"] == 40


@pytest.mark.parametrize(
    "fault", ["expired", "canceled", "errored api_error", "errored overloaded_error"]
)
def test_entries_that_failed_are_asked_again_and_cost_nothing(fault, tmp_path):
    def plan(body, attempt):
        return fault if is_entry(body) and attempt < 3 and "3" in str(body["messages"]) else None

    with ScriptedServer(plan) as server:
        one = batcher(server, tmp_path, price=PRICE)
        assert all(isinstance(answer, Answer) for answer in one.ask_all(questions(10)))
        assert (server.counted["entries"], server.counted["answers"]) == (12, 10)
        assert one.journal.counts["failed"] == 2
        assert one.journal.reserved == 0


def test_an_entry_that_always_fails_ends_the_run(tmp_path):
    with ScriptedServer(lambda body, n: "expired" if is_entry(body) else None) as server:
        with pytest.raises(HopelessError, match="within 4 attempts, got batch: expired"):
            batcher(server, tmp_path).ask_all(questions(2))
        assert server.counted["batches"] == 4


def test_an_entry_that_is_not_accepted_is_rejected_alone(tmp_path):
    def plan(body, attempt):
        return "errored invalid_request_error" if "Setting: 1." in str(body) else None

    with ScriptedServer(plan) as server:
        found = batcher(server, tmp_path).ask_all(questions(3))
        assert [isinstance(result, UnanswerableError) for result in found] == [False, True, False]
        assert server.counted["batches"] == 1


@pytest.mark.parametrize("kind", ["authentication_error", "billing_error", "permission_error"])
def test_hopeless_entries_end_the_run(kind, tmp_path):
    with ScriptedServer(lambda body, n: f"errored {kind}" if is_entry(body) else None) as server:
        with pytest.raises(HopelessError, match=kind):
            batcher(server, tmp_path).ask_all(questions(2))
        assert server.counted["batches"] == 1


@pytest.mark.parametrize("status", ["400", "401", "403", "413", "422"])
def test_a_refused_batch_ends_the_run_and_reserves_nothing(status, tmp_path):
    with ScriptedServer(lambda body, n: status if "create" in body else None) as server:
        one = batcher(server, tmp_path, price=PRICE)
        with pytest.raises(HopelessError) as caught:
            one.ask_all(questions(2))
        assert (server.counted["creations"], one.journal.committed) == (1, 0)
    assert "secret" not in str(caught.value) + one.journal.path.read_text()


def test_results_that_are_missing_are_never_paid_again(tmp_path):
    def plan(body, attempt):
        return "omitted" if "Setting: 1." in str(body) else None

    with ScriptedServer(plan) as server:
        one = batcher(server, tmp_path, price=PRICE)
        with pytest.raises(HopelessError, match="of batch msgbatch_0000, 1 are missing"):
            one.ask_all(questions(3))
        assert server.counted["batches"] == 1
        assert one.journal.reserved == pytest.approx(PRICE.most(questions(1)[0]))


def test_results_of_another_form_are_read_again_and_never_paid_again(tmp_path):
    with ScriptedServer(lambda body, n: "bare" if "Setting: 1." in str(body) else None) as server:
        one = batcher(server, tmp_path, price=PRICE)
        with pytest.raises(HopelessError, match="within 4 attempts, got expected an answer of Cl"):
            one.ask_all(questions(3))
        assert server.counted["batches"] == 1
        assert one.journal.reserved >= PRICE.most(questions(1)[0])


def test_a_batch_that_the_key_does_not_know_is_told_apart_from_a_wrong_address(tmp_path):
    """As one of another workspace is, and one that was deleted; it is not paid for again."""
    with ScriptedServer(lambda body, n: "404" if body.get("get") == "look" else None) as server:
        one = batcher(server, tmp_path, price=PRICE)
        for _ in range(2):
            with pytest.raises(HopelessError, match="expected batch msgbatch_0000, got none of"):
                one.ask_all(questions(2))
        assert server.counted["batches"] == 1


def test_a_batch_that_never_ends_is_given_up(tmp_path):
    with ScriptedServer() as server:
        server.batches.looks = 10**9
        one = batcher(server, tmp_path)
        one.waiting = Waiting(first=0.01, longest=0.02, overdue=0.1)
        with pytest.raises(HopelessError, match="to end within"):
            one.ask_all(questions(2))


def test_the_budget_is_kept_at_the_worst_cost_also_after_a_restart(tmp_path):
    most = PRICE.most(questions(1)[0])
    with ScriptedServer() as server:
        for _ in range(2):
            one = batcher(server, tmp_path, price=PRICE, budget=30.5 * most)
            with pytest.raises(BudgetError, match="raise BUDGET_USD"):
                one.ask_all(questions(300))
            assert 26.5 * most < one.journal.committed <= 30.5 * most
            one.journal.close()
        assert 1 < server.counted["batches"] < 20  # as many as fit, and on with what is left
        used = Usage(server.counted["input"], server.counted["output"])
        assert one.journal.spent == pytest.approx(PRICE.cost(used))


def test_batches_have_a_price_of_their_own():
    price = read_price("claude-haiku-4-5").batched()
    assert price.cost(Usage(1_000_000, 200_000)) == pytest.approx(1.0)
    assert Price("m", 1, 5, 0, 1, "").batched() is None


def test_large_numbers_of_requests_are_parted():
    many = {str(n): request for n, request in enumerate(questions(10_001))}
    assert [len(part) for part in _parts(many)] == [10_000, 1]
    long = Request("s", "x" * 30_000_000, {})
    assert [len(part) for part in _parts(dict.fromkeys("abc", long))] == [1, 1, 1]


def orphaned(server: ScriptedServer, folder: Path, *, sent: bool) -> Journal:
    """A journal as a kill leaves it between the intent and the id of a batch."""
    one = batcher(server, folder, price=PRICE)
    wanted = {request.key(one.backend.identity): request for request in questions(4)}
    one.journal.intend("orphan", {key: PRICE.most(r) for key, r in wanted.items()})
    if sent:
        one.backend.create(wanted)
    one.journal.close()
    return one.journal


def test_a_batch_whose_id_was_never_written_down_is_found_again(tmp_path):
    with ScriptedServer() as server:
        orphaned(server, tmp_path, sent=True)
        other = batcher(server, tmp_path / "another run")
        for start in (100, 200, 300):  # of the same size, from somebody else, on other pages
            other.ask_all(questions(4, start))
        one = batcher(server, tmp_path, price=PRICE)
        assert len(one.ask_all(questions(4))) == 4
        assert server.counted["batches"] == 4
        assert one.journal.reserved == 0


def test_what_a_batch_holds_is_not_asked_alone(tmp_path):
    with ScriptedServer() as server:
        orphaned(server, tmp_path / "hard.work", sent=True)
        hard = HardConfig(backend="anthropic", model="claude-haiku-4-5", url=server.url, count=2,
                          out=tmp_path / "hard")  # fmt: skip
        with pytest.raises(ValueError, match="BATCH=1 while batch orphan of 4 requests is out"):
            make_hard(Recipe(hard=hard))
        assert server.counted["requests"] == 0
        make_hard(Recipe(hard=replace(hard, out=tmp_path / "other")))


def test_a_batch_that_was_never_sent_is_sent_and_reserves_nothing_twice(tmp_path):
    with ScriptedServer() as server:
        orphaned(server, tmp_path, sent=False)
        batcher(server, tmp_path / "another run").ask_all(questions(4, 100))
        one = batcher(server, tmp_path, price=PRICE)
        assert len(one.ask_all(questions(4))) == 4
        assert server.counted["batches"] == 2
        assert one.journal.reserved == 0


def test_a_batch_whose_results_are_gone_stays_reserved_and_is_asked_anew(tmp_path):
    with ScriptedServer() as server:
        one = batcher(server, tmp_path, price=PRICE)
        server.batches.looks = 10**9
        one.waiting = Waiting(first=0.01, longest=0.02, overdue=0.05)
        with pytest.raises(HopelessError):
            one.ask_all(questions(2))
        one.journal.close()
        server.batches.looks = 1
        server.batches.archived.add("msgbatch_0000")
        again = batcher(server, tmp_path, price=PRICE)
        assert len(again.ask_all(questions(2))) == 2
        assert again.journal.reserved == pytest.approx(2 * PRICE.most(questions(1)[0]))


def test_rounds_give_what_threads_give(tmp_path):
    def plan(body, attempt):
        text = body["messages"][-1]["content"] if "messages" in body else ""
        if "Change it so" in text and sum(text.encode()) % 5 == 0:
            return "refused"
        return "cut" if "Setting:" in text and sum(text.encode()) % 7 == 0 else None

    with ScriptedServer(plan) as server:
        one = batcher(server, tmp_path / "batches")
        batched = collect_in_rounds(60, plans(1), one, source="s")
        assert len(batched[0]) == 30
        assert batched[1]
        assert server.counted["batches"] < 16
        assert batched == collect(60, plans(1), asker(server, tmp_path), source="s", threads=2)
