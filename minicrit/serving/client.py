"""The service's client in Python.

with Client("http://127.0.0.1:8765") as critic:
    answer = critic.verdict("RSI is oversold, so it must rise.", domain="trading")
    if not answer.valid:
        critic.feedback(answer.request_id, "agree", operator="ann")
"""

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from minicrit.discreet import is_sendable, key_of, without_keys
from minicrit.jsonl import shown

KEY = "MINICRIT_API_KEY"
_Found = TypeVar("_Found")
_AGAIN = (429, 503)
_JSON = {"Content-Type": "application/json"}
_PAUSE_S = 0.5  # before the second try, where the service names no time; doubled each time


@dataclass(frozen=True)
class Evidence:
    """The span that carries the flaw; start and end are None if it is not there word for word."""

    text: str
    start: int | None
    end: int | None


@dataclass(frozen=True)
class Answer:
    """The answer to one rationale; the fields are those of `minicrit.verdict.Verdict`.

    Attributes:
        confidence: probability of the label said.
        certificate: what the threshold is certified for; None without a calibration, and where a
            router's general adapter judges.
        text: the critique as the critic wrote it; None for a plain verdict.
    """

    request_id: str
    valid: bool
    label: str
    p_flawed: float
    confidence: float
    threshold: float
    calibrated: bool
    unsure: bool
    certificate: Mapping[str, Any] | None
    flaw_type: str | None
    flags: tuple[str, ...]
    severity: str | None
    evidence: Evidence | None
    critique: str | None
    fix: str | None
    text: str | None
    domain: str
    model: str
    adapter: str | None
    prompt_version: str
    latency_ms: float
    cached: bool
    experiment: str | None
    arm: str | None


class ServiceError(ValueError):
    """The service refused a request, or could not be reached.

    Attributes:
        status: of HTTP; None if there was no answer.
        code: what kind of refusal; `unreachable` if there was no answer, `unknown` if it was not
            this service's, `bad_request` also for what cannot be sent.
    """

    def __init__(self, message: str, *, code: str, status: int | None) -> None:
        """Keeps status and code beside the message."""
        super().__init__(message)
        self.code, self.status = code, status


