"""The stage `hard`: hard examples from the composer or from a language model, in any number.

Every answer is on disk before the next step (see `journal`), the plan of a pair depends on seed and
number alone, and the result is written in the order of the plans. So a run that was killed goes on
where it stopped, sends nothing twice, and ends in the same file.
"""

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from data_gen.asker import Asker
from data_gen.backends.protocol import Backend
from data_gen.check import faults
from data_gen.compose import compose
from data_gen.journal import Journal
from data_gen.plans import plans
from data_gen.prices import FREE, TABLE, Price, read_price
from data_gen.screen import asked, held_out_inputs, screened
from data_gen.tamper import Plan, Rejected, make_pair
from minicrit.files import atomic_folder, write_json
from minicrit.jsonl import write_rows
from minicrit.manifest import write_manifest
from minicrit.records import Example, write_examples
from minicrit.taxonomy import DOMAINS, FLAW_TYPES

if TYPE_CHECKING:
    from minicrit.config import HardConfig, Recipe

Pair = tuple[Example, Example]
#: Share of rejected plans, among at least so many, above which something is wrong.
MAX_REJECTED, ENOUGH = 0.9, 40
#: Requests of one pair: write, tamper, and two that verify.
_CALLS = 4


def make_hard(recipe: "Recipe") -> None:
    """Makes `hard.out` anew, or goes on making it.

    Raises:
        ValueError: if the back end is hopeless, the budget is spent or nearly all is rejected.
    """
    settings = recipe.hard
    if settings.backend == "composer":
        _composed(recipe)
        return
    price = _price(settings)
    if settings.dry_run:
        sys.stdout.write(_estimate(settings, price))
        return
    backend = open_backend(settings)
    work = settings.out.with_name(settings.out.name + ".work")
    with Journal(work / "journal.jsonl") as journal:
        asker = Asker(backend, journal, price=price, budget=settings.budget_usd)
        found = collect(
            settings.count, plans(recipe.seed, read_focus(settings.focus)), asker,
            source=settings.backend, threads=settings.threads,
        )  # fmt: skip
        _write(recipe, *found, backend, journal)


def collect(
    count: int, wanted: Iterator[Plan], asker: Asker, *, source: str, threads: int
) -> tuple[list[Pair], list[Rejected]]:
    """The first pairs, in the order of the plans, that together hold `count` examples.

    Plans ahead of the last accepted one are worked on at the same time, but only the first that
    suffice count, so that the result does not depend on which thread was faster.
    """
    need = (count + 1) // 2
    done: dict[int, Pair | Rejected] = {}
    running: dict[Future[Pair | Rejected], int] = {}
    order: list[int] = []
    with ThreadPoolExecutor(threads) as pool, _bar(need, asker) as bar:
        try:
            while not _suffices(order, done, need):
                while len(running) < threads and _open(order, done, need):
                    plan = next(wanted)
                    order.append(plan.number)
                    running[pool.submit(make_pair, plan, asker.ask, source)] = plan.number
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done[running.pop(future)] = future.result()
                _show(bar, need, done, asker)
                _check_rejected(done)
        except BaseException:
            asker.stop()
            raise
        asker.stop()
    return _first(order, done, need)


def _suffices(order: Sequence[int], done: dict[int, Pair | Rejected], need: int) -> bool:
    """Whether the finished plans at the front hold enough pairs."""
    accepted = 0
    for number in order:
        if number not in done:
            return False
        accepted += not isinstance(done[number], Rejected)
        if accepted == need:
            return True
    return need == 0


def _open(order: Sequence[int], done: dict[int, Pair | Rejected], need: int) -> bool:
    """Whether another plan is worth starting: those that run may yet be rejected or accepted."""
    accepted = sum(not isinstance(found, Rejected) for found in done.values())
    return accepted + (len(order) - len(done)) < need


def _first(
    order: Sequence[int], done: dict[int, Pair | Rejected], need: int
) -> tuple[list[Pair], list[Rejected]]:
    pairs: list[Pair] = []
    rejected: list[Rejected] = []
    for number in order:
        found = done.get(number)
        if len(pairs) == need or found is None:
            break
        if isinstance(found, Rejected):
            rejected.append(found)
        else:
            pairs.append(found)
    return pairs, rejected


def _check_rejected(done: dict[int, Pair | Rejected]) -> None:
    reasons = Counter(f"{r.stage}: {r.reason[:80]}" for r in done.values()
                      if isinstance(r, Rejected))  # fmt: skip
    if len(done) >= ENOUGH and reasons.total() > MAX_REJECTED * len(done):
        shown = "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common(3))
        raise ValueError(f"expected at most {MAX_REJECTED:.0%} rejected, got {reasons.total()} of "
                         f"{len(done)} ({shown}); use a better model")  # fmt: skip


def _bar(need: int, asker: Asker) -> "tqdm[Any]":
    return tqdm(total=need, unit="pair", desc=str(asker.backend.identity.get("model", "pairs")))


def _show(bar: "tqdm[Any]", need: int, done: dict[int, Pair | Rejected], asker: Asker) -> None:
    rejected = sum(isinstance(found, Rejected) for found in done.values())
    bar.n = min(need, len(done) - rejected)
    bar.set_postfix(rejected=rejected, usd=f"{asker.journal.spent:.2f}")


