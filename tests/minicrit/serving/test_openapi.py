"""What schemathesis makes up from the service's own OpenAPI never gets 5xx."""

import subprocess
import sys

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

ASKED = ("/v1/verdict", "/v1/feedback", "/v1/outcome", "/v1/precedents", "/v1/chat/completions",
         "/v1/queue")  # fmt: skip


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_made_up_requests_get_no_5xx(live, path, mode):
    schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
    (operation,) = [o.ok() for o in schema.get_all_operations() if o.ok().path == path]
    statuses = set()

    @settings(max_examples=6, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck), phases=[Phase.generate])  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        answer = case.call(base_url=live.url)
        statuses.add(answer.status_code)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"code", "message", "remedy", "request_id"}

    ask()
    assert statuses


@pytest.mark.slow
def test_schemathesis_finds_no_5xx(live, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{live.url}/openapi.json", "--checks",
         "not_a_server_error", "--mode", "all", "--max-examples", "50", "--seed", "1",
         "--suppress-health-check", "all", "--continue-on-failure"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "test cases" in done.stdout.lower() or "passed" in done.stdout.lower()
