"""The MCP server over real standard input and output, as agents start it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from minicrit import __version__
from minicrit.serving import mcp_server
from tests.minicrit.serving.running import items

ROOT = Path(__file__).parents[3]
SWANS = "Three of three swans were white, so all swans are white."


def started(*argv):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return StdioServerParameters(command=sys.executable, args=["-m", "minicrit.cli", "mcp", *argv],
                                 env=env)  # fmt: skip


async def talk(server, *calls):
    """Tools and what each call gives: (is it an error, its text, its structure)."""
    async with Client(server, read_timeout_seconds=300) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        found = [await client.call_tool(name, arguments) for name, arguments in calls]
    texts = [part.text for r in found for part in r.content if isinstance(part, TextContent)]
    return tools, list(zip([r.is_error for r in found], texts,
                           [r.structured_content for r in found], strict=True))  # fmt: skip


@pytest.mark.slow
def test_over_real_stdio_with_a_critic_of_its_own(critic, tiny_folder):
    asked = items(3)
    server = started("--model", "tiny", "--base-folder", str(tiny_folder), "--max-new-tokens", "6")
    tools, found = asyncio.run(talk(
        server,
        ("validate_reasoning", {"rationale": SWANS}),
        ("batch_validate", {"rationales": [text for _, text in asked], "domain": "trading"}),
        ("validate_reasoning", {"rationale": "  "}),
        ("validate_reasoning", {"rationale": "a\u0000b"}),
        ("validate_reasoning", {"rationale": "\u4e2d" * 9000}),
        ("validate_reasoning", {"rationale": SWANS, "domain": "law"}),
    ))  # fmt: skip
    assert set(tools) == {"validate_reasoning", "batch_validate"}
    (written,) = critic.critique([("general", SWANS)], max_new_tokens=6)
    _, text, one = found[0]
    assert one["text"] == written.text
    assert one["p_flawed"] == pytest.approx(written.verdict.p_flawed, abs=1e-6)
    assert json.loads(text)["request_id"] == one["request_id"]
    assert {"valid", "severity", "critique", "confidence", "flags", "domain"} <= set(one)
    offline = critic.p_flawed([("trading", text) for _, text in asked])
    rows = found[1][2]["results"]
    assert [row["p_flawed"] for row in rows] == pytest.approx(offline, abs=1e-6)
    assert all(row["critique"] is None for row in rows)
    assert [error for error, _, _ in found] == [False, False, True, True, True, True]
    said = [text for _, text, _ in found[2:]]
    for part, text in zip(("fill it in", "control character", "tokens", "domain"), said,
                          strict=True):  # fmt: skip
        assert part in text
        assert "Traceback" not in text


def test_in_process(critic):
    server = mcp_server.server_of(mcp_server.local(critic, 6))
    assert server.version == __version__
    piled = "a" + "\u0315" * 9000 + "\u0300" * 9000
    _, found = asyncio.run(talk(server, ("validate_reasoning", {"rationale": SWANS}),
                                ("validate_reasoning", {"rationale": piled}),
                                ("batch_validate", {"rationales": [SWANS, piled]})))  # fmt: skip
    assert found[0][2]["text"] == critic.critique([("general", SWANS)], max_new_tokens=6)[0].text
    for (error, text, _), name in zip(found[1:], ("rationale", "rationales[1]"), strict=True):
        assert error
        assert f"{name}: expected at most 30 combining marks in a row" in text


@pytest.mark.parametrize(("bad", "said"), [
    ("  ", "expected a rationale, got "), ("\u4e2d" * 9000, "expected at most "),
    ("a\u0000b", "expected text with no control characters"),
])  # fmt: skip
def test_of_many_rationales_the_one_that_is_refused_is_named(critic, bad, said):
    """An agent that had sent a hundred could not tell which to mend."""
    server = mcp_server.server_of(mcp_server.local(critic, 6))
    _, found = asyncio.run(talk(server, ("batch_validate", {"rationales": [SWANS, bad, SWANS]})))
    ((error, text, _),) = found
    assert error
    assert f"rationales[1]: {said}" in text


def test_over_real_stdio_through_a_running_service(live):
    calls = [("validate_reasoning", {"rationale": SWANS, "critique": False}),
             ("validate_reasoning", {"rationale": "x " * 5000})]  # fmt: skip
    _, found = asyncio.run(talk(started("--url", live.url), *calls))
    live.service.recorder.settle_all()
    row = live.service.store.request(found[0][2]["request_id"])
    assert row["rationale"] == SWANS
    assert found[1][0]
    assert "422" in found[1][1]


BEGIN = {"id": 1, "method": "initialize", "params": {
    "protocolVersion": "2025-03-26", "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"}}}  # fmt: skip
CALL = {"name": "validate_reasoning", "arguments": {"rationale": SWANS}}
ASK = ({"method": "notifications/initialized"}, {"id": 2, "method": "tools/call", "params": CALL})


def send(process, *messages):
    for message in messages:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    process.stdin.flush()


@pytest.fixture
def heard():
    """Ctrl-C is heard by what is started, even if a script in the background began the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 85)])
def test_it_ends_when_it_is_told_to_although_nobody_closes_its_input(number, status, asked):
    """It was deaf to Ctrl-C until its input ended, or, while it was asked, until it had answered.

    The service that it asks never answers.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as service,
        subprocess.Popen(
            [sys.executable, "-m", "minicrit.cli", "mcp", "--url",
             f"http://127.0.0.1:{service.getsockname()[1]}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process,
        ExitStack() as held,
    ):  # fmt: skip
        try:
            send(process, BEGIN)
            assert b"serverInfo" in process.stdout.readline()
            if asked:
                send(process, *ASK)
                service.settimeout(20)
                held.enter_context(service.accept()[0])
            process.send_signal(number)
            assert process.wait(20) == status
            assert b"minicrit: " in process.stderr.read()
        finally:
            process.kill()
