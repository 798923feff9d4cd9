"""Whole critiques against their references: form, verdict, flaw type, evidence.

What is missing or unparsed counts as a miss in every share over items, and is counted apart; so is
what had no room behind its text. Two are none over items: whether text and readout agree is a share
of what parsed, `evidence_verbatim` of what quotes any.
"""

# mypy: disable-error-code="import-untyped"
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from minicrit.encoding import TooLongError
from minicrit.judging import TOO_LONG, Item, Judge, UnreadableError, item_of, keep
from minicrit.measures import Truth, mean_of, plain
from minicrit.prompts import attempt, critique_of, render_critique
from minicrit.records import Example
from minicrit.scores import macro_f1
from minicrit.verdict import Verdict

if TYPE_CHECKING:
    from minicrit.critic import Written

WARM_UP_TOKENS = 2
SPAN_BREAK = "\n[...]\n"  # joins the spans of one piece of evidence, see records


@dataclass(frozen=True)
class Texts:
    """What was written for some examples, each by itself, with the seconds of what was written."""

    examples: list[Example]
    written: "list[Written]"
    seconds: list[float]


def seeded_order(examples: Iterable[Example], seed: int) -> list[Example]:
    """A random order that depends on seed and ids only, not on the order of the files."""
    return sorted(examples, key=lambda e: hashlib.sha256(f"{seed}:{e.id}".encode()).digest())


def balanced(examples: Sequence[Example], num: int, seed: int) -> list[Example]:
    """`num` items in a seeded order, valid and flawed in turn while both last."""
    order = seeded_order(examples, seed)
    sides = [[e for e in order if e.label == label] for label in ("flawed", "valid")]
    turns = sorted((place, side) for side in (0, 1) for place in range(len(sides[side])))
    return [sides[side][place] for place, side in turns[:num]]


def write_critiques(
    judge: Judge, examples: Sequence[Example], max_new_tokens: int, out: Path
) -> Texts:
    """One whole critique at a time, as an operator would ask for it, after a short one to warm up.

    Each is on disk when it is written; the partial results beside `out` stay until
    `judging.remove_partial`.
    """
    with keep(judge, examples, out, "critiques", max_new_tokens) as kept:
        places = range(len(kept.rows), len(examples))
        if places:
            with suppress(TooLongError, UnreadableError):
                judge.critique([item_of(examples[0])], max_new_tokens=WARM_UP_TOKENS, batch=1)
        for place in tqdm(places, unit="critique", desc=f"critiques {judge.name}"):
            row = _write(judge, item_of(examples[place]), max_new_tokens)
            kept.add({"item": place, **row})
    return Texts(list(examples), [_again(row) for row in kept.rows],
                 [row["seconds"] for row in kept.rows if row["lost"] is None])  # fmt: skip


def _write(judge: Judge, item: Item, max_new_tokens: int) -> dict[str, Any]:
    """One critique; for a text that none can be written of, its verdict and why (`lost`)."""
    begin = time.perf_counter()
    try:
        (answer,) = judge.critique([item], max_new_tokens=max_new_tokens, batch=1)
    except (TooLongError, UnreadableError) as error:
        (verdict,) = judge.verdict([item])
        why = getattr(error, "reason", TOO_LONG)
        said = {"text": "", "tokens": 0, "verdict": verdict.to_row(), "lost": why}
    else:
        said = {"text": answer.text, "tokens": answer.tokens, "verdict": answer.verdict.to_row(),
                "lost": None}  # fmt: skip
    return {"seconds": time.perf_counter() - begin, **said}


def _again(row: dict[str, Any]) -> "Written":
    """What was written, from its line."""
    from minicrit.critic import Written  # slow: not before it is needed

    fields = row["verdict"]
    offsets = fields["evidence_offsets"]
    verdict = Verdict(**{**fields, "flags": tuple(fields["flags"]),
                         "evidence_offsets": offsets and tuple(offsets)})  # fmt: skip
    parsed, reason = attempt(row["text"])
    return Written(verdict, row["text"], parsed, row["lost"] or reason, row["tokens"])


def assess(texts: Texts) -> dict[str, Any]:
    """Shares with the widest of their intervals, why some did not parse, and the samples."""
    pairs = list(zip(texts.examples, texts.written, strict=True))
    typed = [(e, w) for e, w in pairs if e.flaw_type]
    read = [(e, w, w.parsed) for e, w in pairs if w.parsed]
    quoted = [(e, c.evidence) for e, _, c in read if c.evidence]
    overlaps = [
        (e, evidence_f1(e.rationale, e.evidence, (w.parsed and w.parsed.evidence) or ""))
        for e, w in pairs
        if e.evidence
    ]
    return {
        "n": len(pairs),
        "parsed": _mean((e, w.parsed is not None) for e, w in pairs),
        "unparsed_reasons": dict(Counter(w.reason or "unknown" for _, w in pairs if not w.parsed)),
        "text_agrees_with_readout": _mean((e, c.label == w.verdict.label) for e, w, c in read),
        "flaw_type_right": _mean(
            (e, w.parsed is not None and w.parsed.flaw_type == e.flaw_type) for e, w in typed
        ),
        "flaw_type_macro_f1": {"value": _macro(typed), "n": len(typed)},
        "evidence_verbatim": _mean((e, is_verbatim(e, x)) for e, x in quoted),
        "evidence_overlap": _mean(overlaps),
        "samples": [_sample(e, w) for e, w in pairs],
    }


def is_verbatim(example: Example, evidence: str) -> bool:
    """Whether every span of written evidence stands in the rationale word for word."""
    return all(span and span in example.rationale for span in evidence.split(SPAN_BREAK))


def evidence_f1(rationale: str, reference: str, written: str) -> float:
    """F1 over the characters of the rationale that either marks; 0 for what is not found there.

    A span that stands there several times is taken at its first place.
    """
    true, said = places(rationale, reference), places(rationale, written)
    return 2 * len(true & said) / (len(true) + len(said)) if true and said else 0.0


def places(rationale: str, evidence: str) -> set[int]:
    """Offsets of the characters of the rationale that a piece of evidence marks."""
    found: set[int] = set()
    for span in evidence.split(SPAN_BREAK):
        start = rationale.find(span) if span else -1
        if start >= 0:
            found.update(range(start, start + len(span)))
    return found


def _macro(typed: "Sequence[tuple[Example, Written]]") -> float | None:
    """Mean F1 over the flaw types that occur; None without any."""
    if not typed:
        return None
    said = [w.parsed.flaw_type if w.parsed else None for _, w in typed]
    return plain(macro_f1(said, [str(e.flaw_type) for e, _ in typed]))


def _mean(found: Iterable[tuple[Example, float]]) -> dict[str, Any]:
    rows = list(found)
    if not rows:
        return {"value": None, "low": None, "high": None, "n": 0}
    values = np.array([float(value) for _, value in rows])
    return mean_of(values, Truth.of([example for example, _ in rows]))


def _sample(example: Example, written: "Written") -> dict[str, Any]:
    return {
        "id": example.id,
        "domain": example.domain,
        "label": example.label,
        "flaw_type": example.flaw_type,
        "p_flawed": plain(written.verdict.p_flawed),
        "verdict": written.verdict.label,
        "rationale": example.rationale,
        "evidence": example.evidence,
        "reference": render_critique(critique_of(example)),
        "written": written.text,
        "written_evidence": written.parsed.evidence if written.parsed else None,
        "unparsed": written.reason if written.parsed is None else None,
    }
