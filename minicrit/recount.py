"""What a program can count again in a rationale, and what follows from a sum that does not hold.

Language models count badly, and a program does not: a text that states `300 a minute for 6 minutes
makes 1,200` is flawed whatever a critic thinks of it. Sums in words (`sums`), equations in figures
(`equations`) and totals of a rate and a time that stand sentences apart (`rates`) are recomputed.
Where one fails, the calibrated p(flawed) is that of either reason, and the critique names the sum.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from minicrit.equations import Equation, equations
from minicrit.figures import agree, printed, value_printed
from minicrit.prompts import Critique
from minicrit.rates import Total, totals
from minicrit.statement import meant, places, stands
from minicrit.sums import Sum, behind, stated_sums
from minicrit.taxonomy import FLAW_TYPES

#: The flag of a verdict on a text that states a sum which does not hold.
FALSE_SUM = "false_sum"
#: The flaw that such a text has.
MISCOUNTED = "calculation_error"

#: Of all that decides which sums are false and what is said of them; an answer or a certificate
#: that was given under others may be stale.
RULES = hashlib.sha256(b"".join(
    Path(__file__).with_name(f"{name}.py").read_bytes()
    for name in ("equations", "excuses", "figures", "rates", "recount", "statement", "sums")
)).hexdigest()  # fmt: skip

Floats = npt.NDArray[np.float64]
_POINT = re.compile(r"(?<=\d)\.(?=\d{3}(?!\d))")
_COMMA = re.compile(r"(?<=\d),(?=\d)")
_PRINTED = re.compile(r"-?[\d.,]+")


@dataclass(frozen=True)
class FalseSum:
    """A sum of a text that does not hold.

    Attributes:
        start, end: where it stands.
        why: what it comes to.
        right, said: its result, as it would be printed and as it is.
    """

    start: int
    end: int
    why: str
    right: str
    said: str

    @property
    def fix(self) -> str:
        """What would mend it."""
        return f"Use {self.right}, and redo whatever was built on {self.said}."


@lru_cache(maxsize=1024)
def false_sum(text: str) -> FalseSum | None:
    """The first sum of a text that does not hold; None where all that can be recomputed do."""
    known = (found for found in _false_sums(text)
             if meant(text, found.start, found.end, found.right)
             and not places(text[found.start : found.end])
             and not _holds_elsewhere(text[found.start : found.end]))  # fmt: skip
    return min(known, key=lambda found: found.start, default=None)


def miscounts(text: str) -> bool:
    """Whether a text states a sum that does not hold."""
    return false_sum(text) is not None


def miscounted(texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """`miscounts` of each, (n,)."""
    return np.array([miscounts(text) for text in texts], dtype=bool)


def _false_sums(text: str) -> Iterator[FalseSum]:
    for one in stated_sums(text):
        end = behind(text, one.start + len(one.text))
        if not (_agrees(one) or not stands(text, one.start, end)):
            yield _of_sum(one)
    yield from (_of_equation(one) for one in equations(text) if not one.holds)
    yield from (_of_total(one) for one in totals(text) if not one.holds)


def _holds_elsewhere(text: str) -> bool:
    """Whether a sum holds if its points set off thousands, or its commas decimals."""
    for other in (_POINT.sub("", text), _COMMA.sub(".", text)):
        found = [*(_agrees(one) for one in stated_sums(other)),
                 *(one.holds for one in equations(other))]  # fmt: skip
        if other != text and found and all(found):
            return True
    return False


def _agrees(found: Sum) -> bool:
    """Whether a sum in words holds, if its terms or its result may be rounded."""
    terms = found.text.removesuffix(found.said)
    said = value_printed(found.said)
    return agree(found.value, said, decimals=found.decimals, rough="." in terms)


def _of_sum(found: Sum) -> FalseSum:
    begun = found.text.removesuffix(found.said)
    right = printed(found.value) + ("%" if found.said.endswith("%") else "")
    why = f"{begun}{right}, not {found.said}."
    return FalseSum(found.start, found.start + len(found.text), why, right, found.said)


def _of_equation(found: Equation) -> FalseSum:
    right, said = printed(float(found.value)), found.right
    why = f"{found.left} is {right}, not {said}."
    if not _PRINTED.fullmatch(said):
        said = printed(float(found.other))
        why = f"{found.left} is {right}, but {found.right} is {said}."
    return FalseSum(found.start, found.end, why, right, said)


def _of_total(found: Total) -> FalseSum:
    right = printed(found.value)
    article = "an" if found.period == "hour" or found.period[0].lower() in "aeio" else "a"
    why = (f"{found.rate} {article} {found.period} for {found.periods} {found.period}s makes "
           f"{right}, not {found.said}.")  # fmt: skip
    return FalseSum(found.start, found.end, why, right, found.said)


def recounted(text: str) -> Critique | None:
    """The critique of a text that states a sum which does not hold; None of any other."""
    found = false_sum(text)
    if found is None:
        return None
    return Critique("flawed", MISCOUNTED, FLAW_TYPES[MISCOUNTED].severity,
                    text[found.start : found.end], None, found.why, found.fix)  # fmt: skip


def either(log_odds: Floats, believed: float) -> Floats:
    """Log-odds (n,) that one of two independent reasons holds: 1 - (1 - p)(1 - believed).

    Args:
        log_odds: of p, what the critic thinks.
        believed: chance that a text with a false sum is flawed, in [0, 1).
    """
    log_neither = np.log1p(-believed) - np.logaddexp(0.0, log_odds)
    return np.asarray(np.log(-np.expm1(log_neither)) - log_neither)
