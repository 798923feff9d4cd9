"""The completions of a server in OpenAI's protocol (llama.cpp, vLLM), token by token.

A readout needs more than OpenAI itself offers: `/tokenize`, prompts as token ids, and likelihoods
that name their tokens by id. llama.cpp and vLLM have all of it. Every request is tried a bounded
number of times; what the server asks us to wait is waited.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from data_gen.asker import Patience
from data_gen.backends.openai_like import client_of, failure
from data_gen.backends.protocol import (
    UNREADABLE,
    HopelessError,
    TryAgainError,
    UnanswerableError,
    hidden,
)

T = TypeVar("T")
_OK = 200
_STEERED = 1000  # added to the logit of a token, it will be written
_ID = "token_id:"  # how vLLM names a token when it is asked to


class Completions:
    """One server. A key, where one is needed, comes from OPENAI_API_KEY.

    Attributes:
        model: which of its models is asked; set it before asking.
    """

    def __init__(
        self, url: str, *, patience: Patience | None = None, timeout: float = 300.0
    ) -> None:
        """`url` with or without `/v1`; `timeout` in seconds for one attempt."""
        self.model, self.patience = "", patience or Patience()
        self._client = client_of(url, timeout)

    def models(self) -> list[dict[str, Any]]:
        """What the server says of each of its models."""
        return self._read("GET", "/v1/models", None, lambda body: [dict(m) for m in body["data"]])

    def props(self) -> dict[str, Any]:
        """What llama.cpp says of itself; nothing from other servers."""
        try:
            return self._read("GET", "/props", None, dict)
        except HopelessError:
            return {}

    def ids(self, text: str, *, special: bool = False, control: bool = False) -> list[int]:
        """Token ids of a text.

        Args:
            text: what to encode.
            special: with the tokens that open a text.
            control: read what looks like a control token as one; servers other than llama.cpp
                may do so in any case.
        """
        # What llama.cpp, and then what vLLM calls it.
        body = {"content": text, "add_special": special, "parse_special": control,
                "model": self.model, "prompt": text, "add_special_tokens": special}  # fmt: skip
        return self._read("POST", "/tokenize", body, lambda said: [int(i) for i in said["tokens"]])

    def next_token(self, ids: Sequence[int], k: int) -> dict[int, float]:
        """Log-likelihoods of the k likeliest tokens after these, by id.

        Empty if the server names tokens by their text, which does not say which one is meant.
        """
        body = {"prompt": list(ids), "max_tokens": 1, "logprobs": k}
        found = self._complete(body, _listed)
        if found is None:
            # llama.cpp lists none if what it wrote is part of a character. Which token it writes
            # can be steered; what it lists is from before that.
            harmless = [[self.ids("x")[-1], _STEERED]]
            found = self._complete({**body, "logit_bias": harmless}, _listed)
        if found is None:
            raise UnanswerableError("the server lists no likelihoods")
        return found

    def echoed(self, ids: Sequence[int]) -> float | None:
        """Log-likelihood of the last of these tokens after the others; None if it has no echo."""
        body = {"prompt": list(ids), "max_tokens": 1, "logprobs": 1, "echo": True}
        return self._complete(body, lambda choice: _last_of_prompt(choice, ids))

    def write(self, ids: Sequence[int], max_tokens: int) -> tuple[str, int]:
        """The likeliest continuation: text and number of tokens."""
        body = {"prompt": list(ids), "max_tokens": max_tokens}
        return self._read("POST", "/v1/completions", self._asked(body), lambda said: (
            str(said["choices"][0]["text"]), int(said["usage"]["completion_tokens"])
        ))  # fmt: skip

    def _complete(self, body: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        return self._read("POST", "/v1/completions", self._asked(body),
                          lambda said: read(said["choices"][0]))  # fmt: skip

    def _asked(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """With what holds for all: greedy, tokens by id, and no reuse of an earlier prompt.

        llama.cpp computes a prompt that it knows in part in other batches, which rounds otherwise.
        """
        return {**body, "model": self.model, "temperature": 0, "seed": 0, "cache_prompt": False,
                "return_tokens_as_token_ids": True}  # fmt: skip

    def _read(
        self, method: str, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], T]
    ) -> T:
        """What `read` makes of the answer.

        Raises:
            UnanswerableError: if this request is not accepted, others may be.
            HopelessError: if none will be answered.
        """
        for attempt in range(self.patience.attempts):
            try:
                return self._attempt(method, path, body, read)
            except TryAgainError as error:
                last = error
                if attempt + 1 < self.patience.attempts:
                    time.sleep(self.patience.pause(attempt, error))
        raise self.patience.exhausted(last) from last

    def _attempt(
        self, method: str, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], T]
    ) -> T:
        try:
            response = self._client.request(method, path, json=body)
        except httpx.RequestError as error:
            raise TryAgainError(f"{type(error).__name__}: {error}") from error
        if response.status_code != _OK:
            raise failure(response)
        try:
            return read(response.json())
        except UNREADABLE as error:
            got = hidden(response.text)[:80]
            raise TryAgainError(f"expected an answer to {path}, got {got!r}") from error


def _listed(choice: Mapping[str, Any]) -> dict[int, float] | None:
    """The likeliest next tokens, as llama.cpp or as vLLM writes them down; None if none are."""
    said = choice["logprobs"]
    if said is None:
        return None
    if "content" in said:
        rows = said["content"][0]["top_logprobs"]
        found = {int(row["id"]): float(row["logprob"]) for row in rows}
    else:
        rows = said["top_logprobs"][0].items()
        found = {int(name.removeprefix(_ID)): float(x) for name, x in rows if name.startswith(_ID)}
    if any(math.isnan(x) for x in found.values()):
        raise ValueError("nan among the likelihoods")
    return found


def _last_of_prompt(choice: Mapping[str, Any], ids: Sequence[int]) -> float | None:
    said = choice["logprobs"]
    tokens = said.get("tokens", [])
    if list(tokens[: len(ids)]) != [f"{_ID}{i}" for i in ids]:
        return None
    return float(said["token_logprobs"][len(ids) - 1])
