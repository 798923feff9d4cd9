"""Totals that follow from a rate and how long it goes on, though they stand sentences apart.

`The desk reads 40 files a day. [...] The plan runs over 6 days. [...] So the total is 280 files.`
The units say what belongs together: the total counts what the rate counts, and the time is so many
of what the rate is for. Where a figure more stands in these sentences (a stock, a loss, a second
team), nothing is said.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from minicrit.figures import value_printed

_FIGURE = r"(?<![\w.,:/-])(\d{1,9}(?:,\d{3}){0,3}(?:\.\d{1,4})?)"
_THING = r"([a-z][a-z'\u2019-]{1,24}(?: [a-z][a-z'\u2019-]{0,24}){0,3}?)"
_PERIOD = r"([A-Za-z][a-z]{2,14})"  # or a clerk, a truck: whatever there are several of
_RATE = re.compile(rf"{_FIGURE} {_THING} (?:an?|per|each|every) {_PERIOD}\b")
_COUNT = re.compile(rf"{_FIGURE} {_PERIOD}s\b")
_ANY = re.compile(r"(?<![\w.,:])\d[\d.,]*%?")
_STOP = re.compile(r"[.!?](?=\s|$)|\n")
#: Before a figure that names or numbers: `Line 3`, `2. ` at the start of a line.
_NAME = re.compile(
    r"(?:\b(?!(?:Add|And|But|For|In|Less|Minus|Of|Only|Or|Over|Plus|With) )[A-Z][a-z]+ |\A\s*)\Z"
)
#: Where a total is claimed, not counted or wished for.
_CLAIM = re.compile(
    r"\b(?:in all|in total|the total|altogether|makes?|com(?:e|es|ing) to|amounts? to|adds? up to|"
    r"works out at|so|therefore|thus|hence|accordingly|it follows|plan with|count on|gives?|"
    r"yields?)\b", re.IGNORECASE)  # fmt: skip
#: With what a conclusion is tied to what it is drawn from; no part of what is claimed.
_TIE = re.compile(
    r"\s*(?:\d{1,3}\.\s+)?(?:[A-Z][a-z]+: )?(?:(?:so|thus|hence|therefore|accordingly|and|then|"
    r"consequently|in short|all told|on that footing|that means that|it follows that|"
    r"this means that),?\s+)+", re.IGNORECASE)  # fmt: skip


@dataclass(frozen=True)
class Total:
    """A total that is claimed, and what its rate and time make.

    Attributes:
        rate, periods, said: as printed. period: what the rate is for. value: rate times periods.
        start, end: offsets of the claim, without what ties it to the text before it.
    """

    rate: str
    period: str
    periods: str
    said: str
    value: float
    start: int
    end: int

    @property
    def holds(self) -> bool:
        """Whether the total is right to the decimals printed."""
        decimals = len(self.said.partition(".")[2])
        return bool(abs(self.value - value_printed(self.said)) <= 0.5001 * 10**-decimals)


def totals(text: str) -> Iterator[Total]:
    """The totals of a text that are claimed of one rate and one time."""
    rates = list(_RATE.finditer(text))
    for period in sorted({found[3] for found in rates}):
        mine = [found for found in rates if found[3] == period]
        times = [found for found in _COUNT.finditer(text) if found[2] == period]
        if len(mine) == len(times) == 1:
            yield from _totals(text, mine[0], times[0])


def _totals(text: str, rate: re.Match[str], time: re.Match[str]) -> Iterator[Total]:
    known = {rate.start(1), time.start(1)}
    sentences = _Sentences(text)
    given = {sentences.around(start) for start in known}
    behind = max(rate.end(), time.end())
    claims = re.compile(rf"{_FIGURE} {re.escape(rate[2])}\b(?! (?:an?|per|each|every) )")
    found = list(claims.finditer(text))
    if any(one.start() < behind for one in found):
        return  # a stock that the rate adds to, or the like
    value = value_printed(rate[1]) * value_printed(time[1])
    for one in found:
        start, end = sentences.around(one.start())
        figures = known | {one.start(1)}
        if not _CLAIM.search(text, start, end) or any(
            _others(text, *place, figures) for place in (*given, (start, end))
        ):
            continue
        tie = _TIE.match(text, start, one.start())
        start = tie.end() if tie else start
        start += len(text[start:end]) - len(text[start:end].lstrip())
        yield Total(rate[1], rate[3], time[1], one[1], value, start, end)


class _Sentences:
    """Where the sentences of a text begin and end."""

    def __init__(self, text: str) -> None:
        stops = list(_STOP.finditer(text))
        self._ends = [*(stop.start() for stop in stops), len(text)]
        self._starts = [0, *(stop.end() for stop in stops)]

    def around(self, at: int) -> tuple[int, int]:
        """Offsets of the sentence that a place is in, without its stop."""
        number = bisect_left(self._ends, at)
        return self._starts[number], self._ends[number]


def _others(text: str, start: int, end: int, known: set[int]) -> bool:
    """Whether a sentence has a figure more that is a quantity."""
    return any(
        found.start() not in known
        and (found.group().endswith("%") or not _NAME.search(text[start : found.start()]))
        for found in _ANY.finditer(text, start, end)
    )
