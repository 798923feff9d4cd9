"""Back ends against a real llama.cpp server: its protocol, its grammar, its errors, its counts."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import pytest

from data_gen.asker import Asker
from data_gen.backends.protocol import HopelessError, Request, UnanswerableError
from data_gen.journal import Journal
from data_gen.opening import open_backend
from data_gen.plans import plans
from data_gen.prices import FREE
from data_gen.tamper import Rejected, make_pair
from tests.data_gen.tiny_gguf import CONTEXT, served, write_tiny_gguf

pytestmark = pytest.mark.usefixtures("keyed")

pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A server on this machine with a random model."""
    path = write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")
    server = served(path)
    yield server.listening_address
    del server


def model(url: str, kind: str = "openai"):
    return open_backend(kind, "tiny", url=url)


def question(text: str = "Is it so?", *, max_tokens: int = 200, draw: int = 0) -> Request:
    fields = {"verdict": ["valid", "flawed"], "severity": ["low", "medium", "high"]}
    allowed = {name: {"type": "string", "enum": words} for name, words in fields.items()}
    schema = {"type": "object", "properties": allowed, "required": list(allowed),
              "additionalProperties": False}  # fmt: skip
    return Request("You judge.", text, schema, max_tokens, draw)


def size(text: str) -> int:
    """Tokens of a text, for a vocabulary of bytes; a space is a character of three."""
    return len(text.replace(" ", "\u2581").encode())


def test_noise_is_held_to_the_schema_and_counted(url):
    answer = model(url).ask(question())
    said = json.loads(answer.text)
    assert list(said) == ["verdict", "severity"]
    assert said["verdict"] in ("valid", "flawed")
    assert answer.stop == "end"
    long = "Is it so? " * 10
    longer = model(url).ask(question(long))
    assert longer.usage.input_tokens - answer.usage.input_tokens == size(long) - size("Is it so?")
    assert answer.usage.output_tokens >= len(answer.text.encode())  # a byte a token


def test_a_draw_is_a_seed(url):
    asked = [question(max_tokens=24, draw=draw) for draw in range(4)]
    found = [model(url).ask(request).text for request in asked]
    assert found == [model(url).ask(request).text for request in asked]
    assert len(set(found)) > 1


def test_an_answer_over_its_limit_is_cut(url):
    answer = model(url).ask(question(max_tokens=8))
    assert (answer.stop, answer.usage.output_tokens) == ("cut", 8)


def test_a_prompt_that_is_too_long_is_refused_alone(url):
    with pytest.raises(UnanswerableError, match="context"):
        model(url).ask(question("x" * 2 * CONTEXT))
    assert model(url).ask(question()).stop == "end"


def test_a_wrong_address_is_hopeless(url):
    with pytest.raises(HopelessError, match="status 404"):
        model(f"{url}/nothing").ask(question())


def test_many_threads_get_answers_of_their_own(url, tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        asker = Asker(model(url), journal, price=FREE)
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(asker.ask, [question(f"Item {n % 6}?") for n in range(12)]))
        assert answers[:6] == answers[6:]
        assert journal.counts == {"sent": 6, "answer": 6}


def test_what_noise_writes_is_rejected_not_kept(url):
    ask = model(url).ask
    few = islice(plans(0), 3)
    found = [make_pair(p, lambda r: ask(replace(r, max_tokens=60)), "llama.cpp") for p in few]
    assert all(isinstance(one, Rejected) and one.stage == "write" for one in found)
    reasons = {one.reason.split(":")[0] for one in found}
    assert reasons <= {"cut", "status 500"}  # the server cannot take some cut answers apart


def test_the_other_protocol_of_the_server_works_too(url):
    claude = model(url, "anthropic")
    answers = [claude.ask(question(max_tokens=8)) for _ in range(6)]
    tokens = [answer.usage.output_tokens for answer in answers]
    # a random model may end by itself at any token, but hardly six times
    assert max(tokens) == 8
    assert [a.stop for a in answers if a.usage.output_tokens == 8].count("cut") >= 1
    assert {a.stop for a in answers if a.usage.output_tokens < 8} <= {"end"}
    assert claude.count(question()) > len("You judge.Is it so?")
