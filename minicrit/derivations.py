"""What a critique works out of its rationale in so many words, and what that comes to.

`With one true case in 2,000, 98% of them caught and 3% of the rest flagged too, 2% of the alarms
are real`: language models begin such a sentence well and end it with any figure at hand. Sums that
state all their terms and take one step are `sums`; here more than one step leads to the figure, or
the terms stand in the rationale alone, as of a rate per 1,000. What a figure has to be is worked
out from what stands before it and what the rationale gives (`givens`), whether the critique is
being written (`grounding`) or judged. Where that is not clear, nothing is asked of the figure.

Apart from `recount`, as no verdict depends on it.
"""

import math
import re
from collections.abc import Callable, Iterator

from minicrit.figures import NUMBER, figures, rounded, value_printed
from minicrit.givens import STOP, N, Rates, cases, hits
from minicrit.sources import LINE_MARK
from minicrit.sums import behind, stated_sums

_MONEY = "[$\u20ac\u00a3]?"
#: After a figure: so many of others, as in `only 6 of 100 alarms`.
_OF = re.compile(r" (?:in|(?:out )?of) (?:every )?\d")
#: So much is read of a critique before a figure.
_LONGEST = 240
#: What is worked out is written no more roughly than this, as a share of it.
_ROUGH = 0.06

# How critiques lead up to a figure. Of alarms, on which there is a true case among so many:
_CASE = r"\b[Ww]ith one true case in "
_CAUGHT = rf"{_CASE}{N}, "
_FLAGGED = rf"{_CAUGHT}{N}% of them caught and "
_SHARE = rf"{_FLAGGED}{N}% of the rest flagged too, (?:only )?"
_AT = r"\bAt one in "
_REAL = rf"{_AT}{N}, (?:only )?"
# Of what is still to be paid and what it brings:
_SPENT = rf"\bWhat is spent, {_MONEY}"
_REST = rf"\bFrom here on {_MONEY}"
_BUYS = rf"{_REST}{N}(?P<unit>[^\d.,;]{{0,30}}?) buys (?:only )?{_MONEY}"
_TURN = rf"{_BUYS}{N}(?P=unit), a (?P<turn>gain|loss)"
_BALANCE = rf"{_TURN} of {_MONEY}"
# Of two rates:
_PER = rf"\bPer {N} "
_RATE = rf"{_PER}(?P<name>[^.;:\d]{{1,80}}?) had "
_NOT_OF = r"(?<! in)(?<! of)(?<! on)(?<! after)(?<! among)(?<! from)(?<! over)(?<! per)(?<! with)"
_OTHER_RATE = rf"{_RATE}{N}[^.;\d]{{0,60}}? and [^.,;\d]{{1,60}}?{_NOT_OF} "
_EITHER = rf"{_PER}(?:(?P<name>[^.;:\d]{{1,40}}?) )?it is "
_AGAINST = rf"{_EITHER}{N} against "

#: With one of these all of them begin; most texts have none, and each figure is asked about.
_BEGUN = re.compile(r"\b(?:[Ww]ith one true case|At one in|What is spent,|From here on|Per) ")

#: What a figure may be: a few values, or None where there is no telling.
Values = tuple[float, ...] | None


class Derivations:
    """What critiques of one rationale may say that they have worked out."""

    def __init__(self, rationale: str) -> None:
        self.stated = tuple(figures(LINE_MARK.sub("", rationale)))
        self.cases = cases(rationale)
        self.hits = hits(rationale)
        self.rates = Rates.of(rationale)

    def called_for(self, text: str) -> frozenset[float] | None:
        """What a figure that follows has to be.

        Args:
            text: what stands before it.

        Returns:
            The values, or None if the text leads up to no figure that is known.
        """
        _, values = self._values(text)
        return None if values is None else frozenset(one for v in values for one in _written(v))

    def untrue(self, text: str) -> list[str]:
        """What a critique says that it has worked out, and that comes to something else."""
        led = [_upto(text, one) for one, right, meant in self._led_up_to(text)
               if meant and not right]  # fmt: skip
        return led + [found.group() for found in _TURNS.finditer(text) if _is_wrong(found)]

    def right(self, text: str) -> set[float]:
        """The figures of a critique that it has worked out rightly."""
        return {value_printed(one.group()) for one, right, _ in self._led_up_to(text) if right}

    def amiss(self, text: str) -> int:
        """How many figures of a critique are not what it leads up to, though they may be others.

        For who writes: `At one in 3, 9 are some` is not untrue, and no way round 90% either.
        """
        return sum(not right for _, right, _ in self._led_up_to(text))

    def _led_up_to(self, text: str) -> Iterator[tuple[re.Match[str], bool, bool]]:
        """The figures that a text leads up to.

        Whether they are what they have to be, and whether they are meant to be.

        What is only cited is not among them: several items may be added, and 600,000 said as 600k.
        """
        for figure in NUMBER.finditer(text):
            percent, values = self._values(text[: figure.start()])
            if values is None or values is self.stated:
                continue
            is_one = "%" in figure.group() or behind(text, figure.end()) > figure.end()
            holds = bool(_among(figure.group(), values))
            # `At one in 500, 1,000 cups` and `a loss of 31%` say something else.
            meant = percent == is_one or (holds and not _OF.match(text, figure.end()))
            yield figure, holds and percent == is_one, meant

    def _values(self, text: str) -> tuple[bool, Values]:
        """Whether the figure that a text leads up to is in percent, and what it may be."""
        before = text[-_LONGEST:]
        if not _BEGUN.search(before):
            return False, None
        for leads, percent, values in _LEADS:
            if found := leads.search(before):
                return percent, values(self, found)
        return False, None


