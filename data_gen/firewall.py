"""The firewall: no training row holds what a critic is measured on.

A row is a hit if, against one evaluation item,

- the texts are the same but for case, blanks and what is not seen (content hash), or
- they share `SHARE` of the 13-word sequences of the shorter of the two, or
- they share `RUN` words in a row.

Case, prose marks and invisible characters do not count (see `shingles`); sequences that more than
`STOCK` groups of evaluation items hold are nobody's (stock) and do not count either. Nor do, as a
rule, those that more than `STOCK` groups of training rows hold, as the header of a desk's log; but
many lightly edited copies of one item look alike, too. So these still count for an item or a row
with less than `OWN` of its words outside of them, unless items of two groups that have more show
that other texts go on from there. One shared sequence alone is no hit, as the families of composed
data, which never lie in two splits, share the stock phrases of their mechanisms. Of 35,000 composed
training rows against 2,594 evaluation items, 18 % hold a shared sequence, but no row more than 0.55
of any item, and none more than 27 words in a row. The bars lie above that. In eight public sets in
plain language no row shares any sequence across splits; in two that templates wrote, 222 of 2,942
rows are hits.

Not seen: paraphrases, translations, items with an edit in every 13 words, as are most whose
sentences come in another order (15 % are found) or have each a word put before them (1 %), and a
part of an item that more than `STOCK` training groups hold, if all put other words, `OWN` or more,
in place of the rest. Of copies of 1,200 composed items with one, two, three words changed at
random, 94, 74, 50 % are found; the missed ones are short. Items of fewer than 13 words are found as
whole texts only, not inside others.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_gen.shingles import Numbers, Places, Ragged, Words, ngrams, normalised, number_of
from minicrit.records import Example
from minicrit.row_files import ASIDE, NAMED_SPLITS, split_of, stem_of

#: Names of files that are measured on, also with `-public` and the like behind.
EVALUATION = tuple(NAMED_SPLITS)
N = 13
#: Brown et al. 2020 (arXiv:2005.14165, appendix C) ignore sequences found more than 10 times.
STOCK = 10
SHARE, RUN = 0.6, 40
#: Least share of the words beside what many training groups hold that makes a text of its own.
OWN = 0.25
_BATCH = 4096
Flags = npt.NDArray[np.bool_]
Indexed = npt.NDArray[np.signedinteger[Any]]  # places in the index; -1: no item holds it


def is_evaluation(path: Path) -> bool:
    """Whether a file holds what is measured on, by its name."""
    stem = stem_of(path)
    return split_of(stem) != "train" and not stem.endswith(ASIDE)


def evaluation_files(folder: Path, *, below: bool = False) -> list[Path]:
    """The evaluation files in a folder, or anywhere below it, by path."""
    search = folder.rglob if below else folder.glob
    found = [*search("*.jsonl"), *search("*.jsonl.gz")]
    return sorted(path for path in found if is_evaluation(path))


@dataclass(frozen=True)
class Hit:
    """Which evaluation item a row holds, and how that was seen."""

    item: str
    how: str


@dataclass(frozen=True)
class _Seen:
    """What is known of a row.

    Attributes:
        places: of its sequences, in order.
        different: how many different sequences it has.
    """

    places: Indexed
    different: int


@dataclass(frozen=True)
class _Bar:
    """What counts.

    Attributes:
        stock: (grams,) nobody's. spared: (grams,) nobody's for the items that keep enough.
        keeps: (items,) which do. counts: (postings,) which are held against a row.
        sizes: (items,) how many sequences of each count.
    """

    stock: Flags
    spared: Flags
    keeps: Flags
    counts: Flags
    sizes: Places


class Firewall:
    """What it is measured on, ready to be asked about any number of training rows."""

    def __init__(self, evaluation: Mapping[str, Sequence[Example]]) -> None:
        """Evaluation items by the name of their file."""
        self._names = [f"{name}: {e.id}" for name, items in evaluation.items() for e in items]
        examples = [e for items in evaluation.values() for e in items]
        self._texts = {number_of(normalised(e.rationale)): i for i, e in enumerate(examples)}
        group = np.array([number_of(e.group) for e in examples], dtype=np.uint64)
        self._group = np.unique(group, return_inverse=True)[1]
        self._index(*_grams_of(examples))

    def __len__(self) -> int:
        return len(self._names)

    def hits(self, texts: Sequence[str], words: Ragged | None = None) -> dict[int, Hit]:
        """The rows that must not be trained on, by place, each judged by itself."""
        found = self._same(texts)
        for row, seen in self._seen(texts, words):
            if row not in found and (hit := self._hit(seen, self._bar)):
                found[row] = hit
        return found

    def _index(self, flat: Numbers, rows: Places) -> None:
        """Postings: items of gram g are `_items[_starts[g] : _starts[g + 1]]`."""
        self._grams, place = np.unique(flat, return_inverse=True)
        self._ends = np.searchsorted(rows, np.arange(len(self) + 1))
        self._places = place.astype(np.int32)
        self._gram, self._items = _pairs(place, rows)
        self._starts = np.searchsorted(self._gram, np.arange(len(self._grams) + 1))
        stock = self._groups_of(np.ones(len(self._items), dtype=np.bool_)) > STOCK
        nothing = np.zeros(len(stock), dtype=np.bool_), np.zeros(len(self), dtype=np.bool_)
        self._bar = self._bar_of(stock, *nothing)

    def _bar_of(self, stock: Flags, spared: Flags, keeps: Flags) -> _Bar:
        counts = ~stock[self._gram] & ~(spared[self._gram] & keeps[self._items])
        sizes = np.bincount(self._items[counts], minlength=len(self))
        return _Bar(stock, spared, keeps, counts, sizes)

    def _groups_of(self, postings: Flags) -> Places:
        """(grams,) how many groups of items hold each, by some of the postings."""
        grams, _ = _pairs(self._gram[postings], self._group[self._items[postings]])
        return np.bincount(grams, minlength=len(self._grams))

    def _same(self, texts: Sequence[str]) -> dict[int, Hit]:
        return {row: Hit(self._names[self._texts[text]], "the same text")
                for row, text in enumerate(number_of(normalised(t)) for t in texts)
                if text in self._texts}  # fmt: skip

    def _seen(self, texts: Sequence[str], words: Ragged | None) -> Iterator[tuple[int, _Seen]]:
        """The rows that share something with an item, beside stock."""
        if not len(self._grams):
            return
        grams = ngrams(Words()(texts) if words is None else words, N)
        place = np.searchsorted(self._grams, grams.flat)
        place[place == len(self._grams)] = 0
        known = self._grams[place] == grams.flat
        place = np.where(known, place, -1).astype(np.int32)
        for row in np.unique(grams.rows()[known & ~self._bar.stock[place]]).tolist():
            part = slice(grams.starts[row], grams.starts[row + 1])
            yield row, _Seen(place[part], len(np.unique(grams[row])))

    def _hit(self, seen: _Seen, bar: _Bar) -> Hit | None:
        """The judgement on one row."""
        own = np.unique(seen.places[seen.places >= 0])
        size = seen.different - np.count_nonzero(bar.stock[own])
        own = own[~bar.stock[own]]
        postings = self._postings(own)
        common = np.bincount(self._items[postings[bar.counts[postings]]])
        if not len(common):
            return None
        sizes, keeps = bar.sizes[: len(common)], bar.keeps[: len(common)]
        rest = size - np.count_nonzero(bar.spared[own]) * keeps
        shares = common / np.maximum(np.minimum(sizes, rest), 1)
        best = int(np.argmax(shares))
        if shares[best] >= SHARE:
            return Hit(self._names[best], f"{shares[best]:.2f} of its {N}-word sequences")
        item, run = self._longest_run(seen.places, bar)
        if run >= RUN:
            return Hit(self._names[item], f"{run} words in a row")
        return None

    def _postings(self, grams: Indexed) -> Places:
        ranges = [np.arange(self._starts[g], self._starts[g + 1]) for g in grams]
        return np.concatenate(ranges) if ranges else np.empty(0, dtype=np.int64)

    def _longest_run(self, places: Indexed, bar: _Bar) -> tuple[int, int]:
        """The item with which most words in a row are shared, and how many."""
        known = (places >= 0) & ~bar.stock[places]
        if _longest(known) + N - 1 < RUN:
            return 0, 0
        best, running = (0, 0), dict[int, int]()
        for where, is_known in zip(places, known, strict=True):
            part = slice(self._starts[where], self._starts[where + 1]) if is_known else slice(0)
            items = self._items[part][bar.counts[part]]
            running = {int(item): running.get(int(item), 0) + 1 for item in items}
            for item, grams in running.items():
                best = max(best, (grams + N - 1, item))
        return best[1], best[0]

    def _sparing(self, held: Places) -> tuple[_Bar, _Bar]:
        """The bars for rows that keep enough, and for others, where many hold these sequences."""
        spared = np.zeros(len(self._grams), dtype=np.bool_)
        spared[held] = True
        keeps = np.zeros(len(self), dtype=np.bool_)
        for item in np.unique(self._items[self._postings(held)]):
            places = self._places[self._ends[item] : self._ends[item + 1]]
            keeps[item] = _own(places, self._bar.stock, spared) >= OWN
        shown = self._groups_of(keeps[self._items] & spared[self._gram]) > 1
        stock = self._bar.stock | shown
        return (self._bar_of(stock, spared & ~shown, keeps),
                self._bar_of(stock, np.zeros_like(spared), keeps))  # fmt: skip


class Incoming:
    """The rows that are to be trained on, in batches: what many of their groups hold is known last.

    Of the rows that may go the places of their sequences are kept, four bytes a word; no texts.
    """

    def __init__(self, firewall: Firewall) -> None:
        self._firewall = firewall
        self._rows = 0
        self._same: dict[int, Hit] = {}
        self._doubtful: dict[int, _Seen] = {}
        self._holders: defaultdict[int, set[str]] = defaultdict(set)
        self._full = np.zeros(len(firewall._grams), dtype=np.bool_)

    def add(self, texts: Sequence[str], groups: Sequence[str], words: Ragged | None = None) -> None:
        """Takes rows, each with the name of its group."""
        wall = self._firewall
        same = wall._same(texts)
        self._same |= {self._rows + row: hit for row, hit in same.items()}
        for row, seen in wall._seen(texts, words):
            self._hold(seen.places, groups[row])
            if row not in same and wall._hit(seen, wall._bar):
                kept = replace(seen, places=seen.places.copy())  # not its whole batch
                self._doubtful[self._rows + row] = kept
        self._rows += len(texts)

    def hits(self) -> dict[int, Hit]:
        """The rows that must not be trained on, by their number in the order in which they came."""
        lenient, strict = self._firewall._sparing(np.flatnonzero(self._full))
        found = dict(self._same)
        for row, seen in self._doubtful.items():
            keeps = _own(seen.places, lenient.stock, lenient.spared) >= OWN
            if hit := self._firewall._hit(seen, lenient if keeps else strict):
                found[row] = hit
        return found

    def _hold(self, places: Indexed, group: str) -> None:
        for place in places[(places >= 0) & ~self._full[places]].tolist():
            holders = self._holders[place]
            holders.add(group)
            if len(holders) > STOCK:
                self._full[place] = True
                del self._holders[place]


def _grams_of(examples: Sequence[Example]) -> tuple[Numbers, Places]:
    """The 13-word sequences of the items, in order, and the item of each."""
    words, grams, items = Words(), [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for start in range(0, len(examples), _BATCH):
        ragged = ngrams(words([e.rationale for e in examples[start : start + _BATCH]]), N)
        grams.append(ragged.flat)
        items.append(ragged.rows() + start)
    return np.concatenate(grams), np.concatenate(items)


def _pairs(first: Places, second: Places) -> tuple[Places, Places]:
    """The different pairs of two columns, sorted."""
    width = int(second.max(initial=0)) + 1
    ones, others = np.divmod(np.unique(first * width + second), width)
    return ones, others


def _own(places: Indexed, stock: Flags, spared: Flags) -> float:
    """Share of the words beside stock that no spared sequence covers."""
    known = places >= 0
    free, left = (np.convolve(known & flags[places], np.ones(N)) < 1
                  for flags in (stock, stock | spared))  # fmt: skip
    return float(left.sum() / max(free.sum(), 1))


def _longest(flags: npt.NDArray[np.bool_]) -> int:
    """The length of the longest stretch of true ones."""
    edges = np.flatnonzero(np.diff(np.r_[0, flags.astype(np.int8), 0]))
    return int((edges[1::2] - edges[::2]).max(initial=0))
