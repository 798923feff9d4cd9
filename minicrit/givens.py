"""What a rationale gives to work something out from: how rare, how often caught, two counts.

Read from its words, and only where they are clear about what belongs together: a critique is held
to what follows (`derivations`), and held to something else than its writer means it would be wrong.
"""

import re
from itertools import pairwise

from minicrit.figures import NUMBER, rounded, value_printed

#: A figure as it is printed, without what may stand before or behind it.
N = r"(\d+(?:,\d{3})*(?:\.\d+)?)"
#: Where a sentence ends.
STOP = re.compile(r"[.!?](?=\s|$)|\n")
_ONE_IN = re.compile(rf"\b(?:one|1) (?:in|out of) (?:every )?{N}", re.IGNORECASE)
_PERCENT = re.compile(rf"(?<![\w.,:]){N}(?:%| per ?cent)")
#: Where percentages may be of what is rightly not flagged; and what is flagged is the fewer.
_CLEARED = re.compile(r"\b(?:specificity|negatives?)\b", re.IGNORECASE)
_HALF = 50
_YEAR = re.compile(r"(?:19|20)\d\d")
#: Between two counts, where the words about the first end.
_NEXT = re.compile(r"[,;.]|\b(?:and|but|while|whereas|against|versus|vs)\b")


def cases(text: str) -> tuple[float, ...]:
    """Among how many of which there is one of something, wherever a text says so."""
    return tuple(value_printed(found[1]) for found in _ONE_IN.finditer(text))


def hits(rationale: str) -> tuple[float, float] | None:
    """In percent, how much of the true cases is caught and how much of the others is flagged.

    They stand in the sentence that says how rare these are, or next to it; None if it is not clear.
    """
    single = _sentences(rationale)
    places = [place for place, text in enumerate(single) if _ONE_IN.search(text)]
    if len(places) != 1:
        return None
    # What is rare may stand there once more: `one in 50 (2%)`.
    near = single[max(0, places[0] - 1) : places[0] + 2]
    rare = {share for n in cases(single[places[0]]) if n for share in rounded(100 / n)}
    found = [{value_printed(one[1]) for one in _PERCENT.finditer(text)} - rare for text in near]
    pairs = [those for those in found if len(those) == 2] or [set().union(*found)]  # noqa: PLR2004
    if len(pairs) > 1 or len(pairs[0]) != 2 or _CLEARED.search("".join(near)):  # noqa: PLR2004
        return None
    caught, flagged = max(pairs[0]), min(pairs[0])
    return (caught, flagged) if flagged < _HALF else None


def _sentences(text: str) -> list[str]:
    ends = [0, *(found.end() for found in STOP.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(ends)]


def _value(one: re.Match[str]) -> float:
    return value_printed(one.group())


class Rates:
    """Two counts of events, each with what it was counted in, in one sentence or two."""

    def __init__(self, sentence: str, quantities: list[re.Match[str]]) -> None:
        """Of a sentence and its four figures, two of each count."""
        self.values = tuple(_value(few) / _value(many) for few, many in _pairs(quantities))
        self._words = sentence.lower()
        self._behind = [[self._words[one.end() :].lstrip() for one in ones]
                        for ones in zip(*_pairs(quantities), strict=True)]  # fmt: skip
        turn = _NEXT.search(self._words, quantities[1].end(), quantities[2].start())
        self._turn = turn.start() if turn else None

    @classmethod
    def of(cls, rationale: str) -> "Rates | None":
        """Those of a rationale; None if there are none, or several."""
        single = _sentences(rationale)
        for places in (single, [one + other for one, other in pairwise(single)]):
            found = [rates for text in places if (rates := cls._read(text))]
            if found:
                return found[0] if len(found) == 1 else None
        return None

    @classmethod
    def _read(cls, text: str) -> "Rates | None":
        quantities = [one for one in NUMBER.finditer(text) if not one.group().endswith("%")]
        if len(quantities) != 4 or any(_YEAR.fullmatch(q.group()) for q in quantities):  # noqa: PLR2004
            return None
        fewer_first = [
            _value(one) < _value(other) for one, other in (quantities[:2], quantities[2:])
        ]
        parts = all(_value(few) < _value(many) for few, many in _pairs(quantities))
        return cls(text, quantities) if parts and len(set(fewer_first)) == 1 else None

    def fit(self, unit: str) -> bool:
        """Whether they may be per so many of it: not where it is counted in the smaller figures.

        Of `120 faults in 14 days` they are per fault, and no text says days per fault.
        """
        noun = re.compile(rf"{re.escape(unit.lower())}\b")
        fewer, more = (any(map(noun.match, words)) for words in self._behind)
        return more or not (unit and fewer)

    def named(self, name: str) -> tuple[float, ...]:
        """Of whom a phrase names at its end: by the longest end of it that stands here.

        Both, if that stands beside either count, or where one ends and the other begins is unclear.
        """
        words = name.lower().split()
        for first in range(len(words)):
            end = re.compile(rf"\b{re.escape(' '.join(words[first:]))}\b")
            places = [found.start() for found in end.finditer(self._words)]
            if places and self._turn is not None:
                sides = {at > self._turn for at in places}
                return (self.values[sides.pop()],) if len(sides) == 1 else self.values
        return self.values


def _pairs(quantities: list[re.Match[str]]) -> list[list[re.Match[str]]]:
    """Of both counts the smaller figure and the larger one."""
    return [sorted(pair, key=_value) for pair in (quantities[:2], quantities[2:])]
