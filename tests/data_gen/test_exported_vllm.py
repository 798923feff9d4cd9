"""Exports in a real vLLM server, merged and as a LoRA module: tokens, verdicts, critiques.

MINICRIT_VLLM names its program if it is not on the path; docs/export.md says how to get one.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from data_gen.backends.readout_server import CONTROL, ServerJudge
from minicrit.critic import Critic
from minicrit.export.stage import export
from tests.minicrit.export_case import ITEMS, calibrate_by_hand, make_critic, recipe_of

PROGRAM = os.environ.get("MINICRIT_VLLM") or shutil.which("vllm")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no vllm on the path, none named by MINICRIT_VLLM"),
]
ROOM = 256  # tokens
LONGEST = 900  # seconds until it has started
PLAIN, MARKED = ITEMS[:2], ITEMS[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny) -> Path:
    root = tmp_path_factory.mktemp("vllm")
    shutil.copytree(tiny.folder, root / "base" / "tiny")
    make_critic(root / "critic", tiny)
    calibrate_by_hand(root / "critic")
    recipe = recipe_of(root, "vllm")
    recipe.export.context = ROOM
    export(recipe)
    return root


@pytest.fixture(scope="module")
def critic(root) -> Critic:
    return Critic.load(root / "critic", base_folder=root / "base")


@pytest.fixture(scope="module", params=["0", "1"], ids=["merged", "lora"])
def url(request, root) -> Iterator[str]:
    """A server as `serve.sh` starts it; relative paths, from the folder above the export."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"VLLM": PROGRAM, "LORA": request.param, "BASE": "base/tiny", "PORT": str(port)}
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
           "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}  # fmt: skip
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    log = root / f"server-{request.param}.log"
    with log.open("wb") as out, subprocess.Popen(
        ["bash", "vllm/serve.sh", "--enforce-eager"], cwd=root, stdout=out, stderr=out,
        env={**inherited, **own, **told}, start_new_session=True,
    ) as server:  # fmt: skip
        try:
            _wait(server, port, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            _stop(server)


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + LONGEST
    while time.monotonic() < end and server.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(1)
    pytest.fail(f"vLLM did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """It and its workers, which are a group of their own."""
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def judge(url, root, monkeypatch) -> ServerJudge:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return ServerJudge.open(f"openai:{url}#minicrit-critic@{root / 'vllm'}")


def odds(p) -> np.ndarray:
    return np.log(np.array(p)) - np.log1p(-np.array(p))


def test_verdicts_are_those_of_the_critic_by_its_threshold(judge, critic):
    """So closely that the weights are in float32."""
    here, there = critic.p_flawed(PLAIN), judge.p_flawed(PLAIN)
    assert odds(there) == pytest.approx(odds(here), abs=1e-4)
    assert np.ptp(here) > 0.01
    for ours, theirs in zip(critic.verdict(PLAIN), judge.verdict(PLAIN), strict=True):
        assert (theirs.label, theirs.threshold, theirs.calibrated, theirs.adapter) == (
            ours.label, ours.threshold, True, ours.adapter,
        )  # fmt: skip


def test_tokens_are_those_of_the_critic(judge, critic):
    for text in ("a  12 b", "  3\n\n 3,5", "x_y  \u00e9\n z", "\u670d\u52a1\u5668", PLAIN[0][1]):
        assert judge.server.ids(text) == critic.encoder.ids(text), text
    assert judge.encoder.opening == critic.encoder.opening == []
    assert judge.encoder.verdict_words == critic.encoder.verdict_words


def test_what_is_echoed_is_what_is_listed(judge, critic):
    prompt = critic.encoder.prompt(*PLAIN[0])
    listed = judge.server.next_token(prompt, 20)
    assert len(listed) == 20
    for token in sorted(listed, key=lambda i: listed[i])[:2]:
        assert judge.server.echoed([*prompt, token]) == pytest.approx(listed[token], abs=1e-4)


def test_it_writes_what_the_critic_writes(judge, critic):
    critic.grounded = False  # as the server writes
    ours = critic.critique(PLAIN, max_new_tokens=12)
    theirs = judge.critique(PLAIN, max_new_tokens=12)
    assert [w.text for w in theirs] == [w.text for w in ours]
    assert len(ours[0].text) > len("Verdict: flawed")


def test_control_tokens_and_long_texts_are_unscored_with_the_reason(judge):
    long = ("general", "so " * ROOM)
    assert np.isnan(judge.p_flawed([MARKED, long, PLAIN[0]])).tolist() == [True, True, False]
    assert judge.reasons == {MARKED: CONTROL, long: "too long"}


def test_the_longest_text_that_fits_is_read_and_one_more_is_told_apart(judge, critic):
    words = critic.encoder.verdict_words.values()
    after = len(critic.encoder.lead_in) + max(map(len, words))
    letters = next(n for n in range(ROOM) if _size(critic, n) + after == ROOM - 1)
    items = [("general", "x " * n) for n in (letters, letters + 1)]
    assert np.isnan(judge.p_flawed(items)).tolist() == [False, True]
    assert judge.reasons == {items[1]: "too long"}


def _size(critic: Critic, letters: int) -> int:
    return len(critic.encoder.prompt("general", "x " * letters))


def test_a_prompt_that_the_server_finds_too_long_ends_no_run(judge, monkeypatch):
    """Were the judge not told how much fits, the server's own refusal would be read."""
    monkeypatch.setattr(judge.encoder, "max_tokens", 4096)
    long = ("general", "so " * ROOM)
    assert np.isnan(judge.p_flawed([long, PLAIN[0]])).tolist() == [True, False]
    assert judge.reasons == {long: "too long"}


def test_the_base_is_read_zero_shot_beside_its_module(url, root, judge):
    """Words that are not among the 20 likeliest are asked for by their echo."""
    if len(judge.server.models()) == 1:
        pytest.skip("the merged model has no base beside it")
    base = ServerJudge.open(f"openai:{url}#tiny")
    here = Critic.load("tiny", base_folder=root / "base").p_flawed(PLAIN)
    assert odds(base.p_flawed(PLAIN)) == pytest.approx(odds(here), abs=1e-4)
