"""The stage `judge`: both models write about the same items, a judge compares what they wrote.

    minicrit judge --config cpu --judge.backend anthropic --benchmark.model_2 embedded

The judge must qualify first (see `qualification`). Writes `<out>.items.jsonl` (every comparison
with both texts), `<out>.md` and, last, `<out>.json`; then fails if too much is unscored. Run again,
nothing is asked or written again, and all bytes are the same but for what the journal says of its
whole past, under `measured`.
"""

import gc
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_gen.asker import Asker
from data_gen.asking import announce, asking, bill
from data_gen.backends.protocol import Request
from data_gen.court.calling import in_threads, judge_facts, out_of, service_of, work_of
from data_gen.court.comparison import (
    IDENTICAL,
    POINTS,
    UNSCORED,
    Compared,
    Question,
    compare,
    is_same,
    requests,
)
from data_gen.court.qualification import examined
from data_gen.court.verdicts import figures, to_read
from data_gen.court.verdicts_page import verdicts_page
from data_gen.court.writings import Writing, docket, write_about
from minicrit.files import sha256_json, sha256_path, write_atomic, write_json
from minicrit.jsonl import readable, write_rows
from minicrit.judging import Judge, load_judge
from minicrit.manifest import provenance
from minicrit.measures import Truth
from minicrit.records import Example
from minicrit.selection import data_paths, select

if TYPE_CHECKING:
    from minicrit.config import Recipe

Load = Callable[[str], Judge]
FORM = 1  # of the report; raise it when a key changes its meaning
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Heard:
    """One item: what either model wrote of it, and what became of the comparison, for model 1."""

    example: Example
    texts: tuple[Writing, Writing]
    compared: Compared

    def row(self) -> dict[str, Any]:
        """A line of `<out>.items.jsonl`."""
        e, said = self.example, self.compared
        return {
            "id": e.id, "group": e.group, "domain": e.domain, "label": e.label,
            "outcome": said.outcome, "points": POINTS.get(said.outcome),
            "said": [one.better for one in said.judgements], "faults": self.faults,
            "judge_calls_rationale": said.rationale, "rationale": e.rationale,
            **{f"text_{n}": text.text and readable(text.text)
               for n, text in enumerate(self.texts, 1)},
            **{f"verdict_{n}": text.verdict for n, text in enumerate(self.texts, 1)},
            **{f"parsed_{n}": text.parsed for n, text in enumerate(self.texts, 1)},
        }  # fmt: skip

    @property
    def faults(self) -> list[str]:
        """Why there is no judgement."""
        return [text.fault for text in self.texts if text.fault] + self.compared.faults


def judge(recipe: "Recipe", *, load: Load | None = None) -> dict[str, Any]:
    """Run it and return what `<out>.json` holds.

    Args:
        recipe: uses `judge`, `benchmark` (models and data), `seed` and `base.folder`.
        load: how a critic is loaded; `Critic.load` unless given.

    Raises:
        ValueError: if a setting is wrong, the judge does not qualify, or too many comparisons are
            unscored.
    """
    settings, out = recipe.judge, out_of(recipe)
    if not recipe.benchmark.model_2:
        raise ValueError("benchmark.model_2: expected a second model to compare with, got none; "
                         "give MODEL_2")  # fmt: skip
    service = service_of(settings)
    chosen, _ = select(recipe.benchmark, recipe.seed)
    examples = docket(chosen, settings.sample, recipe.seed)
    load = load or partial(load_judge, base_folder=recipe.base.folder)
    with asking(service, work_of(recipe) / "journal.jsonl") as asker:
        qualification = examined(recipe, asker)
        models, texts = _written(recipe, load, examples)
        heard, asked = _heard(recipe, examples, texts, asker)
        truth = Truth.of(examples)
        report = {
            "form": FORM,
            **provenance(recipe.seed, settings, _hashes(recipe)),
            "models": models,
            "judge": judge_facts(settings, asker.backend.identity),
            "qualification": {name: qualification[name] for name in
                              ("set", "rates", "bars", "qualified", "failings", "forced")},
            "items": _items(chosen, examples, truth),
            **figures([h.row() for h in heard], truth, qualification["rates"]["better_wins"],
                      settings, recipe.seed),
            "to_read": to_read([h.row() for h in heard], recipe.seed),
            "cost": {"judging": bill(asked, asker), "qualification": qualification["cost"]},
            "measured": {"journal": asker.journal.ledger()},
        }  # fmt: skip
    write_rows(f"{out}.items.jsonl", (h.row() for h in heard))
    write_atomic(f"{out}.md", verdicts_page(report))
    write_json(f"{out}.json", report)
    _log.info("%s.md", out)
    _check_unscored(report, settings.max_unscored, out)
    return report


