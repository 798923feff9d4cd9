"""Pairs from many threads, in the order of their plans, however fast each of them is."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache
from types import TracebackType
from typing import Any, NamedTuple, Self

from tqdm import tqdm

from data_gen.asker import Asker, BudgetError
from data_gen.backends.protocol import Backend
from data_gen.journal import Journal
from data_gen.shingles import normalised
from data_gen.tamper import Pair, Plan, Rejected, make_pair

Done = Mapping[int, Pair | Rejected]
#: Share of rejected plans, among at least so many, above which something is wrong.
MAX_REJECTED, ENOUGH = 0.9, 40


class Found(NamedTuple):
    """Whole pairs, what was rejected, and the end of the budget if that came first."""

    pairs: list[Pair]
    rejected: list[Rejected]
    over: BudgetError | None


def collect(
    count: int, wanted: Iterator[Plan], asker: Asker, *, source: str, threads: int
) -> Found:
    """The first pairs, in the order of the plans, that together hold `count` examples.

    Plans ahead of the last accepted one are worked on at the same time, but only the first that
    suffice count, so that the result does not depend on which thread was faster. When the budget
    ends, no further plan is started; those under way may still become whole.
    """
    need = (count + 1) // 2
    done: dict[int, Pair | Rejected] = {}
    running: dict[Future[Pair | Rejected], int] = {}
    order: dict[int, Plan] = {}
    over: BudgetError | None = None
    with (
        ThreadPoolExecutor(threads) as pool,
        Progress(need, asker.backend, asker.journal) as progress,
    ):
        try:
            while (running or not over) and not suffices(order, done, need):
                while not over and len(running) < threads and _open(order, done, need):
                    plan = next(wanted)
                    order[plan.number] = plan
                    running[pool.submit(make_pair, plan, asker.ask, source)] = plan.number
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    if isinstance(found := _outcome(future), BudgetError):
                        over = found
                    else:
                        done[number] = found
                progress.show(done)
                check_rejected(done)
        finally:
            asker.stop()
    return first(order, done, need, over)


def _outcome(future: Future[Pair | Rejected]) -> Pair | Rejected | BudgetError:
    try:
        return future.result()
    except BudgetError as error:
        return error


def _open(order: Collection[int], done: Done, need: int) -> bool:
    """Whether another plan is worth starting: those that run may yet be rejected or accepted."""
    return accepted(done) + (len(order) - len(done)) < need


def accepted(done: Done) -> int:
    """How many plans gave a pair that no other has given as well."""
    return len({_text(found) for found in done.values() if not isinstance(found, Rejected)})


def _text(pair: Pair) -> str:
    """What tells a pair from its doubles."""
    return _plain(pair[0].rationale)


@cache
def _plain(text: str) -> str:
    return normalised(text)


def suffices(order: Iterable[int], done: Done, need: int) -> bool:
    """Whether the finished plans at the front of `order` hold `need` pairs."""
    pairs: set[str] = set()
    for number in order:
        if number not in done:
            return False
        found = done[number]
        if not isinstance(found, Rejected):
            pairs.add(_text(found))
        if len(pairs) == need:
            return True
    return need == 0


def first(
    plans: Mapping[int, Plan], done: Done, need: int, over: BudgetError | None = None
) -> Found:
    """The first `need` pairs, and what was rejected before the last of them, doubles included.

    `plans` holds the plans by number, in the order in which they came. Where the budget is `over`,
    those that it cut off are passed over, as every whole pair is paid for.
    """
    pairs: dict[str, Pair] = {}
    rejected: list[Rejected] = []
    for number, plan in plans.items():
        found = done.get(number)
        if len(pairs) == need or (found is None and not over):
            break
        if found is None:
            continue
        if isinstance(found, Rejected):
            rejected.append(found)
        elif _text(found) in pairs:
            earlier = pairs[_text(found)][0].id
            texts = tuple(example.rationale for example in found)
            rejected.append(Rejected(plan, "write", f"the text is that of {earlier}", texts))
        else:
            pairs[_text(found)] = found
    return Found(list(pairs.values()), rejected, over if len(pairs) < need else None)


def check_rejected(done: Done) -> None:
    """Refuses to go on where nearly everything is rejected: it costs and leads nowhere.

    Doubles count as rejected, as a model that only repeats itself would be paid without end.
    """
    rejected = len(done) - accepted(done)
    if len(done) < ENOUGH or rejected <= MAX_REJECTED * len(done):
        return
    reasons = Counter(f"{r.stage}: {r.reason[:80]}" for r in done.values()
                      if isinstance(r, Rejected))  # fmt: skip
    reasons["write: the text is that of another"] = rejected - reasons.total()
    shown = "; ".join(f"{n} x {reason}" for reason, n in (+reasons).most_common(3))
    raise ValueError(f"expected at most {MAX_REJECTED:.0%} rejected, got {rejected} of "
                     f"{len(done)} ({shown}); use a better model")  # fmt: skip


class Progress:
    """A bar of finished pairs, with what was rejected and spent."""

    def __init__(self, need: int, backend: Backend, journal: Journal) -> None:
        name = str(backend.identity.get("model", "pairs"))
        self._need, self._journal, self._rejected, self._note = need, journal, 0, ""
        self._bar: tqdm[Any] = tqdm(total=need, unit="pair", desc=name[-24:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._bar.close()

    def show(self, done: Done) -> None:
        """After a plan is finished."""
        pairs = accepted(done)
        self._rejected = len(done) - pairs
        self._bar.n = min(self._need, pairs)
        self._refresh()

    def note(self, text: str) -> None:
        """What is waited for."""
        self._note = text
        self._refresh()

    def _refresh(self) -> None:
        figures = f"rejected={self._rejected}, usd={self._journal.spent:.2f}"
        self._bar.set_postfix_str(f"{figures}, {self._note}" if self._note else figures)
