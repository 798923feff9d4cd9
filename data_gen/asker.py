"""Asks a back end on behalf of many threads: nothing twice, nothing over budget, never for ever.

Clients are told not to retry themselves; `Patience` is for this and for `batcher`.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from data_gen.backends.protocol import (
    Answer,
    Backend,
    HopelessError,
    Request,
    TryAgainError,
    UnanswerableError,
    Usage,
)
from data_gen.journal import Journal
from data_gen.pace import Pace
from data_gen.prices import Price

T = TypeVar("T")
_log = logging.getLogger(__name__)


class BudgetError(ValueError):
    """The next request could pass the budget; it was not sent."""


def over_budget(most: float, committed: float, budget: float | None) -> BudgetError:
    """What to raise where `most` USD more could pass the budget."""
    return BudgetError(
        f"budget: expected room for up to {most:.4f} USD, got {committed:.2f} of {budget:.2f} USD "
        "used; raise BUDGET_USD and run the same command again, nothing is lost"
    )


@dataclass(frozen=True)
class Patience:
    """How failures are borne.

    Attributes:
        attempts: of one request. backoff: seconds before the second, doubled each time.
        longest: seconds of one wait; a server that asks for more ends the run.
    """

    attempts: int = 6
    backoff: float = 0.5
    longest: float = 60.0

    def pause(self, attempt: int, error: TryAgainError) -> float:
        """Seconds to wait after a failed attempt, counted from 0.

        Raises:
            HopelessError: if the server asks for more than `longest`.
        """
        if error.wait is not None and error.wait > self.longest:
            raise HopelessError(
                f"server: expected a wait of at most {self.longest:.0f} s, was asked for "
                f"{error.wait:.0f} s; run the same command again later, nothing is lost"
            ) from error
        own: float = min(self.longest, self.backoff * 2**attempt)
        return max(error.wait or 0.0, own * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    def exhausted(self, error: Exception) -> HopelessError:
        """What to raise when all attempts failed, the last with `error`."""
        return HopelessError(
            f"server: expected an answer within {self.attempts} attempts, got {error}; look at "
            "the server, then run the same command again, nothing is lost"
        )


class Asker:
    """`ask` answers from the journal, or from the back end and then into the journal.

    Args:
        backend: see `backends.protocol`. journal: what was answered before.
        price: of the model. budget: USD that the whole run may cost, restarts included; None for
            no limit.
        patience: see there.
    """

    def __init__(
        self,
        backend: Backend,
        journal: Journal,
        *,
        price: Price,
        budget: float | None = None,
        patience: Patience = Patience(),
    ) -> None:
        self.backend, self.journal = backend, journal
        self.price, self.budget, self.patience = price, budget, patience
        self._pace = Pace()
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._said_uncounted = False

    def stop(self) -> None:
        """Lets no further request start, so that the threads end soon."""
        self._pace.stop()

    def ask(self, request: Request) -> Answer:
        """The answer to a request.

        Raises:
            BudgetError: if it might pass the budget.
            UnanswerableError: if this one is not accepted.
            HopelessError: if the server stays away, or will not answer any; so for all others.
        """
        key = request.key(self.backend.identity)
        with self._lock_of(key):  # two threads may have the same question
            if why := self.journal.refused.get(key):
                raise UnanswerableError(why, lost=True)
            try:
                return self.journal.answers.get(key) or self._persist(key, request)
            except HopelessError as error:
                self._pace.stop(str(error))
                raise

    def each(self, function: Callable[..., T], *rows: Sequence[Any], threads: int) -> list[T]:
        """What `function` gives for each row, in order; it may `ask`.

        The first error ends the run: what is out is awaited and kept, nothing more is sent.
        """
        first: list[Exception] = []  # in time, while answers are waited for in the order of rows

        def one(*row: Any) -> T:
            try:
                return function(*row)
            except Exception as error:
                first.append(error)
                self.stop()
                raise

        with ThreadPoolExecutor(threads) as pool:
            try:
                return list(pool.map(one, *rows))
            except BaseException as error:
                self.stop()
                if first and isinstance(error, Exception):
                    raise first[0] from first[0].__cause__
                raise  # a stop, or what is no row's, such as that no thread can be had

    def _persist(self, key: str, request: Request) -> Answer:
        """Sends a request until it is answered or hope is gone.

        A limit of the rate does not count as an attempt while others are let through.
        """
        failed, answers = 0, self._pace.answers
        while True:
            with self._pace.turn():
                try:
                    answer = self._send(key, request)
                except TryAgainError as error:
                    failed += not (error.everybody and self._pace.answers > answers)
                    answers = self._pace.answers
                    wait = self._bear(failed, error)
                else:
                    self._pace.answered()
                    return answer
            time.sleep(wait)

    def _bear(self, failed: int, error: TryAgainError) -> float:
        """Seconds that this request has to wait after a failure, apart from all others."""
        if failed == self.patience.attempts:
            raise self.patience.exhausted(error) from error
        wait = self.patience.pause(max(0, failed - 1), error)
        if error.everybody:
            self._pace.crowded(wait)
            return 0.0
        return wait

    def _lock_of(self, key: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(key, threading.Lock())

    def _send(self, key: str, request: Request) -> Answer:
        most = self.price.most(request)
        if not self.journal.reserve(key, most, self.budget):
            raise over_budget(most, self.journal.committed, self.budget)
        started = time.monotonic()
        try:
            answer = self.backend.ask(request)
        except (TryAgainError, UnanswerableError, HopelessError) as error:
            if not getattr(error, "lost", False):  # else it may have been charged
                self.journal.release(key, str(error))
            elif isinstance(error, UnanswerableError):
                self.journal.refuse(key, str(error))
            raise
        cost = self.price.charge(request, answer.usage)
        self.journal.settle(key, answer, cost, time.monotonic() - started)
        if cost and answer.usage == Usage():
            self._say_uncounted()
        return answer

    def _say_uncounted(self) -> None:
        with self._lock:
            said, self._said_uncounted = self._said_uncounted, True
        if not said:
            _log.warning("the server does not say how many tokens its answers take, so each "
                         "counts as the most that it can cost")  # fmt: skip