class Client:
    """Asks one service. It may be shared by threads."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8765",
        *,
        key: str | None = None,
        timeout_s: float = 120.0,
        patience_s: float = 60.0,
    ) -> None:
        """Opens nothing yet.

        Args:
            url: of the service.
            key: API key; by default the environment's MINICRIT_API_KEY, if there is one.
            timeout_s: seconds to wait for one answer.
            patience_s: seconds in all that a busy service (429, 503) is asked again for.

        Raises:
            ValueError: if that is no address, or one with a name or password in it; or if no header
                may hold the key.
        """
        if "@" in url:  # first, as messages show the address
            raise ValueError("url: expected an address without a name or password, got one; give "
                             f"a key in {KEY}")  # fmt: skip
        if key and not is_sendable(key):
            raise ValueError("key: expected one key of printable ASCII without blanks, got "
                             "something else (not shown); give the key alone")  # fmt: skip
        key = key or key_of(KEY)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._patience_s, self._timeout_s = patience_s, timeout_s
        try:
            self._http = httpx.Client(base_url=url, headers=headers, trust_env=False,
                                      timeout=httpx.Timeout(timeout_s, connect=10.0))  # fmt: skip
        except httpx.InvalidURL as error:
            raise _no_address(url, f": {error}") from error
        if self._http.base_url.scheme not in ("http", "https") or not self._http.base_url.host:
            raise _no_address(url)

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def verdict(self, rationale: str, *, domain: str = "general") -> Answer:
        """Whether a rationale is valid.

        Raises:
            ServiceError: if the service refuses it or stays busy; so do all methods.
        """
        return self.verdicts([(domain, rationale)])[0]

    def critique(self, rationale: str, *, domain: str = "general") -> Answer:
        """The same with a written critique."""
        return self.critiques([(domain, rationale)])[0]

    def verdicts(self, items: Sequence[tuple[str, str]]) -> list[Answer]:
        """Verdicts on (domain, rationale), in order."""
        return self._judged("/v1/verdict", items)

    def critiques(self, items: Sequence[tuple[str, str]]) -> list[Answer]:
        """Critiques of (domain, rationale), in order."""
        return self._judged("/v1/critique", items)

    def feedback(self, request_id: str, decision: str, *, operator: str, **more: Any) -> int:
        """Sends an operator's decision (agree, disagree, correct); its number once it is on disk.

        Args:
            request_id: of the answer.
            decision: what the operator says of it.
            operator: who decided.
            more: label, flaw_type, evidence, critique, note; and idempotency_key, without which
                one is made up, so that a request sent again counts once.
        """
        body = {"request_id": request_id, "decision": decision, "operator": operator,
                "idempotency_key": os.urandom(16).hex(), **more}  # fmt: skip
        return self._ask("POST", "/v1/feedback", lambda found: int(found["feedback_id"]), body)

    def outcome(self, request_id: str, value: float, note: str | None = None) -> int:
        """Sends what became of it; its number once it is on disk."""
        body = {"request_id": request_id, "value": value, "note": note}
        return self._ask("POST", "/v1/outcome", lambda found: int(found["outcome_id"]), body)

    def precedents(self, rationale: str, *, domain: str = "general", k: int = 5) -> list[Any]:
        """Rationales of the past that are most like this one."""
        body = {"rationale": rationale, "domain": domain, "k": k}
        return self._ask("POST", "/v1/precedents", lambda found: list(found["precedents"]), body)

    def state(self) -> dict[str, Any]:
        """Counts, agreement, false positives, experiments."""
        return self._ask("GET", "/v1/state", lambda found: {**found})

    def _judged(self, path: str, items: Sequence[tuple[str, str]]) -> list[Answer]:
        body = {"items": [{"domain": domain, "rationale": text} for domain, text in items]}

        def read(found: Any) -> list[Answer]:
            answers = [answer_of(row) for row in found["results"]]
            if len(answers) != len(items):
                raise ValueError
            return answers

        return self._ask("POST", path, read, body)

    def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Any], _Found],
        body: Mapping[str, Any] | None = None,
    ) -> _Found:
        """What `read` finds in the answer; asked again while patience lasts."""
        until, pause = time.monotonic() + self._patience_s, _PAUSE_S
        while True:
            response = self._once(method, path, body)
            if response.is_success:
                return _read(response, read)
            asked = _seconds(response.headers.get("Retry-After")) or pause
            wait = asked * random.uniform(1.0, 1.25)  # noqa: S311 - so that not all come at once
            if response.status_code not in _AGAIN or time.monotonic() + wait > until:
                raise _error(response)
            time.sleep(wait)
            pause *= 2

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        content = None if body is None else _encoded(body)
        try:
            return self._http.request(method, path, content=content, headers=_JSON)
        except httpx.HTTPError as error:
            late = isinstance(error, (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout))
            said = (
                f"expected an answer within {self._timeout_s:g} s, got none; send fewer at once "
                "or raise timeout_s"
                if late
                else f"expected an answer, got {type(error).__name__}; is the service running?"
            )
            raise ServiceError(f"{self._http.base_url}: {said}", code="unreachable",
                               status=None) from error  # fmt: skip


def _no_address(url: str, why: str = "") -> ValueError:
    return ValueError(f"url: expected an address like http://HOST:PORT, got {shown(url) or 'none'}"
                      f"{why}; mend it")  # fmt: skip


def _encoded(body: Mapping[str, Any]) -> bytes:
    """The body as JSON; what no JSON can hold is refused here, as the service would refuse it."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ServiceError(f"expected whole characters and finite numbers, got {shown(str(error))};"
                           " mend it", code="bad_request", status=None) from error  # fmt: skip


def answer_of(row: Mapping[str, Any]) -> Answer:
    """An answer from its JSON object; fields of a newer service are left out.

    Raises:
        KeyError: if there is no verdict in it.
    """
    known: dict[str, Any] = {field.name: row.get(field.name) for field in fields(Answer)}
    known |= {name: row[name] for name in _ALWAYS}
    evidence = Evidence(**known["evidence"]) if known["evidence"] else None
    known |= {"evidence": evidence, "flags": tuple(known["flags"] or ())}
    return Answer(**known)


#: Without these it is no answer.
_ALWAYS = ("request_id", "label", "valid", "p_flawed")


def _read(response: httpx.Response, read: Callable[[Any], _Found]) -> _Found:
    try:
        return read(response.json())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ServiceError(f"{response.request.url}: expected an answer of this service, got "
                           f"{shown(_keyless(response, response.text), 200) or 'nothing'}; "
                           "check the address",
                           code="unknown", status=response.status_code) from error  # fmt: skip


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None


def _error(response: httpx.Response) -> ServiceError:
    try:
        error = response.json()["error"]
        code, said = str(error["code"]), f"{error['message']}; {error['remedy']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        code, said = "unknown", "an answer that is not this service's"
    said = shown(_keyless(response, said), 500)
    return ServiceError(f"{response.request.url}: {response.status_code}: {said}",
                        code=code, status=response.status_code)  # fmt: skip


def _keyless(response: httpx.Response, said: str) -> str:
    """What was said without the key that was sent: another's server may repeat what it is sent."""
    key = response.request.headers.get("Authorization", "").removeprefix("Bearer ")
    return without_keys(said.replace(key, f"({KEY})") if key else said)
