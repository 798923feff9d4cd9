"""What the report on errors says: counts, slices, neighbours, the list for FOCUS, cards to read."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np

from minicrit.measures import Truth, plain
from minicrit.misses import (
    KINDS,
    RIGHT,
    STEERING,
    Bars,
    Fact,
    counted,
    is_doubtful,
    of_the_rest,
)
from minicrit.neighbours import Neighbour, taught_otherwise
from minicrit.pages import pieces
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example
from minicrit.slices import mechanism_of, reliability
from minicrit.weak_slices import Slices, properties_of, worst
from minicrit.written import places

FORM = 2  # of the report; raise it when a key changes its meaning
#: Errors on these may say what is trained on next; see `data_gen.focus`.
STEERING_SPLITS = ("validation", "calibration")
#: Cosine from which the nearest training text is about the same.
ALIKE = 0.5


@dataclass(frozen=True)
class Analysis:
    """What the report is made of, item by item in the order of the file.

    Attributes:
        facts: what is known of each.
        outcomes: kind and why.
        near: the nearest training rows of each, out of `training_rows`.
        opinions: on labels, by id; `opinion_facts`: how many were asked, by whom, to what end.
    """

    facts: list[Fact]
    outcomes: list[tuple[str, tuple[str, ...]]]
    near: list[list[Neighbour]]
    training_rows: int
    opinions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    opinion_facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        """The outcome of each item, without why."""
        return [kind for kind, _ in self.outcomes]

    def of(self, *kinds: str) -> Iterator[int]:
        """Numbers of the items with one of these outcomes."""
        return (at for at, kind in enumerate(self.kinds) if kind in kinds)


def report_of(found: Analysis, bars: Bars, *, split: str, least: int, slices: int, cards: int,
              seed: int) -> dict[str, Any]:  # fmt: skip
    """The report without where it comes from.

    Args:
        found: what is known.
        bars: by which it was judged.
        split: of all items.
        least: fewest items of a slice.
        slices: how many of them are shown.
        cards: how many misses.
        seed: of the resampling.
    """
    doubtful = [f.example.id for f, kind in zip(found.facts, found.kinds, strict=True)
                if is_doubtful(f, bars) and kind != "label"]  # fmt: skip
    written = [f for f in found.facts if f.explanation and f.explanation.text]
    return {
        "split": split,
        "steers": split in STEERING_SPLITS,
        "n": len(found.facts),
        "counts": counted(found.kinds, len(found.facts)),
        "rest": of_the_rest(found.facts, found.kinds),
        "why": {
            kind: dict(Counter(_short(why) for at in found.of(kind)
                               for why in found.outcomes[at][1]).most_common())
            for kind in ("poor_explanation", "harness")
        },
        "written": len(written),
        "doubtful": {"confident": bars.confident, "ids": doubtful, **found.opinion_facts},
        "types": _types(found),
        "slices": _slices(found, least, slices, seed),
        "confidence": _confidence(found),
        "neighbours": _neighbours(found),
        "judged": _judged(found),
        "items": list(_steering(found)),
        "cards": [_card(found, at, bars) for at in _to_read(found, cards)],
    }  # fmt: skip


def _short(why: str) -> str:
    """A reason without the case it is about."""
    return why.partition(":")[0]


def _types(found: Analysis) -> list[dict[str, Any]]:
    """Which type was called by which other name, the most frequent first."""
    facts = [found.facts[at] for at in found.of("wrong_flaw_type")]
    counts = Counter((str(f.example.flaw_type), str(f.said_type)) for f in facts)
    return [{"flaw_type": a, "called": b, "count": n} for (a, b), n in counts.most_common()]


def _slices(found: Analysis, least: int, shown: int, seed: int) -> dict[str, Any]:
    """The worst slices of what has a verdict and a label that is not laid aside."""
    kept = [at for at, fact in enumerate(found.facts)
            if fact.verdict is not None and found.kinds[at] != "label"]  # fmt: skip
    facts = [found.facts[at] for at in kept]
    missed = np.array([found.kinds[at] in STEERING for at in kept], dtype=bool)
    if not facts:
        return {"n": 0, "misses": 0, "axes": [], "compared": 0, "least": least, "worst": []}
    examples = [f.example for f in facts]
    p = np.array([f.p for f in facts])
    properties = properties_of(examples, p, facts[0].threshold)
    searched = Slices.of(properties, least)
    return {
        "n": len(facts), "misses": int(missed.sum()), "axes": list(properties),
        "compared": len(searched.names), "least": least,
        "worst": worst(searched, missed, Truth.of(examples), shown=shown, seed=seed),
    }  # fmt: skip


def _confidence(found: Analysis) -> list[dict[str, Any]]:
    """Ten bins of how sure the verdict is against how often it is right by a label that stands."""
    facts = [f for f, kind in zip(found.facts, found.kinds, strict=True)
             if f.verdict is not None and kind != "label"]  # fmt: skip
    sure = np.array([f.confidence for f in facts])
    right = np.array([f.verdict == f.example.label for f in facts], dtype=bool)
    return reliability(sure, right) if facts else []


def _neighbours(found: Analysis) -> dict[str, Any]:
    """How near training comes to misses and to the rest, and how often it says otherwise."""
    parts = {"misses": found.of(*STEERING), "right": found.of(RIGHT, "poor_explanation")}
    return {
        "training_rows": found.training_rows,
        **{name: _nearness(found, list(rows)) for name, rows in parts.items()},
    }


def _nearness(found: Analysis, rows: Sequence[int]) -> dict[str, Any]:
    best = [found.near[at][0].similarity for at in rows if found.near[at]]
    otherwise = [taught_otherwise(found.facts[at].example, found.near[at]) for at in rows
                 if found.near[at]]  # fmt: skip
    return {
        "n": len(best),
        "median": plain(float(np.median(best))) if best else None,
        "alike": sum(one >= ALIKE for one in best),
        "otherwise": sum(otherwise),
    }


def _judged(found: Analysis) -> dict[str, int]:
    """How many items of each mechanism have a verdict and a label that is not laid aside."""
    names = (mechanism_of(f.example) for f, kind in zip(found.facts, found.kinds, strict=True)
             if f.verdict is not None and kind != "label")  # fmt: skip
    return dict(sorted(Counter(name for name in names if name is not None).items()))


def _steering(found: Analysis) -> Iterator[dict[str, Any]]:
    """The misses that say what to make more of: those known of every item, not of a sample.

    A false alarm has no flaw; `twin_flaw_type` is that of its flawed twin.
    """
    flaws = {f.example.group: f.example.flaw_type for f in found.facts if f.example.flaw_type}
    for at in found.of(*STEERING):
        fact, (kind, _) = found.facts[at], found.outcomes[at]
        example = fact.example
        twin = flaws.get(example.group) if kind == "false_positive" else None
        yield {
            "id": example.id, "outcome": kind, "domain": example.domain,
            "flaw_type": example.flaw_type, **({"twin_flaw_type": twin} if twin else {}),
            "mechanism": mechanism_of(example), "kind": example.kind, "p_flawed": plain(fact.p),
        }  # fmt: skip


def error_rows(found: Analysis, bars: Bars) -> Iterator[dict[str, Any]]:
    """Every item with its outcome and all that it rests on."""
    for at, fact in enumerate(found.facts):
        example, said = fact.example, fact.explanation
        yield {
            **_known(found, at, bars),
            "group": example.group,
            "nearest": [{"id": one.id, "similarity": one.similarity, "label": one.label}
                        for one in found.near[at]],
            "critique": None if said is None else {
                "text": said.text, "overlap": _maybe(said.overlap), "reasons": _maybe(said.reasons),
                "stray": list(said.stray), "miscounted": list(said.miscounted),
            },
        }  # fmt: skip


def _known(found: Analysis, at: int, bars: Bars) -> dict[str, Any]:
    fact, (kind, why) = found.facts[at], found.outcomes[at]
    example = fact.example
    return {
        "id": example.id, "outcome": kind, "why": list(why), "domain": example.domain,
        "kind": example.kind, "mechanism": mechanism_of(example), "label": example.label,
        "flaw_type": example.flaw_type, "verdict": fact.verdict, "p_flawed": plain(fact.p),
        "said_type": fact.said_type, "doubtful": is_doubtful(fact, bars),
        "opinion": fact.opinion,
    }  # fmt: skip


def _maybe(value: float | None) -> float | None:
    return None if value is None else plain(value)


def _to_read(found: Analysis, most: int) -> list[int]:
    """Misses in turn over their kinds, the most confident of each first."""
    by_kind: dict[str, list[int]] = defaultdict(list)
    for at in found.of(*KINDS):
        by_kind[found.kinds[at]].append(at)
    for rows in by_kind.values():
        rows.sort(key=lambda at: (found.facts[at].verdict is None, -found.facts[at].confidence))
    turns: Iterable[tuple[int | None, ...]] = zip_longest(
        *(by_kind[kind] for kind in KINDS if kind in by_kind)
    )
    return [at for turn in turns for at in turn if at is not None][:most]


def _card(found: Analysis, at: int, bars: Bars) -> dict[str, Any]:
    fact = found.facts[at]
    example, said = fact.example, fact.explanation
    opinion = found.opinions.get(example.id, {})
    return {
        **_known(found, at, bars),
        "confidence": None if fact.verdict is None else plain(fact.confidence),
        "pieces": _marked(example, said.evidence if said else None),
        "evidence": example.evidence,
        "reference": render_critique(critique_of(example)),
        "written": said.text if said else None,
        "overlap": _maybe(said.overlap if said else None),
        "reasons": _maybe(said.reasons if said else None),
        "opinion_reason": opinion.get("reason"),
        "otherwise": taught_otherwise(example, found.near[at]),
        "nearest": [{"similarity": one.similarity, "label": one.label, "flaw_type": one.flaw_type,
                     "id": one.id, "rationale": one.rationale} for one in found.near[at]],
    }  # fmt: skip


def _marked(example: Example, evidence: str | None) -> list[list[Any]]:
    """The rationale cut where a mark begins or ends: [text, [critic's evidence, reference's]]."""
    marks = (places(example.rationale, evidence or ""),
             places(example.rationale, example.evidence or ""))  # fmt: skip
    return [[text, list(found)] for text, found in pieces(example.rationale, *marks)]
