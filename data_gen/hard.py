"""The stage `hard`: hard examples from the composer or from a language model, in any number.

Every answer is on disk before the next step (see `journal`), the plan of a pair depends on seed and
number alone, and the result is written in the order of the plans. So a run that was killed goes on
where it stopped, sends nothing twice, and ends in the same file.
"""

import itertools
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_gen.asker import Asker, BudgetError
from data_gen.backends.protocol import Backend
from data_gen.batcher import Batcher
from data_gen.check import faults
from data_gen.collect import Found, collect
from data_gen.compose import compose
from data_gen.estimate import Estimate, estimate
from data_gen.focus import cell_weights, mechanism_shares
from data_gen.journal import Journal, Past
from data_gen.opening import (
    check_batches,
    checked_model,
    identity_of,
    open_backend,
    open_batches,
)
from data_gen.plans import plans
from data_gen.prices import FREE, Price, price_of
from data_gen.rounds import collect_in_rounds
from data_gen.screen import asked, held_out_files, held_out_inputs, screened
from minicrit.discreet import key_of
from minicrit.files import atomic_folder, check_replaceable, write_json
from minicrit.jsonl import write_rows
from minicrit.manifest import write_manifest
from minicrit.records import write_examples

if TYPE_CHECKING:
    from minicrit.config import Recipe
    from minicrit.data_config import HardConfig


def make_hard(recipe: "Recipe") -> None:
    """Makes `hard.out` anew, or goes on making it.

    Raises:
        ValueError: if the back end is hopeless, the budget is spent, nearly all is rejected, or a
            batch is out that this run would not wait for. Of a spent budget, what is whole is
            written before.
    """
    settings = recipe.hard
    read = (*filter(None, [settings.focus]), *held_out_files(recipe.filters))
    check_replaceable(settings.out, *read)  # now, not after what is paid for
    if settings.backend == "composer" and settings.dry_run:
        sys.stdout.write(f"composer: {settings.count} examples cost nothing, for {settings.out}\n")
        return
    if settings.backend == "composer":
        _composed(recipe)
        return
    model = checked_model(settings.backend, settings.model, settings.url)
    if settings.batch:  # a dry run, too, tells of what can be run
        check_batches(settings.backend)
    price = price_of(settings.backend, model, url=settings.url,
                     budget=settings.budget_usd, table=settings.prices,
                     batch=settings.batch)  # fmt: skip
    journal_file = settings.out.with_name(settings.out.name + ".work") / "journal.jsonl"
    if settings.dry_run:
        _tell(recipe, price, Past.read(journal_file))
        return
    with Journal(journal_file) as journal:
        if price != FREE:
            _tell(recipe, price, journal)
        _make(recipe, price, journal)


def _make(recipe: "Recipe", price: Price, journal: Journal) -> None:
    settings = recipe.hard
    wanted = plans(recipe.seed, _cells(settings))
    count, budget, source = settings.count, settings.budget_usd, settings.backend
    if settings.batch:
        batches = open_batches(source, settings.model, url=settings.url)
        batcher = Batcher(batches, journal, price=price, budget=budget)
        found = collect_in_rounds(count, wanted, batcher, source=source,
                                  rest=lambda: _estimate(recipe, price, journal).rest)  # fmt: skip
        _write(recipe, found, batches, journal)
    else:
        _check_batches(journal)
        backend = open_backend(source, settings.model, **_where(recipe))
        asker = Asker(backend, journal, price=price, budget=budget)
        found = collect(count, wanted, asker, source=source, threads=settings.threads)
        _write(recipe, found, backend, journal)


def _check_batches(journal: Journal) -> None:
    """Refuses to ask alone what a batch may hold: it would be paid for twice."""
    if batch := next(iter(journal.batches.values()), None):
        raise ValueError(
            f"{journal.path}: expected BATCH=1 while batch {batch.id or batch.name} of "
            f"{batch.size} requests is out, got 0; run the same command with BATCH=1, which waits "
            "for it, or choose another OUT"
        )


def _cells(settings: "HardConfig") -> dict[tuple[str, str], float] | None:
    return cell_weights(settings.focus) if settings.focus else None


def _where(recipe: "Recipe") -> dict[str, Any]:
    return {"url": recipe.hard.url, "folder": recipe.base.folder}


def _tell(recipe: "Recipe", price: Price, past: Past) -> None:
    """Writes to standard output what the run will cost."""
    sys.stdout.write(_shown(_estimate(recipe, price, past), recipe.hard, price, past))
    sys.stdout.flush()


