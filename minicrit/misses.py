"""What became of each item: right, or exactly one kind of miss; and what a sample says of the rest.

The first that applies, in this order:

1. `harness`: the item could not be read (too long, p undefined), so there is no verdict.
2. `label`: the verdict is against the label, the critic is sure, and an independent opinion that
   may be trusted (`trusted`) is against the label, too. Without one nothing counts as `label`.
3. `false_positive`, `false_negative`: the verdict is against the label. The verdict is read from
   likelihoods, so a text that does not parse excuses no wrong verdict.
4. `harness`: the critique names no flaw type where one was due, or had no room behind the text.
5. `wrong_flaw_type`: the flaw was found and called by another name.
6. `harness`: the critique was cut off, does not parse, or had no room.
7. `poor_explanation`: verdict and type are right, but the evidence misses the place, hardly one of
   the reasons is given, or a figure is cited that stands neither in the text nor in its
   reference, nor follows.
8. `right`: of those whose critique was not written, by verdict and type alone.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from minicrit.measures import plain
from minicrit.records import Example
from minicrit.statistics import among, wilson

RIGHT = "right"
#: Misses of the critic, in the order of the report; the last two are not its own.
KINDS = ("false_positive", "false_negative", "wrong_flaw_type", "poor_explanation", "label",
         "harness")  # fmt: skip
#: Known of every item, as they need no written critique; what slices and training data go by.
STEERING = ("false_positive", "false_negative", "wrong_flaw_type")
#: Least share of the control on which a judge must agree with the labels, and least size of it.
LEAST_AGREEMENT, LEAST_CONTROL = 0.75, 10


@dataclass(frozen=True)
class Bars:
    """What counts as sure, and as an explanation: see `ErrorsConfig`."""

    confident: float
    overlap: float
    reasons: float


@dataclass(frozen=True)
class Explanation:
    """What a written critique is worth beside its reference.

    Attributes:
        text: as written; empty if nothing could be.
        broken: why it cannot be used (cut off, unparsed, too long); None if it can.
        evidence: as written; None if there is none.
        overlap: F1 of the evidence over characters; None where the reference has none.
        verbatim: whether the evidence stands in the rationale; None without any.
        reasons: share of the reference's reasons that is given, see `data_gen.reasons`; None
            where the reference gives none.
        stray: figures that stand neither in the rationale nor in its reference, nor follow from
            the rationale.
        miscounted: sums and what else is worked out, as stated, that come to something else, see
            `derivations.untrue`.
    """

    text: str
    broken: str | None = None
    evidence: str | None = None
    overlap: float | None = None
    verbatim: bool | None = None
    reasons: float | None = None
    stray: tuple[float, ...] = ()
    miscounted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fact:
    """What is known of one item.

    Attributes:
        p: of `flawed`; nan if it could not be read.
        threshold: of the critic.
        unread: why there is no p.
        said_type: the flaw type that the critic names; None if not asked, or if it names none.
        explanation: of the whole critique; None if it was not written.
        opinion: the label that an independent judge gives; None if not asked, or without answer.
        trusted: whether that opinion may count against a label.
    """

    example: Example
    p: float
    threshold: float
    unread: str | None = None
    said_type: str | None = None
    explanation: Explanation | None = None
    opinion: str | None = None
    trusted: bool = False

    @property
    def verdict(self) -> str | None:
        """Valid or flawed; None if it could not be read."""
        return None if math.isnan(self.p) else "flawed" if self.p > self.threshold else "valid"

    @property
    def confidence(self) -> float:
        """The probability of its verdict."""
        return self.p if self.verdict == "flawed" else 1 - self.p

    @property
    def detected(self) -> bool:
        """Whether it is a flaw of known type that was flagged, so that a type is due."""
        return bool(self.example.flaw_type) and self.verdict == "flawed"

    @property
    def missed_early(self) -> bool:
        """Whether it is a miss by verdict or type, without any critique."""
        wrong_type = self.detected and self.said_type != self.example.flaw_type
        return self.verdict != self.example.label or wrong_type


def outcome(fact: Fact, bars: Bars) -> tuple[str, tuple[str, ...]]:
    """`right` or one of KINDS, and why, in words; see the head of this file."""
    said, label = fact.verdict, fact.example.label
    if said is None:
        return "harness", (fact.unread or "could not be read",)
    if said != label:
        if is_doubtful(fact, bars) and fact.trusted and fact.opinion == said:
            return "label", (f"critic and judge say {said}",)
        return ("false_positive" if said == "flawed" else "false_negative"), ()
    return _explained(fact, bars)


def _explained(fact: Fact, bars: Bars) -> tuple[str, tuple[str, ...]]:
    """The same for an item whose verdict is right."""
    found = fact.explanation
    why: tuple[str, ...] = ()
    if fact.detected and fact.said_type is None:
        unwritten = found.broken if found and not found.text else None
        kind, why = "harness", (unwritten or "names no flaw type",)
    elif fact.detected and fact.said_type != fact.example.flaw_type:
        kind, why = "wrong_flaw_type", (f"calls it {fact.said_type}",)
    elif found is not None and found.broken:
        kind, why = "harness", (found.broken,)
    elif found is not None and (why := poor(found, bars)):
        kind = "poor_explanation"
    else:
        kind = RIGHT
    return kind, why


def is_doubtful(fact: Fact, bars: Bars) -> bool:
    """Whether the critic is sure of the opposite of the label."""
    return fact.verdict not in (None, fact.example.label) and fact.confidence >= bars.confident


def poor(found: Explanation, bars: Bars) -> tuple[str, ...]:
    """What is wrong with an explanation; empty if nothing is."""
    why = []
    if found.overlap is not None and found.overlap < bars.overlap:
        why.append(
            "no evidence" if found.evidence is None
            else "evidence is elsewhere" if found.verbatim
            else "evidence does not stand in the text"
        )  # fmt: skip
    if found.reasons is not None and found.reasons < bars.reasons:
        why.append("other reasons than the reference")
    if found.stray:
        figures = ", ".join(f"{figure:g}" for figure in found.stray)
        why.append(f"figures from nowhere: {figures}")
    if found.miscounted:
        why.append(f"false sums: {', '.join(found.miscounted)}")
    return tuple(why)


def counted(outcomes: Iterable[str], n: int) -> dict[str, dict[str, Any]]:
    """Number, share and Wilson's interval of each kind, `right` first; they add up to n."""
    found = Counter(outcomes)
    assert sum(found[name] for name in (RIGHT, *KINDS)) == n, "every item has one outcome"
    rows = {}
    for name in (RIGHT, *KINDS):
        share = wilson(found[name], n)
        bounds = {key: plain(getattr(share, key)) for key in ("value", "low", "high")}
        rows[name] = {"count": found[name], **bounds, "n": n}
    return rows


