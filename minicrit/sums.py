"""Sums that a text states in words, such as `80 times 5 is 400` or `24 of 40, which is 60%`.

Language models state sums and get them wrong; a program need not. So what a critique may print as
the result of a sum that it has begun is computed (`grounding`), and what others wrote is checked
(`recount`).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from minicrit.figures import NUMBER, rounded, value_printed

#: What makes a sum of two figures; None where there is no telling.
Act = Callable[[str, str], float | None]

_MONEY = "$\u20ac\u00a3"
_N = rf"[{_MONEY}]?" r"(\d+(?:,\d{3})*(?:\.\d+)?%?)"
#: The first figure of a sum belongs to no longer one: `2 * 3 + 4 = 10` is not `3 + 4 = 10`.
_FIRST = rf"(?<![\w.,:+*/\u00d7=^({_MONEY}-])(?<![+*/\u00d7=^x-] ){_N}"
#: No unit: what makes another figure of the one before it, or another sum.
_NO_UNIT = (r"(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore|mn|bn|per|percent|pct|"
            r"times|plus|minus|less|squared|cubed|to)\b")  # fmt: skip
_UNITS = rf"(?: (?!{_NO_UNIT})[a-z][\w-]*){{0,2}}"
_IS = r"(?:is|are|makes?|gives?|equals|=|comes? to|adds? up to|amounts? to|totals)"
_PRICE = rf"(?=[{_MONEY}]|\S+ (?:dollars|euros|pounds|francs)\b){_N}(?: [a-z]+)?"
#: Not `10 shares at $5 each make $20`, which they yield.
_COST = r"(?:is|are|equals|comes? to|adds? up to|amounts? to|totals)"
_SHARE = "(?:is|are|makes?|equals|=)"
#: With what a sum ends that waits for its result.
_ENDS = ("is ", "are ", "make ", "makes ", "give ", "gives ", "equals ", "= ", "come to ",
         "comes to ", "comes up in ", "up to ", "amount to ", "amounts to ", "totals ")  # fmt: skip
_PERCENT = re.compile(r"%| ?per ?cent")
#: After a figure: it is no result, as in `5 + 5 = 2 + 8`, `105 - 89 = 8u`, `6 * 6 = 6 (mod 10)`.
_MORE = re.compile(r"[A-Za-z_]|\s*(?:[-+*/\u00d7^\\(=]|x\b)")
#: Before a sum: it is a part of one, as in `2 \cdot 3 + 1 = 7`, `2 plus 3 plus 1`.
_PART = re.compile(r"(?:\\[a-z]+|\b(?:plus|minus|times|(?:multiplied|divided) by)|\d%? of) \Z")
#: So it is behind a figure, as in `8 and 5 times 3`, but for what another sum came to.
_LISTED = re.compile(rf"(\b{_IS} )?(?<![\w.,]){_N},? and \Z")
#: A begun sum is shorter than this.
_LONGEST = 160


def _plainly(act: Callable[[float, float], float]) -> Act:
    """Of two figures without percent signs; of others nothing is known."""

    def result(one: str, other: str) -> float | None:
        if "%" in one + other:
            return None
        try:
            return act(value_printed(one), value_printed(other))
        except ZeroDivisionError:
            return None

    return result


def _share(part: str, whole: str) -> float | None:
    """Of `24 of 40` the percentage, of `60% of 40` the number."""
    if whole.endswith("%"):
        return None
    one, other = value_printed(part), value_printed(whole)
    if part.endswith("%"):
        return one * other / 100
    return 100 * one / other if other else None


def _row(hits: str, tries: str) -> float | None:
    """Of `3 of 3` how often such a run comes up at an even chance, in percent."""
    row = value_printed(hits)
    return 100 * 0.5**row if hits == tries and "%" not in hits and row < _LONGEST else None


_times = _plainly(lambda one, other: one * other)
_hundredths = _plainly(lambda one, other: one * other / 100)
#: How sums are begun, up to their result.
_BEGUN: tuple[tuple[re.Pattern[str], Act], ...] = tuple(
    (re.compile(rf"{_FIRST}{words} \Z"), act)
    for words, act in (
        (rf" (?:times|x|\u00d7|\*|multiplied by) {_N}{_UNITS},? {_IS}", _times),
        (
            rf"{_UNITS} (?:an?|per|each|every) (?P<unit>[a-z]+?)(?:e?s)? (?:for|over) {_N} "
            rf"(?P=unit)(?:e?s)?,? {_IS}",
            _times,
        ),
        # of cents the result is often in dollars
        (
            rf"(?: (?!{_NO_UNIT}|cents|pence)[a-z]+){{1,2}} (?:times|x|\u00d7|\*) {_N}{_UNITS},? "
            rf"{_IS}",
            _times,
        ),
        (rf" (?P<unit>[a-z]+?)s? at {_PRICE} (?:an?|per) (?P=unit),? {_COST}", _times),
        (rf" [a-z]+ at {_PRICE} each,? {_COST}", _times),
        (
            rf" per ?cent of {_N}(?:{_UNITS},? which {_SHARE}| {_SHARE}|{_UNITS} (?:is|equals))",
            _hundredths,
        ),
        (rf" (?:plus|\+) {_N}{_UNITS},? {_IS}", _plainly(lambda one, other: one + other)),
        (rf" (?:minus|-) {_N}{_UNITS},? {_IS}", _plainly(lambda one, other: one - other)),
        (rf" (?:divided by|/) {_N}{_UNITS},? {_IS}", _plainly(lambda one, other: one / other)),
        # not `3 of 10 clients make 60%`, of something else, nor `30% of 50 pupils are 10`, years
        (
            rf" (?:out )?of {_N}(?:{_UNITS},? which {_SHARE}| {_SHARE}|{_UNITS} (?:is|equals))",
            _share,
        ),
        (rf" of {_N}(?=[ ,:;])[^.]{{0,90}}even chance such a run comes up in", _row),
    )
)


@dataclass(frozen=True)
class Sum:
    """A sum as stated, where it stands, its result as printed, and the value of it."""

    text: str
    start: int
    said: str
    value: float

    @property
    def holds(self) -> bool:
        """Whether the result is right to the decimals printed."""
        return bool(abs(self.value - value_printed(self.said)) <= 0.5001 * 10**-self.decimals)

    @property
    def decimals(self) -> int:
        """So many are printed of the result."""
        return len(self.said.rstrip("%").partition(".")[2])


@dataclass(frozen=True)
class _Begun:
    """What a text ends in that waits for its result; `share`: in percent."""

    text: str
    value: float
    share: bool


def _is_part(before: str) -> bool:
    """Whether a sum that begins here is a part of a longer one."""
    listed = _LISTED.search(before)
    return bool(_PART.search(before)) or bool(listed and not listed[1])


def _begun(before: str) -> _Begun | None:
    bare = before.rstrip(_MONEY)
    if not bare.endswith(_ENDS):
        return None
    for words, act in _BEGUN:
        if (found := words.search(bare)) and not _is_part(bare[: found.start()]):
            if bare != before and not any(sign in found.group() for sign in _MONEY):
                return None  # money of cents or hours
            value = act(found[1], found[found.re.groups])
            # Nobody prints what is less than nothing without a word more.
            if value is None or value < 0:
                return None
            share = act is _row or (act is _share and not found[1].endswith("%"))
            return _Begun(found.group(), value, share)
    return None


def called_for(text: str) -> frozenset[float] | None:
    """What a figure that follows has to be, rounded to no, one or two decimals.

    Args:
        text: what stands before it.

    Returns:
        The values, or None if the text ends in no sum.
    """
    begun = _begun(text[-_LONGEST:])
    return None if begun is None else frozenset(rounded(begun.value))


def behind(text: str, end: int) -> int:
    """The offset behind a result that ends there, with the `percent` that belongs to it."""
    percent = _PERCENT.match(text, end)
    return percent.end() if percent else end


def stated_sums(text: str) -> Iterator[Sum]:
    """The sums of a text whose results are printed, in order."""
    for figure in NUMBER.finditer(text):
        start = figure.start()
        begun = _begun(text[max(0, start - _LONGEST) : start])
        if begun is None or _MORE.match(text, figure.end()):
            continue
        priced = start > 0 and text[start - 1] in _MONEY
        percent = figure.group().endswith("%") or bool(_PERCENT.match(text, figure.end()))
        # `3 of 40 is 37 too few` states no share, nor `8 times 5 is 40%` a product.
        if percent == begun.share:
            at = start - len(begun.text) - priced
            yield Sum(text[at : figure.end()], at, figure.group(), begun.value)
