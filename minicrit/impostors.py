"""Texts that speak as the critic does, to talk it into a verdict.

The prompt marks where a rationale ends by words (`### Critique:`), so a rationale that holds these
words, or an answer in the critic's form, or control tokens of a chat, can look as if the answer had
been given already: measured, such an ending turned every flawed text into a valid one
(docs/results.md). Nothing of a text is silently taken out. Such a text is read four times: as it
is, up to where it first speaks so, without the lines in which it does, and without these words
alone (as an answer may stand in the line of the argument); the reading that is the most flawed
counts. So an answer of a form that is known here can raise suspicion, not lower it; other wordings
may still get past.
"""

import hashlib
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

Item = tuple[str, str]  # (domain, rationale)
T = TypeVar("T")

#: The flag of a verdict on such a text.
FLAG = "answer_in_text"
_SPEAKS = re.compile(
    r"""
    ^[ \t]*\#{1,6}[ \t]*(domain|rationale|critique)[ \t]*:      # the prompt's own headings
    | verdict\W{1,6}(is\W{1,3})?(valid|flawed)\b                # an answer, also as JSON or a tag
    | <\|[^|<>\s]{1,60}\|> | </?s> | \[/?INST\]                 # control tokens, as text
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
#: Of what is looked for and how such a text is read; an answer given under another one is stale.
GUARD = hashlib.sha256(f"worst of four readings: {_SPEAKS.pattern}".encode()).hexdigest()


def speaks(rationale: str) -> bool:
    """Whether a text speaks as the critic does."""
    return _SPEAKS.search(rationale) is not None


def readings(rationale: str) -> tuple[str, ...]:
    """The texts to read: the rationale alone, unless it speaks as the critic does."""
    first = _SPEAKS.search(rationale)
    if first is None:
        return (rationale,)
    before = rationale[: first.start()].rstrip()
    every = (rationale, before, _without_lines(rationale), _SPEAKS.sub(" ", rationale).strip())
    return tuple(dict.fromkeys(text for text in every if text.strip()))


def _without_lines(rationale: str) -> str:
    """The text without the lines in which it speaks so; an answer may span several."""
    kept, at = [], 0
    for found in _SPEAKS.finditer(rationale):
        start = rationale.rfind("\n", 0, found.start()) + 1
        kept.append(rationale[at : max(at, start)])
        end = rationale.find("\n", max(found.end() - 1, start))
        at = max(at, len(rationale) if end < 0 else end + 1)
    return "".join([*kept, rationale[at:]]).strip()


class Spread:
    """Items with all readings of each, one after the other.

    Attributes:
        items: all that is to be read; those of an item stand together.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        several = [readings(rationale) for _, rationale in items]
        self.items = [(domain, text) for (domain, _), texts in zip(items, several, strict=True)
                      for text in texts]  # fmt: skip
        self._ends = list(accumulate(map(len, several)))

    def of_each(self, rows: Sequence[T]) -> list[T]:
        """What belongs to the items, repeated for each reading."""
        spans = zip(rows, [0, *self._ends], self._ends, strict=False)
        return [row for row, start, end in spans for _ in range(end - start)]

    def worst(self, odds: np.ndarray) -> np.ndarray:
        """Numbers (n,) of the readings that count: of each item the one with the highest odds."""
        spans = zip([0, *self._ends], self._ends, strict=False)
        return np.array([a + int(np.argmax(odds[a:b])) for a, b in spans], dtype=int)
