"""One thread that owns the critic: it judges what has gathered in the queue in one forward.

The queue is bounded: what does not fit is refused at once, with a guess of when to come again.
Verdicts and whole critiques take turns, so that neither starves the other. What a caller no longer
waits for is dropped unread.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minicrit.critic import Critic, Item, Written
from minicrit.encoding import TooLongError
from minicrit.serving.refusals import RefusalError, internal, stopping

log = logging.getLogger(__name__)

#: Name of the thread of a critic.
THREAD = "critic"
_AROUND = 64  # tokens of a prompt around its rationale, at most
_TYPES = 130  # tokens that naming a flaw type costs each item


@dataclass(frozen=True)
class Answer:
    """What the critic said about one item.

    Attributes:
        p_flawed: as `Critic.p_flawed`.
        flaw_type: the likeliest, if it was asked for with the plain verdict.
        written: the whole critique; None for a plain verdict.
    """

    p_flawed: float
    flaw_type: str | None = None
    written: Written | None = None


class Ticket:
    """One item that waits for the critic.

    Attributes:
        item: (domain, rationale).
        limit: most new tokens of its critique; 0 for a plain verdict.
        place: of the item in its request.
        answer: or error: set before `done` is called, in the thread of the critic.
        gone: set by a caller that no longer waits.
    """

    def __init__(self, item: Item, limit: int = 0, place: int = 0) -> None:
        self.item, self.limit, self.place = item, limit, place
        self.answer: Answer | None = None
        self.error: RefusalError | None = None
        self.gone = False

    @property
    def size(self) -> int:
        """About how many tokens it has; three bytes make one in English prose."""
        return len(self.item[1].encode()) // 3 + _AROUND


@dataclass(frozen=True)
class Batching:
    """How items are gathered.

    Attributes:
        room: items that may wait.
        tokens: most prompt tokens in one forward pass.
        critiques: critiques written at once.
        window_s: how long a verdict waits for company, in seconds.
        named: whether verdicts name a flaw type.
    """

    room: int = 256
    tokens: int = 4096
    critiques: int = 8
    window_s: float = 0.002
    named: bool = False


Done = Callable[[Sequence[Ticket]], None]  # called with tickets that are answered
Watch = Callable[[str, int, float], None]  # kind, items, seconds: told after each batch


class Worker:
    """The queue and the thread. `start` it, `submit` to it, `stop` it."""

    def __init__(
        self,
        critic: Critic,
        done: Done,
        batching: Batching,
        watch: Watch | None = None,
    ) -> None:
        self.critic, self._done, self._watch = critic, done, watch
        self.batching = batching
        self._verdicts: deque[Ticket] = deque()
        self._critiques: deque[Ticket] = deque()
        self._ready = threading.Condition()
        self._stopping = self._turn = False
        self._pace = {False: 0.05, True: 1.0}  # seconds an item, verdicts and critiques
        self._thread = threading.Thread(target=self._work, name=THREAD, daemon=True)

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def stop(self, within_s: float) -> bool:
        """Finishes what waits, then ends; whether it did so in time."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        self._thread.join(within_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether it takes and answers items."""
        return self._thread.is_alive() and not self._stopping

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return len(self._verdicts) + len(self._critiques)

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Queues all of them or none.

        Raises:
            RefusalError: if there is no room, or the service is stopping.
        """
        with self._ready:
            if not self.alive:
                raise stopping()
            self._forget_gone(len(tickets))
            if self.waiting + len(tickets) > self.batching.room:
                raise RefusalError(
                    "busy", f"expected room for {len(tickets)} rationales, got {self.waiting} of "
                    f"{self.batching.room} places taken", "try again later, or with fewer at "
                    "once", retry_after=self._wait_s())  # fmt: skip
            for ticket in tickets:
                (self._critiques if ticket.limit else self._verdicts).append(ticket)
            self._ready.notify()

    def _forget_gone(self, needed: int) -> None:
        """Takes out what nobody waits for, if there would be no room otherwise."""
        if self.waiting + needed > self.batching.room:
            self._verdicts = deque(t for t in self._verdicts if not t.gone)
            self._critiques = deque(t for t in self._critiques if not t.gone)

    def _wait_s(self) -> int:
        spent = len(self._verdicts) * self._pace[False] + len(self._critiques) * self._pace[True]
        return max(1, min(600, math.ceil(spent)))

    def _work(self) -> None:
        while (batch := self._next(self._verdicts_first())) is not None:
            if batch:
                try:
                    self._judge(batch)
                except Exception:  # the thread must outlive it
                    log.exception("what follows on a batch of %d failed", len(batch))

    def _verdicts_first(self) -> bool:
        """Turns: after verdicts come critiques, if there are any."""
        self._turn = not self._turn
        return self._turn

    def _next(self, verdicts_first: bool) -> list[Ticket] | None:
        """The next batch, once there is one; None if all is done and nothing more will come."""
        with self._ready:
            while not self.waiting:
                if self._stopping:
                    return None
                self._ready.wait()
            verdicts = bool(self._verdicts) and (verdicts_first or not self._critiques)
            if verdicts and self.batching.window_s and not self._stopping and not self._critiques:
                self._ready.wait_for(self._enough, self.batching.window_s)
            return self._gather_verdicts() if verdicts else self._gather_critiques()

    def _enough(self) -> bool:
        return self._stopping or sum(t.size for t in self._verdicts) >= self.batching.tokens

    def _gather_verdicts(self) -> list[Ticket]:
        batch: list[Ticket] = []
        tokens = 0
        while self._verdicts and (not batch or tokens < self.batching.tokens):
            ticket = self._verdicts.popleft()
            if not ticket.gone:
                batch.append(ticket)
                tokens += ticket.size + _TYPES * self.batching.named
        return batch

    def _gather_critiques(self) -> list[Ticket]:
        """Critiques of one limit, in the order in which they came."""
        batch: list[Ticket] = []
        while self._critiques and len(batch) < self.batching.critiques:
            ticket = self._critiques[0]
            if batch and ticket.limit != batch[0].limit:
                break
            self._critiques.popleft()
            if not ticket.gone:
                batch.append(ticket)
        return batch

    def _judge(self, batch: list[Ticket]) -> None:
        start = time.perf_counter()
        fitting = [ticket for ticket in batch if self._fits(ticket)]
        if fitting:
            self._ask(fitting)
        spent = time.perf_counter() - start
        written = batch[0].limit > 0
        self._pace[written] += 0.2 * (spent / len(batch) - self._pace[written])
        if self._watch:
            self._watch("critique" if written else "verdict", len(batch), spent)
        self._done(batch)

    def _fits(self, ticket: Ticket) -> bool:
        """Whether the critic can read it; most texts are too short to need a look."""
        room = self.critic.encoder.max_tokens - self.critic.reserve(ticket.limit)
        if len(ticket.item[1].encode()) + _AROUND <= room:
            return True  # a token is a byte or more
        try:
            self.critic.prompt(*ticket.item, ticket.limit)
        except TooLongError as error:
            said = f"items[{ticket.place}].rationale: {str(error).partition(';')[0]}"
            ticket.error = RefusalError("unprocessable", said, "shorten the rationale or split it")
        return ticket.error is None

    def _ask(self, batch: Sequence[Ticket]) -> None:
        """Answers all; if that fails, each alone, so that one cannot spoil the others."""
        try:
            for ticket, answer in zip(batch, self._answers(batch), strict=True):
                _take(ticket, answer)
        except Exception:  # whatever a model or tokenizer raises
            log.exception("a batch of %d failed", len(batch))
            if len(batch) == 1:
                batch[0].error = internal()
                return
            for ticket in batch:
                self._ask([ticket])

    def _answers(self, batch: Sequence[Ticket]) -> list[Answer]:
        items = [ticket.item for ticket in batch]
        if limit := batch[0].limit:
            found = self.critic.critique(items, max_new_tokens=limit, batch=len(items))
            return [Answer(w.verdict.p_flawed, written=w) for w in found]
        if self.batching.named:
            chances, types = self.critic.p_and_types(items, batch_tokens=self.batching.tokens)
            return [Answer(float(p), name) for p, name in zip(chances, types, strict=True)]
        chances = self.critic.p_flawed(items, batch_tokens=self.batching.tokens)
        return [Answer(float(p)) for p in chances]


def _take(ticket: Ticket, answer: Answer) -> None:
    """Keeps an answer, unless it is none: NaN is below every threshold, so it would say valid."""
    if 0 <= answer.p_flawed <= 1:
        ticket.answer = answer
    else:
        log.error("p(flawed) is %r; the rationale gets no answer", answer.p_flawed)
        ticket.error = internal()
