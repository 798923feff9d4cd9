"""What a critique may cite of a text, the same wherever critiques are written or judged.

Apart from `figures` and `sums`, as it decides nothing about which sums are false: what is certified
under those rules (`recount.RULES`) is not stale when this changes.
"""

import math
import re
from functools import lru_cache

from minicrit.figures import NUMBER, figures, follow, value_printed
from minicrit.sums import stated_sums

#: Digits as they stand in a text, parts of dates, times and versions among them.
RUNS = re.compile(r"\d[\d,.:]*")
#: The number of a line of a list, or of a step: it may be cited, but nothing is computed with it.
LINE_MARK = re.compile(
    r"^[ \t]*(?:[-*] )?(?:step )?\(?\d{1,3}[.):](?=\s)", re.IGNORECASE | re.MULTILINE
)
_POINT = re.compile(r"(?<![\w.])\.\d+")
#: Figures that need no source: the whole, and what rates are given per.
CONSTANTS = frozenset({1.0, 100.0, 1000.0})
#: With more figures than these nothing is derived from them: nearly all would follow, and slowly.
MANY = 40


@lru_cache(maxsize=16)  # one text has many critiques, and up to 40,000 values
def sourced(text: str) -> frozenset[float]:
    """What a critique of a text may cite without a sum of its own.

    Stated, following in one step, the chance of n even chances in a row, constants.
    """
    stated, known = _stated(text), _stated(LINE_MARK.sub("", text))
    if len(known) > MANY:
        return frozenset({*stated, *CONSTANTS})
    rows = {100 * 0.5**n for n in known if n in range(1, 21)}
    odds = {round(chance, digits) for chance in rows for digits in (0, 1, 2)}
    return frozenset({*stated, *follow(known), *odds, *CONSTANTS})


def _stated(text: str) -> set[float]:
    runs = (match.group().rstrip(".,:") for match in RUNS.finditer(text))
    values = {value_printed(run) for run in runs if NUMBER.fullmatch(run)}
    points = map(float, _POINT.findall(text))
    return {v for v in (*figures(text), *values, *points) if math.isfinite(v)}


def unsourced(text: str) -> set[float]:
    """The figures of a text that no sum in it comes to: their source must lie elsewhere."""
    return figures(text) - {value_printed(one.said) for one in stated_sums(text) if one.holds}
