"""What a run will cost is told before it starts, from its own requests and its own journal."""

import logging
import re

import pytest

from data_gen.asker import Asker, Patience
from data_gen.backends.protocol import Answer, Request, TryAgainError
from data_gen.batcher import Batcher, Waiting
from data_gen.collect import collect
from data_gen.estimate import CHARS_A_TOKEN, estimate
from data_gen.hard import make_hard
from data_gen.journal import Journal, Past
from data_gen.opening import open_backend
from data_gen.plans import plans
from data_gen.prices import FREE, Price
from data_gen.tamper import pair_steps
from minicrit.config import Recipe
from minicrit.data_config import HardConfig
from tests.data_gen.scripted_server import ScriptedServer

PRICE = Price("m", 1.0, 5.0, 0.1, 1.25, "2026-01-01", batch=0.5)
KEY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


def told(out: str, pattern: str) -> float:
    found = re.search(pattern, out)
    assert found is not None, out
    return float(found[1])


def test_without_a_past_it_counts_the_prompts_and_takes_usual_lengths():
    found = estimate(50, plans(0), PRICE, Past(), identity={})
    assert (found.pairs, found.requests, found.answered) == (50, 200, 0)
    prompts = found.input_tokens / 200 * CHARS_A_TOKEN
    assert 1500 < prompts < 8000
    assert 60 < found.output_tokens / 200 < 400
    assert found.usd == pytest.approx((found.input_tokens + 5 * found.output_tokens) / 1e6)
    assert 3 * found.usd < found.most_usd < 50 * found.usd
    assert found.basis == (
        "tokens by a rule, 3.5 characters each; answers of typical length; no rejections"
    )
    half = estimate(50, plans(0), PRICE.batched(), Past(), identity={})
    assert (half.usd, half.most_usd) == pytest.approx((found.usd / 2, found.most_usd / 2))


def test_with_a_past_it_comes_close_to_what_is_left(tmp_path):
    def plan(body, attempt):
        text = body["messages"][-1]["content"]
        return "refused" if "Change it so" in text and sum(text.encode()) % 4 == 0 else None

    with ScriptedServer(plan) as server, Journal(tmp_path / "journal.jsonl") as journal:
        backend = open_backend("openai", "m", url=server.url)
        asker = Asker(backend, journal, price=PRICE)
        collect(40, plans(1), asker, source="s", threads=2)
        past = Past.read(journal.path)
        assert past.spent == journal.spent
        found = estimate(50, plans(1), PRICE, past, identity=backend.identity)
        other = estimate(50, plans(1), PRICE, past, identity={"model": "another"})
        before = journal.spent
        asker = Asker(backend, journal, price=PRICE)
        collect(100, plans(1), asker, source="s", threads=2)
    assert found.answered == len(past.answers)
    assert other.answered == 0
    assert other.requests > found.requests
    assert "as in earlier answers; answers as long as earlier ones" in found.basis
    assert "rejections as so far" in found.basis
    assert found.requests == pytest.approx(server.counted["answers"] - found.answered, rel=0.25)
    assert found.usd == pytest.approx(journal.spent - before, rel=0.25)


def test_answers_whose_tokens_were_not_counted_are_taken_by_their_length():
    asked = next(pair_steps(next(plans(1)), "s"))[0]
    past = Past(answers={asked.key({}): Answer("x" * 3500, "end")})
    assert estimate(1, plans(1), PRICE, past, identity={}).output_tokens > 1000


def test_a_dry_run_sends_nothing_and_needs_no_key(tmp_path, capsys):
    with ScriptedServer() as server:
        hard = HardConfig(backend="anthropic", model="claude-haiku-4-5", url=server.url, count=200,
                          out=tmp_path / "hard", dry_run=True, budget_usd=0.01)  # fmt: skip
        make_hard(Recipe(hard=hard))
        assert server.counted == {}
    out = capsys.readouterr().out
    assert out.startswith("100 pairs: about 400 requests, 0 answered before; ")
    assert "budget 0.01 USD: it will end the run early" in out
    assert re.search(r"about \d+ min, 4 requests at a time", out)
    assert not list(tmp_path.iterdir())


def test_with_a_key_the_server_counts_and_a_paid_run_tells_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with ScriptedServer() as server:
        hard = HardConfig(backend="anthropic", model="claude-haiku-4-5", url=server.url, count=8,
                          out=tmp_path / "hard", budget_usd=1.0)  # fmt: skip
        make_hard(Recipe(hard=hard))
        assert server.counted["counts"] == 3  # one a step
        told = capsys.readouterr().out.splitlines()
    said = ("tokens counted by the server", "about 0 min", "8 examples")
    starts = [next(n for n, line in enumerate(told) if text in line) for text in said]
    assert starts == sorted(starts)  # the estimate comes first


def test_a_server_that_does_not_count_leaves_it_to_the_rule():
    def count(request: Request) -> int:
        raise TryAgainError("status 503")

    assert "by a rule" in estimate(2, plans(0), FREE, Past(), identity={}, count=count).basis


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("status", ["401", "500", "closed", None])
def test_a_key_stands_in_no_file_log_or_error(batch, status, tmp_path, capfd, caplog, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    quick = Patience(attempts=2, backoff=0.01, longest=1.0)
    monkeypatch.setitem(Asker.__init__.__kwdefaults__, "patience", quick)
    monkeypatch.setitem(Batcher.__init__.__kwdefaults__, "patience", quick)
    soon = Waiting(first=0.01, longest=0.02, unseen=0.05)
    monkeypatch.setitem(Batcher.__init__.__kwdefaults__, "waiting", soon)
    caplog.set_level("DEBUG")
    for name in ("anthropic", "anthropic._base_client"):  # whatever a test before has made of them
        caplog.set_level("DEBUG", logger=name)
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)

    def plan(body, attempt):
        return None if "get" in body or "entry" in body else status

    said = ""
    with ScriptedServer(plan) as server:
        hard = HardConfig(backend="anthropic", model="claude-haiku-4-5", url=server.url, count=2,
                          out=tmp_path / "hard", budget_usd=1.0, batch=batch)  # fmt: skip
        try:
            make_hard(Recipe(hard=hard))
        except ValueError as error:
            said = f"{error} {error.__cause__} {error.__context__}"
        assert bool(said) == (status is not None)
        assert any(KEY in str(headers) for headers in server.headers)
    files = "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert "claude-haiku-4-5" in files + said + caplog.text
    for text in (said, files, caplog.text, *capfd.readouterr()):
        assert KEY not in text
        assert KEY[10:] not in text
