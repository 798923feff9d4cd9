"""The offline composer: twins without any language model.

Each case draws a scenario family, a mechanism and everything the mechanism measures, computes and
concludes; writes a sound rationale; and makes the flawed twin by exchanging one half of the
argument, the premise or the conclusion, for its counterpart. Label, flaw type, evidence span,
critique and fix follow from what was exchanged. The families of a split occur in no other split.

    python -m data_gen.compose --count 20          # print examples to read
"""

import argparse
import hashlib
import random
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from data_gen.case import Derived, Draw, Hinge, joined, upper_first
from data_gen.layout import LAYOUTS, Part, lay_out
from data_gen.mechanisms import MECHANISMS, mechanisms_for
from data_gen.scene import Scene, banked, scenes
from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES

SOURCE = "composer"
#: Part of the seed of every draw.
VERSION = "3"

#: Share of groups without any background, and of conclusions that stand before their premise.
TERSE, FIRST = 0.15, 0.3
#: Share of cases that end in what should be done, and of those with a second, sound argument.
STANCE, DECOY = 0.6, 0.2

#: How the author sounds. It is the same in both twins, so it never tells them apart.
TONES = {"plain": 40, "sure": 25, "hedged": 20, "contrary": 15}
SURE = (
    "I would sign this without a second look.",
    "I am quite sure of this.",
    "On this I stand firm.",
    "I'd put my name to it today.",
    "I have no hesitation in saying so.",
    "You may quote me on it.",
    "I say this with full confidence.",
)
HEDGED = (
    "Circumstances may change, and then I'll reissue this.",
    "I may of course have misread something and am glad to be corrected.",
    "All this as of {day}; it will be looked at again in {month}.",
    "The usual reserve applies to anything that lies in the future.",
    "I say this with the caution that any single note deserves.",
    "If somebody sees it differently, I am happy to talk it over.",
    "That is my reading for now, and I hold it loosely.",
)

#: Sound texts that share their looks with a flaw: (mechanism, which conclusion).
SUSPICIOUS = {
    ("cherry_picking", 0), ("small_sample", 1), ("survivorship", 1), ("base_rate", 1),
    ("sunk_cost", 0), ("sunk_cost", 1), ("fixed_criterion", 1), ("overfitting", 1),
    ("false_dichotomy", 0), ("denominators", 1), ("anchoring", 1),
}  # fmt: skip
COGNITIVE = {"anchoring", "confirmation_bias", "sunk_cost", "overconfidence", "base_rate_neglect"}
#: Mechanisms that say nothing about the measure, so that a decoy cannot disagree with the main one.
DECOYS = {
    "product", "calibration", "denominators", "base_rate", "anchoring", "circular_reasoning",
    "contradiction", "stale_evidence", "sunk_cost", "reverse_causation",
}  # fmt: skip
#: Groups in a row that were there before, after which it is said that there are no more.
MISSES = 2000
OMISSIONS = {"missing_alternative", "unaddressed_risk", "denominator_neglect", "selection_bias"}


@dataclass(frozen=True)
class Composed:
    """An example with the figures its critique may cite beyond those of the rationale."""

    example: Example
    derived: tuple[Derived, ...]


def compose(
    count: int,
    seed: int,
    split: str,
    *,
    squares: bool = False,
    terse: float = TERSE,
    shares: Mapping[str, float] | None = None,
    bank: bool = False,
) -> Iterator[Composed]:
    """`count` examples (rounded up to whole groups) of one split, the same for the same seed.

    Families and mechanisms take turns in shuffled rounds, so that coverage is even at any count.
    A group is a pair of twins; with `squares` it is all four corners of a hinge, two sound and two
    flawed, in which each half stands once in either: for training, where it leaves a learner
    nothing to go by but the fit of the two halves. `terse` is the share of groups that say nothing
    but premise and conclusion; `shares` is how often a mechanism comes, 1 for each unless given;
    with `bank` families for training draw from the bank of their domain too.

    Raises:
        ValueError: if no family is of this split, or there are not so many different texts.
    """
    families = [scene for scene in scenes() if scene.split == split]
    if bank:
        families = [banked(scene) for scene in families]
    if not families:
        raise ValueError(f"split: expected one with families, got {split!r}; add family files")
    rng = random.Random(f"{VERSION}/{seed}/{split}")  # noqa: S311 - not for secrets
    seen: set[bytes] = set()
    made = misses = 0
    for scene, mechanism in _turns(families, shares or {}, rng):
        twins = _twins(scene, mechanism, rng, squares=squares, terse=terse)
        digests = [hashlib.blake2b(t.example.rationale.encode()).digest() for t in twins]
        if seen.intersection(digests):
            misses += 1
            if misses == MISSES:
                raise ValueError(f"compose: expected {count} texts, got {made}: the mechanisms and "
                                 "families asked for hardly have more; ask for fewer, for more "
                                 "mechanisms (data.mechanisms), or for longer texts "
                                 "(data.terse)")  # fmt: skip
            continue
        misses = 0
        seen.update(digests)
        yield from twins
        made += len(twins)
        if made >= count:
            return


