"""Claude, through Anthropic's SDK. The key comes from ANTHROPIC_API_KEY alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx2

from data_gen.backends.protocol import (
    UNREADABLE,
    Answer,
    HopelessError,
    Request,
    Stop,
    TryAgainError,
    UnanswerableError,
    hidden,
    http_error,
    usage_of,
)
from minicrit.discreet import key_of

_STOPS: dict[str, Stop] = {
    "end_turn": "end",
    "stop_sequence": "end",
    "max_tokens": "cut",
    "model_context_window_exceeded": "cut",
    "refusal": "refused",
}


#: Failures with status 400 of one request, which would come again; any other is everybody's.
_OF_ITS_OWN = ("blocked by content filtering policy", "prompt is too long")
#: Failures of transport before anything was sent, so nothing can have been charged.
_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class Claude:
    """One model of Anthropic's. Retries are the caller's, so that every attempt is counted."""

    def __init__(self, model: str, *, url: str | None = None, timeout: float = 120.0) -> None:
        key = key_of("ANTHROPIC_API_KEY")
        if not key:
            raise HopelessError(
                "ANTHROPIC_API_KEY: expected a key in the environment, got none; export it, or "
                "use another back end"
            )
        self.model = model
        self._client = anthropic.Anthropic(
            api_key=key, base_url=url, max_retries=0, timeout=timeout
        )

    @property
    def identity(self) -> Mapping[str, Any]:  # noqa: D102
        return {"backend": "anthropic", "model": self.model}

    def ask(self, request: Request) -> Answer:  # noqa: D102
        with failures():
            message = self._client.messages.create(**parameters(self.model, request))
            if not isinstance(message, anthropic.types.Message):  # a page of HTML comes as text
                raise TryAgainError("expected a message, got something else with status 200",
                                    lost=True)  # fmt: skip
            return answer_of(message)

    def count(self, request: Request) -> int:
        """Input tokens of a request, as the server counts them; costs nothing."""
        asked = parameters(self.model, request)
        del asked["max_tokens"]
        with failures():
            counted = self._client.messages.count_tokens(**asked)
            if not isinstance(counted, anthropic.types.MessageTokensCount):
                raise TryAgainError("expected a count, got something else with status 200")
            return int(counted.input_tokens)


def parameters(model: str, request: Request) -> dict[str, Any]:
    """What a message is made from."""
    return {
        "model": model,
        "max_tokens": request.max_tokens,
        "system": request.system,
        "messages": [{"role": "user", "content": request.prompt}],
        "output_config": {"format": {"type": "json_schema", "schema": dict(request.schema)}},
    }


@contextmanager
def failures() -> Iterator[None]:
    """Turns what the SDK raises into the failures of our protocol."""
    try:
        yield
    except anthropic.APIStatusError as error:
        raise _failure(error) from error
    except (anthropic.APIConnectionError, httpx2.HTTPError) as error:  # time-outs are of this kind
        lost = not isinstance(error.__cause__, _UNSENT)
        raise TryAgainError(str(error), lost=lost) from error
    except anthropic.AnthropicError as error:
        raise TryAgainError(f"expected an answer, got {error}", lost=True) from error
    except UNREADABLE as error:  # the SDK takes any JSON for what was asked for
        raise TryAgainError(f"expected an answer of Claude's form, got one of another ({error})",
                            lost=True) from error  # fmt: skip


def _failure(error: anthropic.APIStatusError) -> Exception:
    if getattr(error, "error_code", None) == "enforced_spend_limit_reached":
        return HopelessError(f"server: expected an answer, got a spend limit: {error.message}; "
                             "raise the limit of the account")  # fmt: skip
    if error.status_code == 400 and any(kind in error.message for kind in _OF_ITS_OWN):  # noqa: PLR2004
        return UnanswerableError(f"status 400: {hidden(error.message)}")
    return http_error(error.status_code, error.message, error.response.headers.get("retry-after"))


def answer_of(message: anthropic.types.Message) -> Answer:
    """Text, ending and usage of a message."""
    used = message.usage
    stop = _STOPS.get(message.stop_reason or "", "cut")
    details = getattr(message, "stop_details", None)
    return Answer(
        text="".join(block.text for block in message.content if block.type == "text"),
        stop=stop,
        usage=usage_of(
            int(used.input_tokens),
            int(used.output_tokens),
            used.cache_read_input_tokens or 0,
            used.cache_creation_input_tokens or 0,
        ),
        model=message.model,
        reason=str(getattr(details, "category", "") or "") if stop == "refused" else "",
    )
