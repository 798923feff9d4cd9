"""The Python client, against the service and against a server that is busy."""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from minicrit.serving.client import Client, ServiceError
from minicrit.serving.keys import make_key
from tests.minicrit.serving.running import items, running


def test_answers_are_those_of_the_critic(live, critic):
    asked = items(5, start=70)
    with Client(live.url) as client:
        found = client.verdicts(asked)
        (written,) = client.critiques(asked[:1])
        one = client.verdict(asked[0][1], domain=asked[0][0])
    assert [a.p_flawed for a in found] == pytest.approx(critic.p_flawed(asked), abs=1e-6)
    assert one.cached
    assert (one.label, one.valid) == (found[0].label, found[0].label == "valid")
    assert written.text == critic.critique(asked[:1], max_new_tokens=8)[0].text


def test_feedback_outcome_state(live):
    with Client(live.url) as client:
        answer = client.verdict("It held before, so it holds.")
        corrected = {"label": "flawed", "flaw_type": "small_sample",
                     "evidence": {"start": 0, "end": 7}}  # fmt: skip
        number = client.feedback(answer.request_id, "correct", operator="ann", **corrected)
        assert client.feedback(answer.request_id, "agree", operator="bob") > number
        assert client.outcome(answer.request_id, 1.5, "it held") == 1
        assert client.state()["decisions"] >= 2
        assert client.precedents("It held.") == []  # none are kept here
        kept = live.service.store.request(answer.request_id)["decisions"]
    assert [d["operator"] for d in kept] == ["ann", "bob"]


def test_refusals_are_errors_with_the_services_words(live):
    with Client(live.url) as client:
        with pytest.raises(ServiceError, match=r"422: .*rationale") as refused:
            client.verdict(" ")
        assert (refused.value.status, refused.value.code) == (422, "unprocessable")
    with (
        Client("http://127.0.0.1:9", timeout_s=2) as client,
        pytest.raises(ServiceError, match="is the service running") as refused,
    ):
        client.verdict("x")
    assert refused.value.code == "unreachable"


def test_a_key_is_sent(critic, tmp_path, monkeypatch):
    key = make_key(tmp_path / "keys.json", "ann")
    with running(critic, tmp_path, key_file=tmp_path / "keys.json") as live:
        with Client(live.url) as client, pytest.raises(ServiceError, match="401"):
            client.state()
        monkeypatch.setenv("MINICRIT_API_KEY", key)
        with Client(live.url) as client:
            assert client.verdict("It held.").label in ("valid", "flawed")


@contextmanager
def serving(handler):
    """The address of a server of these requests."""
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("body", [
    b"<html>It works!</html>", b"", b"[]", b"null", b'"ok"', b"{}", b'{"results": 3}',
    b'{"results": []}', b'{"results": [{}]}', b'{"results": [{"label": "valid"}]}',
    b'{"feedback_id": "x", "outcome_id": null, "precedents": 3}',
    b"[" * 100_000,
])  # fmt: skip
def test_an_answer_of_something_else_is_said_to_be_that(body):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            # Closed with something unread, a connection is reset, with it what was not yet sent.
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with serving(Handler) as url, Client(url) as client:
        for ask in (lambda: client.verdict("x"), lambda: client.critique("x"),
                    lambda: client.feedback("r", "agree", operator="ann"),
                    lambda: client.outcome("r", 1.0), lambda: client.precedents("x")):  # fmt: skip
            with pytest.raises(ServiceError, match=r"of this service, got .*; check") as said:
                ask()
            assert (said.value.status, said.value.code) == (200, "unknown")


def test_an_answer_that_takes_too_long_is_no_service_that_is_down():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            Client(url, timeout_s=0.2) as client,
            pytest.raises(ServiceError, match=r"within 0\.2 s, got none; send fewer at once or"),
        ):
            client.state()


@pytest.fixture
def busy():
    """Refuses so often, then answers; notes when it was asked."""
    left = [(429, "1"), (503, None)]
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, after = left.pop(0) if left else (200, None)
            body = b'{"requests": 3}' if status == 200 else (
                b'{"error": {"code": "busy", "message": "full", "remedy": "wait"}}')  # fmt: skip
            self.send_response(status)
            if after:
                self.send_header("Retry-After", after)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with serving(Handler) as url:
        yield url, left, asked


def test_a_busy_service_is_asked_again_when_it_says(busy, monkeypatch):
    url, _, asked = busy
    waits = []
    monkeypatch.setattr("minicrit.serving.client.time.sleep", waits.append)
    with Client(url) as client:
        assert client.state() == {"requests": 3}
    assert len(asked) == 3
    assert 1.0 <= waits[0] <= 1.25  # as it said
    assert 1.0 <= waits[1] <= 1.25  # it said nothing: twice half a second


def test_patience_ends(busy, monkeypatch):
    url, left, asked = busy
    left[:] = [(429, "100")] * 9
    monkeypatch.setattr("minicrit.serving.client.time.sleep", lambda _: None)
    with Client(url, patience_s=50) as client, pytest.raises(ServiceError, match="429: full; wait"):
        client.state()
    assert len(asked) == 1


@pytest.mark.parametrize("status", [200, 401])
def test_a_server_that_repeats_what_it_is_sent_gets_no_key_into_a_message(status, monkeypatch):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            said = {"code": "x", "message": self.headers["Authorization"], "remedy": "none"}
            body = json.dumps({"error": said}).encode() if status == 401 else said["message"]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else body.encode())

        def log_message(self, *_):
            pass

    monkeypatch.setenv("MINICRIT_API_KEY", "mc_of_the_environment")
    with serving(Handler) as url:
        for given in (None, "mc_of_the_caller"):
            with (
                Client(url, key=given) as client,
                pytest.raises(ServiceError, match=r"Bearer \(MINICRIT_API_KEY\)") as said,
            ):
                client.state()
            assert "mc_of" not in str(said.value)


@pytest.mark.parametrize("host", ["ann:hunter2@h:80", "ann:hun/ter2@h", "h/?as=ann:hunter2@h"])
def test_an_address_with_a_password_is_refused_and_not_shown(host):
    with pytest.raises(ValueError, match=r"url: .* without a name or password, got one") as said:
        Client(f"http://{host}")
    assert "ter2" not in str(said.value)


@pytest.mark.parametrize("url", ["http://h:80x", "127.0.0.1:8765", "", "ftp://h", "http://", "/v1"])
def test_an_address_that_is_none_is_refused(url):
    """Before anything is asked, which was told to look whether the service runs."""
    with pytest.raises(ValueError, match=rf"^url: expected an address like .*, got {url or 'no'}"):
        Client(url)


@pytest.mark.parametrize("key", ["mc_\u00e4", "mc_a\nb", "mc_a b"])
def test_a_key_that_no_header_may_hold_is_refused_and_not_shown(key):
    with pytest.raises(ValueError, match=r"^key: expected one key of printable ASCII") as said:
        Client(key=key)
    assert "mc_" not in str(said.value)


def test_what_json_cannot_hold_is_refused_as_everything_else(live):
    with Client(live.url) as client:
        for ask, said in ((lambda: client.verdict("a \ud800"), "surrogates"),
                          (lambda: client.outcome("0" * 32, float("nan")), "not JSON compliant"),
                          (lambda: client.verdict(b"a"), "bytes is not JSON")):  # fmt: skip
            with pytest.raises(ServiceError, match=f"got .*{said}.*; mend it") as error:
                ask()
            assert (error.value.code, error.value.status) == ("bad_request", None)
