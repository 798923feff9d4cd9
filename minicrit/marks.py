"""How many combining marks may follow each other in a text that is normalised.

To compose a text, marks that follow each other are put in order, and Python does that by insertion:
40,000 of them hold a processor for seconds, in which no other thread runs. No script needs more
than a few. Unicode's stream-safe text format (UAX #15) has at most 30 in a row, and so have we.
"""

import unicodedata
from itertools import takewhile

from minicrit.jsonl import RefusedError

MOST_MARKS = 30


def is_mark(character: str) -> bool:
    """Whether a character, or the first one that it is taken apart into, goes with the one before.

    Some are no marks by their own class, yet become some (U+0F73, U+FF9E).
    """
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) != 0


def piled(text: str) -> bool:
    """Whether more than MOST_MARKS marks follow each other somewhere."""
    if text.isascii():
        return False
    step = MOST_MARKS + 1  # so long a run has a mark on each step: a few characters are looked at
    for at in range(MOST_MARKS, len(text), step):
        if is_mark(text[at]):
            before, on = text[at - MOST_MARKS : at], text[at : at + step]
            run = [*takewhile(is_mark, reversed(before)), *takewhile(is_mark, on)]
            if len(run) > MOST_MARKS:
                return True
    return False


def check_marks(text: str) -> None:
    """RefusedError if more than MOST_MARKS marks follow each other; ask before normalising."""
    if piled(text):
        raise RefusedError(f"at most {MOST_MARKS} combining marks in a row", "more",
                           "remove them")  # fmt: skip


def thinned(text: str) -> str:
    """The text without marks that follow MOST_MARKS others."""
    if not piled(text):
        return text
    kept, run = [], 0
    for character in text:
        run = run + 1 if is_mark(character) else 0
        if run <= MOST_MARKS:
            kept.append(character)
    return "".join(kept)
