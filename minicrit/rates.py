"""Totals that follow from a rate and how long it goes on, though they stand sentences apart.

`The desk reads 40 files a day. [...] The plan runs over 6 days. [...] So the total is 280 files.`
The units say what belongs together: the total counts what the rate counts, and the time is so many
of what the rate is for. Where a figure more stands in these sentences (a stock, a loss, a second
team), or where the total follows with figures that stand elsewhere, nothing is said. Nor where what
is said in words may stand behind it: somebody helps, an hour goes to lunch, the second day is free.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from minicrit.excuses import excused
from minicrit.figures import NUMBER, agree, value_printed

_FIGURE = r"(?<![\w.,:/-])(\d{1,9}(?:,\d{3}){0,3}(?:\.\d{1,4})?)"
_THING = (r"((?:[a-z][a-z'\u2019-]{1,24}|[A-Z]{2,6}s?)"
          r"(?: [a-z][a-z'\u2019-]{0,24}){0,3}?)")  # fmt: skip
_PERIOD = r"([A-Za-z][a-z]{2,14})"  # or a clerk, a truck: whatever there are several of
_RATE = re.compile(rf"{_FIGURE} {_THING} (?:an?|per|each|every) {_PERIOD}\b")
_COUNT = re.compile(rf"{_FIGURE} {_PERIOD}s\b(?! (?:an?|per|each|every) )")
_ANY = re.compile(r"(?<![\w.,:])\d[\d.,]*%?")
_STOP = re.compile(r"[.!?;](?=\s|$)|\n")
#: Before a figure that names or numbers: `Line 3`, `2. ` at the start of a line.
_NAME = re.compile(
    r"(?:\b(?!(?:Add|And|But|For|In|Less|Minus|Of|Only|Or|Over|Plus|With) )[A-Z][a-z]+ |\A\s*)\Z"
)
_SEEN = 24  # characters in which such a name is looked for
#: With what a conclusion is tied to what it is drawn from; no part of what is claimed.
_SO = (r"so|thus|hence|therefore|accordingly|consequently|in short|all told|on that footing|"
       r"that means that|it follows that|this means that")  # fmt: skip
_TIE = rf"(?:\d{{1,3}}\.\s+)?(?:[A-Z][a-z]+: )?(?:(?:{_SO}|and|then),?\s+)*"
#: What a sentence that claims a total says, and nothing else.
_CLAIM = re.compile(
    rf"\s*{_TIE}(?P<claim>(?:(?:for|in|over) \d+ [A-Za-z]+,? )?(?:"
    r"(?:that|this|it|which) (?:makes|gives|comes to|adds up to|amounts to) _(?: in all| in total|"
    r" altogether)?|we (?:(?:shall|will|can|should) )?(?:come|get) to _|"
    r"(?:for )?a total of _|giving _|"
    r"the total (?:is|comes to|will be) _|(?:in all|in total|altogether),? (?:(?:it|that) is )?_|"
    r"_ (?:is|are) what (?:we|you|they) can (?:plan with|count on|expect)|_ in (?:all|total)))\s*",
    re.IGNORECASE,
)
#: What does so only as a conclusion, else it may be a stock (`We have 280 files.`), and only if it
#: is too small.
_CONCLUDES = re.compile(
    rf"\s*(?:\d{{1,3}}\.\s+)?(?:[A-Z][a-z]+: )?(?:and )?(?:{_SO}),?\s+(?P<claim>"
    r"(?:(?:that|this|it) is |(?:we|it) (?:(?:shall|will|can) )?(?:get|reach|expect|make)s? |"
    r"we (?:(?:shall|will) )?end up with )?_(?: in all| in total| altogether)?)\s*",
    re.IGNORECASE,
)
#: What does so only right behind what it is drawn from, which `that` may else be something else.
_POINTS = re.compile(
    r"\s*(?P<claim>(?:(?:that|this|which) is )_(?: in all| in total| altogether)?)\s*",
    re.IGNORECASE,
)
_NUMBER = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|several|other|more"
#: More than one of what works at the rate, or not all the time.
_OTHERWISE = re.compile(
    rf"\b(?:{_NUMBER}|hundred|dozen|both|half|halves|third|twice|thrice|double[ds]?|another|about|"
    r"nearly|roughly|up to|at (?:most|least)|if|(?<!a )(?<!per )(?<!each )(?<!every )second)\b"
    r"(?! (?:\d+ )?(?:days|weeks|nights|hours) to go)", re.IGNORECASE)  # fmt: skip
#: Figures in words, of which there may be so many more: `in three shifts`.
_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
          "ten": 10, "eleven": 11, "twelve": 12, "dozen": 12}  # fmt: skip
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)
#: Parts of a time by their number.
_PARTS = {**_WORDS, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7,
          "eighth": 8, "ninth": 9, "tenth": 10, "other": 2, "quarter": 4}  # fmt: skip
_WEEKDAY = re.compile(r"\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?")
_MONTH = re.compile("January|February|March|April|May|June|July|August|September|October|November|"
                    "December")  # fmt: skip
_NAMED = {"day": _WEEKDAY, "night": _WEEKDAY, "morning": _WEEKDAY, "month": _MONTH}
_TWICE = re.compile(r"\b(?:twice|the second)\b", re.IGNORECASE)
_HOURS = {"one": 1, **_WORDS}
_CLOCK = re.compile(
    rf"\b(?:from|between) ({'|'.join(_HOURS)}) (?:to|until|till|and) ({'|'.join(_HOURS)})\b",
    re.IGNORECASE,
)
_TIME = r"(?:second|minute|hour|shift|day|night|week|month|morning|afternoon|session|\w+day)s?"
_OTHERS = 12  # figures elsewhere, of which a text may have so many
_MOST = 20  # rates, times or totals of which a text may have so many
_FILLER = frozenset({"the", "each", "every", "and", "has", "our", "with", "that", "this"})


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
        """Whether the total is right as far as it is printed."""
        return self.would_be(self.value)

    def would_be(self, value: float) -> bool:
        """Whether a value is printed as the total is."""
        decimals = len(self.said.partition(".")[2])
        return agree(value, value_printed(self.said), decimals=decimals,
                     rough="." in self.rate + self.periods)  # fmt: skip


def totals(text: str) -> Iterator[Total]:
    """The totals of a text that are claimed of one rate and one time."""
    rates, times = list(_RATE.finditer(text)), list(_COUNT.finditer(text))
    if len(rates) > _MOST or len(times) > 2 * _MOST:
        return
    for period in sorted({found[3] for found in rates}):
        mine = [found for found in rates if found[3] == period]
        long = [found for found in times if found[2] == period]
        if len(mine) == len(long) == 1:
            yield from _totals(text, mine[0], long[0])


def _totals(text: str, rate: re.Match[str], time: re.Match[str]) -> Iterator[Total]:
    sentences = _Sentences(text)
    known = {rate.start(1), time.start(1)}
    claims = re.compile(rf"{_FIGURE} {re.escape(rate[2])}\b(?! (?:an?|per|each|every) )")
    found = list(claims.finditer(text))
    if len(found) > _MOST or any(one.start() < max(rate.end(), time.end()) for one in found):
        return  # a stock that the rate adds to, or the like
    value = value_printed(rate[1]) * value_printed(time[1])
    worker = _others_like(text[sentences.around(rate.start())[0] : rate.start()])
    in_words = list(_with_words(text, rate, time)) if found else []
    for one in found:
        whole = sentences.around(one.start())
        start, end = max(whole[0], _clause(text, *whole, one.start(), known)), whole[1]
        given = {sentences.around(at) for at in known if not start <= at < end}
        given = {(begin, min(stop, start) if begin < start else stop) for begin, stop in given}
        claim = _claim(text, start, end, one, given)
        first = min(at for at, _ in (*given, (start, end)))
        if claim is None or any(_unclear(text, *place, known) for place in given):
            continue
        times = value_printed(one[1]) / value if value else 0.0
        if claim.re is _CONCLUDES and times > 1:
            continue  # of what is needed one may well get more: whole packs, a reserve
        if worker.search(text) or excused(text, first, end, times):
            continue
        at = start + claim.start("claim")
        stop = start + claim.end("claim") - 1 + len(one.group())
        total = Total(rate[1], rate[3], time[1], one[1], value, at, stop)
        own = sum(map(_letters, (text[at:to] for at, to in {*given, (start, end)})))
        # by one period or less: any word elsewhere may stand for it
        near = abs(value_printed(one[1]) - value) <= value_printed(rate[1]) and _letters(text) > own
        # by parts of one: any word in between
        near |= _in_part(one[1], rate[1]) and _letters(text[first:end]) > own
        reached = [*in_words, *_with_others(text, {*known, one.start(1)}, value)]
        if total.holds or not (near or any(map(total.would_be, reached))):
            yield total


def _clause(text: str, start: int, end: int, at: int, known: set[int]) -> int:
    """Where the clause that claims begins, if its sentence says rate or time in another before."""
    cut = max(text.rfind(mark, start, at) for mark in (", ", ": "))
    return cut + 1 if any(start <= one < cut for one in known) else start


def _claim(
    text: str, start: int, end: int, one: re.Match[str], given: set[tuple[int, int]]
) -> re.Match[str] | None:
    """What claims a total of what is given, and nothing else, between these offsets."""
    said = f"{text[start : one.start()]}_{text[one.end() : end]}"
    found = _CLAIM.fullmatch(said) or _CONCLUDES.fullmatch(said)
    if found or not given:
        return found
    behind = text[max(stop for _, stop in given) : start]
    return None if any(map(str.isalnum, behind)) else _POINTS.fullmatch(said)


def _in_part(total: str, rate: str) -> bool:
    """Whether a total is no whole number of times the rate."""
    share = value_printed(rate)
    return not share or (value_printed(total) / share) % 1 != 0


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _with_words(text: str, rate: re.Match[str], time: re.Match[str]) -> Iterator[float]:
    """What a rate and a time come to with a part of the time that is named in words.

    `The first two days`, `three of them`, `every fifth minute`, `from the fourth day on`, Saturday
    and Sunday: so many more or fewer, half as much in these, or so great a part more or less.
    """
    once, periods = value_printed(rate[1]), value_printed(time[1])
    whole = once * periods
    parts = {"".join(found.groups("")).lower() for found in _part_of(rate[3]).finditer(text)}
    for k in {_PARTS[part] for part in parts}:
        yield from (once * (periods + sign * some) for some in (k, k - 1, k / 2)
                    for sign in (1, -1))  # fmt: skip
        yield from (whole * k, whole / k, whole - whole / k, whole + whole / k, once * (k - 0.5),
                    2 * whole - once * (k - 1))  # fmt: skip
    yield once * (periods - len(parts))
    if _TWICE.search(text):
        yield from (2 * whole, whole / 2)
    for clock in _CLOCK.finditer(text):
        yield whole - once * ((_HOURS[clock[2].lower()] - _HOURS[clock[1].lower()]) % 12)
    named = _NAMED.get(rate[3])
    if off := set(named.findall(text, min(rate.end(), time.end()))) if named else set():
        yield once * (periods - len(off))
        if any(day.endswith("ys") for day in off):  # on Mondays
            yield from (once * (periods - n * len(off)) for n in (periods // 7, periods // 7 + 1))


def _part_of(period: str) -> re.Pattern[str]:
    """A number in words that is one of periods, or of whatever was named last."""
    named, unit = "|".join(_PARTS), rf"(?:{_TIME}|{re.escape(period)}s?)"
    its = rf"(?:the|that|our|his|her|their|its) (?:\w+ )?(?:{unit}|time)"
    return re.compile(
        rf"\b(?<!is )(?<!are )(?<!was )({named})(?: (?:more|fewer|whole|full|last|first))? "
        rf"(?:{unit}|ones?|passes|rounds|turns|times|of (?:them|these|those|which|all|{its})|is|"
        r"are|was|were|go|goes|went|on|he|she|they)\b|"
        rf"\b(?:first|last|middle|other|next|every|each|one (?:{unit} )?in) ({named})\b|"
        rf"\b(?:for|on) ({named})(?=[.,;])|\bthe ({named}) (?:day )?and the \w+th\b",
        re.IGNORECASE,
    )


def _with_others(text: str, own: set[int], value: float) -> list[float]:
    """What a value comes to with a figure that stands elsewhere in the text, or times two of them.

    These are shifts, stocks, losses, margins; figures in words are shifts alone. With more of them
    hardly a total would be left that none of them leads to.
    """
    printed = {one.group().rstrip(".,") for one in _ANY.finditer(text)
               if one.start() not in own and not _numbers(text, one)}  # fmt: skip
    percents = {value_printed(one) for one in printed if one.endswith("%")}
    others = {value_printed(one) for one in printed
              if NUMBER.fullmatch(one) and not one.endswith("%")}  # fmt: skip
    words = {_WORDS[word.lower()] for word in _WORD.findall(text)}
    some = sorted(others)[:_OTHERS]
    return [
        *(value * one for one in words),
        *(value * (1 + sign * one / 100) for one in percents for sign in (1, -1)),
        *(value / one for one in some if one),
        *(with_it for one in some for with_it in (value * one, value + one, value - one)),
        *(value * one * other for one, other in combinations(some, 2)),
    ]


def _numbers(text: str, figure: re.Match[str]) -> bool:
    """Whether a figure is a name, the number of a point, or a part of a word, and no quantity."""
    before = text[max(0, figure.start() - _SEEN) : figure.start()]
    if figure.group().endswith("."):
        return not before.rpartition("\n")[2].strip()
    if text[figure.end() : figure.end() + 1].isalpha():
        return True
    return bool(before.strip()) and _NAME.search(before) is not None


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


def _others_like(subject: str) -> re.Pattern[str]:
    """Several of what works at the rate, by the words before it: `3 desks` of `The desk reads`."""
    words = {*re.findall(r"[a-z]{3,}", subject.lower()[-60:])} - _FILLER
    named = "|".join(sorted(words)) or "_"
    return re.compile(rf"\b(?:\d+|{_NUMBER}) (?:[a-z-]+ )?(?:{named})(?:e?s)\b", re.IGNORECASE)


def _unclear(text: str, start: int, end: int, known: set[int]) -> bool:
    """Whether a sentence has a figure more that is a quantity, or a word for one."""
    return _OTHERWISE.search(text, start, end) is not None or any(
        found.start() not in known and (found.group().endswith("%") or not _NAME.search(
            text[max(start, found.start() - _SEEN) : found.start()]))
        for found in _ANY.finditer(text, start, end)
    )  # fmt: skip
