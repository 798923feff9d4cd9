"""What a back end is asked, what it answers, and the three ways in which it can fail."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from minicrit.files import sha256_json

#: How an answer ended: of itself, cut at its token limit, or by a refusal.
Stop = Literal["end", "cut", "refused"]


@dataclass(frozen=True)
class Request:
    """One question.

    Attributes:
        system: who the model is to be.
        prompt: what it is asked.
        schema: JSON schema of the answer.
        max_tokens: longest answer, in tokens.
        draw: tells apart requests that are otherwise alike (a second try, another seed).
    """

    system: str
    prompt: str
    schema: Mapping[str, Any]
    max_tokens: int = 1500
    draw: int = 0

    def key(self, identity: Mapping[str, Any]) -> str:
        """Content address: the same question to the same model has the same key."""
        return sha256_json([dict(identity), self.system, self.prompt, dict(self.schema),
                            self.max_tokens, self.draw])  # fmt: skip


@dataclass(frozen=True)
class Usage:
    """Tokens that an answer was charged for."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True)
class Answer:
    """The text of an answer and what it cost. `reason` says why it was refused."""

    text: str
    stop: Stop
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    reason: str = ""


class TryAgainError(Exception):
    """The server could not answer now.

    Attributes:
        wait: seconds that it asks us to wait; None if it does not say.
        everybody: whether other requests should wait too (it is overloaded or limits our rate).
        lost: whether the server may have answered, and charged, without our getting it.
    """

    def __init__(
        self,
        message: str,
        *,
        wait: float | None = None,
        everybody: bool = False,
        lost: bool = False,
    ) -> None:
        super().__init__(message)
        self.wait, self.everybody, self.lost = wait, everybody, lost


class UnanswerableError(Exception):
    """This question is not accepted, others may be."""


class HopelessError(ValueError):
    """No question will be answered: wrong key, no such model, no money. The run stops."""


class Backend(Protocol):
    """A server that answers questions. `ask` is called from many threads at once."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides its answers and is no secret: kind, model, settings."""
        ...

    def ask(self, request: Request) -> Answer:
        """One attempt, without retries.

        Raises:
            TryAgainError, UnanswerableError, HopelessError: see there.
        """
        ...


def http_error(status: int, message: str, retry_after: str | None) -> Exception:
    """The failure that an HTTP status stands for."""
    if status in (408, 409) or status >= 500 or status == 429:  # noqa: PLR2004
        crowded = status in (429, 503, 529)
        return TryAgainError(
            f"status {status}: {message}", wait=seconds(retry_after), everybody=crowded
        )
    if status == 422:  # noqa: PLR2004
        return UnanswerableError(f"status {status}: {message}")
    return HopelessError(
        f"server: expected an answer, got status {status}: {message}; check key, model and address"
    )


def seconds(retry_after: str | None) -> float | None:
    """The header `retry-after` in seconds; dates and nonsense count as not given."""
    try:
        wait = float(retry_after or "")
    except ValueError:
        return None
    return wait if 0 <= wait < float("inf") else None
