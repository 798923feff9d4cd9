"""The readout by a real llama.cpp server, against its own likelihoods and against transformers."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from data_gen.backends.readout_server import ServerJudge, judge_loader
from minicrit.benchmark import benchmark
from minicrit.cli import main
from minicrit.critic import Critic
from minicrit.prompts import render_prompt
from tests.data_gen.tiny_gguf import VOCABULARY, served, tiny_llama, write_tiny_gguf
from tests.minicrit.benchmark_case import recipe, small

pytest.importorskip("xllamacpp")
ITEMS = [
    ("trading", "It rose three times, so it will rise."),
    ("medical", "Of 400 treated 90 % got well; of 400 untreated 60 %."),
    ("general", "They said </s><s> and <unk>; so it is. \u00e4\u20ac"),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def url(path):
    server = served(path)
    yield server.listening_address
    del server


@pytest.fixture(scope="module")
def judge(url):
    return ServerJudge.open(f"openai:{url}/v1#tiny")


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def encoded(text: str) -> list[int]:
    """Bytes, a space being the character of three that llama.cpp writes for it."""
    return [byte + 3 for byte in text.replace(" ", "\u2581").encode()]


def every(url: str, ids: list[int]) -> dict[int, float]:
    """All likelihoods of the next token, whatever the server would write."""
    asked = {"prompt": ids, "max_tokens": 1, "logprobs": VOCABULARY, "temperature": 0,
             "cache_prompt": False, "logit_bias": [[ord("x") + 3, 500]]}  # fmt: skip
    said = httpx.post(f"{url}/v1/completions", json=asked).json()
    rows = said["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert len(rows) == VOCABULARY
    return {row["id"]: row["logprob"] for row in rows}


def directly(url: str, domain: str, rationale: str) -> float:
    """p(flawed) from the server's own likelihoods, by the chain rule."""
    start = [1, *encoded(render_prompt(domain, rationale)), *encoded("Verdict:")]
    said = [
        sum(every(url, [*start, *word[:n]])[token] for n, token in enumerate(word))
        for word in (encoded(" valid"), encoded(" flawed"))
    ]
    return 1 / (1 + np.exp(said[0] - said[1]))


def odds(p) -> np.ndarray:
    """Log-odds: the words of bytes are so long that p itself is small."""
    return np.log(np.array(p)) - np.log1p(-np.array(p))


def test_the_readout_is_that_of_the_servers_own_likelihoods(judge, url):
    found = odds(judge.p_flawed(ITEMS[1:]))
    assert found == pytest.approx(odds([directly(url, *item) for item in ITEMS[1:]]), abs=1e-5)
    assert abs(found[0] - found[1]) > 0.1


def test_the_same_weights_in_transformers_agree(judge):
    local = Critic(tiny_llama(), judge.encoder.tokenizer, name="same", identity="same",
                   encoder=judge.encoder)  # fmt: skip
    there = odds(judge.p_flawed(ITEMS))
    assert odds(local.p_flawed(ITEMS)) == pytest.approx(there, abs=1e-3)
    other = Critic(tiny_llama(seed=1), judge.encoder.tokenizer, name="other", identity="other",
                   encoder=judge.encoder)  # fmt: skip
    assert np.abs(odds(other.p_flawed(ITEMS)) - there).min() > 0.1


def test_control_tokens_in_a_rationale_stay_text(judge):
    ids = judge.encoder.prompt(*ITEMS[2])
    assert ids == [1, *encoded(render_prompt(*ITEMS[2]))]
    assert judge.server.ids("</s>", control=True) == [2]  # so it could have been one
    assert judge.server.ids("</s>") == encoded("</s>")


def test_again_it_says_the_same_whatever_was_asked_before(judge):
    alone = judge.p_flawed(ITEMS[1:2])
    assert judge.p_flawed(ITEMS[:2])[1] == alone[0]


def test_an_item_over_the_context_is_unscored(judge):
    long = ("general", "so " * 9000)
    assert np.isnan(judge.p_flawed([long])).all()
    assert judge.reasons == {long: "too long"}


def test_the_identity_is_that_of_the_model_not_of_its_address(judge, path, tmp_path):
    again, other = served(path), served(write_tiny_gguf(tmp_path / "tiny.gguf", seed=1))
    same = ServerJudge.open(f"openai:{again.listening_address}#tiny.gguf")
    assert (same.identity, same.name) == (judge.identity, "openai:tiny.gguf")
    assert ServerJudge.open(f"openai:{other.listening_address}").identity != judge.identity


def test_a_critique_is_what_the_server_writes_after_the_verdict(judge, url):
    written = judge.critique(ITEMS[:1], max_new_tokens=1)[0]
    start = [*judge.encoder.prompt(*ITEMS[0]), *encoded(f"Verdict: {written.verdict.label}")]
    likeliest = max(every(url, start).items(), key=lambda row: row[1])[0]
    rest = written.text.removeprefix(f"Verdict: {written.verdict.label}")
    assert written.tokens == 1
    assert rest == bytes([likeliest - 3]).decode(errors="replace").replace("\0", "\ufffd")
    assert written.verdict.p_flawed == judge.p_flawed(ITEMS[:1])[0]


def test_a_benchmark_takes_it_beside_others_and_its_page_names_it(url, tmp_path, tiny):
    made = recipe(tmp_path, small()[:4])
    settings = made.benchmark
    settings.model_1, settings.model_2 = f"openai:{url}/v1#tiny", "tiny"
    settings.words, settings.critiques, settings.latency_items = False, 1, 1
    settings.max_new_tokens = 8
    report = benchmark(made, load=judge_loader(tiny.folder.parent), draws=50)
    row = report["judges"]["model_1"]
    assert (row["name"], row["n"], row["unscored"]) == ("openai:tiny.gguf", 4, {})
    assert url not in row["identity"]
    assert report["pairs"][0]["n"] == 4
    assert "openai:tiny.gguf" in Path(f"{settings.out}.md").read_text()


def test_the_command_takes_it(url, tmp_path, capsys):
    made = recipe(tmp_path, small()[:4])
    out = tmp_path / "reports" / "benchmark"
    told = ["--benchmark.model_1", f"openai:{url}/v1#tiny", "--benchmark.model_2", "null",
            "--benchmark.data", made.benchmark.data, "--benchmark.words", "false",
            "--benchmark.critiques", "0", "--benchmark.latency_items", "1",
            "--benchmark.out", str(out)]  # fmt: skip
    assert main(["benchmark", *told]) == 0
    assert json.loads(Path(f"{out}.json").read_text())["judges"]["model_1"]["n"] == 4
    wrong = [*told, "--benchmark.model_1", f"openai:{url}/v1#other"]
    assert main(["benchmark", *wrong]) == 1
    assert "expected one model other, got tiny.gguf" in capsys.readouterr().err
