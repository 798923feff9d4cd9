"""What may become training data: sane, in English, no copies, and nothing that is measured on.

    screening = Screening(evaluation, settings)
    screening.add(examples)                 # any number of times; texts are not kept
    screening.removed()                     # row number -> Removal

Rows without enough words, or in another language, go one by one. A group of which a row is a copy,
or holds an evaluation item, goes as a whole, so that twins stay together.

Another language is looked for only where English function words are under 5 % of at least 10 words,
or over half of the letters are not Latin: 1 % of the texts, derivations mostly. Of those, a
classifier of 97 languages (py3langid) decides. Of 16,960 public rows it took out 7, all of them
foreign; by the share alone it would have been 100.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_gen.duplicates import Copy, Duplicates
from data_gen.firewall import Firewall, Incoming
from data_gen.public import order_key
from data_gen.shingles import Numbers, Ragged, Words, number_of, words_of
from minicrit.data_config import FilterConfig
from minicrit.records import Example

#: Frequent English words that are rare or unknown elsewhere.
ENGLISH = (
    "the of and to that with for are were be by this from it you they not have which if there "
    "would should can will is as but than all each how what when who its their one more"
)
_ENGLISH = np.array([number_of(word) for word in words_of(ENGLISH)], dtype=np.uint64)
ENOUGH_WORDS, LEAST_ENGLISH = 10, 0.05
_LATIN_END = 0x250
_PROSE = re.compile(r"[^\W\d_]{2,}")  # not a variable
_BATCH = 4096


@dataclass(frozen=True)
class Removal:
    """Why a row goes: what to count it by, the particulars, the row it is like if it is one."""

    reason: str
    detail: str
    like: int | None = None


class Screening:
    """Sees every row once, in batches, then says which may not be trained on."""

    def __init__(self, evaluation: Mapping[str, Sequence[Example]], settings: FilterConfig) -> None:
        """Evaluation items by the name of their file; bars of language, length and likeness."""
        self.firewall = Firewall(evaluation)
        self._incoming = Incoming(self.firewall)
        self._settings = settings
        self._words = Words()
        self._duplicates = Duplicates(settings.near)
        self._groups: list[Numbers] = []
        self._rows: dict[int, Removal] = {}
        self._leaks: dict[int, Removal] = {}
        self._names = [f"{name}: {e.id}" for name, items in evaluation.items() for e in items]
        self._held = {e.group: name for name, items in evaluation.items() for e in items}
        for batch in _batches(e for items in evaluation.values() for e in items):
            self._enter(batch, self._words([e.rationale for e in batch]), fixed=True)

    def __len__(self) -> int:
        """Rows taken, evaluation items not counted."""
        return sum(map(len, self._groups)) - len(self._names)

    def add(self, examples: Iterable[Example], *, fixed: bool = False) -> None:
        """Takes rows; those that are fixed go only if they hold an evaluation item."""
        for batch in _batches(examples):
            first = len(self)
            texts = [example.rationale for example in batch]
            words = self._words(texts)
            self._incoming.add(texts, [example.group for example in batch], words)
            self._leaks |= {first + row: Removal("leak", f"{self._held[e.group]}: of its group")
                            for row, e in enumerate(batch) if e.group in self._held}  # fmt: skip
            if not fixed:
                self._rows |= {first + row: why for row, why in self._odd(texts, words)}
            self._enter(batch, words, fixed=fixed)

    def removed(self) -> dict[int, Removal]:
        """The rows that go, by their number in the order in which they came."""
        own = len(self._names)
        copies = {row - own: self._why(copy) for row, copy in self._duplicates.find().items()}
        hits = {row: Removal("leak", f"{hit.item}: {hit.how}")
                for row, hit in self._incoming.hits().items()}  # fmt: skip
        return self._rows | copies | self._whole_groups(self._leaks | hits)

    def _enter(self, batch: Sequence[Example], words: Ragged, *, fixed: bool) -> None:
        groups = np.array([number_of(e.group) for e in batch], dtype=np.uint64)
        self._groups.append(groups)
        self._duplicates.add([e.rationale for e in batch], words, groups,
                             [e.label == "flawed" for e in batch], fixed=fixed)  # fmt: skip

    def _odd(self, texts: Sequence[str], words: Ragged) -> Iterable[tuple[int, Removal]]:
        """What is wrong with a row by itself."""
        shares = _english(words)
        least, most = self._settings.min_words, self._settings.max_words
        for row, (text, length) in enumerate(zip(texts, words.lengths.tolist(), strict=True)):
            if self._settings.english and (why := _foreign(text, shares[row])):
                yield row, Removal("language", why)
            elif length < least:
                yield row, Removal("too short", f"{length} words")
            elif most and length > most:
                yield row, Removal("too long", f"{length} words")

    def _whole_groups(self, leaks: Mapping[int, Removal]) -> dict[int, Removal]:
        if not leaks:
            return {}
        group = np.concatenate(self._groups)[len(self._names) :]
        torn = np.flatnonzero(np.isin(group, group[list(leaks)]))
        return {row: leaks.get(row, Removal("leak", "by its group")) for row in torn.tolist()}

    def _why(self, copy: Copy) -> Removal:
        if copy.like is None:
            return Removal(copy.what, "by itself" if copy.whole else "by its group")
        row = copy.like - len(self._names)
        if row < 0:
            return Removal("leak", f"{self._names[copy.like]}: {copy.what}")
        return Removal(copy.what, f"of row {row}", row)


def balanced(examples: Sequence[Example], ratio: float, seed: int) -> dict[int, Removal]:
    """The rows to remove so that in no set one label has more than `ratio` rows for each other.

    A set is what stands before the first slash of `source`. Groups that hold both labels stay;
    the others go in an order that depends on seed and name alone. 0 removes nothing.
    """
    removed: dict[int, Removal] = {}
    for rows in _sets(examples).values() if ratio else ():
        counts = Counter(examples[row].label for row in rows)
        label, most = max(counts.items(), key=lambda item: (item[1], item[0]))
        surplus = most - int(ratio * (len(rows) - most))
        groups: dict[str, list[int]] = {}
        for row in rows:
            groups.setdefault(examples[row].group, []).append(row)
        one_sided = [name for name, found in groups.items()
                     if all(examples[row].label == label for row in found)]  # fmt: skip
        for name in sorted(one_sided, key=lambda name: order_key(f"{seed}/balance", name)):
            if surplus < len(groups[name]):
                continue
            surplus -= len(groups[name])
            removed |= {row: Removal("balance", f"too many {label}") for row in groups[name]}
    return removed


def _sets(examples: Sequence[Example]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, example in enumerate(examples):
        found.setdefault(example.source.partition("/")[0], []).append(row)
    return found


def _batches(examples: Iterable[Example]) -> Iterable[list[Example]]:
    batch: list[Example] = []
    for example in examples:
        batch.append(example)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _english(words: Ragged) -> npt.NDArray[np.float64]:
    """(rows,) share of words that are frequent in English."""
    frequent = np.add.reduceat(np.isin(words.flat, _ENGLISH).astype(np.int64), words.starts[:-1])
    share: npt.NDArray[np.float64] = frequent / words.lengths
    return share


def _foreign(text: str, english: float) -> str | None:
    """The language, if it is another one as far as that can be told."""
    if english >= LEAST_ENGLISH:
        return None
    letters = [c for c in text if c.isalpha()]
    other_script = 2 * sum(ord(c) < _LATIN_END for c in letters) < len(letters)
    if len(_PROSE.findall(text)) < ENOUGH_WORDS and not other_script:
        return None
    from py3langid import classify  # loads its model

    language = str(classify(text)[0])
    return None if language == "en" else language
