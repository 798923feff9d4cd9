"""A local model behind Ollama."""

from collections.abc import Mapping
from typing import Any

import httpx
import ollama

from data_gen.backends.address import place_of
from data_gen.backends.openai_like import UNSENT
from data_gen.backends.protocol import (
    UNREADABLE,
    Answer,
    HopelessError,
    Request,
    TryAgainError,
    UnanswerableError,
    http_error,
    usage_of,
)
from minicrit.discreet import key_of

#: Tokens of prompt and answer that the model is given room for; Ollama cuts longer prompts in
#: silence, so every answer is checked against it.
CONTEXT = 8192
_OWN = "http://127.0.0.1:11434"  # Ollama's own address


class Ollama:
    """One model of an Ollama server, at OLLAMA_HOST unless `url` says otherwise."""

    def __init__(self, model: str, *, url: str | None = None, timeout: float = 300.0) -> None:
        self.model = model
        key = key_of("OLLAMA_API_KEY")  # the package would take it with blanks around it
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = ollama.Client(host=url, timeout=timeout, headers=headers)

    @property
    def identity(self) -> Mapping[str, Any]:  # noqa: D102
        place = place_of(str(self._client._client.base_url))  # that of OLLAMA_HOST, if of none
        there = {} if place == _OWN else {"url": place}
        return {"backend": "ollama", "model": self.model, "context": CONTEXT, **there}

    def ask(self, request: Request) -> Answer:  # noqa: D102
        try:
            said = self._client.chat(
                model=self.model,
                messages=[
                    {"role": "system", "content": request.system},
                    {"role": "user", "content": request.prompt},
                ],
                format=dict(request.schema),
                options={
                    "num_ctx": CONTEXT,
                    "num_predict": request.max_tokens,
                    "seed": request.draw,
                },
            )
        except ollama.ResponseError as error:
            raise _failure(self.model, error) from error
        except ConnectionError as error:
            raise HopelessError(f"Ollama: expected a server, got {error}; start it with "
                                "`ollama serve`, or set OLLAMA_HOST") from error  # fmt: skip
        except httpx.TransportError as error:
            lost = not isinstance(error, UNSENT)
            raise TryAgainError(f"{type(error).__name__}: {error}", lost=lost) from error
        except UNREADABLE as error:
            raise TryAgainError(f"expected an answer of Ollama, got {error}", lost=True) from error
        return self._answer(said)

    def _answer(self, said: ollama.ChatResponse) -> Answer:
        if not said.done:
            raise TryAgainError("expected a finished answer, got one that broke off", lost=True)
        used = usage_of(said.prompt_eval_count or 0, said.eval_count or 0)
        if used.input_tokens >= CONTEXT:
            raise UnanswerableError(f"Ollama: expected a prompt under {CONTEXT} tokens, got one "
                                    "that was cut", lost=True)  # fmt: skip
        return Answer(
            text=said.message.content or "",
            stop="cut" if said.done_reason == "length" else "end",
            usage=used,
            model=said.model or self.model,
        )


def _failure(model: str, error: ollama.ResponseError) -> Exception:
    if error.status_code == 404:  # noqa: PLR2004
        return HopelessError(f"Ollama: expected the model {model}, got none of that name; "
                             f"`ollama pull {model}`")  # fmt: skip
    if error.status_code < 100:  # an error in the middle of an answer  # noqa: PLR2004
        return TryAgainError(error.error, lost=True)
    return http_error(error.status_code, error.error, None)