def open_backend(settings: "HardConfig") -> Backend:
    """The back end of the settings; its package is imported only now."""
    model, url = settings.model, settings.url
    if not model:
        raise ValueError(f"hard.model: expected the name of a model of {settings.backend}, got "
                         "none; give --hard.model NAME")  # fmt: skip
    if settings.backend == "anthropic":
        from data_gen.backends.claude import Claude

        return Claude(model, url=url)
    if settings.backend == "ollama":
        from data_gen.backends.ollama_server import Ollama

        return Ollama(model, url=url)
    if not url:
        raise ValueError("hard.url: expected the address of the server, got none; give --hard.url "
                         "http://HOST:PORT")  # fmt: skip
    from data_gen.backends.openai_like import OpenAILike

    return OpenAILike(model, url=url)


def _price(settings: "HardConfig") -> Price:
    """The price of the model: nothing on a server of one's own unless the table lists it."""
    table = settings.prices or TABLE
    price = read_price(settings.model or "", table)
    estimated = settings.dry_run and settings.backend == "anthropic"
    if price is None and (settings.budget_usd is not None or estimated):
        raise ValueError(f"{table}: expected a price of {settings.model}, got none, so a budget "
                         "cannot be kept; look it up and add it")  # fmt: skip
    return price or FREE


def _estimate(settings: "HardConfig", price: Price) -> str:
    """What the run will cost, by the length of the prompts and typical answers."""
    pairs = (settings.count + 1) // 2
    prompt, answer = 1100, 350  # tokens of a request, on average over the four of a pair
    usd = pairs * _CALLS * (prompt * price.input + answer * price.output) / 1e6
    return (
        f"{pairs} pairs, {pairs * _CALLS} requests at least; about {usd:.2f} USD if nothing is "
        f"rejected (prices of {price.date})\n"
    )


def read_focus(path: Path | None) -> list[tuple[str, str]]:
    """(domain, flaw type) of what a critic got wrong, from a report of its errors.

    The report is a JSON list, or an object with the list under `items`, of objects with `domain`
    and `flaw_type`.
    """
    if path is None:
        return []
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a report of errors in JSON, got {error}; make it "
                         "again") from error  # fmt: skip
    rows = read.get("items", []) if isinstance(read, dict) else read
    found = [
        (row["domain"], row["flaw_type"]) for row in rows
        if isinstance(row, dict) and row.get("domain") in DOMAINS
        and row.get("flaw_type") in FLAW_TYPES
    ]  # fmt: skip
    if not found:
        raise ValueError(f"{path}: expected errors with domain and flaw_type, got none; check that "
                         "it is the report of an error analysis")  # fmt: skip
    return found


def _composed(recipe: "Recipe") -> None:
    settings = recipe.hard
    made = list(compose(settings.count, recipe.seed, "train"))
    if found := [fault for composed in made for fault in faults(composed)]:
        raise ValueError(f"expected no faults, got {len(found)}: {found[0]}; mend the mechanism")
    own = [composed.example for composed in made]
    screening = screened(own, [], {}, recipe.filters, recipe.seed)
    with atomic_folder(settings.out) as box:
        write_examples(box / "train.jsonl", screening.composed)
        screening.write(box)
        facts = {"examples": len(screening.composed), **screening.facts()}
        write_manifest(box, stage="hard", inputs=held_out_inputs(recipe.filters),
                       settings=_settings(recipe), facts=facts)  # fmt: skip
    sys.stdout.write(screening.lines())
    sys.stdout.write(f"{len(screening.composed)} examples; written: {settings.out}\n")


def _write(
    recipe: "Recipe",
    pairs: Sequence[Pair],
    rejected: Sequence[Rejected],
    backend: Backend,
    journal: Journal,
) -> None:
    out = recipe.hard.out
    screening = screened([], list(itertools.chain.from_iterable(pairs)), {}, recipe.filters,
                         recipe.seed)  # fmt: skip
    with atomic_folder(out) as box:
        write_examples(box / "train.jsonl", screening.others)
        screening.write(box)
        write_rows(box / "rejected.jsonl", [asdict(one) for one in rejected])
        spent = {"usd": round(journal.spent, 6), "usd_lost_at_most": round(journal.reserved, 6)}
        write_json(box / "ledger.json", {**spent, **_usage(journal), **dict(journal.counts)})
        facts = {"backend": dict(backend.identity), "examples": len(screening.others),
                 "rejected": len(rejected), **screening.facts()}  # fmt: skip
        write_manifest(box, stage="hard", inputs=held_out_inputs(recipe.filters),
                       settings=_settings(recipe), facts=facts)  # fmt: skip
    reasons = Counter(f"{one.stage}: {one.reason[:60]}" for one in rejected)
    sys.stdout.write(
        f"{screening.lines()}{len(screening.others)} examples, {len(rejected)} plans rejected, "
        f"{journal.spent:.2f} USD; written: {out}\n"
    )
    sys.stdout.writelines(f"  {n:>5} {reason}\n" for reason, n in reasons.most_common(8))


def _usage(journal: Journal) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for answer in journal.answers.values():
        totals.update(asdict(answer.usage))
    return dict(totals)


#: Where and how fast it runs, not what comes out.
_NOT_PART = {"out", "threads", "budget_usd", "dry_run", "prices", "url"}


def _settings(recipe: "Recipe") -> dict[str, object]:
    hard = {k: v for k, v in vars(recipe.hard).items() if k not in _NOT_PART}
    return {"seed": recipe.seed, "filters": asked(recipe.filters),
            "hard": {k: str(v) if isinstance(v, Path) else v for k, v in hard.items()}}  # fmt: skip