def _turns(
    families: list[Scene], shares: Mapping[str, float], rng: random.Random
) -> Iterator[tuple[Scene, str]]:
    """Endless shuffled rounds over all (family, mechanism) pairs, some passed over by share."""
    pairs = [(scene, name) for scene in families for name in mechanisms_for(scene)]
    most = max(shares.get(name, 1.0) for _, name in pairs)
    while True:
        for scene, name in rng.sample(pairs, len(pairs)):
            share = shares.get(name, 1.0) / most
            if share == 1 or rng.random() < share:
                yield scene, name


def _twins(
    scene: Scene, mechanism: str, rng: random.Random, *, squares: bool, terse: float
) -> tuple[Composed, ...]:
    draw = Draw(scene, rng)
    hinge = MECHANISMS[mechanism].build(draw)
    hinge = _with_stance(hinge, draw) if hinge.stance and rng.random() < STANCE else hinge
    side = rng.randrange(2)
    other = (1 - side, side) if rng.randrange(2) else (side, 1 - side)
    frame = _bare(draw, hinge) if rng.random() < terse else _frame(draw, hinge, mechanism)
    case = _Case(scene, mechanism, f"{rng.getrandbits(48):012x}", hinge, frame)
    corners = [(side, side), other]
    if squares:
        corners = [(0, 0), (0, 1), (1, 1), (1, 0)]
    return tuple(Composed(case.example(*corner), hinge.derived) for corner in corners)


@dataclass(frozen=True)
class _Case:
    """One draw: its texts differ in premise and conclusion alone."""

    scene: Scene
    mechanism: str
    key: str
    hinge: Hinge
    frame: "_Frame"

    def example(self, premise: int, conclusion: int) -> Example:
        """The example with this premise and this conclusion: sound if they go together."""
        text = self.frame.text(self.hinge.premises[premise], self.hinge.conclusions[conclusion])
        group = f"{SOURCE}/{self.scene.family}/{self.mechanism}/{self.key}"
        shared = {
            "id": f"{group}/{premise}{conclusion}", "domain": self.scene.domain,
            "rationale": text, "group": group, "split": self.scene.split,
            "source": f"{SOURCE}/{self.scene.family}/{self.mechanism}",
        }  # fmt: skip
        if premise == conclusion:
            sound = self.hinge.sound[premise]
            return Example(**shared, label="valid", critique=sound.critique,
                           strengths=sound.strengths,
                           kind=_sound_kind(self.frame.tone, self.mechanism, premise))  # fmt: skip
        flaw = self.hinge.flaws[premise]
        return Example(
            **shared, label="flawed", flaw_type=flaw.type,
            severity=flaw.severity or FLAW_TYPES[flaw.type].severity,
            evidence=flaw.evidence if flaw.evidence in text else upper_first(flaw.evidence),
            critique=flaw.critique, fix=flaw.fix,
            kind=_flawed_kind(self.frame.tone, flaw.type),
        )  # fmt: skip


def _with_stance(hinge: Hinge, draw: Draw) -> Hinge:
    """Lets each conclusion end in what should be done, for the measure or against it."""
    link = draw.pick("; we should ", ". We should ", ". My advice is to ", "; I would ")
    ends = (draw["adopt"], draw["decline"])
    first, second = (c + link + end for c, end in zip(hinge.conclusions, ends, strict=True))
    return replace(hinge, conclusions=(first, second))


