"""Evidence read off likelihoods: which span of a rationale the critic would quote.

What is written freely is often a quotation but for a word, and then marks nothing. All that may
follow the opening quote here is the rationale's own text, from some place on; so one forward with a
branch for each likely place gives the likelihood of every span that begins there, wherever it ends
in its sentence. The likeliest is taken.

Shapes: N spans, S tokens that are scored, C ways to close a quotation.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import torch

from minicrit.encoding import Encoder
from minicrit.packing import Branch, Tree

#: Most tokens of a span, and most places at which one may begin.
LONGEST, PLACES = 40, 24
#: Share of the likeliest first token's chance below which a place is passed over.
_UNLIKELY = 0.01
#: Chance of all places together below which the critic would not quote from the rationale at all.
_ELSEWHERE = 0.02
_LETTERS = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # scripts without blanks between words
_BEGINS = re.compile(rf"(?<!\w)(?<!\d[.,:])(?<!\w['\u2019])\S|[{_LETTERS}]")
_WORD = 40  # characters that decide the first token
_GOES_ON = re.compile(rf".[^\W{_LETTERS}]|\d[.,:]\d", re.DOTALL)  # from the last letter on
_STOPS = ".,;:!?)"
_STOP = re.compile(r"[\u3002\uff01\uff1f]|[.!?][\"'\u201d\u2019)\]]*(?=\s|$)")


@dataclass(frozen=True)
class Place:
    """Where a span may begin.

    Attributes:
        start: offset in the rationale. ids: tokens from there on, at most `LONGEST`.
        ends: offset behind each of these tokens; -1 where it is within a word or a letter.
    """

    start: int
    ids: tuple[int, ...]
    ends: tuple[int, ...]


class Quoting:
    """The spans of one rationale, as a tokenizer sees them."""

    def __init__(self, encoder: Encoder, rationale: str) -> None:
        self.encoder, self.rationale = encoder, rationale

    def likely(self, logits: torch.Tensor) -> list[Place]:
        """Places worth a branch, by the logits (V,) of the first quoted token."""
        chances = logits.float().softmax(-1)
        first: dict[str, int | None] = {}  # None where a tokenizer drops the word
        known = []
        for found in _BEGINS.finditer(self.rationale):
            at = found.start()
            word = self.rationale[at : at + _WORD].split(maxsplit=1)[0]
            if word not in first:
                first[word] = next(iter(self.encoder.ids(word)), None)
            if (token := first[word]) is not None:
                known.append((float(chances[token]), at))
        tokens = list({token for token in first.values() if token is not None})
        if not tokens or float(chances[tokens].sum()) < _ELSEWHERE:
            return []
        best = sorted(known, reverse=True)[:PLACES]
        return [self._place(at) for chance, at in sorted(best, key=itemgetter(1))
                if chance >= _UNLIKELY * best[0][0]]  # fmt: skip

    def _place(self, start: int) -> Place:
        # A token has a letter at least, and few have more than a dozen.
        ahead = self.rationale[start : start + 12 * LONGEST].split("\n", 1)[0]
        stop = _STOP.search(ahead)
        ids = self.encoder.ids(ahead[: stop.end()] if stop else ahead)[:LONGEST]
        ends = [self._end(start, ids[: n + 1]) for n in range(len(ids))]
        return Place(start, tuple(ids), tuple(ends))

    def _end(self, start: int, ids: Sequence[int]) -> int:
        said = str(self.encoder.tokenizer.decode(list(ids)))
        end = start + len(said)
        whole = said == self.rationale[start:end] and not said[-1:].isspace()
        return end if whole and not _GOES_ON.match(self.rationale, end - 1) else -1

    def tree(self, prompt: Sequence[int], places: Sequence[Place], close: int) -> Tree:
        """A prompt that ends with the opening quote, and a branch a place."""
        branches = [Branch((*place.ids, close), (1.0,) * (len(place.ids) + 1)) for place in places]
        return Tree(tuple(prompt), tuple(branches))

    def spans(
        self, places: Sequence[Place], said: np.ndarray, closed: np.ndarray, stops: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Every span and its log-likelihood.

        Args:
            places: as given to `tree`.
            said: (S,) log-likelihood of each token of the tree's branches.
            closed: (S, C) of each closing in its place.
            stops: (C,) what each closing writes before the quote: nothing, or a stop.

        Returns:
            Offsets (N, 2) and log-likelihoods (N,).
        """
        offsets, likely, at = [], [], 0
        for place in places:
            so_far = said[at : at + len(place.ids)].cumsum()
            for n, end in enumerate(place.ends):
                for column, stop in enumerate(stops):
                    if end > 0 and self.rationale.startswith(stop, end):
                        offsets.append((place.start, end + len(stop)))
                        likely.append(so_far[n] + closed[at + n + 1, column])
            at += len(place.ids) + 1
        return np.array(offsets, dtype=int).reshape(-1, 2), np.array(likely)


def closings(encoder: Encoder) -> tuple[list[str], list[int]]:
    """How a quotation may end: stops that one token writes with the quote, and these tokens.

    The first is the quote alone. A tokenizer may merge it with what follows, the line's end.
    """
    stops, ids = [""], [encoder.ids('"\n')[0]]
    for stop in _STOPS:
        found = encoder.ids(f'a{stop}"\n')[len(encoder.ids("a")) :]
        if found and str(encoder.tokenizer.decode(found[:1])).startswith(f'{stop}"'):
            stops.append(stop)
            ids.append(found[0])
    return stops, ids


def likeliest(offsets: np.ndarray, likely: np.ndarray) -> tuple[int, int] | None:
    """Offsets of the span with the highest log-likelihood, of (N, 2) and (N,); None of none."""
    if not len(likely):
        return None
    start, end = offsets[likely.argmax()]
    return int(start), int(end)
