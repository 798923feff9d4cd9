"""Words and word n-grams of many texts as 64-bit numbers: how copies and leaks are found.

Case, width, the marks of prose and invisible characters do not count: `Up 3 %, so (I think) BUY!`
and `up 3 so I think buy` hold the same words, with soft hyphens in them too. Square and curly
brackets and signs of arithmetic do count, as some texts reason about nothing else. What sets a line
off (`3. `, `> `, `* `) is layout and no word.

Two n-grams are taken for the same if their numbers are. Of 10^8 different ones that are compared
with 10^6, a chance hit comes once in 200,000 runs.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from minicrit.marks import thinned

Numbers = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

#: Marks that are words.
SIGNS = "[]{}<>=+*/^|"
_WORD = re.compile(rf"[^\W_]+|[{re.escape(SIGNS)}]")
_ITEM = r"\d{1,3}[.):;](?=\s)"  # a numbered point, also where its lines were joined
_LAYOUT = re.compile(
    rf"^[ \t]*(?:[>*+|-][ \t]+)+(?:{_ITEM})?|(?:^|(?<=[.!?:;]))[ \t]*{_ITEM}", re.MULTILINE
)
_ODD = 0x9E3779B97F4A7C15  # weight of the next word; odd, so that no word is lost modulo 2^64
_VOCABULARY = 1 << 20  # words whose number is remembered, so that memory stays flat


@dataclass(frozen=True)
class Ragged:
    """Rows of numbers end to end: row i is `flat[starts[i] : starts[i + 1]]`, never empty."""

    flat: Numbers
    starts: Places

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> Numbers:
        return self.flat[self.starts[row] : self.starts[row + 1]]

    @property
    def lengths(self) -> Places:
        """(rows,) numbers in each row."""
        return np.diff(self.starts)

    def rows(self) -> Places:
        """(numbers,) the row of each number."""
        return np.repeat(np.arange(len(self)), self.lengths)


def number_of(text: str) -> int:
    """64 bits that stand for a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _visible(text: str) -> str:
    """A text without format characters (soft hyphens, zero-width blanks, byte order marks).

    They are not seen, so with them a copy looks the same and must be found as one.
    """
    if text.isascii():
        return text
    for mark in set(text):
        if unicodedata.category(mark) == "Cf":
            text = text.replace(mark, "")
    return text


def normalised(text: str) -> str:
    """A text without case, blanks and what is not seen.

    Marks stay, as some sets reason about brackets.
    """
    return "".join(_visible(text).casefold().split())


def words_of(text: str) -> list[str]:
    """The words of a text, folded; for one without any, the text as its only word."""
    folded = text if text.isascii() else unicodedata.normalize("NFKC", thinned(_visible(text)))
    folded = _LAYOUT.sub(" ", folded).casefold()
    return _WORD.findall(folded) or [folded.strip()]


class _Numbers(dict[str, int]):
    """The number of each word, worked out when it is first asked for."""

    def __missing__(self, word: str) -> int:
        self[word] = number_of(word)
        return self[word]


class Words:
    """Turns texts into the numbers of their words."""

    def __init__(self) -> None:
        self._numbers = _Numbers()

    def __call__(self, texts: Sequence[str]) -> Ragged:
        """The words of each text."""
        if len(self._numbers) > _VOCABULARY:
            self._numbers.clear()
        split = [words_of(text) for text in texts]
        flat = [self._numbers[word] for words in split for word in words]
        return Ragged(np.array(flat, dtype=np.uint64), _starts([len(words) for words in split]))


def ngrams(words: Ragged, n: int) -> Ragged:
    """The n-grams of each row; a row that is shorter has one, the row as a whole."""
    place, row = np.arange(len(words.flat)), words.rows()
    end = words.starts[row + 1]
    total = np.zeros(len(words.flat), dtype=np.uint64)
    for step in range(n):
        inside = place + step < end
        following = words.flat[np.minimum(place + step, len(words.flat) - 1)]
        total += np.where(inside, following, 0) * np.uint64(pow(_ODD, step, 1 << 64))
    whole = (place + n <= end) | (place == words.starts[row])
    lengths = np.maximum(words.lengths - n + 1, 1)
    return Ragged(_mixed(total[whole]), _starts(lengths))


def combined(columns: npt.NDArray[np.unsignedinteger]) -> Numbers:
    """(rows,) one number for each row of (rows, columns)."""
    total = np.zeros(len(columns), dtype=np.uint64)
    for column in columns.T:
        total = _mixed(total * np.uint64(_ODD) + column.astype(np.uint64))
    return total


def _mixed(numbers: Numbers) -> Numbers:
    """Every bit of the result depends on every bit given (the finaliser of splitmix64)."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _starts(lengths: Sequence[int] | Places) -> Places:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
