"""What a back end is asked, what it answers, and the three ways in which it can fail."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from minicrit.discreet import without_keys
from minicrit.files import sha256_json

#: How an answer ended: of itself, cut at its token limit, or by a refusal.
Stop = Literal["end", "cut", "refused"]
#: What comes up where an answer is no JSON, or JSON of another form, whatever a server sends.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


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
    """Tokens that an answer was charged for; none at all if the server does not count them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


def usage_of(*tokens: int) -> Usage:
    """`Usage` as a server says it; who counts less than none counts nothing."""
    return Usage(*tokens) if min(tokens) >= 0 else Usage()


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
    """This question is not accepted, others may be. `lost` says that it may be charged for."""

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


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


@dataclass(frozen=True)
class BatchState:
    """What a server says of a batch.

    Attributes:
        id: the server's. at: when it was created, in seconds since 1970. size: requests in it.
        ended: whether its results can be read. archived: whether they are gone for good.
    """

    id: str
    at: float
    size: int
    ended: bool
    archived: bool = False


class BatchBackend(Backend, Protocol):
    """A server that also takes many requests at once and answers within a day, for less.

    Each of these is one attempt and raises what `ask` raises.
    """

    def create(self, requests: Mapping[str, Request]) -> str:
        """Hands requests in, by key; the id of the batch.

        A TryAgainError with `lost` says that it may have been created all the same.
        """
        ...

    def state(self, id_: str) -> BatchState:
        """How far a batch is."""
        ...

    def recent(self, since: float) -> Iterator[BatchState]:
        """Batches created at `since` (seconds since 1970) or later, whoever created them."""
        ...

    def results(self, id_: str) -> Iterator[tuple[str, Answer | Exception]]:
        """Key and answer, or failure, of every request of a batch that has ended, in any order."""
        ...


def hidden(said: object) -> str:
    """What a server said, without any key of ours that it repeats, at most 300 characters."""
    return without_keys(str(said))[:300]


def http_error(status: int, message: str, retry_after: str | None) -> Exception:
    """The failure that an HTTP status stands for."""
    message = hidden(message)
    if status in (408, 409) or status >= 500 or status == 429:  # noqa: PLR2004
        crowded = status in (429, 503, 529)
        # A gateway that gives up says nothing of the answer behind it, which may be charged.
        lost = not crowded and status != 409  # noqa: PLR2004
        return TryAgainError(
            f"status {status}: {message}",
            wait=seconds(retry_after),
            everybody=crowded,
            lost=lost,
        )
    if status in (413, 422):  # too large, or not accepted: others may be
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
