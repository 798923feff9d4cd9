"""A critic behind a real HTTP server: the same readout, both forms, and what goes wrong."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_gen.backends.served import LISTED, ServedCritic, chance, listed, open_judge
from minicrit.benchmark import benchmark
from minicrit.critic import Critic
from minicrit.logprobs import choice_logprobs
from minicrit.prompts import LEAD_IN, render_prompt
from tests.minicrit.benchmark_case import FLAWED, StandIn, recipe, small

ITEMS = [("trading", "RSI is low, so buy."), ("general", "Swans are white.")]
Answer = Callable[[dict[str, Any]], tuple[int, Any]]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a server that answers so, and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
            status, said = answer(body)
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def vllm(tops: dict[str, float]) -> dict[str, Any]:
    return {"choices": [{"text": " x", "logprobs": {"top_logprobs": [tops]}}]}


def llama_cpp(tops: dict[str, float]) -> dict[str, Any]:
    rows = [{"token": token, "logprob": value} for token, value in tops.items()]
    return {"choices": [{"text": " x", "logprobs": {"content": [{"top_logprobs": rows}]}}]}


@pytest.mark.parametrize("form", [vllm, llama_cpp])
def test_the_readout_is_that_of_a_critic_in_this_process(tiny: Any, form: Any) -> None:
    """A server of the tiny base that lists every token: the odds of the words' first tokens."""
    critic = Critic.load("tiny", base_folder=tiny.folder.parent)
    every = [critic.tokenizer.decode([n]) for n in range(len(critic.tokenizer))]

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        ids = torch.tensor([critic.tokenizer(body["prompt"])["input_ids"]])
        with torch.inference_mode():
            logits = critic.model(input_ids=ids, use_cache=False).logits[0, -1]
        return 200, form(dict(zip(every, choice_logprobs(logits).tolist(), strict=True)))

    with serving(answer) as (url, asked):
        found = ServedCritic(url, "tiny").p_flawed(ITEMS)
    for item, p in zip(ITEMS, found, strict=True):
        head = critic.encoder.prompt(*item) + critic.encoder.lead_in
        with torch.inference_mode():
            logits = critic.model(input_ids=torch.tensor([head]), use_cache=False).logits[0, -1]
        words = [critic.encoder.verdict_words[label][0] for label in ("valid", "flawed")]
        expected = float(choice_logprobs(logits[words])[1].exp())
        assert p == pytest.approx(expected, abs=1e-5)
    assert {body["prompt"] for body in asked} == {render_prompt(*i) + LEAD_IN for i in ITEMS}
    assert {(b["path"], b["max_tokens"], b["temperature"], b["logprobs"]) for b in asked} == {
        ("/v1/completions", 1, 0.0, LISTED)
    }


def test_chance_by_hand() -> None:
    """Log-likelihoods -1 and -3: p = 1 / (1 + e^2)."""
    assert chance({" valid": -1.0, " flawed": -3.0}) == pytest.approx(1 / (1 + math.e**2))
    # the longest token that begins the word alone; a blank begins both and says nothing
    assert chance({" valid": -1.0, " fl": -3.0, " f": -0.1, " ": -0.01}) == pytest.approx(
        1 / (1 + math.e**2)
    )
    # not listed: as likely as the least that is
    assert chance({" flawed": -0.5, " a": -2.0, " b": -2.5}) == pytest.approx(1 / (1 + math.e**-2))
    assert chance({" valid": -1e4, " flawed": 0.0}) == 1.0
    assert math.isnan(chance({" yes": -0.1, " ": -1.0}))
    assert math.isnan(chance({}))