@dataclass(frozen=True)
class _Frame:
    """Everything of a text but premise and conclusion; both twins share it."""

    before: tuple[str, ...]
    between: tuple[str, ...]
    after: tuple[str, ...]
    connective: str
    conclusion_first: bool
    layout: str
    tone: str

    def text(self, premise: str, conclusion: str) -> str:
        claim = self.connective + conclusion if self.connective else upper_first(conclusion)
        claim += "."
        parts = [Part("background", joined(self.before)), Part("evidence", premise),
                 Part("background", joined(self.between)), Part("conclusion", claim)]  # fmt: skip
        if self.conclusion_first:
            parts[1], parts[3] = parts[3], parts[1]
        return lay_out([*parts, Part("closing", joined(self.after))], self.layout)


def _frame(draw: Draw, hinge: Hinge, mechanism: str) -> _Frame:
    rng = draw.rng
    tone = rng.choices(list(TONES), weights=list(TONES.values()))[0]
    first = hinge.either_order and rng.random() < FIRST
    fillers = draw.sample("fillers", rng.randrange(0, 4))
    cut = rng.randrange(0, len(fillers) + 1)
    between = fillers[cut:]
    if tone == "contrary":
        between.insert(rng.randrange(0, len(between) + 1), draw.sample("contrary", 1)[0])
    if rng.random() < DECOY:
        between.append(_decoy(draw, mechanism))
    said = {"sure": SURE, "hedged": HEDGED}.get(tone, ())
    after = [draw.fill(rng.choice(said))] if said else []
    after += draw.sample("closings", 1) if rng.randrange(2) else []
    return _Frame(
        before=(draw.sample("openings", 1)[0], *fillers[:cut]),
        between=tuple(between),
        after=tuple(after),
        connective="" if first else rng.choice(hinge.links),
        conclusion_first=first,
        layout=rng.choices(list(LAYOUTS), weights=list(LAYOUTS.values()))[0],
        tone=tone,
    )


def _bare(draw: Draw, hinge: Hinge) -> _Frame:
    """Nothing but the argument, as people write in a chat or a log."""
    first = hinge.either_order and draw.rng.random() < FIRST
    link = "" if first else draw.rng.choice(hinge.links)
    return _Frame((), (), (), link, first, "prose", "plain")


def _decoy(draw: Draw, mechanism: str) -> str:
    """A second, sound argument about something else, the same in both twins."""
    used = set(MECHANISMS[mechanism].needs)
    others = [
        name for name in mechanisms_for(draw.scene)
        if name in DECOYS and not used.intersection(MECHANISMS[name].needs)
    ]  # fmt: skip
    hinge = MECHANISMS[draw.rng.choice(others)].build(draw)
    side = draw.rng.randrange(2)
    return f"{hinge.premises[side]} {upper_first(hinge.conclusions[side])}."


def _sound_kind(tone: str, mechanism: str, side: int) -> str:
    if tone == "contrary":
        return "mixed_signals"
    if tone == "hedged":
        return "uncertain_correct"
    if tone == "plain" and (mechanism, side) in SUSPICIOUS:
        return "suspicious_valid"
    return "sophisticated_valid"


def _flawed_kind(tone: str, flaw_type: str) -> str:
    if tone == "sure":
        return "overconfident_wrong"
    if tone == "contrary":
        return "mixed_signals"
    if flaw_type in COGNITIVE:
        return "cognitive_bias"
    return "missing_context" if flaw_type in OMISSIONS else "subtle_flaw"


def main(argv: list[str] | None = None) -> int:
    """Prints composed twins for reading."""
    parser = argparse.ArgumentParser(description="Print composed twins to read.")
    parser.add_argument("--count", type=int, default=10, help="examples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="train")
    arguments = parser.parse_args(argv)
    for composed in compose(arguments.count, arguments.seed, arguments.split):
        e = composed.example
        sys.stdout.write(
            f"--- {e.source} [{e.label}, {e.kind}, {e.flaw_type}]\n{e.rationale}\n"
            f"  evidence: {e.evidence}\n  strengths: {e.strengths}\n  critique: {e.critique}\n"
            f"  fix: {e.fix}\n"
        )
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a traceback
    sys.exit(main())
