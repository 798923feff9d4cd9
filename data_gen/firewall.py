"""The firewall: no training row holds what a critic is measured on.

A row is a hit if, against one evaluation item,

- the texts are the same but for case, blanks and what is not seen (content hash), or
- they share `SHARE` of the 13-word sequences of the shorter of the two, or
- they share `RUN` words in a row.

Case, prose marks and invisible characters do not count (see `shingles`); sequences that more than
`STOCK` groups of evaluation items hold are nobody's and do not count either. One shared sequence
alone is no hit, as the families of composed data, which never lie in two splits, share the stock
phrases of their mechanisms. Of 35,000 composed training rows against 2,594 evaluation items, 18 %
hold a shared sequence, but no row more than 0.55 of any item, and none more than 27 words in a row.
The bars lie above that. In eight public sets in plain language no row shares any sequence across
splits; in two that templates wrote, 222 of 2,942 rows are hits.

Not seen: paraphrases, translations, and items with an edit in every 13 words. Of copies of 1,200
composed items with one, two, three words changed at random, 94, 74, 50 % are found; the missed ones
are short. Items of fewer than 13 words are found as whole texts only, not inside others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_gen.shingles import Numbers, Places, Ragged, Words, ngrams, normalised, number_of
from minicrit.records import ASIDE, Example

#: Names of files that are measured on, also with `-public` and the like behind.
EVALUATION = ("validation", "calibration", "test", "suite", "holdout")
N = 13
#: Brown et al. 2020 (arXiv:2005.14165, appendix C) ignore sequences found more than 10 times.
STOCK = 10
SHARE, RUN = 0.6, 40
_BATCH = 4096


def is_evaluation(path: Path) -> bool:
    """Whether a file holds what is measured on, by its name."""
    stem = stem_of(path)
    return stem.partition("-")[0] in EVALUATION and not stem.endswith(ASIDE)


def evaluation_files(folder: Path, *, below: bool = False) -> list[Path]:
    """The evaluation files in a folder, or anywhere below it, by path."""
    search = folder.rglob if below else folder.glob
    found = [*search("*.jsonl"), *search("*.jsonl.gz")]
    return sorted(path for path in found if is_evaluation(path))


def stem_of(path: Path) -> str:
    """The name of a file of rows without its endings."""
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


@dataclass(frozen=True)
class Hit:
    """Which evaluation item a row holds, and how that was seen."""

    item: str
    how: str


class Firewall:
    """What it is measured on, ready to be asked about any number of training rows."""

    def __init__(self, evaluation: Mapping[str, Sequence[Example]]) -> None:
        """Evaluation items by the name of their file."""
        self._names = [f"{name}: {e.id}" for name, items in evaluation.items() for e in items]
        examples = [e for items in evaluation.values() for e in items]
        self._texts = {number_of(normalised(e.rationale)): i for i, e in enumerate(examples)}
        group = np.array([number_of(e.group) for e in examples], dtype=np.uint64)
        grams, items = _distinct_grams(examples)
        self._index(grams, items, group)

    def __len__(self) -> int:
        return len(self._names)

    def hits(self, texts: Sequence[str], words: Ragged | None = None) -> dict[int, Hit]:
        """The rows that must not be trained on, by place."""
        found = {row: Hit(self._names[self._texts[text]], "the same text")
                 for row, text in enumerate(number_of(normalised(t)) for t in texts)
                 if text in self._texts}  # fmt: skip
        if not len(self._grams):
            return found
        grams = ngrams(Words()(texts) if words is None else words, N)
        place = np.searchsorted(self._grams, grams.flat)
        place[place == len(self._grams)] = 0
        known = self._grams[place] == grams.flat
        for row in np.unique(grams.rows()[known]).tolist():
            part = slice(grams.starts[row], grams.starts[row + 1])
            if row not in found and (hit := self._hit(grams[row], place[part], known[part])):
                found[row] = hit
        return found

    def _index(self, grams: Numbers, items: Places, group: Numbers) -> None:
        """Postings: items of gram g are `_items[_starts[g] : _starts[g + 1]]`; stock grams none."""
        order = np.lexsort((group[items], grams))
        grams, items = grams[order], items[order]
        new_gram = np.r_[True, grams[1:] != grams[:-1]][: len(grams)]
        new_group = new_gram | np.r_[True, group[items][1:] != group[items][:-1]][: len(grams)]
        firsts = np.flatnonzero(new_gram)
        groups = np.add.reduceat(new_group, firsts) if len(firsts) else np.empty(0, dtype=np.int64)
        self._stock = grams[firsts[groups > STOCK]]
        stays = np.repeat(groups <= STOCK, np.diff(np.r_[firsts, len(grams)]))
        self._grams, starts = np.unique(grams[stays], return_index=True)
        self._items = items[stays]
        self._starts = np.r_[starts, len(self._items)]
        self._sizes = np.bincount(self._items, minlength=len(group))

    def _hit(self, grams: Numbers, place: Places, known: npt.NDArray[np.bool_]) -> Hit | None:
        """The judgement on one row: `place` of each gram in the index where it is `known`."""
        own = np.unique(place[known])
        items = np.concatenate([self._items[self._starts[g] : self._starts[g + 1]] for g in own])
        common = np.bincount(items)
        size = len(np.setdiff1d(np.unique(grams), self._stock, assume_unique=True))
        shares = common / np.minimum(np.maximum(self._sizes[: len(common)], 1), max(size, 1))
        best = int(np.argmax(shares))
        if shares[best] >= SHARE:
            return Hit(self._names[best], f"{shares[best]:.2f} of its {N}-word sequences")
        item, run = self._longest_run(place, known)
        if run >= RUN:
            return Hit(self._names[item], f"{run} words in a row")
        return None

    def _longest_run(self, place: Places, known: npt.NDArray[np.bool_]) -> tuple[int, int]:
        """The item with which most words in a row are shared, and how many."""
        if _longest(known) + N - 1 < RUN:
            return 0, 0
        best, running = (0, 0), dict[int, int]()
        for where, is_known in zip(place, known, strict=True):
            items = self._items[self._starts[where] : self._starts[where + 1]] if is_known else ()
            running = {int(item): running.get(int(item), 0) + 1 for item in items}
            for item, grams in running.items():
                best = max(best, (grams + N - 1, item))
        return best[1], best[0]


def _distinct_grams(examples: Sequence[Example]) -> tuple[Numbers, Places]:
    """The 13-word sequences of each item, once an item, and the item of each."""
    words, grams, items = Words(), [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for start in range(0, len(examples), _BATCH):
        ragged = ngrams(words([e.rationale for e in examples[start : start + _BATCH]]), N)
        order = np.lexsort((ragged.flat, ragged.rows()))
        flat, rows = ragged.flat[order], ragged.rows()[order]
        new = np.r_[True, (flat[1:] != flat[:-1]) | (rows[1:] != rows[:-1])]
        grams.append(flat[new])
        items.append(rows[new] + start)
    return np.concatenate(grams), np.concatenate(items)


def _longest(flags: npt.NDArray[np.bool_]) -> int:
    """The length of the longest stretch of true ones."""
    edges = np.flatnonzero(np.diff(np.r_[0, flags.astype(np.int8), 0]))
    return int((edges[1::2] - edges[::2]).max(initial=0))
