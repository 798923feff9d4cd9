"""Any server that speaks OpenAI's chat protocol: llama.cpp, vLLM, LM Studio and many others."""

from collections.abc import Mapping
from typing import Any

import httpx

from data_gen.backends.address import place_of
from data_gen.backends.protocol import (
    UNREADABLE,
    Answer,
    Request,
    Stop,
    TryAgainError,
    UnanswerableError,
    Usage,
    hidden,
    http_error,
    usage_of,
)
from minicrit.discreet import key_of

_OK, _REFUSED = 200, 400
#: Failures of transport before anything was sent, so nothing can have been charged.
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
#: Failures of one request that would come again, with which status ever: a prompt that does not fit
#: (as llama.cpp, OpenAI and vLLM call it), an answer that llama.cpp itself cannot take apart, and a
#: prompt that a filter of Azure's or OpenAI's takes for harm.
_OF_ITS_OWN = (
    "exceed_context_size_error",
    "context_length_exceeded",
    "maximum context length",
    "does not match the expected",
    "invalid_prompt",
    "content_policy_violation",
    "content_filter",
)
_CHARGED = "content_filter"  # Azure charges for reading what it then refuses
#: What bounds an answer. OpenAI's reasoning models refuse the first and name the second, which
#: many other servers do not know and would not heed: an answer without bound.
_BOUND, _NEWER_BOUND = "max_tokens", "max_completion_tokens"


class OpenAILike:
    """One model of such a server. A key, where one is needed, comes from OPENAI_API_KEY."""

    def __init__(self, model: str, *, url: str, timeout: float = 300.0) -> None:
        """`url` with or without `/v1`; `timeout` in seconds for one attempt."""
        self.model = model
        self._client = client_of(url, timeout)
        self._bound = _BOUND

    @property
    def identity(self) -> Mapping[str, Any]:  # noqa: D102
        place = place_of(str(self._client.base_url))
        return {"backend": "openai", "model": self.model, "url": place}

    def ask(self, request: Request) -> Answer:  # noqa: D102
        bound = self._bound
        response = self._posted(request, bound)
        if bound == _BOUND and response.status_code == _REFUSED and _NEWER_BOUND in response.text:
            self._bound = _NEWER_BOUND  # nothing was charged, and all later ones begin with it
            response = self._posted(request, _NEWER_BOUND)
        if response.status_code != _OK:
            raise failure(response)
        try:
            return _answer(response.json())
        except UNREADABLE as error:
            got = hidden(response.text)[:80]  # it may have been charged all the same
            raise TryAgainError(f"expected a chat completion, got {got!r}", lost=True) from error

    def _posted(self, request: Request, bound: str) -> httpx.Response:
        try:
            return self._client.post("/v1/chat/completions", json=self._body(request, bound))
        except httpx.RequestError as error:  # a body that cannot be unzipped is none of transport
            lost = not isinstance(error, UNSENT)
            raise TryAgainError(f"{type(error).__name__}: {error}", lost=lost) from error

    def _body(self, request: Request, bound: str) -> dict[str, Any]:
        schema = {"name": "answer", "schema": dict(request.schema), "strict": True}
        return {
            "model": self.model,
            bound: request.max_tokens,
            "seed": request.draw,
            "messages": [
                {"role": "system", "content": request.system},
                {"role": "user", "content": request.prompt},
            ],
            "response_format": {"type": "json_schema", "json_schema": schema},
        }


def client_of(url: str, timeout: float) -> httpx.Client:
    """A client of a server's root, whose address may end in `/v1`, with the key if there is one."""
    key = key_of("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    root = url.rstrip("/").removesuffix("/v1")
    return httpx.Client(base_url=root, headers=headers, timeout=timeout)


def failure(response: httpx.Response) -> Exception:
    """What an answer of another status stands for."""
    if any(kind in response.text for kind in _OF_ITS_OWN):
        said = f"status {response.status_code}: {hidden(response.text)}"
        return UnanswerableError(said, lost=_CHARGED in response.text)
    after = response.headers.get("retry-after")
    return http_error(response.status_code, response.text, after)


def _answer(body: Mapping[str, Any]) -> Answer:
    choice, used = body["choices"][0], body.get("usage") or {}
    refusal = choice["message"].get("refusal")
    ended: dict[str, Stop] = {"length": "cut", "content_filter": "refused"}
    stop: Stop = "refused" if refusal else ended.get(choice.get("finish_reason"), "end")
    text = choice["message"].get("content") or ""
    if not isinstance(text, str):
        raise TypeError("the content is no text")
    return Answer(
        text=text,
        stop=stop,
        usage=_usage(used),
        model=str(body.get("model", "")),
        reason=str(refusal or ""),
    )


def _usage(used: Mapping[str, Any]) -> Usage:
    """The tokens of an answer; a server that counts only one kind of them counts none."""
    counted: list[Any] = [used.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Usage() if None in counted else usage_of(*map(int, counted))
