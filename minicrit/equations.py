"""Equations that a text states in figures, such as `(8 - 5) * 4 = 3 * 4 = 15`, and recomputes.

Only what is plain arithmetic on both sides is looked at: a letter, a power, a unit within, a
percent sign or a second division without brackets, and nothing is said about the equation.
"""

import ast
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from minicrit.figures import agree
from minicrit.statement import stands

#: A side is shorter than this, so that no text makes the reading of it slow.
_LONGEST = 160
_SIDE = r"[\d.,+\-*/\u00d7\u00f7\u2212\u22c5\u00b7()\[\]$x \t]"
_BEFORE = re.compile(rf"{_SIDE}{{1,{_LONGEST}}}\Z")
_AFTER = re.compile(rf"{_SIDE}{{1,{_LONGEST}}}")
_SIGNS = str.maketrans({"\u00d7": "*", "\u22c5": "*", "\u00b7": "*", "\u00f7": "/",
                        "\u2212": "-", "[": "(", "]": ")", "$": None})  # fmt: skip
_TIMES = re.compile(r"(?<=[\d)])(\s*)x(?=\s*[\d(])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_PLAIN = re.compile(r"-?\d+(?:\.(\d+))?")
_NOT_SAID = re.compile(r"[^\d.+\-*/() \t]|\d[ \t]+\d|\)[ \t]*[\d(]|\d[ \t]*\(|\*\*|//|\.\.")
_ACTS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
         ast.Div: operator.truediv}  # fmt: skip
_ACT = re.compile(r"[\d)] *[-+*/] *[(-]*\d")
#: A range, a score or a date, no difference and no quotient: `5-10 = 6 pages`.
_RANGE = re.compile(r"\$?\d+(?:[-/]\$?\d+)+ +")
#: A day and another one, so many days apart: `4/1 + 14 = 4/15`.
_DAYS = re.compile(r"\d{1,2}/\d{1,2} *[-+][^=]*= *\d{1,2}/\d{1,2}\b")
_HEX = re.compile(r"(?<![\d.])0x")
#: A side that begins with a sign, and with what a text may end before that.
_SIGNED = re.compile(r"[-+*/x\u00d7\u00f7\u2212\u22c5\u00b7]([ \t]?)")
_BEFORE_SIGN = (":", ";", "=", "(", "$", ",")
_INNER = r"[-\d.+*/() ]{1,40}"
_FRACTION = re.compile(rf"\\[dt]?frac\{{({_INNER})\}}\{{({_INNER})\}}")
#: How LaTeX writes what is written otherwise in plain text.
_WRITTEN = (
    (re.compile(r"\\(?:times|cdot)\b"), "*"),
    (re.compile(r"\\div\b"), "/"),
    (re.compile(r"\\(?:left|right|[,;!])"), " "),
    (re.compile(r"\\[$()\[\]]"), "$"),
)


@dataclass(frozen=True)
class Equation:
    """Two sides as printed, what the left one comes to, and where both stand.

    Attributes:
        left, right: as printed, the signs of LaTeX as plain ones.
        value, other: of the two.
        start, end: offsets of both with the sign between them.
        holds: whether the right side is the left one, to the decimals printed.
    """

    left: str
    right: str
    value: Fraction
    other: Fraction
    start: int
    end: int
    holds: bool


def equations(text: str) -> Iterator[Equation]:
    """Those that can be recomputed, in order; of a chain each link."""
    text = _plainly(text)
    at = text.find("=")
    while at >= 0:
        if found := _equation(text, at):
            yield found
        at = text.find("=", at + 1)


def _plainly(text: str) -> str:
    """The text with the signs of LaTeX as plain ones, each as long as before."""
    if "\\" not in text:
        return text
    for pattern, sign in _WRITTEN:
        text = pattern.sub(partial(_as_long, sign), text)
    for _ in range(2):  # fractions of fractions
        text = _FRACTION.sub(_quotient, text)
    return text


def _as_long(sign: str, found: re.Match[str]) -> str:
    return sign.rjust(len(found.group()))


def _quotient(found: re.Match[str]) -> str:
    inner = f"({found[1]})/({found[2]})"
    return f"({inner.rjust(len(found.group()) - 2)})"


def _equation(text: str, at: int) -> Equation | None:
    before = _BEFORE.search(text, max(0, at - _LONGEST), at)
    after = _AFTER.match(text, at + 1)
    if not before or not after or len(before.group()) == _LONGEST:
        return None
    start = at - len(before.group().lstrip(" \t.,$"))
    end = at + 1 + len(after.group().rstrip(" \t.,$("))
    signed = _SIGNED.match(text, start)
    ahead = text[max(0, start - _LONGEST) : start].rstrip(" \t")
    if signed and (signed[1] or not ahead.endswith(_BEFORE_SIGN)):
        return None  # a point of a list, or a part of a longer side
    counts = not (_RANGE.fullmatch(text[start:at]) or _DAYS.match(text, start, end))
    if not counts or not stands(text, start, end):
        return None
    left, right = (" ".join(side.strip(" \t$").split()).replace("( ", "(")
                   for side in (text[start:at], text[at + 1 : end]))  # fmt: skip
    value, other = _value(left), _value(right)
    if value is None or other is None or not _ACT.search(left.translate(_SIGNS).replace("x", "*")):
        return None
    close = _close(left, right, value, other)
    if close is None:
        return None
    return Equation(left, right, value, other, start, end, close)


def _value(side: str) -> Fraction | None:
    """Of plain arithmetic; None of anything else."""
    plain = _TIMES.sub(r"\1*", _THOUSANDS.sub("", side).translate(_SIGNS)).strip()
    if _HEX.search(side) or _NOT_SAID.search(plain) or (plain.count("/") > 1 and "(" not in plain):
        return None
    try:
        return _worth(ast.parse(plain, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, MemoryError, RecursionError):
        return None


def _worth(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_worth(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _ACTS:
        return Fraction(_ACTS[type(node.op)](_worth(node.left), _worth(node.right)))
    raise ValueError(f"expected plain arithmetic, got {ast.dump(node)}")


def _close(left: str, right: str, value: Fraction, other: Fraction) -> bool | None:
    """Whether the sides agree as far as they are printed; None where that cannot be told."""
    plain = _PLAIN.fullmatch(_THOUSANDS.sub("", right).translate(_SIGNS).strip(" ()"))
    if plain is None:
        first = _PLAIN.match(_THOUSANDS.sub("", right).translate(_SIGNS))
        # `16 + 5 = 21 / 3 = 7` goes on with what it has come to.
        if first and Fraction(first.group()) == value:
            return None
        return None if "." in left + right else value == other
    if right.startswith("(") and value == -other:
        return None  # as books print what is owed
    return agree(float(value), float(other), decimals=len(plain[1] or ""), rough="." in left)
