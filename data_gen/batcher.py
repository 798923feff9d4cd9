"""Asks a back end in batches: nothing paid twice, nothing over budget, whatever is killed when.

A batch is journalled before it is created, and its id after. Servers do not say what is in a batch
before it ends, nor do they take a name for it, and a request to create one cannot be repeated
safely. So after a kill, or an error that leaves it open, between the two, the batches of that time
are looked through: the one whose results bear the keys of ours is ours. Only if the server shows
none is it created anew.
"""

import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from data_gen.asker import Patience, over_budget
from data_gen.backends.protocol import (
    Answer,
    BatchBackend,
    BatchState,
    HopelessError,
    Request,
    TryAgainError,
    UnanswerableError,
)
from data_gen.journal import Journal, OpenBatch
from data_gen.prices import Price

T = TypeVar("T")
Result = Answer | UnanswerableError
#: Most requests and bytes of one batch; servers take ten times as many requests, and 256 MB.
MOST_REQUESTS, MOST_BYTES = 10_000, 100_000_000
#: Share of the requests that have to fit the budget to be worth a batch, which takes an hour.
_WORTH = 0.02
#: Results that are written down with one sync; they can be read again, so a kill loses none.
_TOGETHER = 200
#: Seconds by which our clock and the server's may differ.
_SKEW = 600.0


@dataclass(frozen=True)
class Waiting:
    """How a batch is waited for, in seconds.

    Attributes:
        first: before the second look at it, half as much again each time up to `longest`.
        overdue: after which a batch that does not end is given up; the server ends them in a day.
        unseen: after which a batch that the server does not list was never created.
    """

    first: float = 5.0
    longest: float = 120.0
    overdue: float = 26 * 3600.0
    unseen: float = 60.0


