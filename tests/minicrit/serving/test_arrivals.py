"""No connection keeps us waiting for good, whatever it leaves undone."""

import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from minicrit.serving.arrivals import _place_of
from minicrit.serving.descriptors import SLACK
from tests.minicrit.serving.console_case import put
from tests.minicrit.serving.running import Running, running, wait_for

HOST = b"Host: 127.0.0.1\r\n"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def lines():
    with ExitStack() as stack:
        yield stack


def connect(live: Running, lines: ExitStack, source: str = "127.0.0.1") -> socket.socket:
    place = urlsplit(live.url)
    return lines.enter_context(socket.create_connection((place.hostname, place.port), timeout=10,
                                                        source_address=(source, 0)))  # fmt: skip


def rest_of(line: socket.socket) -> bytes:
    """What comes until the end of a connection, however it ends."""
    found = b""
    try:
        while part := line.recv(1 << 20):
            found += part
    except ConnectionError:
        pass
    return found


def judging(text: bytes) -> bytes:
    body = b'{"rationale": "%b"}' % text
    head = b"POST /v1/verdict HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_who_does_not_take_an_answer_is_cut_off(critic, tmp_path, lines):
    """Without it, so many as there may be keep everybody else out for good."""
    with running(critic, tmp_path, body_s=1.5, most_connections=4) as live:
        for name in "abc":
            put(live, f"{name}: " + "\u4e2d" * 1_000_000)
        whole = live.http.get("/v1/queue").content
        held = [connect(live, lines) for _ in range(3)]
        for line in held:
            line.sendall(b"GET /v1/queue HTTP/1.1\r\n" + HOST + b"\r\n")
        wait_for(lambda: httpx.get(f"{live.url}/readyz", trust_env=False).status_code == 503)
        wait_for(lambda: httpx.get(f"{live.url}/readyz", trust_env=False).status_code == 200)
        wait_for(lambda: len(live.server.server_state.connections) == 1)
        assert all(len(rest_of(line)) < len(whole) for line in held)
        assert live.http.get("/v1/queue").content == whole  # who takes it gets it


def test_a_body_that_goes_on_after_its_answer_is_cut_off(critic, tmp_path, lines):
    with running(critic, tmp_path, body_s=0.4) as live:
        line = connect(live, lines)
        line.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        assert line.recv(65536).startswith(b"HTTP/1.1 200")
        line.settimeout(0.05)
        start = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() < start + 3:
                with suppress(TimeoutError):
                    line.sendall(b"1\r\nx\r\n")
                    if not line.recv(1):
                        break
        assert 0.3 < time.monotonic() - start < 3


def test_who_asks_again_before_the_answer_gets_that_answer_and_no_other(critic, tmp_path, lines):
    asked = b"GET /readyz HTTP/1.1\r\n" + HOST + b"\r\n"
    with running(critic, tmp_path, window_ms=400.0) as live:
        at_once, later = connect(live, lines), connect(live, lines)
        at_once.sendall(asked * 3)
        assert re.findall(rb"HTTP/1.1 (\d+)", rest_of(at_once)) == [b"200"]
        later.sendall(judging(b"It held."))
        time.sleep(0.1)
        later.sendall(asked)
        assert re.findall(rb"HTTP/1.1 (\d+)", rest_of(later)) == [b"200"]
        gone = connect(live, lines)
        for part in (judging(b"It broke."), asked):
            gone.sendall(part)
            time.sleep(0.1)
        gone.close()
        wait_for(lambda: live.service.instruments.vanished._value.get() == 1)


def test_connections_far_beyond_the_limit_are_closed_as_they_come(critic, tmp_path, lines, caplog):
    """Silent ones took all files that may be open; who came before is served all the same."""
    with running(critic, tmp_path, most_connections=4) as live:
        assert live.http.get("/readyz").status_code == 200
        held = [connect(live, lines) for _ in range(3 + SLACK)]
        wait_for(lambda: len(live.server.server_state.connections) == 4 + SLACK)
        beyond = [connect(live, lines) for _ in range(100)]
        assert [rest_of(line) for line in beyond] == [b""] * 100
        assert len(live.server.server_state.connections) == 4 + SLACK
        assert live.http.get("/readyz").status_code == 200
        for line, status in ((held[0], b"200"), (held[-1], b"503")):
            line.sendall(b"GET /readyz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
            assert rest_of(line).startswith(b"HTTP/1.1 " + status)
    assert sum("closed as they come" in r.getMessage() for r in caplog.records) == 1


def test_who_holds_most_places_and_asks_nothing_keeps_no_other_out(critic, tmp_path, lines):
    """One address held all of them, silently, and everybody else was told 503."""
    asked = b"GET /readyz HTTP/1.1\r\n" + HOST + b"\r\n"
    with running(critic, tmp_path, most_connections=4) as live:
        held = [connect(live, lines) for _ in range(4 + SLACK)]
        wait_for(lambda: len(live.server.server_state.connections) == 4 + SLACK)
        other = connect(live, lines, "127.0.0.2")
        other.sendall(asked)
        assert other.recv(65536).startswith(b"HTTP/1.1 200")
        assert rest_of(held[0]) == b""  # the oldest gave way
        wait_for(lambda: len(live.server.server_state.connections) == 4 + SLACK)
        held[-1].sendall(asked)  # for its own place nothing has changed
        assert held[-1].recv(65536).startswith(b"HTTP/1.1 503")


def test_who_is_answered_gives_way_to_nobody_nor_do_equals(critic, tmp_path, lines):
    asked = b"GET /readyz HTTP/1.1\r\n" + HOST + b"\r\n"
    with running(critic, tmp_path, most_connections=2, window_ms=1500.0) as live:
        busy = [connect(live, lines) for _ in range(2)]
        for line in busy:
            line.sendall(judging(b"It held."))
        wait_for(lambda: live.service.panel.desk.worker.waiting == 2)
        for source in ("127.0.0.2", "127.0.0.3"):
            line = connect(live, lines, source)
            line.sendall(asked)
            assert line.recv(65536).startswith(b"HTTP/1.1 503")
        assert all(line.recv(65536).startswith(b"HTTP/1.1 200") for line in busy)


@pytest.mark.parametrize(("first", "second", "same"), [
    ("10.0.0.1", "10.0.0.2", False), ("10.0.0.1", "::ffff:10.0.0.1", True),
    ("2001:db8::1", "2001:db8::ffff:1", True), ("2001:db8::1", "2001:db8:0:1::1", False),
    ("fe80::1%eth0", "fe80::1", True),
])  # fmt: skip
def test_a_network_of_ipv6_is_one_place(first, second, same):
    assert (_place_of((first, 1)) == _place_of((second, 2))) is same
    assert _place_of(None) == ""


ROOM = """
import resource
from minicrit.serving.descriptors import make_room
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1700))
make_room(1000)
assert 1000 < resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1700
make_room(10)
make_room(2000)
"""


def test_the_limit_of_open_files_is_raised_or_the_service_does_not_start():
    done = subprocess.run([sys.executable, "-c", ROOM], cwd=ROOT, capture_output=True, text=True,
                          check=False)  # fmt: skip
    said = "ValueError: serve.most_connections: expected at most 1028, as 1700 files may be open, "
    assert done.stderr.splitlines()[-1].startswith(said + "got 2000; lower it, or raise")
