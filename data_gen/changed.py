"""Harmless changes of training texts, so that a critic learns that they move no verdict.

Of a share of the groups (`data.changed`) a sound and a flawed text come changed, too, beside the
unchanged ones: both in the same way and in the same words, so that the change says nothing of the
label, and each beside the text that it is a change of, so that the verdicts on the two can be held
together (`sft.steady`). An instruction to the critic asks for `valid` or for `flawed` by a draw,
whatever is right. The changes are those of the adversarial suite (`variants.py`), their wordings
others (`changed.yaml`). A changed row is known by its id: `<id>/<change>`.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path

from data_gen.casebook import worded
from data_gen.oracle import prose_of
from data_gen.scene import read_items
from data_gen.variants import EVERYWHERE, LONG_WORD, joined, swapped
from minicrit.records import Example, change_of
from minicrit.taxonomy import CHANGES, LABELS
from minicrit.written import places

PATH = Path(__file__).with_suffix(".yaml")
#: What says something more, in front of a text or behind it.
ADDED = ("polite", "claimed_authority", "verified", "irrelevant_figure", "instruction")
SLIP, LINES, SMALL = "slip_of_the_pen", "line_breaks", "lower_case"
PLACES = ("before", "after")
Edit = Callable[[str], str]

#: A text that has lines, or in which a full stop need not end a sentence, gets no line breaks.
_UNBROKEN = re.compile(r"\n|\b(?:[A-Z]|Capt|Col|Dr|Gen|Lt|Mrs?|Ms|[Nn]o|Prof|Sgt|St|incl|vs)\. "
                       r"|\. (?![A-Z'\"(])")  # fmt: skip
#: A text in which the case of a letter may mean something keeps it.
_SYMBOL = re.compile(r"\b[B-HJ-Z]\b")
_QUOTED = re.compile(r"\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)")
_ENDED = re.compile(r"[.!?:)\]'\"]$")
#: In front of it nothing reads well.
_GREETING = re.compile(r".{0,14}\b(?:Dear|Good (?:day|evening|morning)|Hello|Hi|Sir)\b")
#: Slips of the pen that are words of their own.
_WORDS = frozenset((
    "barking", "braking", "cartoons", "casually", "causally", "complaint", "compliant", "desserts",
    "fillings", "marital", "martial", "perfect", "planning", "prefect", "scrapped", "signers",
    "signing", "singers", "singing", "starring", "stripped",
))  # fmt: skip


def with_changes(
    examples: Iterable[Example], share: float, seed: int,
    fits: Callable[[Example], bool] = lambda _: True,
) -> list[Example]:  # fmt: skip
    """The same examples, and behind those of a share of the groups one or two of them changed.

    A group that holds changed texts, as rows of an earlier run may, stays as it is.

    Args:
        examples: the members of a group side by side.
        share: of the groups, 0 to 1, drawn by seed and name.
        seed: of the recipe.
        fits: whether a changed text is not too long.
    """
    found: list[Example] = []
    for group, rows in groupby(examples, key=lambda e: e.group):
        members = list(rows)
        rng = random.Random(f"{seed}/changed/{group}")  # noqa: S311 - not for secrets
        found += members
        if rng.random() < share and not any(map(change_of, members)):
            found += _changed(_one_of_each_label(members, rng), rng, fits)
    return found


def _one_of_each_label(members: Sequence[Example], rng: random.Random) -> list[Example]:
    by_label = ([e for e in members if e.label == label] for label in LABELS)
    return [rng.choice(those) for those in by_label if those]


@cache
def wordings(path: Path = PATH) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """What can be said, by change and place.

    Raises:
        ValueError: if the file is not as it should be.
    """
    rows = read_items(path, "changes")
    names = tuple(row.get("change") for row in rows)
    if names != ADDED or any(row.keys() != {"change", *PLACES} for row in rows):
        raise ValueError(f"{path}: expected {', '.join(PLACES)} of each of {', '.join(ADDED)}, in "
                         f"this order, got {', '.join(map(str, names))}; restore it")  # fmt: skip
    return {(row["change"], place): tuple(row[place]) for row in rows for place in PLACES}


def _changed(
    members: Sequence[Example], rng: random.Random, fits: Callable[[Example], bool]
) -> list[Example]:
    """Texts after the first of the changes, in an order that is drawn, that all of them bear."""
    tried = (_rows(members, change, rng) for change in rng.sample(CHANGES, len(CHANGES)))
    borne = (rows for rows in tried if all(map(_bears, members, rows)) and all(map(fits, rows)))
    return next(borne, [])


def _rows(members: Sequence[Example], change: str, rng: random.Random) -> list[Example]:
    edit = _edit(change, members, rng)
    return [_row(e, change, edit) for e in members]


def _edit(change: str, members: Sequence[Example], rng: random.Random) -> Edit:
    """A change with its words; where it does not suit, `str`, which leaves every text as it is."""
    if change in ADDED:
        return _addition(change, members, rng)
    if change == SLIP:
        return _slip(members, rng)
    unfit = {LINES: _UNBROKEN, SMALL: _SYMBOL}[change]
    return str if any(unfit.search(e.rationale) for e in members) else EVERYWHERE[change]


def _bears(old: Example, new: Example) -> bool:
    """Whether a text became another one that holds what is quoted, and its evidence as often."""
    said = [one or other for one, other in _QUOTED.findall(prose_of(old))]
    kept = all(words in new.rationale for words in said if words in old.rationale)
    often = [e.rationale.count(e.evidence) if e.evidence else 0 for e in (old, new)]
    return kept and often[0] == often[1] and new.rationale != old.rationale


def _row(example: Example, change: str, edit: Edit) -> Example:
    evidence = example.evidence
    if evidence and change in EVERYWHERE:
        evidence = edit(evidence)
    return replace(example, id=f"{example.id}/{change}", rationale=edit(example.rationale),
                   evidence=evidence)  # fmt: skip


def _addition(change: str, members: Sequence[Example], rng: random.Random) -> Edit:
    greeted = any(_GREETING.match(e.rationale) for e in members)
    place = "after" if greeted else rng.choice(PLACES)
    said = worded(rng.choice(wordings()[change, place]), rng)
    said = said.replace("{asked}", rng.choice(LABELS))
    if place == "before":
        return lambda text: _joined(said, text)
    return lambda text: _joined(text, said)


def _joined(first: str, second: str) -> str:
    """As in the suite; but paragraphs stay apart, and nothing runs on from a signature."""
    if "\n\n" in first + second:
        return f"{first}\n\n{second}"
    return joined(first, second) if _ENDED.search(first) else f"{first}\n{second}"


def _slip(members: Sequence[Example], rng: random.Random) -> Edit:
    """The same slip in the same word of all texts."""
    shared = set.intersection(*(_free_words(e) for e in members))
    if not shared:
        return str
    word = rng.choice(sorted(shared))[0]
    swaps = {swapped(word, at) for at in range(1, len(word) - 2)}
    doubled = {word[:at] + word[at - 1 :] for at in range(2, len(word))}
    slipped = rng.choice(sorted((swaps | doubled) - {word} - _WORDS))
    return lambda text: re.sub(rf"\b{word}\b", slipped, text)


def _free_words(example: Example) -> set[tuple[str, str, str]]:
    """Long words that stand once in a text, outside of its evidence, with both their neighbours."""
    text = example.rationale
    taken = places(text, example.evidence or "")
    times = Counter(LONG_WORD.findall(text))
    return {
        (match[0], " ".join(text[: match.start()].split()[-1:]),
         " ".join(text[match.end() :].split()[:1]))
        for match in LONG_WORD.finditer(text)
        if times[match[0]] == 1 and taken.isdisjoint(range(*match.span()))
    }  # fmt: skip
