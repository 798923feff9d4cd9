"""Back ends through real HTTP: every failure of a server, the journal, the budget."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.asker import Asker, Patience
from data_gen.backends.address import place_of
from data_gen.backends.protocol import (
    HopelessError,
    Request,
    UnanswerableError,
)
from data_gen.journal import Journal
from data_gen.opening import open_backend
from data_gen.prices import FREE, Price
from minicrit.discreet import without_keys
from minicrit.doctor import check_keys
from tests.data_gen.scripted_server import ScriptedServer

pytestmark = pytest.mark.usefixtures("keyed")

KINDS = ("anthropic", "ollama", "openai")
QUICK = Patience(attempts=4, backoff=0.01, longest=1.0)
PRICE = Price("m", 1.0, 5.0, 0.1, 1.25, "2026-01-01")


def backend(kind: str, server: ScriptedServer, timeout: float | None = None):
    made = open_backend(kind, "claude-haiku-4-5", url=server.url)
    if timeout is not None:
        made = type(made)("claude-haiku-4-5", url=server.url, timeout=timeout)
    return made


def asker(kind, server, folder: Path, *, price=FREE, budget=None, timeout=None) -> Asker:
    journal = Journal(folder / "journal.jsonl")
    return Asker(
        backend(kind, server, timeout), journal, price=price, budget=budget, patience=QUICK
    )


def question(draw: int = 0) -> Request:
    schema = {"type": "object", "properties": {"verdict": {"type": "string"}}, "required": []}
    return Request("You judge.", "Setting: a test.", schema, draw=draw)


@pytest.mark.parametrize("kind", ["ollama", "openai"])
def test_another_server_under_the_same_name_is_asked_itself(kind, tmp_path):
    with ScriptedServer() as one, ScriptedServer() as other:
        for server in (one, other):
            opened = asker(kind, server, tmp_path)
            opened.ask(question())
            opened.journal.close()
        assert [one.counted["requests"], other.counted["requests"]] == [1, 1]


@pytest.mark.parametrize(("url", "place"), [
    ("http://Host:8080/v1/", "http://host:8080"), ("https://host", "https://host:443"),
    ("http://localhost/", "http://127.0.0.1:80"), ("http://[::1]:80", "http://127.0.0.1:80"),
    ("http://a:b@host/proxy/v1?key=x", "http://host:80/proxy"),
])  # fmt: skip
def test_a_place_is_the_same_however_it_is_written(url, place):
    assert place_of(url) == place


def test_what_ollama_has_at_its_own_address_is_known_without_it(monkeypatch):
    plain = open_backend("ollama", "m").identity
    assert "url" not in plain
    assert open_backend("ollama", "m", url="http://localhost:11434/").identity == plain
    monkeypatch.setenv("OLLAMA_HOST", "far.example.org")
    assert open_backend("ollama", "m").identity["url"] == "http://far.example.org:11434"


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_comes_with_its_usage_and_is_never_asked_for_again(kind, tmp_path):
    with ScriptedServer() as server:
        first = asker(kind, server, tmp_path)
        answer = first.ask(question())
        assert answer.stop == "end"
        assert json.loads(answer.text)["strengths"] == "A fair test."
        assert answer.usage.input_tokens == server.counted["input"] > 0
        assert answer.usage.output_tokens == server.counted["output"] > 0
        first.journal.close()
        again = asker(kind, server, tmp_path)
        assert again.ask(question()) == answer
        assert server.counted["requests"] == 1


@pytest.mark.parametrize("ending", ["/", "/v1", "/v1/"])
def test_an_address_of_openais_protocol_may_end_in_its_version(ending):
    with ScriptedServer() as server:
        assert open_backend("openai", "m", url=server.url + ending).ask(question()).stop == "end"


def test_a_model_that_wants_the_newer_name_of_the_bound_is_given_it(tmp_path):
    """As OpenAI's reasoning models answer; only the first request is sent twice."""
    bodies = []

    def plan(body, attempt):
        bodies.append(body)
        return "400 Use 'max_completion_tokens' instead." if "max_tokens" in body else None

    with ScriptedServer(plan) as server:
        one = asker("openai", server, tmp_path)
        assert [one.ask(question(draw)).stop for draw in (0, 1)] == ["end", "end"]
    bounds = [(b.get("max_tokens"), b.get("max_completion_tokens")) for b in bodies]
    assert bounds == [(1500, None), (None, 1500), (None, 1500)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "fault", ["429", "429 after 0", "500", "503", "529", "html", "half json", "closed"]
)
def test_passing_troubles_are_tried_again(kind, fault, tmp_path):
    with ScriptedServer(lambda body, attempt: fault if attempt < 3 else None) as server:
        assert asker(kind, server, tmp_path).ask(question()).stop == "end"
        assert server.counted["requests"] == 3
        assert server.counted["answers"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_server_is_given_up_after_a_time(kind, tmp_path):
    with ScriptedServer(lambda body, attempt: "slow" if attempt < 2 else None) as server:
        started = time.monotonic()
        assert asker(kind, server, tmp_path, timeout=0.3).ask(question()).stop == "end"
        assert time.monotonic() - started < 2.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", ["400", "401", "403", "404"])
def test_hopeless_errors_stop_at_once_and_tell_no_key(kind, status, tmp_path):
    with ScriptedServer(lambda body, attempt: status) as server:
        with pytest.raises(HopelessError) as caught:
            asker(kind, server, tmp_path).ask(question())
        assert server.counted["requests"] == 1
    assert "secret" not in str(caught.value)
    assert "secret" not in (tmp_path / "journal.jsonl").read_text()


@pytest.mark.parametrize(
    ("kind", "said", "ends", "charged"),
    [
        ("anthropic", "400 Output blocked by content filtering policy", False, False),
        ("anthropic", "400 prompt is too long: 210000 tokens > 200000 maximum", False, False),
        ("anthropic", "400 Your credit balance is too low to access the API.", True, False),
        ("openai", "400 content_filter triggered by the prompt", False, True),
        ("openai", "400 invalid_prompt flagged", False, False),
        ("openai", "400 content_policy_violation", False, False),
        ("openai", "400 unsupported_parameter: max_tokens", True, False),
        *[(kind, "413 Request Entity Too Large", False, False) for kind in KINDS],
    ],
)
def test_a_refused_request_ends_the_run_only_if_all_would_be_refused(
    kind, said, ends, charged, tmp_path
):
    with ScriptedServer(lambda body, attempt: said) as server:
        one = asker(kind, server, tmp_path, price=PRICE)
        with pytest.raises(HopelessError if ends else UnanswerableError, match=said[4:]):
            one.ask(question())
    assert (one.journal.reserved > 0) == charged


USED = b'"usage": {"input_tokens": 1, "output_tokens": 1}'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        *[("openai", body) for body in (
            b"[]", b'{"choices": [{"message": "hi"}]}', b"\xff", b"null",
            b'{"choices": [{"message": {"content": [{"type": "text"}]}}]}',
            b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 1e999, '
            b'"completion_tokens": 1}}', b"[" * 100_000,
        )],
        *[("ollama", body) for body in (b"[]", b"null", b"\xff", b"{", b"[" * 100_000)],
        *[("anthropic", body) for body in (
            b"{}", b'{"error": {"message": "upstream"}}',
            b'{"model": "m", "content": null, ' + USED + b"}",
            b'{"model": "m", "content": [{"type": "text"}], ' + USED + b"}",
            b'{"model": "m", "content": [], "usage": {"input_tokens": null}}',
            b'{"model": "\xff"}', b"[" * 100_000,
        )],
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_tried_again_and_stays_reserved(kind, body, tmp_path):
    with ScriptedServer(lambda asked, attempt: body if attempt == 1 else None) as server:
        one = asker(kind, server, tmp_path, price=PRICE)
        assert one.ask(question()).stop == "end"
        assert one.journal.reserved == pytest.approx(PRICE.most(question()))


def test_a_key_that_the_server_repeats_is_taken_out(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another-secret")
    said = b'{"error": "no such key: sk-another-secret"}'
    for fault in (said, "401 " + said.decode()):
        with (
            ScriptedServer(lambda body, attempt: fault) as server,  # noqa: B023
            pytest.raises(HopelessError) as caught,
        ):
            asker("openai", server, tmp_path / str(len(fault))).ask(question())
        assert "secret" not in str(caught.value)
        assert "no such key: (OPENAI_API_KEY)" in str(caught.value)
    assert "secret" not in "".join(p.read_text() for p in tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(kind, monkeypatch):
    name = f"{kind.upper()}_API_KEY"
    with ScriptedServer() as server:
        for value in (
            "sk-secretsecret\nsk-othersecret",
            "sk-secret secret",
            "sk-s\u00e9cret-secret",
        ):
            monkeypatch.setenv(name, value)
            with pytest.raises(
                ValueError, match=rf"^{name}: expected one key .*; export"
            ) as caught:
                backend(kind, server)
            assert "ecret" not in str(caught.value)
            for spelt in (value, repr(value), ascii(value)):
                assert "ecret" not in without_keys(f"Illegal header value {spelt}")
    findings = list(check_keys())
    assert [(f.level, f.remedy) for f in findings if name in f.said] == [
        ("fail", "export the key alone")]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_with_a_lines_end_behind_it_is_that_key(kind, monkeypatch):
    name = f"{kind.upper()}_API_KEY"
    monkeypatch.setenv(name, "sk-another-secret\r\n")
    assert without_keys(repr("Bearer sk-another-secret\r\n")) == rf"'Bearer ({name})\r\n'"
    with ScriptedServer() as server:
        assert backend(kind, server).ask(question()).stop == "end"
        sent = {key.lower(): value for key, value in server.headers[0].items()}
    assert sent["authorization"] == "Bearer sk-another-secret"


def test_the_first_error_stops_all_that_would_be_asked(tmp_path):
    def plan(body, attempt):
        return "401" if "draw 3" in str(body) else None

    with ScriptedServer(plan) as server:
        one = asker("openai", server, tmp_path)
        rows = [replace(question(), prompt=f"Setting: draw {n}.") for n in range(200)]
        with pytest.raises(HopelessError, match="status 401"):
            one.each(one.ask, rows, threads=2)
        assert server.counted["requests"] < 20
        assert len(one.journal.answers) == server.counted["answers"]


def test_a_server_that_wants_too_long_a_wait_ends_the_run(tmp_path):
    with ScriptedServer(lambda body, attempt: "429 after 3600") as server:
        with pytest.raises(HopelessError, match="at most 1 s, was asked for 3600 s"):
            asker("anthropic", server, tmp_path).ask(question())
        assert server.counted["requests"] == 1


def test_threads_with_one_question_send_it_once(tmp_path):
    with ScriptedServer() as server:
        one = asker("openai", server, tmp_path)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(one.ask, [question()] * 24))
        assert len(set(answers)) == 1
        assert server.counted["requests"] == 1


@pytest.mark.parametrize("fault", ["500", "429 after 0"])
def test_attempts_are_bounded(fault, tmp_path):
    with ScriptedServer(lambda body, attempt: fault) as server:
        with pytest.raises(HopelessError, match="within 4 attempts"):
            asker("openai", server, tmp_path).ask(question())
        assert server.counted["requests"] == 4


def test_a_limit_of_the_rate_ends_no_run_however_many_threads_meet_it(tmp_path):
    free = 0.0

    def one_at_a_time(body, attempt):
        nonlocal free
        if (now := time.monotonic()) < free:
            return "429 after 0.05"
        free = now + 0.05
        return None

    with ScriptedServer(one_at_a_time) as server:
        one = asker("openai", server, tmp_path)
        one.each(one.ask, [question(draw) for draw in range(24)], threads=8)
        assert server.counted["answers"] == 24
        assert server.counted["requests"] < 24 * 5  # nor are all sent again each time


@pytest.mark.parametrize(
    ("kind", "fault", "stop"),
    [
        *[(kind, "cut", "cut") for kind in KINDS],
        ("anthropic", "refused", "refused"),
        ("openai", "refused", "refused"),
    ],
)
def test_cut_and_refused_answers_say_so_and_are_paid_for(kind, fault, stop, tmp_path):
    with ScriptedServer(lambda body, attempt: fault) as server:
        one = asker(kind, server, tmp_path, price=PRICE)
        answer = one.ask(question())
        assert answer.stop == stop
        assert one.journal.spent == pytest.approx(PRICE.cost(answer.usage)) != 0


def test_one_prompt_that_ollama_cuts_is_unanswered_and_no_end_of_the_run(tmp_path):
    with ScriptedServer() as server:
        one = asker("ollama", server, tmp_path, price=PRICE)
        with pytest.raises(UnanswerableError, match="expected a prompt under 8192 tokens, got one"):
            one.ask(replace(question(), prompt="Long. " * 6000))
    assert one.journal.reserved > 0  # it was answered, so it may be charged


def test_no_ollama_server_says_what_to_do(tmp_path):
    nobody = open_backend("ollama", "m", url="http://127.0.0.1:9")
    with pytest.raises(HopelessError, match="ollama serve"):
        nobody.ask(question())


def test_no_key_no_claude(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(HopelessError, match="ANTHROPIC_API_KEY: expected a key"):
        open_backend("anthropic", "claude-haiku-4-5")