def test_a_bound_never_turns_a_verdict() -> None:
    """Whatever is left out of the list, the side of 1/2 is that of the whole list."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        names = [" valid", " flawed", *(f"t{n}" for n in range(30))]
        whole = dict(zip(names, rng.normal(-4, 2, 32), strict=True))
        short = dict(sorted(whole.items(), key=lambda pair: -pair[1])[:20])
        p, seen = chance(whole), chance(short)
        if not math.isnan(seen) and seen != 0.5:
            assert (p > 0.5) == (seen > 0.5)
            assert abs(seen - 0.5) <= abs(p - 0.5) + 1e-12


def scripted(body: dict[str, Any]) -> tuple[int, Any]:
    """Answers as the stand-in critic b would say: its digits stand in the prompt."""
    if body["max_tokens"] > 1:
        text = FLAWED.removeprefix("Verdict: flawed") if "flawed" in body["prompt"][-8:] else ""
        return 200, {"choices": [{"text": text}], "usage": {"completion_tokens": 7}}
    p = StandIn("b")._p(body["prompt"])
    return 200, vllm({" valid": math.log(1 - p), " flawed": math.log(p)})


def test_a_benchmark_of_a_folder_and_a_served_critic(tmp_path: Path) -> None:
    """The same numbers as with both in this process; critiques begin with the readout's verdict."""
    made = recipe(tmp_path)
    expected = benchmark(made, load=StandIn, draws=20)
    with serving(scripted) as (url, _):
        made.benchmark.model_2 = f"openai:{url}#b"

        def load(path: str) -> Any:
            return StandIn(path) if path == "a" else open_judge(path, base_folder=tmp_path)

        report = benchmark(made, load=load, draws=20)
    one, two = report["judges"]["model_2"], expected["judges"]["model_2"]
    assert one["metrics"] == two["metrics"]
    for name in ("only_a_right", "only_b_right", "mcnemar_p", "n"):
        assert report["pairs"][0][name] == expected["pairs"][0][name]
    assert (one["name"], one["flaw_types"]) == ("b (served)", None)
    assert one["critiques"]["n"] == 4
    assert one["critiques"]["parsed"]["value"] == 1
    assert url in one["identity"]


def test_a_crowded_server_is_asked_again_and_a_key_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-tests")
    left = [503, 429]

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return (left.pop(), b"busy") if left else (200, vllm({" valid": -1.0, " flawed": -1.0}))

    with serving(answer) as (url, asked):
        assert ServedCritic(url, "m", wait=0.001).p_flawed(ITEMS[:1]).tolist() == [0.5]
    assert len(asked) == 3
    assert {body["key"] for body in asked} == {"Bearer sk-for-tests"}


@pytest.mark.parametrize(
    ("status", "said", "message", "times"),
    [
        (400, b"no such model", r"expected a completion, got status 400: no such model; check", 1),
        (500, b"oops", r"got status 500: oops", 4),
        (200, b"<html>", r"expected a completion with choices, got '<html>'", 1),
        (200, {"choices": []}, r"expected a completion with choices", 1),
        (200, {"choices": [{"text": "x"}]}, r"expected log-likelihoods of tokens, got none", 1),
    ],
)
def test_what_a_server_may_say(status: int, said: Any, message: str, times: int) -> None:
    with (
        serving(lambda body: (status, said)) as (url, asked),
        pytest.raises(ValueError, match=message),
    ):
        ServedCritic(url, "m", wait=0.001).p_flawed(ITEMS[:1])
    assert len(asked) == times


def test_nobody_there_and_addresses_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a completion, got ConnectError.*check address"):
        ServedCritic("http://127.0.0.1:9", "m", wait=0.001).p_flawed(ITEMS[:1])
    with pytest.raises(ValueError, match=r"expected the name of a model .*got none; write openai:"):
        open_judge("openai:http://127.0.0.1:9", base_folder=tmp_path)
    with pytest.raises(ValueError, match=r"expected an address like http://HOST:PORT, got here"):
        open_judge("openai:here#m", base_folder=tmp_path)
    assert small()  # the items that the stand-in reads


def test_a_real_llama_cpp_lists_its_tokens(tmp_path: Path) -> None:
    """Its own form; a vocabulary of bytes has no token that begins one word alone: no p."""
    xllamacpp = pytest.importorskip("xllamacpp")
    from tests.data_gen.tiny_gguf import CONTEXT, write_tiny_gguf

    settings = xllamacpp.CommonParams()
    settings.model.path = str(write_tiny_gguf(tmp_path / "tiny.gguf"))
    settings.n_ctx, settings.n_parallel, settings.warmup, settings.verbosity = CONTEXT, 1, False, 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(settings)
    critic = ServedCritic(server.listening_address, "tiny", threads=1)
    bodies = [critic._ask(f"{n} " + LEAD_IN, 1, logprobs=LISTED) for n in range(12)]
    found = [listed(body["choices"][0]["logprobs"] or {}) for body in bodies]
    whole = [tops for tops in found if tops]  # of the others the first token is half a character
    assert whole
    assert all(len(tops) >= 10 and max(tops.values()) <= 0 for tops in whole)
    (p,) = critic.p_flawed([("general", "x")])
    assert math.isnan(p) or 0 <= p <= 1
    del server
