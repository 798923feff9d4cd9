"""Between the event loop and the critic's thread: answers from the cache, or from the queue."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from minicrit.critic import Critic, Item
from minicrit.serving.answers import Answers, key_of
from minicrit.serving.instruments import Instruments
from minicrit.serving.refusals import internal
from minicrit.serving.results import given, kept, result_of
from minicrit.serving.worker import Batching, Ticket, Worker

log = logging.getLogger(__name__)
Result = dict[str, Any]


class Desk:
    """Judges rationales for whoever awaits it. `open` it in the event loop, `close` it there."""

    def __init__(
        self, critic: Critic, answers: Answers | None, instruments: Instruments, batching: Batching
    ) -> None:
        self.critic = critic
        self._answers = answers
        self.worker = Worker(critic, self._finish, batching, instruments.judged)
        self._verdict_decoding = "verdict+type" if batching.named else "verdict"
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Begins to take requests."""
        self._loop = asyncio.get_running_loop()
        self.worker.start()

    async def close(self, within_s: float) -> bool:
        """Answers what waits; whether all of it was answered in time."""
        whole = await asyncio.to_thread(self.worker.stop, within_s)
        if self._answers is not None:
            await asyncio.to_thread(self._answers.close)
        return whole

    async def judge(
        self, items: Sequence[Item], limit: int = 0, places: Sequence[int] | None = None
    ) -> list[Result]:
        """Answers to normalised items, in order.

        Args:
            items: (domain, rationale).
            limit: most tokens of a critique; 0 for plain verdicts.
            places: of the items in their request, by which a refusal names them; None: all are its.

        Raises:
            RefusalError: if there is no room, or an item is too long for the critic.
        """
        start = time.perf_counter()
        keys = [self._key(item, limit) for item in items]
        rows = [self._kept(key) for key in keys]
        missing = [at for at, row in enumerate(rows) if row is None]
        names = range(len(items)) if places is None else places
        found = await self._ask([_Pending(items[at], limit, names[at], keys[at]) for at in missing])
        fresh = dict(zip(missing, found, strict=True))
        spent = 1000 * (time.perf_counter() - start)
        return [given(row if row is not None else fresh[at], latency_ms=spent,
                      cached=row is not None) for at, row in enumerate(rows)]  # fmt: skip

    def _key(self, item: Item, limit: int) -> bytes:
        decoding = f"{self.critic.manner}-{limit}" if limit else self._verdict_decoding
        return key_of(self.critic, *item, decoding)

    def _kept(self, key: bytes) -> Result | None:
        return None if self._answers is None else self._answers.get(key)

    async def _ask(self, tickets: list["_Pending"]) -> list[Result]:
        if not tickets:
            return []
        assert self._loop is not None
        for ticket in tickets:
            ticket.waiter = self._loop.create_future()
        self.worker.submit(tickets)
        try:
            return [await ticket.result() for ticket in tickets]
        finally:
            for ticket in tickets:
                ticket.gone = True  # of no effect on what is answered

    def _finish(self, tickets: Sequence[Ticket]) -> None:
        """In the critic's thread: keeps the answers and wakes who waits for them."""
        pending = [ticket for ticket in tickets if isinstance(ticket, _Pending)]
        for ticket in pending:
            try:
                if ticket.answer is not None:
                    ticket.row = result_of(self.critic, *ticket.item, ticket.answer)
            except Exception:  # whoever waits for it must hear so, and the others their answers
                log.exception("an answer cannot be told")
        if self._answers is not None:
            self._answers.put((t.key, kept(t.row)) for t in pending if t.row is not None)
        assert self._loop is not None
        self._loop.call_soon_threadsafe(_wake, pending)
        if self._answers is not None:
            self._answers.flush()


class _Pending(Ticket):
    """A ticket with somebody in the event loop who waits for it."""

    def __init__(self, item: Item, limit: int, place: int, key: bytes) -> None:
        super().__init__(item, limit, place)
        self.key = key
        self.row: Result | None = None
        self.waiter: asyncio.Future[None] | None = None

    async def result(self) -> Result:
        assert self.waiter is not None
        await self.waiter
        if self.error is not None:
            raise self.error
        if self.row is None:
            raise internal()
        return self.row


def _wake(tickets: Sequence[_Pending]) -> None:
    for ticket in tickets:
        if ticket.waiter is not None and not ticket.waiter.done():
            ticket.waiter.set_result(None)