def of_the_rest(facts: Sequence[Fact], outcomes: Sequence[str]) -> dict[str, Any]:
    """What the critiques that were read say of all that are right by verdict and type.

    Returns:
        `items`: so many; `read`: of how many the critique was written, drawn at random; for each
        of poor_explanation and harness, by label and over all: seen, and the estimate of how many
        there are among the items with exact bounds (95 %; twins count as independent).
    """
    rest = [(f, kind) for f, kind in zip(facts, outcomes, strict=True) if not f.missed_early]
    return {
        "items": len(rest),
        "read": sum(f.explanation is not None for f, _ in rest),
        **{
            name: {
                part: _estimate([(f, k) for f, k in rest if part in ("all", f.example.label)], name)
                for part in ("all", "valid", "flawed")
            }
            for name in ("poor_explanation", "harness")
        },
    }


def _estimate(rest: Sequence[tuple[Fact, str]], name: str) -> dict[str, Any]:
    read = [kind for fact, kind in rest if fact.explanation is not None]
    seen = read.count(name)
    if not read:
        return {"items": len(rest), "read": 0, "seen": 0, "value": None, "low": None, "high": None}
    low, high = among(seen, len(read), len(rest))
    value = seen / len(read) * len(rest)
    return {"items": len(rest), "read": len(read), "seen": seen, "value": plain(value),
            "low": low, "high": high}  # fmt: skip