def wrong_turn(text: str) -> bool:
    """Whether a text ends in a gain that is a loss by its own figures, or in a loss, a gain."""
    found = _TURNED.search(text[-_LONGEST:]) if text.endswith(("gain", "loss")) else None
    return found is not None and _is_wrong(found)


def untrue(rationale: str, text: str) -> list[str]:
    """All that a critique says it has counted or worked out, and that comes to something else."""
    false = [one.text for one in stated_sums(text) if not one.holds]
    return false + Derivations(rationale).untrue(text)


def _written(value: float) -> Iterator[float]:
    """As what a value may be written: rounded by little of it, or as it is if that is short.

    What two decimals are too few for is written with two digits that are no leading noughts.
    """
    if not math.isfinite(value):
        return
    near = [one for one in rounded(value) if abs(one - value) <= _ROUGH * value]
    yield from near or [float(f"{value:.2g}")]
    if value == round(value, 4):
        yield value


def _among(said: str, values: tuple[float, ...]) -> list[int]:
    """Which of the values a figure is, to the decimals printed."""
    half = 0.5001 * 10 ** -len(said.rstrip("%").partition(".")[2])
    return [at for at, one in enumerate(values) if abs(one - value_printed(said)) <= half]


def _upto(text: str, figure: re.Match[str]) -> str:
    """The sentence of a figure up to it."""
    start = max((stop.end() for stop in STOP.finditer(text, 0, figure.start())), default=0)
    return text[start : figure.end()].strip()


_TURNS, _TURNED = re.compile(_TURN), re.compile(rf"{_TURN}\Z")


def _is_wrong(found: re.Match[str]) -> bool:
    gain = value_printed(found[3]) - value_printed(found[1])
    return gain < 0 if found["turn"] == "gain" else gain > 0


def _share(n: float, caught: float, flagged: float) -> Values:
    """Of alarms those that are real, in percent, at one true case in n (Bayes)."""
    alarms = caught + flagged * (n - 1)
    return (100 * caught / alarms,) if alarms > 0 else None


def _real(about: Derivations, found: re.Match[str]) -> Values:
    return _share(value_printed(found[1]), *about.hits) if about.hits else None


def _fitting(about: Derivations, found: re.Match[str]) -> Rates | None:
    unit = (found["name"] or "").partition(" ")[0]
    return about.rates if about.rates and about.rates.fit(unit) else None


def _rate(about: Derivations, found: re.Match[str]) -> Values:
    rates = _fitting(about, found)
    if rates is None:
        return None
    per = value_printed(found[1])
    return tuple(per * one for one in rates.named(found["name"]))


def _either(about: Derivations, found: re.Match[str]) -> Values:
    rates = _fitting(about, found)
    if rates is None:
        return None
    return tuple(value_printed(found[1]) * one for one in rates.values)


def _other(about: Derivations, found: re.Match[str]) -> Values:
    """The rate that was not said first."""
    both = _either(about, found)
    if both is None:
        return None
    said = _among(found[found.re.groups], both)
    return tuple(both[1 - at] for at in said) or both


_Act = Callable[[Derivations, re.Match[str]], Values]
#: What leads up to a figure, whether that is in percent, and what it may be.
_LEADS: tuple[tuple[re.Pattern[str], bool, _Act], ...] = tuple(
    (re.compile(rf"{leads}\Z"), leads in (_SHARE, _FLAGGED, _CAUGHT, _REAL), values)
    for leads, values in (
        (_SHARE, lambda _, found: _share(*map(value_printed, found.groups()))),
        (_FLAGGED, lambda about, _: about.hits and about.hits[1:]),
        (_CAUGHT, lambda about, _: about.hits and about.hits[:1]),
        (_REAL, _real),
        (_CASE, lambda about, _: about.cases or None),
        (_AT, lambda about, _: about.cases or None),
        (_BALANCE, lambda _, found: (abs(value_printed(found[3]) - value_printed(found[1])),)),
        (_BUYS, lambda about, _: about.stated or None),
        (_REST, lambda about, _: about.stated or None),
        (_SPENT, lambda about, _: about.stated or None),
        (_AGAINST, _other),
        (_OTHER_RATE, _other),
        (_EITHER, _either),
        (_RATE, _rate),
    )
)