class Batcher:
    """`ask_all` answers from the journal, or in batches and then into the journal.

    Args:
        backend: see `backends.protocol`. journal: what was answered before.
        price: of the model, in batches.
        budget: USD that the whole run may cost, restarts included; None for no limit.
        patience: for single calls, and how often a request may fail in batches.
        waiting: see there.
    """

    def __init__(
        self,
        backend: BatchBackend,
        journal: Journal,
        *,
        price: Price,
        budget: float | None = None,
        patience: Patience | None = None,
        waiting: Waiting | None = None,
    ) -> None:
        self.backend, self.journal = backend, journal
        self.price, self.budget = price, budget
        self.patience, self.waiting = patience or Patience(), waiting or Waiting()
        #: Told what is waited for.
        self.show: Callable[[str], None] = lambda text: None
        self._failed: Counter[str] = Counter()
        self._unanswerable: dict[str, UnanswerableError] = {}
        self._foreign: set[str] = set()

    def ask_all(self, requests: Sequence[Request]) -> list[Result]:
        """The answers, in the order of the requests; what is not accepted comes as the error.

        Raises:
            BudgetError: if next to nothing of what is left fits the budget.
            HopelessError: if the server stays away, or will not answer any.
        """
        wanted = {request.key(self.backend.identity): request for request in requests}
        self._finish()  # what a killed run left
        while left := {k: r for k, r in wanted.items() if self._result(k) is None}:
            self._send(left)
            self._finish()
        found = [self._result(request.key(self.backend.identity)) for request in requests]
        return [result for result in found if result is not None]

    def knows(self, request: Request) -> bool:
        """Whether it can be answered without being sent."""
        return self._result(request.key(self.backend.identity)) is not None

    @property
    def room(self) -> float:
        """USD that may still be spent."""
        return math.inf if self.budget is None else self.budget - self.journal.committed

    def _result(self, key: str) -> Result | None:
        return self.journal.answers.get(key) or self._unanswerable.get(key)

    def _send(self, requests: Mapping[str, Request]) -> None:
        """Creates batches of as many requests as fit the budget."""
        for part in _parts(requests):
            most = {key: self.price.most(request) for key, request in part.items()}
            fitting, least = list(self._fitting(most)), math.ceil(_WORTH * len(part))
            if len(fitting) < least and not self.journal.batches:
                needed = sum(list(most.values())[:least])
                raise over_budget(needed, self.journal.committed, self.budget)
            if len(fitting) >= least:
                self._create({key: part[key] for key in fitting}, most)
            if len(fitting) < len(part):
                return  # the rest once these cost what they cost, not what they might

    def _fitting(self, most: Mapping[str, float]) -> Iterator[str]:
        room = self.room
        for key, cost in most.items():
            room -= cost
            if room < 0:
                return
            yield key

    def _create(self, requests: Mapping[str, Request], most: Mapping[str, float]) -> None:
        self.show(f"creates a batch of {len(requests)}")
        batch = self.journal.intend(uuid.uuid4().hex, {key: most[key] for key in requests})
        error: TryAgainError | None = None
        for attempt in range(self.patience.attempts):
            try:
                if error is not None:
                    time.sleep(self.patience.pause(attempt - 1, error))
                self.journal.created(batch.name, self.backend.create(requests))
            except TryAgainError as failed:
                error = failed
                if failed.lost and self._found(batch):
                    return
            except (UnanswerableError, HopelessError):
                self.journal.ended(batch.name, created=False)
                raise
            else:
                return
        self.journal.ended(batch.name, created=False)
        raise self.patience.exhausted(error or TryAgainError("")) from error

    def _finish(self) -> None:
        """Waits for all batches that are out and writes their results down."""
        for batch in list(self.journal.batches.values()):
            if batch.id is None and not self._found(batch):
                self.journal.ended(batch.name, created=False)
        for batch in list(self.journal.batches.values()):
            if self._until_ended(str(batch.id)).archived:
                self.journal.ended(batch.name)  # paid and gone; what is left stays reserved
            else:
                self._patiently(lambda batch=batch: self._read(batch))  # type: ignore[misc]
                self.journal.ended(batch.name)

    def _found(self, batch: OpenBatch) -> bool:
        """Whether the server has a batch whose id never reached us; then its id is written down."""
        until = time.monotonic() + self.waiting.unseen
        since = batch.at - _SKEW
        while True:
            for state in self._patiently(lambda: list(self.backend.recent(since))):
                if self._is(state, batch):
                    self.journal.created(batch.name, state.id)
                    return True
            if time.monotonic() >= until:
                return False
            self.show("looks for a batch that may have been created")
            time.sleep(min(self.waiting.first, self.waiting.unseen))

    def _is(self, state: BatchState, batch: OpenBatch) -> bool:
        """Whether what the server lists is this batch; only its results tell."""
        known = self.journal.ids | self._foreign
        if state.id in known or state.size != batch.size or state.archived:
            return False
        ended = self._until_ended(state.id)
        if not ended.archived and self._patiently(lambda: self._keys(state.id)) == batch.left:
            return True
        self._foreign.add(state.id)
        return False

    def _keys(self, id_: str) -> set[str]:
        return {key for key, _ in self.backend.results(id_)}

    def _until_ended(self, id_: str) -> BatchState:
        wait, started = self.waiting.first, time.monotonic()
        while not (state := self._patiently(lambda: self.backend.state(id_))).ended:
            waited = time.monotonic() - started
            if max(waited, time.time() - state.at - _SKEW) > self.waiting.overdue:
                raise HopelessError(f"server: expected batch {id_} to end within "
                                    f"{self.waiting.overdue / 3600:.0f} h, got none; look at it in "
                                    "the console, then run the same command again")  # fmt: skip
            self.show(f"batch of {state.size}, {waited / 60:.0f} min")
            time.sleep(wait)
            wait = min(self.waiting.longest, 1.5 * wait)
        return state

    def _read(self, batch: OpenBatch) -> None:
        """Writes down every result that has not been yet.

        Raises:
            TryAgainError: if there are fewer than requests; what is paid for is not asked again.
        """
        self.show(f"reads {len(batch.left)} results")
        hopeless: HopelessError | None = None
        read: dict[str, tuple[Answer | str, float]] = {}
        try:
            for key, result in self.backend.results(str(batch.id)):
                if key not in batch.left:
                    continue
                if isinstance(result, Answer):
                    read[key] = (result, self.price.cost(result.usage))
                else:
                    read[key] = (str(result), 0.0)
                    hopeless = result if isinstance(result, HopelessError) else hopeless
                    self._bear(key, result)
                if len(read) == _TOGETHER:
                    self._write(batch, read)
        finally:
            self._write(batch, read)
        if batch.left:
            raise TryAgainError(f"expected {batch.size} results of batch {batch.id}, "
                                f"{len(batch.left)} are missing")  # fmt: skip
        if hopeless:
            self.journal.ended(batch.name)
            raise hopeless

    def _write(self, batch: OpenBatch, read: dict[str, tuple[Answer | str, float]]) -> None:
        if read:
            rows = [(key, result, usd) for key, (result, usd) in read.items()]
            self.journal.collect(batch.name, rows)
        read.clear()

    def _bear(self, key: str, error: Exception) -> None:
        """Remembers that a request failed in a batch; too often is too often."""
        if isinstance(error, UnanswerableError):
            self._unanswerable[key] = error
            return
        self._failed[key] += 1
        if self._failed[key] >= self.patience.attempts:
            raise self.patience.exhausted(error)

    def _patiently(self, call: Callable[[], T]) -> T:
        """The result of a call that can be repeated safely."""
        for attempt in range(self.patience.attempts):
            try:
                return call()
            except TryAgainError as error:
                last = error
                if attempt + 1 < self.patience.attempts:
                    time.sleep(self.patience.pause(attempt, error))
        raise self.patience.exhausted(last) from last


def _parts(requests: Mapping[str, Request]) -> Iterator[dict[str, Request]]:
    """Requests in parts that fit one batch."""
    part: dict[str, Request] = {}
    size = 0
    for key, request in requests.items():
        own = len(f"{request.system}{request.prompt}{request.schema}".encode(errors="replace"))
        if part and (len(part) == MOST_REQUESTS or size + 2 * own > MOST_BYTES):
            yield part
            part, size = {}, 0
        part[key] = request
        size += 2 * own  # escapes included
    if part:
        yield part
