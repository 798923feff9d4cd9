"""Guesses of what a critic writes next, from what lies at hand: no model, no forward.

A critique quotes its rationale, says its fixed words, and says again what critiques like it have
said. So the longest run of tokens that the text so far ends with, and that has been met before,
tells what comes next: in the rationale and the critique itself (prompt lookup), or in a book of
phrases: the form of critiques with every flaw type (after the first tokens of a name only one may
be left: a trie), reference critiques, and what the critic has written since. Guesses are verified,
so whatever is in the book, the text is the model's own.

How sure a guess is, is counted: how often such a one (same source, as long a run) was right before.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from minicrit.encoding import Encoder
from minicrit.prompts import LEAD_IN, VERDICT_WORDS, Critique, render_critique
from minicrit.taxonomy import FLAW_TYPES

#: Longest run of tokens that is compared.
LONGEST_RUN = 12
#: Places of a run that are looked at, the latest.
_MOST_PLACES = 16

Kind = tuple[str, int]  # (source, length of the run)


@dataclass
class Draft:
    """Tokens that may come next.

    Attributes:
        tokens: n of them. chances: of each to be right if those before it are.
        kinds: where each comes from.
        q: (n, V) what they were drawn from; None for guesses.
    """

    tokens: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    q: torch.Tensor | None = None

    def add(self, token: int, chance: float, kind: Kind) -> None:
        """One token more."""
        self.tokens.append(token)
        self.chances.append(chance)
        self.kinds.append(kind)


class Drafter(Protocol):
    """Guesses for one text at a time."""

    def draft(self, row: int, text: Sequence[int], start: int, most: int) -> Draft:
        """At most so many tokens that may follow a text whose critique begins at `start`."""

    def learn(self, draft: Draft, right: int) -> None:
        """So many tokens of a draft, from the first on, were what the model wrote."""


class Runs:
    """Token sequences, and where in them each run of `least` tokens ends."""

    def __init__(self, least: int, most: int = 0) -> None:
        """`most`: tokens that are held, the oldest sequences go first; 0 for any number."""
        self.least, self.most = least, most
        self.size = 0
        self._texts: dict[int, list[int]] = {}
        self._ends: defaultdict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
        self._number = 0

    def add(self, text: Sequence[int]) -> int:
        """Takes in a sequence; its number."""
        number, self._number = self._number, self._number + 1
        self._texts[number] = []
        self.extend(number, text)
        while self.most and self.size > self.most and len(self._texts) > 1:
            self._forget(next(iter(self._texts)))
        return number

    def extend(self, number: int, more: Sequence[int]) -> None:
        """Goes on with a sequence."""
        text = self._texts[number]
        for token in more:
            text.append(token)
            if len(text) >= self.least:
                self._ends[tuple(text[-self.least :])].append((number, len(text)))
        self.size += len(more)

    def _forget(self, number: int) -> None:
        text = self._texts.pop(number)
        self.size -= len(text)
        for end in range(self.least, len(text) + 1):
            key = tuple(text[end - self.least : end])
            self._ends[key].remove((number, end))
            if not self._ends[key]:
                del self._ends[key]

    def next(self, text: Sequence[int]) -> tuple[int, int, bool] | None:
        """The token that followed the longest run that `text` ends with; None if no run was met.

        Returns:
            (token, length of the run, whether it was always followed by this one). Of several
            such runs what most of them say, of as many the latest.
        """
        if len(text) < self.least:
            return None
        places = self._ends.get(tuple(text[-self.least :]), ())
        best, said = 0, Counter[int]()
        for number, end in places[: -_MOST_PLACES - 1 : -1]:
            other = self._texts.get(number, ())
            if end >= len(other):
                continue  # nothing follows, or another thread has just let it go
            length = self._run(text, other, end)
            if length > best:
                best, said = length, Counter()
            if length == best:
                said[other[end]] += 1
        return (said.most_common(1)[0][0], best, len(said) == 1) if said else None

    def _run(self, text: Sequence[int], other: Sequence[int], end: int) -> int:
        length = self.least
        most = min(LONGEST_RUN, len(text), end)
        while length < most and text[-1 - length] == other[end - 1 - length]:
            length += 1
        return length


class Record:
    """How often guesses of each kind were right."""

    #: Of a kind that was never tried, by the length of the run: as if seen in so many trials.
    _TRIALS = 3.0

    def __init__(self) -> None:
        self.right: Counter[Kind] = Counter()
        self.tried: Counter[Kind] = Counter()

    def chance(self, kind: Kind) -> float:
        """Of the next guess of this kind to be right."""
        prior = 1 - 0.75 / math.sqrt(kind[1])
        return (self.right[kind] + self._TRIALS * prior) / (self.tried[kind] + self._TRIALS)

    def learn(self, kinds: Sequence[Kind], right: int) -> None:
        """So many guesses, from the first on, were right, and the next one was not."""
        for at, kind in enumerate(kinds[: right + 1]):
            self.tried[kind] += 1
            self.right[kind] += at < right


@dataclass(frozen=True)
class Effort:
    """When a guess is worth its price.

    A forward over a few tokens costs little more than one over one token, as the weights are read
    once; each further one costs some percent of it. The defaults suit a CPU and the embedded base.

    Attributes:
        least: chance of a token, with all before it, to be right, below which a draft ends: what a
            further token costs as a share of a forward.
        worth: expected tokens of a whole draft below which there is none: what any draft costs.
        most: tokens of a draft.
    """

    least: float = 0.08
    worth: float = 0.3
    most: int = 32


class Tables:
    """Drafts from the text itself and from a book of phrases."""

    def __init__(self, encoder: Encoder, book: Runs, record: Record, effort: Effort) -> None:
        """A new one for each batch of texts.

        Args:
            encoder: of the critic.
            book: phrases; many may share it.
            record: how often guesses were right; likewise.
            effort: when a guess is worth it.
        """
        self.encoder, self.book, self.record, self.effort = encoder, book, record, effort
        self._own: dict[int, tuple[Runs, list[int]]] = {}
        self._quoting = encoder.ids('\nEvidence: "')

    def draft(self, row: int, text: Sequence[int], start: int, most: int) -> Draft:
        """See `Drafter`: token by token the longest run, as long as it is worth it."""
        own = self._runs(row, text)
        draft, ahead, likely, expected = Draft(), list(text), 1.0, 0.0
        while len(draft.tokens) < min(most, self.effort.most):
            found = self._next(own, ahead, start)
            if found is None:
                break
            chance = self.record.chance(found[1])
            likely *= chance
            if likely < self.effort.least:
                break
            expected += likely
            draft.add(found[0], chance, found[1])
            ahead.append(found[0])
        return draft if expected >= self.effort.worth else Draft()

    def learn(self, draft: Draft, right: int) -> None:
        """See `Drafter`."""
        self.record.learn(draft.kinds, right)

    def _runs(self, row: int, text: Sequence[int]) -> Runs:
        """The text itself up to now, each token of it once."""
        runs, known = self._own.setdefault(row, (Runs(1), []))
        if not known:
            runs.add(())
        same = len(known)
        runs.extend(0, text[same:])
        known.extend(text[same:])
        return runs

    def _next(self, own: Runs, text: list[int], start: int) -> tuple[int, Kind] | None:
        """The guess that is right most often."""
        found: list[tuple[int, Kind]] = []
        first = self._quoted(text, start)
        if (said := own.next(self._spaced(text, first))) and (first or said[1] > 1):
            found.append((said[0], ("quotation" if first else "lookup", said[1])))
        if said := self.book.next(text[start:]):
            found.append((said[0], ("book" if said[2] else "book, one of several", said[1])))
        return max(found, key=lambda guess: self.record.chance(guess[1]), default=None)

    def _quoted(self, text: list[int], start: int) -> int | None:
        """Where the evidence begins that the text is within; None if it is not."""
        mark = self._quoting
        for at in range(len(text), start + len(mark) - 1, -1):
            if text[at - len(mark) : at] == mark:
                open_yet = '"' not in str(self.encoder.tokenizer.decode(text[at:]))
                return at if open_yet else None
        return None

    def _spaced(self, text: list[int], first: int | None) -> list[int]:
        """The text with the first quoted word as it stands within a sentence, behind a space."""
        if first is None or first == len(text):
            return text
        ids = self.encoder.ids(f" {self.encoder.tokenizer.decode([text[first]])}")
        return [*text[:first], ids[0], *text[first + 1 :]] if len(ids) == 1 else text


def form(encoder: Encoder) -> Iterator[list[int]]:
    """The fixed words of a critique, once for every flaw type with its usual severity."""
    blank = Critique("flawed", evidence=" ", critique=" ", fix=" ")
    for flaw in FLAW_TYPES.values():
        named = replace(blank, flaw_type=flaw.name, severity=flaw.severity)
        yield encoder.begun(render_critique(named).split(' "')[0] + ' "')
    yield encoder.ids('."\nCritique: The')
    yield encoder.ids(".\nFix: ")
    yield encoder.ids(f"{LEAD_IN}{VERDICT_WORDS['valid']}\nStrengths: ")
