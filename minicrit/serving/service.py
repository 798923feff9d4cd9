"""What the service does, without HTTP: judging, recording, feedback, precedents."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from minicrit.critic import Critic, Item
from minicrit.feedback.entries import Request
from minicrit.feedback.store import (
    ConflictError,
    FeedbackStore,
    UnavailableError,
    UnknownRequestError,
)
from minicrit.jsonl import RefusedError
from minicrit.marks import check_marks
from minicrit.serving.answers import normalised
from minicrit.serving.desk import Result
from minicrit.serving.instruments import Instruments
from minicrit.serving.panel import Panel
from minicrit.serving.precedents import Precedents
from minicrit.serving.recorder import Recorder
from minicrit.serving.refusals import RefusalError

log = logging.getLogger(__name__)

#: Another service of this store may have given an answer and not have written it yet; so long the
#: answer is waited for before it is said not to be there. A few of its turns, see `recorder`.
_UNWRITTEN_S = (0.1, 0.2)
#: Of a hundred thousand decisions counting takes seconds, and every open page asks again and again:
#: what took longer than the first, in seconds of a core, is told for so many times as long.
_QUICK_S, _TOLD_FOR = 0.1, 10
_SEEKING = 32  # callers that may wait for precedents; each costs a forward of a small model


@dataclass(frozen=True)
class Limits:
    """See `ServeConfig`."""

    most_items: int = 100
    most_characters: int = 20_000
    max_new_tokens: int = 160


class Service:
    """All parts of it. `open` and `close` it in the event loop."""

    def __init__(
        self,
        panel: Panel,
        store: FeedbackStore,
        instruments: Instruments,
        limits: Limits,
        precedents: Precedents | None = None,
    ) -> None:
        self.panel, self.store, self.instruments, self.limits = panel, store, instruments, limits
        self.precedents = precedents
        self.recorder = Recorder(store)
        # One thread of its own, as texts are embedded one by one: among the threads that all share
        # those who wait for precedents would keep feedback from the disk.
        self._seeker = ThreadPoolExecutor(1, thread_name_prefix="likeness")
        self._seeking = 0
        # Who waits for a count holds none of the threads that all share, as feedback needs them.
        self._counting = asyncio.Lock()
        self._counted: tuple[float, dict[str, Any]] = (0.0, {})  # until when it is told
        instruments.waiting.set_function(lambda: panel.waiting)
        instruments.unrecorded.set_function(lambda: self.recorder.pending)

    @property
    def critic(self) -> Critic:
        """The one that answers."""
        return self.panel.desk.critic

    @property
    def ready(self) -> bool:
        """Whether it can answer and keep what it answers."""
        return self.panel.alive and not (self.recorder.full or self.recorder.failing)

    def open(self) -> None:
        """Begins to take requests."""
        self.panel.open()
        self.recorder.start()

    async def close(self, drain_s: float) -> bool:
        """Answers what waits, writes what was answered; whether all was answered in time."""
        whole = await self.panel.close(drain_s)
        await asyncio.to_thread(self.recorder.stop)
        await asyncio.to_thread(self._seeker.shutdown, cancel_futures=True)
        if self.precedents is not None:
            await asyncio.to_thread(self.precedents.close)
        self.store.close()
        return whole

    async def judge(self, items: Sequence[Item], *, write: bool, limit: int = 0) -> list[Result]:
        """Answers to (domain, rationale), recorded.

        Args:
            items: as they came.
            write: whether critiques are written.
            limit: most tokens of them, if less than the service's own.

        Raises:
            RefusalError: for what it cannot or will not answer.
        """
        cleaned = self._cleaned(items)
        most = self.limits.max_new_tokens
        results, unheard = await self.panel.judge(cleaned, min(limit or most, most) if write else 0)
        self._record(cleaned, results, unheard)
        for result in results:
            self.instruments.gave(result["label"], cached=result["cached"])
        return results

    async def label(self, item: Item) -> str:
        """The verdict's word alone, not recorded: a part of an answer that will be."""
        (result,), _ = await self.panel.judge(self._cleaned([item]), 0)
        return str(result["label"])

    def _cleaned(self, items: Sequence[Item]) -> list[Item]:
        """The items as they are read and kept.

        Raises:
            RefusalError: if these are too many, too long, nothing, or no use to a critic.
        """
        self._check(items)  # first: what it lets through costs little to normalise
        return [(domain, normalised(text)) for domain, text in items]

    def _check(self, items: Sequence[Item]) -> None:
        if len(items) > self.limits.most_items:
            most = self.limits.most_items
            raise RefusalError("unprocessable", f"items: expected at most {most}, got {len(items)}",
                               "send fewer at once")  # fmt: skip
        for at, (_, text) in enumerate(items):
            if not text.strip():
                raise RefusalError("unprocessable", f"items[{at}].rationale: expected text, got "
                                   "none", "fill it in")  # fmt: skip
            if len(text) > self.limits.most_characters:
                raise RefusalError(
                    "unprocessable", f"items[{at}].rationale: expected at most "
                    f"{self.limits.most_characters} characters, got {len(text)}",
                    "shorten the rationale or split it")  # fmt: skip
            try:
                check_marks(text)
            except RefusedError as error:
                raise RefusalError("unprocessable", f"items[{at}].rationale: expected "
                                   f"{error.expected}, got {error.got}",
                                   error.remedy) from error  # fmt: skip
        if self.recorder.full:
            raise RefusalError("unavailable", "answers cannot be written to the database",
                               "try again later", retry_after=5)  # fmt: skip

    def _record(
        self, items: Sequence[Item], results: Sequence[Result], unheard: Sequence[Result | None]
    ) -> None:
        self.recorder.add([
            Request(request_id=result["request_id"], domain=domain, rationale=text, result=result,
                    experiment=result["experiment"], arm=result["arm"], shadow=shadow,
                    critic=self.panel.critic_of(result["arm"]))
            for (domain, text), result, shadow in zip(items, results, unheard, strict=True)
        ])  # fmt: skip
        if self.precedents is not None:
            for (domain, text), result in zip(items, results, strict=True):
                self.precedents.add(result["request_id"], domain, text, label=result["label"],
                                    p_flawed=result["p_flawed"])  # fmt: skip

    async def feedback(self, given: Mapping[str, Any]) -> int:
        """Writes a decision; its number, once it is on disk."""
        number = await self._kept(self.store.add_decision, given)
        await asyncio.to_thread(self._follow, given["request_id"], given["decision"])
        self.instruments.feedback.labels("decision").inc()
        return number

    def _follow(self, request_id: str, decision: str) -> None:
        """Lets precedents and experiment know; what goes wrong here leaves the decision written."""
        self._look()
        try:
            row = self.store.request(request_id)
        except (OSError, ValueError):
            log.exception("what follows on a decision failed")
            return
        if self.precedents is not None and row is not None:
            said = row["result"]
            self.precedents.add(request_id, row["domain"], row["rationale"], label=said["label"],
                                p_flawed=said["p_flawed"], decision=decision)  # fmt: skip

    async def outcome(self, given: Mapping[str, Any]) -> int:
        """Writes an outcome; its number, once it is on disk."""
        number = await self._kept(self.store.add_outcome, given)
        await asyncio.to_thread(self._look)
        self.instruments.feedback.labels("outcome").inc()
        return number

    def _look(self) -> None:
        """Ends the experiment if its rules say so; what goes wrong leaves what came in written."""
        try:
            self.panel.look(self.store)
        except (OSError, ValueError):
            log.exception("the experiment could not be looked at")

    async def _kept(self, add: Callable[..., int], given: Mapping[str, Any]) -> int:
        """The number of what is written of an answer, which may be another service's."""
        for pause in _UNWRITTEN_S:
            try:
                return await asyncio.to_thread(self._written, add, dict(given))
            except RefusalError as error:
                if error.code != "not_found":
                    raise
            await asyncio.sleep(pause)  # no thread is held meanwhile
        return await asyncio.to_thread(self._written, add, dict(given))

    def _written(self, add: Callable[..., int], given: dict[str, Any]) -> int:
        request_id = given.pop("request_id")
        try:
            self.recorder.settle(request_id)
            return int(add(request_id, **given))
        except UnknownRequestError as error:
            raise _refusal("not_found", error) from error
        except ConflictError as error:
            raise _refusal("conflict", error) from error
        except ValueError as error:
            raise _refusal("unprocessable", error) from error
        except UnavailableError as error:
            raise _unavailable() from error

    async def queue(self, limit: int) -> list[dict[str, Any]]:
        """Requests that nobody has decided on, least certain first."""
        rows = await asyncio.to_thread(self._queue, limit)
        return [{**row["result"], "rationale": row["rationale"]} for row in rows]

    def _queue(self, limit: int) -> list[dict[str, Any]]:
        try:
            self.recorder.settle_all()
            return self.store.queue(limit)
        except UnavailableError as error:
            raise _unavailable() from error

    async def state(self) -> dict[str, Any]:
        """Counts, agreement, false positives, experiments."""
        async with self._counting:  # who comes meanwhile is told what the first one found
            return await asyncio.to_thread(self._state)

    def _state(self) -> dict[str, Any]:
        until, found = self._counted
        if time.monotonic() < until:
            return found
        started = time.thread_time()
        try:
            critic, trial = self.panel.critic_of(), self.panel.trial
            found = {**self.store.state(critic, trial), "trial": self.panel.state(self.store)}
        except UnavailableError as error:
            raise _unavailable() from error
        spent = time.thread_time() - started
        if spent > _QUICK_S:
            self._counted = time.monotonic() + _TOLD_FOR * spent, found
        return found

    @property
    def why_no_precedents(self) -> str | None:
        """What is missing for there to be any; None if nothing is."""
        if self.precedents is None:
            return "no precedents: they are switched off (serve.precedents)"
        return self.precedents.reason

    async def like(self, domain: str | None, rationale: str, k: int) -> list[dict[str, Any]]:
        """Rationales of the past that are most like this one.

        Raises:
            RefusalError: as `judge`, and if too many callers wait for theirs.
        """
        ((_, text),) = self._cleaned([(domain or "general", rationale)])
        if self.precedents is None:
            return []
        if self._seeking >= _SEEKING:
            raise RefusalError("busy", f"expected room for one more, got {self._seeking} callers "
                               "that wait for precedents", "try again later",
                               retry_after=2)  # fmt: skip
        find, loop = self.precedents.find, asyncio.get_running_loop()
        self._seeking += 1
        try:
            return await loop.run_in_executor(self._seeker, find, domain, text, k)
        finally:
            self._seeking -= 1


def _unavailable() -> RefusalError:
    return RefusalError("unavailable", "the database cannot be read or written; nothing was kept",
                        "try again", retry_after=2)  # fmt: skip


def _refusal(code: str, error: ValueError) -> RefusalError:
    message, _, remedy = str(error).partition("; ")
    return RefusalError(code, message, remedy or "check the request")