def _estimate(recipe: "Recipe", price: Price, past: Past) -> Estimate:
    settings = recipe.hard
    count = None
    if settings.backend == "anthropic" and key_of("ANTHROPIC_API_KEY"):
        from data_gen.backends.claude import Claude

        count = Claude(str(settings.model), url=settings.url, timeout=20.0).count
    return estimate(
        (settings.count + 1) // 2, plans(recipe.seed, _cells(settings)), price, past,
        identity=identity_of(settings.backend, settings.model, **_where(recipe)), count=count,
    )  # fmt: skip


def _shown(found: Estimate, settings: "HardConfig", price: Price, past: Past) -> str:
    tokens = f"{found.input_tokens / 1e6:.2f} M input and {found.output_tokens / 1e6:.2f} M output"
    lines = [
        f"{found.pairs} pairs: about {found.requests} requests, {found.answered} answered before; "
        f"{tokens} tokens ({found.basis})"
    ]
    if price != FREE:
        batch = " in batches" if settings.batch else ""
        lines.append(
            f"expected {found.usd:.2f} USD, at most {found.most_usd:.2f} USD unless more is "
            f"rejected (prices of {price.date}{batch}); used so far {past.committed:.2f} USD"
        )
    if settings.budget_usd is not None:
        fits = past.committed + found.usd <= settings.budget_usd
        so = "the expected cost fits" if fits else "it will end the run early"
        lines.append(f"budget {settings.budget_usd:.2f} USD: {so}")
    if settings.batch:
        lines.append("three rounds at least, each mostly within the hour, at most a day")
    else:
        minutes = found.requests * found.seconds / settings.threads / 60
        lines.append(f"about {minutes:.0f} min, {settings.threads} requests at a time")
    return "\n".join(lines) + "\n"


def _composed(recipe: "Recipe") -> None:
    settings = recipe.hard
    shares = mechanism_shares(settings.focus) if settings.focus else None
    made = list(compose(settings.count, recipe.seed, "train", shares=shares))
    if found := [fault for composed in made for fault in faults(composed)]:
        raise ValueError(f"expected no faults, got {len(found)}: {found[0]}; mend the mechanism")
    own = [composed.example for composed in made]
    screening = screened(own, [], {}, recipe.filters, recipe.seed)
    with atomic_folder(settings.out) as box:
        write_examples(box / "train.jsonl", screening.composed)
        screening.write(box)
        facts = {"examples": len(screening.composed), **screening.facts()}
        write_manifest(box, stage="hard", inputs=_inputs(recipe), settings=_settings(recipe),
                       facts=facts)  # fmt: skip
    sys.stdout.write(screening.lines())
    sys.stdout.write(f"{len(screening.composed)} examples; written: {settings.out}\n")


def _write(recipe: "Recipe", found: Found, backend: Backend, journal: Journal) -> None:
    """Writes what was found, also where the budget ended before all of it was.

    Raises:
        BudgetError: in that case; where no pair is whole, nothing is written.
    """
    out, (pairs, rejected, over) = recipe.hard.out, found
    if over and not pairs:
        raise over
    screening = screened([], list(itertools.chain.from_iterable(pairs)), {}, recipe.filters,
                         recipe.seed)  # fmt: skip
    with atomic_folder(out) as box:
        write_examples(box / "train.jsonl", screening.others)
        screening.write(box)
        write_rows(box / "rejected.jsonl", [asdict(one) for one in rejected])
        write_json(box / "ledger.json", journal.ledger())
        facts = {"backend": dict(backend.identity), "examples": len(screening.others),
                 "rejected": len(rejected), **screening.facts()}  # fmt: skip
        write_manifest(box, stage="hard", inputs=_inputs(recipe), settings=_settings(recipe),
                       facts=facts)  # fmt: skip
    reasons = Counter(f"{one.stage}: {one.reason[:60]}" for one in rejected)
    sys.stdout.write(
        f"{screening.lines()}{len(screening.others)} examples, {len(rejected)} plans rejected, "
        f"{journal.spent:.2f} USD; written: {out}\n"
    )
    sys.stdout.writelines(f"  {n:>5} {reason}\n" for reason, n in reasons.most_common(8))
    if over:
        raise BudgetError(f"{over}; {2 * len(pairs)} of {recipe.hard.count} examples were made")


def _inputs(recipe: "Recipe") -> dict[str, Path]:
    focus = recipe.hard.focus
    return {**held_out_inputs(recipe.filters), **({"focus": focus} if focus else {})}


#: Where and how fast it runs, not what comes out; the focus counts by its content.
_NOT_PART = {"out", "threads", "batch", "budget_usd", "dry_run", "prices", "url", "focus"}


def _settings(recipe: "Recipe") -> dict[str, object]:
    hard = {k: v for k, v in vars(recipe.hard).items() if k not in _NOT_PART}
    return {"seed": recipe.seed, "filters": asked(recipe.filters), "hard": hard}
