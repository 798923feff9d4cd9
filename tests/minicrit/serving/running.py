"""A service on a free port, over the tiny base, asked over real HTTP."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI

from minicrit.critic import Critic
from minicrit.serving.gatehouse import Gatehouse
from minicrit.serving.serve import (
    Server,
    application,
    begin_to_listen,
    bound,
    keys_of,
    server_of,
)
from minicrit.serving.service import Service
from minicrit.serving_config import ServeConfig

BOOK = (
    "The last %d trades that were opened on a Monday gained, so the next one will gain.",
    "Of %d patients all got better within a week, so the drug helps everybody.",
    "%d of 40 alarms were false, so this one is false too; nobody needs to look.",
    "It rained on %d days in May, so the river will rise, and I am certain of it.",
)
DOMAINS = ("trading", "medical", "cybersecurity", "planning", "general", "defense")


def items(count: int, start: int = 0) -> list[tuple[str, str]]:
    """Different rationales, of different lengths and domains."""
    return [(DOMAINS[at % 6], BOOK[at % 4] % at + " It is so." * (at % 5))
            for at in range(start, start + count)]  # fmt: skip


@dataclass
class Running:
    """A service that runs.

    Attributes:
        app: the application behind the gatehouse.
        http: a client of it.
    """

    url: str
    server: Server
    app: FastAPI
    http: httpx.Client

    @property
    def service(self) -> Service:
        return self.app.state.service

    def ask(self, path: str, body: object, **headers: str) -> httpx.Response:
        return self.http.post(path, json=body, headers=headers)

    def judge(self, *asked: tuple[str, str], kind: str = "verdict") -> list[dict]:
        rows = [{"domain": domain, "rationale": text} for domain, text in asked]
        answer = self.ask(f"/v1/{kind}", {"items": rows})
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]


def raw(url: str, request: bytes) -> bytes:
    """What comes back for bytes that no client would send."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as line:
        line.sendall(request)
        found = b""
        while part := line.recv(65536):
            found += part
    return found


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def config_of(folder: Path, **settings: object) -> ServeConfig:
    given = {"model": "tiny", "port": 0, "database": folder / "feedback.sqlite3",
             "answers": folder / "answers.sqlite3", "precedents": None, "max_new_tokens": 8,
             "drain_s": 10.0, **settings}  # fmt: skip
    return ServeConfig(**given)  # type: ignore[arg-type]


@contextmanager
def running(critic: Critic, folder: Path, **settings: object) -> Iterator[Running]:
    """Serves in a thread of this process; what waits is answered before it ends."""
    config = config_of(folder, **settings)
    with bound(config) as listener:
        gate = application(config, critic, keys_of(config), folder)
        assert isinstance(gate, Gatehouse)
        app = gate._app
        assert isinstance(app, FastAPI)
        server = server_of(config, gate)
        begin_to_listen(listener, config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.005)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
                yield Running(url, server, app, http)
        finally:
            server.should_exit = True
            thread.join()
