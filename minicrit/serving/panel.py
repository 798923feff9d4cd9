"""The critic that answers and, in an experiment, the one that may take its place.

Which of them answers a rationale is the experiment's word (`minicrit/feedback/experiment.py`). In
shadow mode both are asked and only the first is heard; if the other one fails, nothing is lost but
its opinion.
"""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from minicrit.critic import Item
from minicrit.feedback.entries import group_of
from minicrit.feedback.experiment import CONTROL, TREATMENT, Experiment
from minicrit.feedback.store import FeedbackStore, UnavailableError
from minicrit.files import sha256_json
from minicrit.serving.desk import Desk, Result
from minicrit.serving.refusals import RefusalError

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 10.0  # between two looks at whether the experiment is over


class Panel:
    """One desk, or two and the experiment that parts the rationales between them."""

    def __init__(
        self, control: Desk, treatment: Desk | None = None, experiment: Experiment | None = None
    ) -> None:
        assert (treatment is None) == (experiment is None)
        self.desk, self.experiment = control, experiment
        self._desks = {CONTROL: control} | ({TREATMENT: treatment} if treatment else {})
        self._fault: str | None = None  # why the experiment's log cannot be used, as last told
        self._looked = 0.0
        self._looking = threading.Lock()

    @property
    def waiting(self) -> int:
        """Rationales in all queues."""
        return sum(desk.worker.waiting for desk in self._desks.values())

    @property
    def alive(self) -> bool:
        """Whether all of them take requests."""
        return all(desk.worker.alive for desk in self._desks.values())

    @property
    def trial(self) -> str | None:
        """The name of the experiment."""
        return None if self.experiment is None else self.experiment.name

    def critic_of(self, arm: str | None = None) -> str:
        """A hash of all that the answers of an arm rest on but the text; None: who is heard."""
        critic = self._desks[arm or CONTROL].critic
        return sha256_json([critic.identity, critic.prompt_version, critic.threshold])

    def open(self) -> None:
        """Begins to take requests."""
        for desk in self._desks.values():
            desk.open()

    async def close(self, within_s: float) -> bool:
        """Answers what waits; whether all of it was answered in time."""
        return all([await desk.close(within_s) for desk in self._desks.values()])

    async def judge(
        self, items: Sequence[Item], limit: int
    ) -> tuple[list[Result], list[Result | None]]:
        """Answers, with experiment and arm, and what the critic that is not heard would have said.

        Raises:
            RefusalError: as `Desk.judge`.
        """
        if self.experiment is None:
            return await self.desk.judge(items, limit), [None] * len(items)
        drawn = self._drawn(items)
        rows: dict[int, Result] = {}
        for arm, desk in self._desks.items():
            numbers = [at for at, (_, own) in enumerate(drawn) if own == arm]
            if numbers:
                found = await desk.judge([items[at] for at in numbers], limit, numbers)
                rows |= dict(zip(numbers, found, strict=True))
        results = [rows[at] | _named(*drawn[at]) for at in range(len(items))]
        return results, await self._unheard(items, [name for name, _ in drawn])

    def _drawn(self, items: Sequence[Item]) -> list[tuple[str | None, str]]:
        """Experiment and arm of each; control and none while the log cannot be used.

        Its file may be moved away or become another experiment's while this one is served: that
        ends it here, and keeps nobody from an answer.
        """
        assert self.experiment is not None
        try:
            found = [self.experiment.assigned(group_of(*item)) for item in items]
        except (OSError, ValueError) as error:
            if str(error) != self._fault:  # once, not with every request
                log.warning("experiment %s is left, control answers: %s", self.experiment.name,
                            error)  # fmt: skip
            self._fault = str(error)
            return [(None, CONTROL)] * len(items)
        self._fault = None
        return found

    async def _unheard(
        self, items: Sequence[Item], names: Sequence[str | None]
    ) -> list[Result | None]:
        assert self.experiment is not None
        if not self.experiment.shadow or None in names:
            return [None] * len(items)
        try:
            return list(await self._desks[TREATMENT].judge(items))
        except RefusalError as error:
            log.warning("%d rationales without a second opinion: %s", len(items), error.message)
            return [None] * len(items)

    def look(self, store: FeedbackStore) -> None:
        """Ends the experiment if its rules say so; looks at most every ten seconds."""
        if self.experiment is None or time.monotonic() - self._looked < _LOOK_EVERY_S:
            return
        with self._looking:
            self._looked = time.monotonic()
            if self.experiment.ended() is not None:
                return
            if (ended := self.experiment.decide(store)["ended"]) is not None:
                log.warning("experiment %s is over: %s", self.experiment.name, ended["reason"])

    def state(self, store: FeedbackStore) -> list[dict[str, Any]]:
        """What is known of the experiment; `error` alone, besides names, if it cannot be read."""
        if self.experiment is None:
            return []
        try:
            return [self.experiment.state(store)]
        except UnavailableError:
            raise
        except (OSError, ValueError) as error:
            it = self.experiment
            return [{"name": it.name, "control": it.control, "treatment": it.treatment,
                     "error": str(error)}]  # fmt: skip


def _named(name: str | None, arm: str) -> dict[str, str | None]:
    return {"experiment": name, "arm": arm if name is not None else None}
