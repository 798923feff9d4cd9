"""Copies and near-copies between groups, in one pass over any number of rows.

Twins are near-copies of each other on purpose, so rows are compared across groups only, and a group
goes or stays as a whole. Two rows are

- *copies* if their texts are equal but for case and blanks;
- *near-copies* if, besides, they have the same label and the same figures, and the Jaccard index of
  their word trigrams is at least `near`, as estimated from 128 MinHash values (standard error
  0.035 at 0.8). Another label or another figure makes another case: that is what twins teach.

Who stays does not depend on the order of the rows: fixed groups come first, the others in the order
of a hash of their names, and a group stays unless it copies one that stayed. So a second pass over
what stayed removes nothing. A text that carries both labels in groups that are not fixed is no use
to anybody: all of them go.

Not seen: paraphrases; copies with an edited figure; of near-copies just above the bar, a few of a
hundred (bands of 6 values: 99.8 % at 0.8 are compared), more among many alike, as in each band a
row is compared with the first of its kind only, which is what keeps time linear. A row takes 650
bytes; texts are not kept.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from data_gen.shingles import (
    SIGNS,
    Numbers,
    Ragged,
    combined,
    ngrams,
    normalised,
    number_of,
)

VALUES, BAND, SEED = 128, 6, 1
SHINGLE = 3
#: A text with fewer different words a word, or more signs a word, is formal.
FORMAL, FORMAL_SIGNS = 0.3, 0.15
_BANDS = VALUES // BAND
_FIGURE = re.compile(r"\d+(?:[.,:]\d+)*")
_SIGNS = frozenset(number_of(sign) for sign in SIGNS)
Owners = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Copy:
    """Why a row goes: what it or a row of its group is, and the row that it is itself like.

    `whole` says that it is so by itself, though it is like no row in particular.
    """

    what: str
    like: int | None
    whole: bool = False


class Duplicates:
    """Collects rows, then says which to remove."""

    def __init__(self, near: float) -> None:
        """`near`: least Jaccard index of near-copies, 0 to 1; 0 for copies only."""
        self.near = near
        self._chunks: list[_Chunk] = []

    def add(
        self, texts: Sequence[str], words: Ragged, groups: Numbers, flawed: Sequence[bool],
        *, fixed: bool = False,
    ) -> None:  # fmt: skip
        """Takes a batch of rows; those that are fixed are never removed."""
        kind = [
            number_of(text if _formal(words[row]) else f"{wrong} {sorted(_FIGURE.findall(text))}")
            for row, (text, wrong) in enumerate(zip(texts, flawed, strict=True))
        ]
        self._chunks.append(_Chunk(
            group=groups,
            text=_numbers([number_of(normalised(text)) for text in texts]),
            flawed=np.array(flawed, dtype=np.bool_),
            fixed=np.full(len(texts), fixed),
            kind=_numbers(kind),
            values=_minhash(words) if self.near else np.empty((len(texts), 0), dtype=np.uint32),
        ))  # fmt: skip

    def find(self) -> dict[int, Copy]:
        """The rows to remove, by their number in the order in which they came."""
        return _Search(self._chunks, self.near).found() if self._chunks else {}


@dataclass(frozen=True)
class _Chunk:
    """A batch of rows; `kind` is of label and figures, `values` is (rows, VALUES)."""

    group: Numbers
    text: Numbers
    flawed: npt.NDArray[np.bool_]
    fixed: npt.NDArray[np.bool_]
    kind: Numbers
    values: npt.NDArray[np.uint32]

    def band(self, number: int) -> Numbers:
        """(rows,) what near-copies share in this band with some probability."""
        values = self.values[:, number * BAND : (number + 1) * BAND]
        return combined(np.column_stack([self.kind, values.astype(np.uint64)]))


class _Search:
    """One pass in canonical order: a group stays unless a row of it copies one that stayed."""

    def __init__(self, chunks: list[_Chunk], near: float) -> None:
        self._chunks, self._near = chunks, near
        self._ends = np.cumsum([len(chunk.group) for chunk in chunks])
        self._group = np.concatenate([chunk.group for chunk in chunks])
        self._text = np.concatenate([chunk.text for chunk in chunks])
        self._flawed = np.concatenate([chunk.flawed for chunk in chunks])
        self._fixed = np.concatenate([chunk.fixed for chunk in chunks])
        bands = [
            _shared(np.concatenate([chunk.band(number) for chunk in chunks]), self._group)
            for number in range(_BANDS if near else 0)
        ]
        # Column 0: the same text; then the bands. -1: shared with no other group.
        self._shared = np.column_stack([_shared(self._text, self._group), *bands])
        self._owners = [
            np.full(1 + column.max(initial=-1), -1, dtype=np.int32) for column in self._shared.T
        ]

    def found(self) -> dict[int, Copy]:
        found: dict[int, Copy] = {}
        contradicted = self._contradicted()
        for rows in self._groups(contradicted):
            copy = {row: like for row in rows if not self._fixed[row]
                    for like in [self._like(row, contradicted)] if like}  # fmt: skip
            if copy:
                what = next(iter(copy.values())).what
                found |= {row: copy.get(row, Copy(what, None)) for row in rows}
            else:
                self._take(rows)
        return found | self._repeated(found)

    def _groups(self, contradicted: Numbers) -> Iterator[list[int]]:
        """The groups, in canonical order, that are contradicted or share something with others."""
        order = np.lexsort((self._text, self._group, ~self._fixed))
        group, fixed = self._group[order], self._fixed[order]
        new = (group[1:] != group[:-1]) | (fixed[1:] != fixed[:-1])
        firsts = np.flatnonzero(np.r_[True, new])
        doubtful = (self._shared[order] >= 0).any(axis=1)
        doubtful |= np.isin(self._text[order], contradicted)
        suspect = np.logical_or.reduceat(doubtful, firsts)
        ends = np.r_[firsts[1:], len(order)]
        for first, end in zip(firsts[suspect], ends[suspect], strict=True):
            yield order[first:end].tolist()

    def _like(self, row: int, contradicted: Numbers) -> Copy | None:
        """The row that stayed which this one copies."""
        owners = [own[key] for own, key in zip(self._owners, self._shared[row], strict=True)
                  if key >= 0]  # fmt: skip
        same, key = self._owners[0], self._shared[row, 0]
        if _holds(contradicted, self._text[row]):
            return Copy("both labels", None, whole=True)
        if key >= 0 and same[key] >= 0:
            return Copy("copy", int(same[key]))
        near = sorted({int(owner) for owner in owners if owner >= 0})
        mine = self._values(row)
        for other in near:
            if np.mean(self._values(other) == mine) >= self._near:
                return Copy("near-copy", other)
        return None

    def _take(self, rows: list[int]) -> None:
        """Lets what is like these rows be found from now on."""
        for row in rows:
            for owners, key in zip(self._owners, self._shared[row], strict=True):
                if key >= 0 and owners[key] < 0:
                    owners[key] = row

    def _values(self, row: int) -> npt.NDArray[np.uint32]:
        chunk = int(np.searchsorted(self._ends, row, side="right"))
        start = 0 if chunk == 0 else int(self._ends[chunk - 1])
        values: npt.NDArray[np.uint32] = self._chunks[chunk].values[row - start]
        return values

    def _contradicted(self) -> Numbers:
        """Texts that carry both labels, sorted; where one is fixed, its label counts."""
        free = ~self._fixed
        sound = np.unique(self._text[free & ~self._flawed])
        wrong = np.unique(self._text[free & self._flawed])
        both = np.intersect1d(sound, wrong, assume_unique=True)
        return np.setdiff1d(both, self._text[self._fixed], assume_unique=False)

    def _repeated(self, found: dict[int, Copy]) -> dict[int, Copy]:
        """Rows that say again what another row of their group says; one of them stays."""
        order = np.lexsort((np.arange(len(self._text)), self._flawed, self._text, self._group))
        alike = np.ones(len(order) - 1, dtype=np.bool_)
        for column in (self._group, self._text, self._flawed):
            alike &= column[order][1:] == column[order][:-1]
        pairs = zip(order[1:][alike].tolist(), order[:-1][alike].tolist(), strict=True)
        return {row: Copy("repeated", other)
                for row, other in pairs if row not in found and not self._fixed[row]}  # fmt: skip


def _shared(keys: Numbers, group: Numbers) -> Owners:
    """(rows,) 0, 1, ... for keys that two groups have, -1 for others."""
    order = np.argsort(keys, kind="stable")
    firsts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
    ordered = group[order]
    several = np.minimum.reduceat(ordered, firsts) != np.maximum.reduceat(ordered, firsts)
    name = np.where(several, np.cumsum(several) - 1, -1).astype(np.int32)
    result = np.empty(len(keys), dtype=np.int32)
    result[order] = np.repeat(name, np.diff(np.r_[firsts, len(keys)]))
    return result


def _minhash(words: Ragged) -> npt.NDArray[np.uint32]:
    """(rows, VALUES) MinHash values of the word trigrams."""
    grams = ngrams(words, SHINGLE)
    starts = grams.starts.astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(grams.flat, starts, VALUES, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def _formal(words: Numbers) -> bool:
    found = words.tolist()
    signs = sum(word in _SIGNS for word in found)
    return len(set(found)) < FORMAL * len(found) or signs > FORMAL_SIGNS * len(found)


def _holds(sorted_numbers: Numbers, number: np.uint64) -> bool:
    place = int(np.searchsorted(sorted_numbers, number))
    return place < len(sorted_numbers) and bool(sorted_numbers[place] == number)


def _numbers(values: list[int]) -> Numbers:
    return np.array(values, dtype=np.uint64)
