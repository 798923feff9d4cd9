"""Connections: how many there may be, and how long one may keep us waiting.

Uvicorn counts the seconds of a connection only from its first answer on, and the gatehouse those of
a body from the end of the headers on; nobody counts those in which an answer is not taken. So
whoever sends nothing, half a header, or no end of a body that was answered already, or reads
nothing, could keep every connection there may be for good, without a key. Of those that come when
there are enough, a few are kept until they ask, to be told so; the rest are closed as they come, or
silent ones would take all files that may be open. Yet nobody keeps others out by asking nothing:
whose address has most connections loses one to whose has fewer.
"""

import asyncio
import logging
import math
from collections import Counter
from ipaddress import IPv4Address, ip_address
from typing import Any

import h11
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from minicrit.serving.descriptors import SLACK
from minicrit.serving.gatehouse import refuse
from minicrit.serving.refusals import RefusalError
from minicrit.serving.results import new_id

log = logging.getLogger(__name__)

_ASKED = (h11.DONE, h11.MUST_CLOSE)  # its request is here whole
_TOLD_EVERY_S = 10.0  # a flood of connections is none of lines


class Arrivals(H11Protocol):
    """HTTP by h11, as uvicorn speaks it, with these limits and one request at a time.

    Attributes:
        patience_s, most: see `protocol_of`.
        held: connections by place, see `_place_of`.
        told_at: when the log last heard that connections are closed as they come.
    """

    patience_s: float
    most: int
    held: Counter[str]
    told_at = -math.inf

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._served, self.app = self.app, self._one_more
        self._over = False  # whether there were enough when it came
        self._owed: object = None  # what the caller has yet to send: IDLE headers, SEND_BODY a body
        self._late: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to count, unless there are far too many."""
        super().connection_made(transport)
        self._place, self._came = _place_of(self.client), self.loop.time()
        self.held[self._place] += 1
        self._over = len(self.connections) > self.most and not self._given_way()
        if self._over and len(self.connections) > self.most + SLACK:
            self._turned_away()
            return
        transport.set_write_buffer_limits(high=0)  # so writing is paused while anything is unsent
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Ends to count with the headers; begins again with what comes after an answer."""
        if self.conn.their_state not in _ASKED:
            super().data_received(data)
            self._watch()
            ahead = self.conn.their_state in _ASKED and self.conn.trailing_data[0]
        else:
            ahead = data  # and it is not kept: who is still read is seen to go away
        if ahead:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """Counts what is still to come of a body that did not have to be read."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._watch()

    def pause_writing(self) -> None:
        """Begins to count how long an answer is not taken."""
        super().pause_writing()
        self._untaken = self.loop.call_later(self.patience_s, self._cut_off)

    def resume_writing(self) -> None:
        """All of it is taken."""
        super().resume_writing()
        _end(self._untaken)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to be closed."""
        super().connection_lost(exc)
        self.held[self._place] -= 1
        if not self.held[self._place]:
            del self.held[self._place]
        _end(self._late)
        _end(self._untaken)

    def _watch(self) -> None:
        """Counts on, whatever trickles in, until what is owed is there."""
        state = self.conn.their_state
        early = state is h11.SEND_BODY and self.cycle.response_complete
        owed = state if early or state is h11.IDLE else None
        if owed is self._owed:
            return
        self._owed = owed
        _end(self._late)
        if owed is not None:
            self._late = self.loop.call_later(self.patience_s, self.transport.close)

    def _given_way(self) -> bool:
        """Whether one that asks nothing was closed for this one, of the place that has the most."""
        place, most = self.held.most_common(1)[0]
        if most <= self.held[self._place]:
            return False
        theirs = (one for one in self.connections if isinstance(one, Arrivals))
        spare = [one for one in theirs if one._place == place and one._is_spare]
        if spare:
            min(spare, key=lambda one: one._came).transport.close()
        return bool(spare)

    @property
    def _is_spare(self) -> bool:
        """Whether nothing of it is to be answered: no whole headers yet, or an answer behind it."""
        state = self.conn.their_state
        answered = state is h11.SEND_BODY and self.cycle.response_complete
        return (state is h11.IDLE or answered) and not self.transport.is_closing()

    def _cut_off(self) -> None:
        log.warning("a connection cut off: its answer was not taken within %g s", self.patience_s)
        self.transport.abort()  # close would wait until it is

    def _turned_away(self) -> None:
        now = self.loop.time()
        if now > self.told_at + _TOLD_EVERY_S:
            type(self).told_at = now
            log.warning("connections closed as they come: more than %d", self.most + SLACK)
        self.transport.abort()

    async def _one_more(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._over = self._over and len(self.connections) > self.most
        if not self._over:
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


def _place_of(client: tuple[str, int] | None) -> str:
    """Whose a connection is: its address, of IPv6 the 64 bits of its network, which one may own."""
    try:
        address = ip_address(client[0].partition("%")[0] if client else "")
    except ValueError:
        return ""  # no address, as of a socket of this machine
    address = getattr(address, "ipv4_mapped", None) or address
    return str(address if isinstance(address, IPv4Address) else int(address) >> 64)


def _end(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def protocol_of(seconds: float, connections: int) -> type[Arrivals]:
    """What uvicorn is to speak HTTP by.

    Args:
        seconds: in which the headers of a request must have arrived whole, from the connection on,
            and after an answer from the next byte on; the rest of a body that was answered before
            it was there; and in which an answer must be taken.
        connections: most open ones; what is asked over those that come later is refused with 503,
            and those that are SLACK too many are closed, unless another place has more of them.
    """

    class Told(Arrivals):
        patience_s, most, held = seconds, connections, Counter()

    return Told