def _written(
    recipe: "Recipe", load: Load, examples: Sequence[Example]
) -> tuple[dict[str, Any], list[tuple[Writing, Writing]]]:
    """Who the models are, and what both write; one is in memory at a time."""
    settings = recipe.judge
    models: dict[str, Any] = {}
    columns = []
    for key in ("model_1", "model_2"):
        critic = load(str(getattr(recipe.benchmark, key)))
        columns.append(write_about(critic, examples, work_of(recipe),
                                   max_new_tokens=settings.max_new_tokens,
                                   batch=settings.batch))  # fmt: skip
        written = columns[-1]
        models[key] = {
            "name": critic.name, "identity": critic.identity, "adapter": critic.adapter,
            "prompt_version": critic.prompt_version, "threshold": critic.threshold,
            "written": sum(w.text is not None for w in written),
            "parsed": sum(w.parsed for w in written),
        }  # fmt: skip
        del critic
        gc.collect()
    return models, list(zip(*columns, strict=True))


def _heard(
    recipe: "Recipe",
    examples: Sequence[Example],
    texts: Sequence[tuple[Writing, Writing]],
    asker: Asker,
) -> tuple[list[Heard], list[Request]]:
    """Every comparison, and all that was asked for them."""
    questions = [_question(e, *pair) for e, pair in zip(examples, texts, strict=True)]
    asked = [r for q in questions if q and not is_same(q) for r in requests(q, recipe.seed)]
    announce(asked, asker, "judge")

    def one(question: Question | None) -> Compared:
        if question is None:
            return Compared(UNSCORED)
        if is_same(question):
            return Compared(IDENTICAL)
        return compare(question, recipe.seed, asker.ask)

    compared = in_threads(one, questions, asker, recipe.judge.threads, "judge")
    return [Heard(*each) for each in zip(examples, texts, compared, strict=True)], asked


def _question(example: Example, one: Writing, two: Writing) -> Question | None:
    """What the judge sees: no names, no label; None if a model wrote nothing."""
    if one.text is None or two.text is None:
        return None
    return Question(example.domain, example.rationale, one.text, two.text)


def _hashes(recipe: "Recipe") -> dict[str, str]:
    paths = data_paths(recipe.benchmark)
    return {p.as_posix(): sha256_path(p) for p in paths}


def _items(chosen: list[Example], examples: list[Example], truth: Truth) -> dict[str, Any]:
    return {
        "n": len(examples), "flawed": int(np.sum(truth.flawed)),
        "groups": len(set(truth.groups)), "drawn_from": len(chosen),
        "sha256": sha256_json([e.to_row() for e in examples]),
    }  # fmt: skip


def _check_unscored(report: dict[str, Any], most: float, out: Path) -> None:
    n, lost = report["items"]["n"], report["outcomes"][UNSCORED]
    if lost > most * n:
        faults = Counter(report["faults"])
        why = ", ".join(f"{count} {name}" for name, count in faults.most_common())
        raise ValueError(f"judge.max_unscored: expected at most {100 * most:g}% of {n} comparisons "
                         f"without a judgement, got {lost} ({why}); what there is stands in "
                         f"{out}.md; take a judge that answers in the form, and models that read "
                         "the items")  # fmt: skip
