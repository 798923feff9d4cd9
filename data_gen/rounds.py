"""Pairs from batches: what all open plans ask next is one batch, then what they ask after that.

Writing, tampering and verifying follow from one another, so a batch holds one step of every open
plan. The result is that of `collect`, as it depends on the answers alone.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from data_gen.asker import BudgetError, over_budget
from data_gen.backends.protocol import Answer, Request
from data_gen.batcher import Batcher, Result
from data_gen.collect import Found, Progress, accepted, check_rejected, first, suffices
from data_gen.estimate import step_of
from data_gen.tamper import Pair, Plan, Rejected, Steps, pair_steps

#: The rate of acceptance that is reckoned with at the least, so that a bad start costs little.
_LEAST_RATE = 0.25


def collect_in_rounds(
    count: int,
    wanted: Iterator[Plan],
    batcher: Batcher,
    *,
    source: str,
    rest: Callable[[], Mapping[str, float]] = dict,
) -> Found:
    """What `collect.collect` gives, by way of batches.

    Args:
        count: examples.
        wanted: plans, in their order.
        batcher: see there.
        source: where the examples say they come from.
        rest: USD that a plan will still cost, by the step that it asks next (`Estimate.rest`). A
            budget is spent on whole pairs: what it is not expected to finish waits.
    """
    need = (count + 1) // 2
    rounds = _Rounds(source)
    over: BudgetError | None = None
    with Progress(need, batcher.backend, batcher.journal) as progress:
        batcher.show = progress.note
        batcher.ask_all([])  # what a killed run left open is not spent to the last
        while not suffices(rounds.order, rounds.done, need):
            rounds.start([next(wanted) for _ in range(rounds.missing(need))])
            asked = rounds.known(batcher)  # first, so that what they ask then is counted in
            if over and not asked:
                break
            try:
                asked = asked or rounds.payable(batcher, rest)
                results = batcher.ask_all(rounds.requests(asked))
            except BudgetError as error:
                over = error
                continue
            rounds.feed(asked, results)
            progress.show(rounds.done)
            check_rejected(rounds.done)
    return first(rounds.order, rounds.done, need, over)


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

    def known(self, batcher: Batcher) -> list[int]:
        """The plans whose next answers are there already, so that they cost nothing."""
        return [number for number, plan in self.open.items()
                if all(map(batcher.knows, plan.requests))]  # fmt: skip

    def payable(self, batcher: Batcher, rest: Callable[[], Mapping[str, float]]) -> list[int]:
        """The plans that the budget is expected to finish, those that are nearly whole first.

        Raises:
            BudgetError: if there are none.
        """
        if batcher.budget is None:
            return list(self.open)
        usd = rest()
        costs = {n: usd.get(step_of(plan.requests[0]), 0.0) for n, plan in self.open.items()}
        room, found = batcher.room, []
        for number in sorted(costs, key=lambda n: (costs[n], n)):
            room -= costs[number]
            if room < 0:
                break
            found.append(number)
        if not found:
            raise over_budget(min(costs.values()), batcher.journal.committed, batcher.budget)
        return sorted(found)

    def requests(self, numbers: Iterable[int]) -> list[Request]:
        """What these plans under way ask now."""
        return [request for number in numbers for request in self.open[number].requests]

    def feed(self, numbers: Iterable[int], results: Sequence[Result]) -> None:
        """Gives each of these plans its answers, in the order of `requests`."""
        given = iter(results)
        for number in numbers:
            plan = self.open[number]
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
