"""Two texts beside each other: which words differ, and where the evidence stands."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from data_gen.survey import FLAWED
from minicrit.pages import pieces
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example, Preference
from minicrit.written import places

#: Texts that have less in common are no twins, and a comparison word by word says nothing.
LEAST_ALIKE = 0.3
#: Words from which on texts are not compared: the time grows with their square.
MOST_WORDS = 1500
_WORD = re.compile(r"\S+")
Piece = tuple[str, tuple[bool, ...]]


@dataclass(frozen=True)
class Side:
    """One text of two.

    Attributes:
        title: what it is.
        chips: short facts about it.
        pieces: the text, cut where a mark begins or ends: (differs from the other, is evidence).
        critique: what is said of it, if anything.
    """

    title: str
    chips: tuple[str, ...]
    pieces: list[Piece]
    critique: str | None = None


@dataclass(frozen=True)
class Sample:
    """One or two texts of a group, the sound one first."""

    name: str
    sides: tuple[Side, ...]
    alike: bool = True
    about: str = ""


def sample_of(members: Sequence[Example]) -> Sample:
    """The nearest two of a group of which one is flawed, or its first member alone."""
    pairs = [(one, other) for one in members if one.label != FLAWED
             for other in members if other.label == FLAWED]  # fmt: skip
    if not pairs:
        return Sample(members[0].group, (_side(members[0], set()),))
    sound, flawed = max(pairs, key=lambda pair: likeness(*(e.rationale for e in pair)))
    marks = differing(sound.rationale, flawed.rationale)
    sides = (
        _side(sound, marks[0] if marks else set()),
        _side(flawed, marks[1] if marks else set()),
    )
    return Sample(sound.group, sides, alike=marks is not None)


def compared(pair: Preference) -> Sample:
    """The chosen critique beside the rejected one."""
    marks = differing(pair.chosen, pair.rejected) or (set(), set())
    sides = [
        Side(name, (f"score {score:.2f}", f"{len(text.split())} words"), pieces(text, mark, set()))
        for name, text, score, mark in (
            ("Chosen", pair.chosen, pair.chosen_score, marks[0]),
            ("Rejected", pair.rejected, pair.rejected_score, marks[1]),
        )
    ]
    return Sample(pair.group, tuple(sides), about=pair.rationale)


def differing(one: str, other: str) -> tuple[set[int], set[int]] | None:
    """Offsets of the characters of each text in whose words they differ; None if little is alike.

    Runs of words are marked with the blanks between them.
    """
    found = [list(_WORD.finditer(text)) for text in (one, other)]
    words = [[match[0] for match in matches] for matches in found]
    if max(map(len, words)) > MOST_WORDS:
        return None
    matcher = SequenceMatcher(None, words[0], words[1], autojunk=False)
    if matcher.ratio() < LEAST_ALIKE:
        return None
    marks: tuple[set[int], set[int]] = (set(), set())
    for what, a, b, c, d in matcher.get_opcodes():
        for matches, mark, start, end in zip(found, marks, (a, c), (b, d), strict=True):
            if what != "equal" and end > start:
                mark.update(range(matches[start].start(), matches[end - 1].end()))
    return marks


def likeness(one: str, other: str) -> float:
    """Share of words in common, in the same order; of long texts their beginnings count."""
    first, second = (text.split()[:MOST_WORDS] for text in (one, other))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def _side(example: Example, differs: set[int]) -> Side:
    chips = (example.kind, example.flaw_type, example.severity)
    evidence = places(example.rationale, example.evidence or "")
    return Side(
        example.label,
        tuple(chip.replace("_", " ") for chip in chips if chip),
        pieces(example.rationale, differs, evidence),
        render_critique(critique_of(example)),
    )
