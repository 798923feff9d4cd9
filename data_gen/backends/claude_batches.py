"""Claude in message batches: half the price, and an answer within a day, mostly within the hour."""

from collections.abc import Iterator, Mapping

import anthropic
from anthropic.types.messages import (
    MessageBatch,
    MessageBatchErroredResult,
    MessageBatchIndividualResponse,
    MessageBatchSucceededResult,
)

from data_gen.backends.claude import Claude, answer_of, failures, parameters
from data_gen.backends.protocol import (
    Answer,
    BatchState,
    HopelessError,
    Request,
    TryAgainError,
    UnanswerableError,
)

#: Errors of single requests that every other one would meet as well.
_HOPELESS = ("authentication_error", "billing_error", "permission_error", "not_found_error")
_TOO_MANY_REQUESTS = 429
_PAGE = 100


class ClaudeBatches(Claude):
    """See `protocol.BatchBackend`. Answers are those of `Claude`, so its identity is the same."""

    def create(self, requests: Mapping[str, Request]) -> str:  # noqa: D102
        rows = [
            {"custom_id": key, "params": parameters(self.model, request)}
            for key, request in requests.items()
        ]
        try:
            with failures():
                made = self._client.messages.batches.create(requests=rows)  # type: ignore[arg-type]
        except UnanswerableError as error:  # no single one of them, so nobody could set it aside
            raise HopelessError(f"server: expected a batch of {len(rows)} requests to be accepted, "
                                f"got {error}; ask without batches") from error  # fmt: skip
        except TryAgainError as error:
            if isinstance(error.__cause__, anthropic.APIStatusError):
                # A server that stumbles may have created it before.
                error.lost = error.__cause__.status_code != _TOO_MANY_REQUESTS
            raise
        return _batch(made).id

    def state(self, id_: str) -> BatchState:  # noqa: D102
        try:
            with failures():
                return _state(self._client.messages.batches.retrieve(id_))
        except HopelessError as error:
            if not isinstance(error.__cause__, anthropic.NotFoundError):
                raise
            raise HopelessError(f"server: expected batch {id_}, got none of that id; use a key of "
                                "the workspace that created it, or, if it was deleted and its "
                                "results with it, choose another OUT") from error  # fmt: skip

    def recent(self, since: float) -> Iterator[BatchState]:  # noqa: D102
        with failures():
            for batch in self._client.messages.batches.list(limit=_PAGE):
                state = _state(batch)
                if state.at < since:  # newest first
                    return
                yield state

    def results(self, id_: str) -> Iterator[tuple[str, Answer | Exception]]:  # noqa: D102
        with failures():
            for row in self._client.messages.batches.results(id_):
                if not isinstance(row.custom_id, str):
                    raise TryAgainError("expected results of a batch, got something else")
                yield row.custom_id, _result(row)


def _batch(made: object) -> MessageBatch:
    if not isinstance(made, MessageBatch) or not isinstance(made.id, str):
        raise TryAgainError("expected a batch, got something else with status 200", lost=True)
    return made


def _state(made: object) -> BatchState:
    batch = _batch(made)
    counts = batch.request_counts
    size = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
    return BatchState(batch.id, batch.created_at.timestamp(), size,
                      ended=batch.processing_status == "ended",
                      archived=batch.archived_at is not None)  # fmt: skip


def _result(row: MessageBatchIndividualResponse) -> Answer | Exception:
    """The answer of one request, or why there is none; what failed is not charged."""
    result = row.result
    if isinstance(result, MessageBatchSucceededResult):
        return answer_of(result.message)
    if not isinstance(result, MessageBatchErroredResult):
        return TryAgainError(f"batch: {result.type}")  # canceled or expired
    error = result.error.error
    said = f"batch: {error.type}: {error.message}"
    if error.type == "invalid_request_error":
        return UnanswerableError(said)
    if error.type in _HOPELESS:
        return HopelessError(f"server: expected an answer, got {said}; check key and model")
    return TryAgainError(said)
