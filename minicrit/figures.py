"""Figures in texts: which are printed, and which follow from those in one step of arithmetic."""

import math
import re
from collections.abc import Iterable, Iterator

_DECIMALS = 8  # of what is nearly nothing
#: A figure as it is printed: 1,200 or 4.5 or 90%.
#: No part of 12:30; nothing of it is given back for what follows, or 7,200: would be 7.
NUMBER = re.compile(r"(?<![\w.,:])\d++(?:,\d{3})*+(?:\.\d+)?+%?+(?!\d|:\d)")


def figures(text: str) -> set[float]:
    """All figures printed in a text, without their percent signs."""
    return {value_printed(match.group()) for match in NUMBER.finditer(text)}


def value_printed(text: str) -> float:
    """The value of a figure as `NUMBER` matches it."""
    return float(text.rstrip("%").replace(",", ""))


def follow(stated: Iterable[float]) -> Iterator[float]:
    """What one step gives from two figures, to no, one and two decimals.

    Sum, difference, product, ratio, a share or a change in percent, a rate per 1,000, and what is
    left of a hundred.
    """
    known = list(stated)
    for one in known:
        yield from rounded(100 - one)
        for other in known:
            yield from rounded(one + other)
            yield from rounded(one - other)
            yield from rounded(one * other)
            if other:
                for scale in (1, 100, 1000):
                    yield from rounded(scale * one / other)
                yield from rounded(100 * (one - other) / other)


def rounded(value: float) -> Iterator[float]:
    """The size of a value to no, one and two decimals."""
    if math.isfinite(value):
        yield from (abs(round(value, digits)) for digits in (0, 1, 2))


def printed(value: float) -> str:
    """A value to two decimals, or four digits below one, with commas: 1,200 or 4.5 or 0.0129."""
    decimals = 2
    if 0 < abs(value) < 1:
        decimals = min(3 + math.ceil(-math.log10(abs(value))), _DECIMALS)
    text = f"{value:,.{decimals}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def agree(value: float, said: float, *, decimals: int, rough: bool = False) -> bool:
    """Whether a result is that of a sum as far as it is printed, rounded or cut off.

    Args:
        value: what the sum comes to.
        said: the result.
        decimals: printed of it.
        rough: whether the terms may have been rounded, so that a fiftieth more or less will do.
    """
    limit = 1e-6 if value == round(value) else 0.9999 * 10**-decimals
    return abs(value - said) <= max(limit, 0.02 * abs(value) if rough else 0.0)
