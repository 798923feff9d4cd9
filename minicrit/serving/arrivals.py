"""Connections: how many there may be, and how long one may stay without asking anything.

Uvicorn counts the seconds of a connection only from its first answer on, and the gatehouse those of
a body from the end of the headers on. So whoever sends nothing, or half a header, could keep every
connection there may be for good, without a key.
"""

import asyncio
import logging
from typing import Any

import h11
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from minicrit.serving.gatehouse import refuse
from minicrit.serving.refusals import RefusalError
from minicrit.serving.results import new_id

log = logging.getLogger(__name__)


class Arrivals(H11Protocol):
    """HTTP by h11, as uvicorn speaks it, with these two limits.

    Attributes:
        head_s, most: see `protocol_of`.
    """

    head_s: float
    most: int

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._served, self.app = self.app, self._one_more
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to count."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Ends to count with the headers; begins again with what comes after an answer."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to be closed."""
        super().connection_lost(exc)
        self._unwatch()

    def _watch(self) -> None:
        """Counts on, whatever trickles in, until the headers are there."""
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(self.head_s, self.transport.close)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    async def _one_more(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.connections) <= self.most:
            await self._served(scope, receive, send)
            return
        log.warning("a request refused: more than %d connections", self.most)
        error = RefusalError("unavailable", f"expected at most {self.most} connections, got more",
                             "try again", retry_after=1)  # fmt: skip

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"connection", b"close"))
            await send(message)

        await refuse(closing, error, new_id())


def protocol_of(seconds: float, connections: int) -> type[Arrivals]:
    """What uvicorn is to speak HTTP by.

    Args:
        seconds: in which the headers of a request must have arrived whole, from the connection on,
            and after an answer from the next byte on.
        connections: most open ones; what is asked over more of them is refused with 503.
    """

    class Told(Arrivals):
        head_s, most = seconds, connections

    return Told
