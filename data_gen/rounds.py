"""Pairs from batches: what all open plans ask next is one batch, then what they ask after that.

Writing, tampering and verifying follow from one another, so a batch holds one step of every open
plan. The result is that of `collect`, as it depends on the answers alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from data_gen.backends.protocol import Answer, Request
from data_gen.batcher import Batcher, Result
from data_gen.collect import Progress, accepted, check_rejected, first, suffices
from data_gen.tamper import Pair, Plan, Rejected, Steps, pair_steps

#: The rate of acceptance that is reckoned with at the least, so that a bad start costs little.
_LEAST_RATE = 0.25


def collect_in_rounds(
    count: int, wanted: Iterator[Plan], batcher: Batcher, *, source: str
) -> tuple[list[Pair], list[Rejected]]:
    """What `collect.collect` gives, by way of batches."""
    need = (count + 1) // 2
    rounds = _Rounds(source)
    with Progress(need, batcher.backend, batcher.journal) as progress:
        batcher.show = progress.note
        while not suffices(rounds.order, rounds.done, need):
            rounds.start([next(wanted) for _ in range(rounds.missing(need))])
            rounds.feed(batcher.ask_all(rounds.requests()))
            progress.show(rounds.done)
            check_rejected(rounds.done)
    return first(rounds.order, rounds.done, need)


@dataclass
class _Open:
    """A plan under way: its steps, and what they ask now."""

    steps: Steps
    requests: Sequence[Request]


@dataclass
class _Rounds:
    """Plans under way by number, what came of the others, and the order in which they came."""

    source: str
    order: dict[int, Plan] = field(default_factory=dict)
    done: dict[int, Pair | Rejected] = field(default_factory=dict)
    open: dict[int, _Open] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)

    def missing(self, need: int) -> int:
        """How many plans to start so that they, with those under way, will suffice.

        The rate of acceptance is that of plans that started together and are all done: those that
        end early are the rejected ones. Each round may take an hour, so some too many are better
        than a few too few, again and again.
        """
        settled, order = 0, list(self.order)
        for start, end in zip(self.starts, [*self.starts, len(self.order)][1:], strict=True):
            if any(number in self.open for number in order[start:end]):
                break
            settled = end
        pairs = accepted({n: self.done[n] for n in order[:settled]})
        rate = max(_LEAST_RATE, pairs / settled) if settled else 1.0
        return max(0, math.ceil((need - accepted(self.done)) / rate) - len(self.open))

    def start(self, plans: Sequence[Plan]) -> None:
        """Takes new plans in."""
        if plans:
            self.starts.append(len(self.order))
        for plan in plans:
            steps = pair_steps(plan, self.source)
            self.order[plan.number] = plan
            self.open[plan.number] = _Open(steps, next(steps))

    def requests(self) -> list[Request]:
        """What all plans under way ask now."""
        return [request for plan in self.open.values() for request in plan.requests]

    def feed(self, results: Sequence[Result]) -> None:
        """Gives every plan its answers, in the order of `requests`."""
        given = iter(results)
        for number, plan in list(self.open.items()):
            own = [next(given) for _ in plan.requests]
            try:
                plan.requests = plan.steps.send(_answers(own))
            except StopIteration as stop:
                self.done[number] = stop.value
                del self.open[number]


def _answers(results: Sequence[Result]) -> Iterator[Answer]:
    """The answers; what was not accepted is raised when it is its turn."""
    for result in results:
        if not isinstance(result, Answer):
            raise result
        yield result
