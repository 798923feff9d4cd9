"""How a service ends that has not answered everything in the time it has for that."""

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.minicrit.serving.running import items, running, wait_for
from tests.minicrit.serving.test_service import Slow

#: The first question is that of the warm-up; the second one takes for ever.
ENDLESS = """
import sys
from pathlib import Path
import torch
from minicrit.cli import main
from minicrit.critic import Critic

asked, first = [], Critic.p_flawed

def p_flawed(critic, items, **options):
    asked.append(items)
    if len(asked) == 1:
        return first(critic, items, **options)
    print("asked", flush=True)
    x = torch.rand(300, 300)
    while True:
        x = torch.tanh(x @ x)

Critic.p_flawed = p_flawed
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_critic_that_does_not_finish_in_time_makes_no_crash_of_a_stop(
    tmp_path: Path, tiny_folder: Path
) -> None:
    """Python ended its thread within torch, which aborted the process: 134 and a core dump."""
    told = ["--serve.model", "tiny", "--base.folder", str(tiny_folder), "--serve.port", "0",
            "--serve.database", str(tmp_path / "store.db"), "--serve.precedents", "null",
            "--serve.answers", str(tmp_path / "answers.db"), "--serve.drain_s", "1"]  # fmt: skip
    command = [sys.executable, "-c", ENDLESS, "serve", *told]
    log = tmp_path / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
        ThreadPoolExecutor(1) as pool,
    ):
        try:
            while not (found := re.search(r"http://\S+:\d+", log.read_text())):
                assert process.poll() is None, log.read_text()
            asking = pool.submit(httpx.post, f"{found[0]}/v1/verdict", timeout=60,
                                 json={"rationale": "It rained."}, trust_env=False)  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == b"asked\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()
        finally:
            process.kill()
        assert "some requests were not answered within 1 s" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert asking.result().status_code == 503


def test_who_gets_no_answer_before_the_end_is_told_to_ask_again(critic, tmp_path, caplog):
    """It was a 500 in words that are not ours, which no client tries again, and a traceback."""
    held = Slow(critic)
    with running(held, tmp_path, drain_s=1.0) as live, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(live.ask, "/v1/verdict", {"rationale": items(1)[0][1]})
        wait_for(lambda: held.seen)
        live.server.should_exit = True
        answer = asking.result(timeout=20)
        held.leave.release()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["code"] == "unavailable"
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in caplog.text
