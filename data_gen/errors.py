"""The stage `errors`: what a critic gets wrong, why, where, and the list that FOCUS reads.

    minicrit errors --errors.model checkpoints/cpu/sft --errors.data data/cpu/validation.jsonl

Writes `<out>.items.jsonl` (every item with its outcome), `<out>.opinions.jsonl` (if somebody was
asked), `<out>.md`, `<out>.html` and, last, `<out>.json`. What each outcome means stands in
`minicrit/misses.py`. Every pass is kept, so a killed run goes on; run again, all bytes are equal.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_gen.asking import Service, open_service
from data_gen.doubts import Opinions, ask_opinions, read_opinions
from data_gen.explained import explanation_of, said_type
from minicrit import limits
from minicrit.config import Recipe
from minicrit.error_facts import FORM, Analysis, error_rows, report_of
from minicrit.errors_page import errors_html, errors_markdown
from minicrit.files import sha256_path, write_atomic, write_json
from minicrit.jsonl import write_rows
from minicrit.judging import (
    Item,
    Judge,
    item_of,
    load_judge,
    one_by_one,
    remove_partial,
    score_items,
)
from minicrit.kept import in_passes
from minicrit.manifest import code_version, provenance
from minicrit.measure_config import ErrorsConfig
from minicrit.misses import Bars, Fact, is_doubtful, outcome
from minicrit.neighbours import nearest
from minicrit.records import Example
from minicrit.selection import limited, of_split
from minicrit.written import balanced, seeded_order

Load = Callable[[str], Judge]

#: Tokens in which a critique has named its flaw: the verdict is given, a name takes eleven at most.
OPENING = 16
_log = logging.getLogger(__name__)


def analyse_errors(recipe: Recipe, *, load: Load | None = None) -> dict[str, Any]:
    """Runs it and returns what `<out>.json` holds.

    Args:
        recipe: uses `errors`, `seed` and `base.folder`.
        load: how the critic is loaded; from its folder unless given.

    Raises:
        ValueError: if there are no such items, or a setting, server or budget will not do.
    """
    settings = recipe.errors
    _check(settings)
    service = _service(settings)  # now, not after the long writing
    examples, _ = of_split([settings.data], settings.split, "errors")
    items = {settings.data.as_posix(): sha256_path(settings.data)}  # now: it may change meanwhile
    if settings.limit:
        examples = limited(examples, settings.limit, recipe.seed)
    judge = (load or partial(load_judge, base_folder=recipe.base.folder))(settings.model)
    bars = Bars(settings.confident, settings.overlap, settings.reasons)
    facts = _read(judge, examples, recipe)
    opinions = _opinions(facts, bars, service, recipe)
    facts = [replace(f, opinion=opinions.verdict(f.example), trusted=opinions.trusted)
             for f in facts]  # fmt: skip
    near, rows = nearest([e.rationale for e in examples], _training(settings), settings.neighbours)
    found = Analysis(facts, [outcome(f, bars) for f in facts], near, rows, opinions.rows,
                     {"by": opinions.by, "trusted": opinions.trusted, **opinions.facts}
                     )  # fmt: skip
    report = {
        "form": FORM,
        **provenance(recipe.seed, settings, items | _others(settings)),
        "critic": {name: getattr(judge, name)
                   for name in ("name", "identity", "adapter", "prompt_version", "threshold")},
        **report_of(found, bars, split=settings.split, least=settings.slice_items,
                    slices=settings.slices, cards=settings.cards, seed=recipe.seed),
    }  # fmt: skip
    _write(settings, report, found, bars)
    return report


def _check(settings: ErrorsConfig) -> None:
    """Refuse settings before the critic is asked, which takes minutes."""
    limits.require("errors", settings)
    if settings.judge != "none" and settings.opinions:
        raise ValueError(f"errors.opinions: expected a judge or a file of opinions, got both "
                         f"({settings.judge}, {settings.opinions}); keep one")  # fmt: skip
    for path in _training(settings):
        if not path.exists():
            raise ValueError(f"errors.train: expected training files, got no {path}; make the data"
                             ", or set it to null")  # fmt: skip


def _service(settings: ErrorsConfig) -> Service | None:
    if settings.judge == "none":
        return None
    return open_service(
        settings.judge, settings.judge_model, url=settings.url, budget=settings.budget_usd,
        prices=settings.prices, named="errors.judge_model",
    )  # fmt: skip


def _training(settings: ErrorsConfig) -> list[Path]:
    names = (settings.train or "").split(",") if settings.neighbours else []
    return [Path(name.strip()) for name in names if name.strip()]


def _read(judge: Judge, examples: list[Example], recipe: Recipe) -> list[Fact]:
    """Verdicts of all items, flaw types of all detected flaws, and the critiques that are due."""
    settings = recipe.errors
    scored = score_items(judge, examples, settings.out, batch_tokens=settings.batch_tokens)
    facts = [Fact(e, float(p), judge.threshold, unread=_unread(scored.unscored, p))
             for e, p in zip(examples, scored.p, strict=True)]  # fmt: skip
    detected = [fact.example for fact in facts if fact.detected]
    begun = _texts(judge, detected, OPENING, recipe)
    types = {e.id: said_type(text) for e, (text, *_) in zip(detected, begun, strict=True)}
    facts = [replace(f, said_type=types.get(f.example.id)) for f in facts]
    due = _due(facts, recipe)
    written = _texts(judge, due, settings.max_new_tokens, recipe)
    found = {
        e.id: explanation_of(e, text, ended=tokens < settings.max_new_tokens, lost=lost)
        for e, (text, tokens, lost) in zip(due, written, strict=True)
    }
    return [replace(f, explanation=found.get(f.example.id)) for f in facts]


def _unread(unscored: dict[str, int], p: float) -> str | None:
    return " or ".join(sorted(unscored)) if np.isnan(p) else None


def _due(facts: Sequence[Fact], recipe: Recipe) -> list[Example]:
    """Whose critiques are written: all misses by verdict or type, and a sample of the rest."""
    readable = [fact for fact in facts if fact.verdict is not None]
    missed = [fact.example for fact in readable if fact.missed_early]
    rest = [fact.example for fact in readable if not fact.missed_early]
    return missed + seeded_order(rest, recipe.seed)[: recipe.errors.critiques]


def _texts(
    judge: Judge, examples: Sequence[Example], longest: int, recipe: Recipe
) -> list[tuple[str, int, str | None]]:
    """Text and tokens of a critique of each, of at most so many tokens; or why there is none."""
    settings = recipe.errors
    items = [item_of(example) for example in examples]
    key = [judge.identity, judge.prompt_version, code_version(), longest, settings.batch, items]
    part = "types" if longest == OPENING else "critiques"
    return in_passes(settings.out, part, key, items, settings.batch,
                     partial(_write_some, judge, longest), unit="critique")  # fmt: skip


def _write_some(
    judge: Judge, longest: int, items: Sequence[Item]
) -> list[tuple[str, int, str | None]]:
    def write(some: Sequence[Item]) -> list[tuple[str, int, str | None]]:
        written = judge.critique(some, max_new_tokens=longest, batch=len(some))
        return [(one.text, one.tokens, None) for one in written]

    return one_by_one(write, items, lambda why: ("", 0, why))


def _opinions(
    facts: Sequence[Fact], bars: Bars, service: Service | None, recipe: Recipe
) -> Opinions:
    """What a judge, or a file, says of doubtful labels and of a control."""
    settings = recipe.errors
    doubtful = [f.example for f in facts if is_doubtful(f, bars)]
    agreed = [f.example for f in facts if f.verdict == f.example.label]
    if settings.opinions:
        return read_opinions(settings.opinions, doubtful, agreed)
    if service is None:
        return Opinions()
    control = balanced(agreed, settings.control, recipe.seed)
    journal = settings.out.with_name(f"{settings.out.name}.work") / "journal.jsonl"
    return ask_opinions(service, doubtful, control, journal, settings.threads)


def _others(settings: ErrorsConfig) -> dict[str, str]:
    """Hash of what was read beside the items, by path."""
    paths = [*_training(settings), *filter(None, [settings.opinions])]
    return {path.as_posix(): sha256_path(path) for path in paths}


def _write(settings: ErrorsConfig, report: dict[str, Any], found: Analysis, bars: Bars) -> None:
    out = settings.out
    write_rows(f"{out}.items.jsonl", error_rows(found, bars))
    if settings.judge != "none":  # what was given stays as it is
        rows = ({"id": name, **row} for name, row in found.opinions.items())
        write_rows(f"{out}.opinions.jsonl", rows)
    page = errors_markdown(report)
    write_atomic(f"{out}.md", page)
    write_atomic(f"{out}.html", errors_html(report))
    write_json(f"{out}.json", report)
    remove_partial(out)
    _log.info("%s.html", out)
    sys.stdout.write(page)
