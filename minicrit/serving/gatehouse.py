"""What every request passes first: its id, its host, its key, its size, and whether it is JSON.

An ASGI application around another one. It also notes how each request ended: a line of the log, in
which no rationale stands, and the figures for Prometheus.
"""

import asyncio
import ipaddress
import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minicrit.jsonl import RefusedError, parse_object, shown
from minicrit.serving.instruments import Instruments
from minicrit.serving.keys import Keys
from minicrit.serving.refusals import RefusalError, internal, stopping
from minicrit.serving.results import new_id

log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OPEN = ("/", "/healthz", "/readyz")  # and the console's files: pages without data
_MOST_VALUES = 10_000  # of a body, nested ones too; a hundred rationales have 400
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)  # its end may be missing
_READ_ON = 16  # times the limit: so much is read and thrown away, so that the caller hears why
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; 127.0.0.1.evil.example is a name, not one."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass
class Visit:
    """One request on its way; under `minicrit` in its scope.

    Attributes:
        request_id: of the request; the caller's own if it sent a plain one.
        facts: more for its line in the log.
    """

    request_id: str
    start: float = field(default_factory=time.perf_counter)
    status: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


class Gatehouse:
    """Stands before the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        instruments: Instruments,
        posted: frozenset[str],
        most_bytes: int,
        body_s: float,
    ) -> None:
        """Takes its measures.

        Args:
            app: what is asked.
            keys: of which one is asked for.
            instruments: that note how each request ended.
            posted: paths under which the application takes a body; of no other one is read.
            most_bytes: of a body.
            body_s: seconds in which it has to arrive.
        """
        self._app, self._keys, self._instruments = app, keys, instruments
        self._posted, self._most_bytes, self._body_s = posted, most_bytes, body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        # Who asks whether a page is there is told as who reads it; uvicorn leaves the body out.
        scope = {**scope, "method": "GET" if method == "HEAD" else method}
        scope["minicrit"] = visit = Visit(new_id())

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
                own = [(b"x-request-id", visit.request_id.encode()), *_HEADERS]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        try:
            await self._app(scope, await self._admitted(scope, receive, visit), sending)
        except RefusalError as error:
            await refuse(sending, error, visit.request_id)
        except asyncio.CancelledError:  # by uvicorn, of what takes too long while it stops
            await _excuse(sending, stopping(), visit)
        except Exception:  # the caller gets an answer, the log the traceback
            log.exception("request %s failed", visit.request_id)
            await _excuse(sending, internal(), visit)
        finally:
            self._note(method, scope, visit)

    async def _admitted(self, scope: Scope, receive: Receive, visit: Visit) -> Receive:
        """The rest of the request, whose body, if it should have one, is strict JSON."""
        headers = {name.decode("latin-1"): value.decode("latin-1")
                   for name, value in scope["headers"]}  # fmt: skip
        if own := headers.get("x-request-id"):
            if not _ID.fullmatch(own):
                raise RefusalError("bad_request", "X-Request-Id: expected up to 64 letters, "
                                   f"digits, dots, dashes, got {own}", "leave it out")  # fmt: skip
            visit.request_id = own
        self._check_host(headers)
        self._check_key(scope, headers, visit)
        body = b""
        if scope["method"] == "POST" and scope["path"] in self._posted:
            body = await self._body(receive, headers)
            _check_json(body, headers)
        return _again(body, receive)

    def _check_host(self, headers: Mapping[str, str]) -> None:
        """Without keys, no page of another site may reach us, whatever name it calls us by."""
        if self._keys:
            return
        asked = headers.get("host", "")
        host = re.sub(r":\d+$", "", asked)
        if not is_loopback(host.removeprefix("[").removesuffix("]")):
            raise RefusalError("misdirected", f"Host: expected the loopback, got {host!r}",
                               "ask under 127.0.0.1 or localhost, or serve with keys")  # fmt: skip
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != asked.lower():
            raise RefusalError("misdirected", f"Origin: expected a page of {asked}, got one of "
                               f"{origin!r}", "ask from no page, or serve with keys")  # fmt: skip

    def _check_key(self, scope: Scope, headers: Mapping[str, str], visit: Visit) -> None:
        """Before anything of a body is read; only what is open to all needs none."""
        path = scope["path"]
        page = path in _OPEN or path.startswith("/console/")
        if not self._keys or (page and scope["method"] == "GET"):
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        owner = self._keys.owner(key.strip()) if scheme.lower() == "bearer" else None
        if owner is None:
            raise RefusalError("unauthorized", "expected an API key of this service, got none or "
                               "another", "send it as Authorization: Bearer KEY")  # fmt: skip
        visit.facts["key"] = owner

    async def _body(self, receive: Receive, headers: Mapping[str, str]) -> bytes:
        try:
            async with asyncio.timeout(self._body_s):
                return await self._read(receive, int(headers.get("content-length", "0")))
        except TimeoutError as error:
            raise RefusalError("timeout", f"expected the whole request within {self._body_s:g} s, "
                               "got a part of it", "send it faster") from error  # fmt: skip
        except ValueError as error:
            raise RefusalError("bad_request", "Content-Length: expected a number, got something "
                               "else", "leave it to your client") from error  # fmt: skip

    async def _read(self, receive: Receive, announced: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while size <= _READ_ON * self._most_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusalError("gone", "the caller went away", "stay")
            size += len(message.get("body", b""))
            if size <= self._most_bytes:
                parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        if max(size, announced) > self._most_bytes:
            raise RefusalError("too_large", f"expected a body of at most {self._most_bytes} bytes, "
                               f"got {max(size, announced)}", "send fewer rationales")  # fmt: skip
        return b"".join(parts)

    def _note(self, method: str, scope: Scope, visit: Visit) -> None:
        path = getattr(scope.get("route"), "path", "other") or "other"
        spent = time.perf_counter() - visit.start
        self._instruments.requests.labels(path, str(visit.status)).inc()
        self._instruments.latency.labels(path).observe(spent)
        row = {"request_id": visit.request_id, "method": method, "path": path,
               "status": visit.status, "ms": round(1000 * spent, 1), **visit.facts}  # fmt: skip
        log.info("%s", json.dumps(row))


async def _excuse(send: Send, error: RefusalError, visit: Visit) -> None:
    """Sends a refusal, unless an answer was begun."""
    if not visit.status:
        await refuse(send, error, visit.request_id)


async def refuse(send: Send, error: RefusalError, request_id: str) -> None:
    """Sends a refusal."""
    body = json.dumps(error.to_row(request_id)).encode()
    given = {"Content-Type": "application/json", "Content-Length": str(len(body)), **error.headers}
    headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _check_json(body: bytes, headers: Mapping[str, str]) -> None:
    """Of a page of another site, a browser sends no JSON without asking us first."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusalError("unsupported_media_type", "Content-Type: expected application/json, got "
                           f"{shown(kind) or 'none'}", "send JSON")  # fmt: skip
    if _is_crowded(body):
        raise RefusalError("too_large", f"expected a body of fewer than {_MOST_VALUES} values, "
                           "got more", "send fewer rationales")  # fmt: skip
    try:
        parse_object(body)
    except RefusedError as error:
        raise RefusalError("bad_request", f"body: expected {error.expected}, got {error.got}",
                           error.remedy) from error  # fmt: skip


def _is_crowded(body: bytes) -> bool:
    """Whether JSON has too many strings, or other values, by one look through it.

    The event loop parses it, and makes an object of each value and a fault of each that should not
    be there: a million of them, in the 4 MB of a body, kept everybody else waiting for seconds.
    """
    between = _STRING.split(body, _MOST_VALUES)
    marks = sum(part.count(mark) for part in between for mark in (b",", b"[", b"{"))
    return max(len(between) - 1, marks) >= _MOST_VALUES


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read once more, then what comes after it."""
    told = False

    async def receiving() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving
