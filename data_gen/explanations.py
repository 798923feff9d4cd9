"""The stage `explain`: what whole critiques of held-out items are worth, checked one by one.

    minicrit explain --explain.model checkpoints/cpu/sft --explain.data data/cpu/test.jsonl

A right verdict is not yet a right critique. Of every item the whole text is written, beginning with
the readout's verdict as operators get it, and held against the reference: flaw type, evidence by
its characters, reasons by their content words, and every figure recomputed (see `explained`). Words
are no reading: beside the reasons stands what the references of other items of the same kind get
for them (`elsewhere`), which is what a text is worth that knows the kind and nothing else. What
is cut off, does not parse, or has no room behind its text is a miss in each share but that of the
verdict, which is the readout's whatever the text. Writes `<out>.items.jsonl` (every text with what
was found), `<out>.md` and, last, `<out>.json`. A killed run goes on.
"""

import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, Protocol

import numpy as np
import torch

from data_gen.explained import explanation_of, said_type
from data_gen.oracle import gives_reasons, prose_of
from data_gen.reasons import reasons_f1
from minicrit import limits
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.files import sha256_path, write_atomic, write_json
from minicrit.jsonl import write_rows
from minicrit.judging import item_of, one_by_one, remove_partial, score_items
from minicrit.kept import in_passes
from minicrit.manifest import code_version, provenance
from minicrit.measure_config import ExplainConfig
from minicrit.measures import Truth, mean_of
from minicrit.misses import Explanation
from minicrit.precision import settled
from minicrit.records import Example
from minicrit.selection import limited, of_split
from minicrit.slices import mechanism_of
from minicrit.tables import cell, left_out

FORM = "explanations-6"
#: Name of each figure, over which items it goes, and what it says.
FIGURES = {
    "parsed": "of all: in the fixed form, to its end",
    "verdict_right": "of all: the verdict of the readout is that of the label",
    "no_invented_figure": "of all: figures stand in text or reference, or follow from the text",
    "no_false_sum": "of all: sums, and what else it says to have worked out, come to what is said",
    "flaw_type_right": "of flawed whose flaw is known: it names the flaw",
    "evidence_overlap": "of flawed: F1 over the characters of the evidence, 0 without any",
    "evidence_verbatim": "of flawed: evidence stands in the text; all that are flagged if grounded",
    "reasons": "of flawed: F1 of its content words with the reference's, whatever their order",
    "reasons_elsewhere": "of flawed: the same of references of other items of its kind",
    "valid_reasons": "of valid: F1 of its content words with the reference's",
    "valid_reasons_elsewhere": "of valid: the same of references of other items of its kind",
    "flawed_right": "of flawed: verdict, type, place, figures, sums right; some of the reasons",
    "valid_right": "of valid: verdict, figures and sums right; some of the reasons",
}

_log = logging.getLogger(__name__)


class Bars(Protocol):
    """From which F1 of the evidence, and of the reasons, a critique may be right."""

    overlap: float
    reasons: float


@dataclass(frozen=True)
class Read:
    """An item, p(flawed), whether the verdict is right, and what the text is worth.

    `elsewhere`: the `reasons` that references of other items of its kind get; None without any.
    """

    example: Example
    p: float
    verdict_right: bool
    said_type: str | None
    explanation: Explanation
    elsewhere: float | None = None

    def figures(self, bars: Bars) -> dict[str, float]:
        """What counts of it, 0 to 1, by the names of `FIGURES`; only what applies."""
        found = self.explanation
        whole = found.broken is None
        sourced, summed = whole and not found.stray, whole and not found.miscounted
        sober = sourced and summed
        every = {"parsed": whole, "verdict_right": self.verdict_right,
                 "no_invented_figure": sourced, "no_false_sum": summed}  # fmt: skip
        if self.example.label == "valid":
            right = self.verdict_right and sober and self._reasoned(bars)
            return _numbers({**every, "valid_right": right}) | self._reasons("valid_reasons")
        part = _numbers({**every, "evidence_verbatim": bool(found.verbatim)})
        named = whole
        if self.example.flaw_type:
            named = whole and self.said_type == self.example.flaw_type
            part["flaw_type_right"] = float(named)
        there = bool(self.example.evidence)
        if there:
            part["evidence_overlap"] = found.overlap or 0.0
        placed = not there or part["evidence_overlap"] >= bars.overlap
        right = self.verdict_right and named and sober and placed and self._reasoned(bars)
        return part | _numbers({"flawed_right": right}) | self._reasons("reasons")

    def _reasoned(self, bars: Bars) -> bool:
        """Whether it gives more than hardly one of the reasons, as `errors` has it."""
        return not gives_reasons(self.example) or (self.explanation.reasons or 0.0) >= bars.reasons

    def _reasons(self, name: str) -> dict[str, float]:
        """Of a wrong verdict, too: it gives none."""
        if not gives_reasons(self.example):
            return {}
        beside = {} if self.elsewhere is None else {f"{name}_elsewhere": self.elsewhere}
        return {name: self.explanation.reasons or 0.0, **beside}


def _numbers(found: dict[str, bool]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}


def explain(recipe: Recipe, *, load: Callable[[Path], Critic] | None = None) -> dict[str, Any]:
    """Runs it and returns what `<out>.json` holds.

    Raises:
        ValueError: if there are no such items, or a setting will not do.
    """
    settings = recipe.explain
    limits.require("explain", settings)
    examples, _ = of_split([settings.data], settings.split, "explain")
    inputs = {settings.data.as_posix(): sha256_path(settings.data)}  # now: it may change meanwhile
    if settings.limit:
        examples = limited(examples, settings.limit, recipe.seed)
    critic = (load or partial(Critic.load, base_folder=recipe.base.folder))(settings.model)
    scored = score_items(critic, examples, settings.out, batch_tokens=settings.batch_tokens)
    known = [(e, float(p)) for e, p in zip(examples, scored.p, strict=True) if not np.isnan(p)]
    texts = _texts(critic, known, settings)
    found = [explanation_of(e, text, ended=tokens < settings.max_new_tokens, lost=why)
             for (e, _), (text, tokens, why) in zip(known, texts, strict=True)]  # fmt: skip
    control = elsewhere([e for e, _ in known])
    reads = [_read(e, p, critic, one, other)
             for (e, p), one, other in zip(known, found, control, strict=True)]  # fmt: skip
    report = {
        "form": FORM,
        **provenance(recipe.seed, settings, inputs),
        "critic": {name: getattr(critic, name)
                   for name in ("name", "identity", "adapter", "prompt_version", "threshold")},
        "split": settings.split, "n": len(reads), "unscored": dict(scored.unscored),
        "unwritten": dict(Counter(why for *_, why in texts if why)),
        "figures": figures_of(reads, settings, recipe.seed),
    }  # fmt: skip
    _write(settings, report, reads)
    return report


def figures_of(reads: Sequence[Read], bars: Bars, seed: int) -> dict[str, dict[str, Any]]:
    """Each figure with n and its intervals, of which the widest counts (`measures.mean_of`)."""
    rows = [(read.example, read.figures(bars)) for read in reads]
    found = {}
    for name in FIGURES:
        those = [(example, row[name]) for example, row in rows if name in row]
        if those:
            truth = Truth.of([example for example, _ in those])
            found[name] = mean_of(np.array([v for _, v in those], dtype=float), truth, seed=seed)
    return found


def elsewhere(examples: Sequence[Example]) -> list[float | None]:
    """What the references of other groups' items of its kind get for the reasons of each.

    The mean over those that give any. Of one kind are items of one mechanism, if that is known, and
    one flaw, or one strength.
    """
    kinds = defaultdict(list)
    for example in examples:
        if gives_reasons(example):
            kinds[_kind(example)].append(example)
    found: list[float | None] = []
    for example in examples:
        said = [reasons_f1(prose_of(example), prose_of(other), example.rationale)
                for other in kinds[_kind(example)] if other.group != example.group]  # fmt: skip
        found.append(mean(said) if said else None)
    return found


def _kind(example: Example) -> tuple[str | None, ...]:
    return (mechanism_of(example), example.label, example.flaw_type or example.strengths)


def _texts(
    critic: Critic, known: Sequence[tuple[Example, float]], settings: ExplainConfig
) -> list[tuple[str, int, str | None]]:
    """Text and tokens of each, or why there is none, by a copy of the critic of the asked type."""
    dtype = settled(settings.dtype) if settings.dtype else None
    writer = critic.merged(getattr(torch, dtype)) if dtype else critic
    writer.grounded = settings.grounded
    rows = [(*item_of(e), "flawed" if p > critic.threshold else "valid") for e, p in known]
    key = [writer.identity, critic.identity, critic.prompt_version, code_version(),
           settings.max_new_tokens, settings.batch, settings.grounded, rows]  # fmt: skip
    return in_passes(settings.out, "critiques", key, rows, settings.batch,
                     partial(_write_some, writer, settings.max_new_tokens),
                     unit="critique")  # fmt: skip


def _write_some(
    writer: Critic, longest: int, rows: Sequence[tuple[str, str, str]]
) -> list[tuple[str, int, str | None]]:
    def write(some: Sequence[tuple[str, str, str]]) -> list[tuple[str, int, str | None]]:
        items = [(domain, rationale) for domain, rationale, _ in some]
        texts = writer.write(items, [label for *_, label in some], longest)
        return [(text, tokens, None) for text, tokens in texts]

    return one_by_one(write, rows, lambda why: ("", 0, why))


def _read(
    example: Example, p: float, critic: Critic, found: Explanation, other: float | None
) -> Read:
    right = (p > critic.threshold) == (example.label == "flawed")
    return Read(example, p, right, said_type(found.text), found, other)


def _write(settings: ExplainConfig, report: dict[str, Any], reads: Sequence[Read]) -> None:
    out = settings.out
    write_rows(f"{out}.items.jsonl", (
        {"id": r.example.id, "group": r.example.group, "label": r.example.label, "p": r.p,
         "verdict_right": r.verdict_right, "said_type": r.said_type, **asdict(r.explanation),
         "elsewhere": r.elsewhere}
        for r in reads
    ))  # fmt: skip
    page = markdown(report)
    write_atomic(f"{out}.md", page)
    write_json(f"{out}.json", report)
    remove_partial(out)
    _log.info("%s.json", out)
    sys.stdout.write(page)


def markdown(report: dict[str, Any]) -> str:
    """The table for people."""
    lost = "".join(f" Of {count} nothing could be written ({why})."
                   for why, count in report["unwritten"].items())  # fmt: skip
    lines = [
        f"# Whole critiques of {report['critic']['name']}",
        "",
        f"{report['n']} items of split {report['split']}{left_out(report)}; intervals at 95 %, "
        f"the widest of those by item (Wilson), resampled by group and by family.{lost}",
        "",
        "| | value | n | meaning |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name.replace('_', ' ')} | {cell(one)} | {one['n']} | {FIGURES[name]} |"
              for name, one in report["figures"].items()]  # fmt: skip
    return "\n".join(lines) + "\n"
