"""Checks composed examples by recomputing them: figures, spans, fields, wording, labels.

A generator that says what it broke can still be wrong about it. Nothing here trusts the composer:
figures in a critique must stand in the rationale or follow from figures there by arithmetic that
is done again, and `data_gen.recompute` decides calculable labels from the printed text alone.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator
from functools import cache

from data_gen.case import Derived
from data_gen.compose import Composed
from data_gen.recompute import recomputed_label
from minicrit.figures import figures, value_printed
from minicrit.prompts import critique_of, parse_critique, render_critique
from minicrit.records import Example

#: Operands that need not stand in the rationale: halves, shares, rates per hundred or thousand.
CONSTANTS = frozenset({0.5, 1.0, 100.0, 1000.0})
_PER = re.compile(r"\b[Pp]er 1,000\b")
_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Pow: operator.pow,
}  # fmt: skip
_ABBREVIATION = r"(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)(?<!No\.)(?<!ca\.)(?<!approx\.)(?<!\b[A-Z]\.)"
_BAD_TEXT = (
    (re.compile(r"[{}]"), "an unfilled placeholder"),
    (re.compile(r"  "), "two blanks"),
    (re.compile(r"\.\."), "two full stops"),
    (re.compile(r"\s[,;:.]"), "a blank before punctuation"),
    (re.compile(r"[,;:][,;:.]"), "doubled punctuation"),
    (re.compile(rf"[.!?]{_ABBREVIATION} (?=[a-z])"), "a sentence that starts small"),
    (re.compile(r"\b(?!had\b|that\b|in\b)([A-Za-z]+) \1\b"), "a doubled word"),
    (re.compile(r"\ba (?=[aeio]\w|hour|hono|heir)(?!one\b|once\b|eu|ou?ij)"), "a before a vowel"),
    (re.compile(r"\b[Aa]n (?=[b-dgj-nqtv-z]\w|[b-df-gj-np-tv-z][a-z]{2})(?!hour|hono|heir)"),
     "an before a consonant"),
)  # fmt: skip


def faults(composed: Composed) -> list[str]:
    """What is wrong with a composed example; empty if nothing is."""
    example = composed.example
    found = [*_field_faults(example), *_derived_faults(composed.derived)]
    found += _figure_faults(example, composed.derived)
    found += _text_faults(example)
    found += _form_faults(example)
    label = recomputed_label(example)
    if label not in (None, example.label):
        found.append(f"label: expected {label} by the figures, got {example.label}")
    return [f"{example.id}: {fault}" for fault in found]


def value_of(formula: str) -> float:
    """The value of plain arithmetic: numbers, + - * / **, brackets, abs.

    Raises:
        ValueError: for anything else, as nothing else is ever evaluated.
    """
    try:
        return _value(_parsed(formula))
    except (SyntaxError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"expected plain arithmetic, got {formula!r}; {error}") from error


def recomputes(derived: Derived) -> bool:
    """Whether the formula gives what is shown, to the decimals shown."""
    decimals = len(derived.text.rstrip("%").partition(".")[2])
    slack = 0.5 * 10.0**-decimals + 1e-9
    return abs(value_of(derived.formula) - value_printed(derived.text)) <= slack


@cache
def _parsed(formula: str) -> ast.expr:
    return ast.parse(formula, mode="eval").body


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.Call(func=ast.Name(id="abs"), args=[operand], keywords=[]):
            return abs(_value(operand))
    raise ValueError(f"expected numbers, + - * / ** and abs, got {ast.dump(node)[:60]}; simplify")


def _operands(formula: str) -> set[float]:
    constants = (n.value for n in ast.walk(_parsed(formula)) if isinstance(n, ast.Constant))
    return {float(value) for value in constants if isinstance(value, int | float)}


def _field_faults(example: Example) -> Iterator[str]:
    flawed = ("flaw_type", "severity", "evidence", "fix")
    wanted = ("critique", *flawed) if example.label == "flawed" else ("critique", "strengths")
    unwanted = ("strengths",) if example.label == "flawed" else flawed
    yield from (f"{name}: expected text, got none" for name in wanted if not getattr(example, name))
    for name in unwanted:
        if getattr(example, name) is not None:
            yield f"{name}: expected nothing on a {example.label} row"
    if example.evidence is not None and example.evidence not in example.rationale:
        yield f"evidence: expected a verbatim span, got {example.evidence!r}"


def _derived_faults(derived: tuple[Derived, ...]) -> Iterator[str]:
    for item in derived:
        if not recomputes(item):
            yield f"derived: {item.formula} is {value_of(item.formula)}, not {item.text}"


def _figure_faults(example: Example, derived: tuple[Derived, ...]) -> Iterator[str]:
    """Figures of the critique that neither stand in the rationale nor follow from it."""
    given = figures(example.rationale)
    follows = {
        value_printed(item.text) for item in derived if _operands(item.formula) <= given | CONSTANTS
    }
    for name in ("critique", "fix", "strengths"):
        text = _PER.sub("", getattr(example, name) or "")
        for figure in sorted(figures(text) - given - follows):
            yield f"{name}: {figure:g} neither stands in the rationale nor follows from it"


def _text_faults(example: Example) -> Iterator[str]:
    for name in ("rationale", "critique", "fix", "strengths"):
        text = getattr(example, name) or ""
        for pattern, what in _BAD_TEXT:
            if match := pattern.search(text):
                around = text[max(0, match.start() - 20) : match.end() + 20]
                yield f"{name}: {what} in {around!r}"
    for name in ("critique", "fix"):
        text = getattr(example, name)
        if text is not None and not (text.endswith(".") and text[:1].upper() == text[:1]):
            yield f"{name}: expected a full sentence, got {text!r}"


def _form_faults(example: Example) -> Iterator[str]:
    """The rendered critique must read back as what went in, blanks aside."""
    before = critique_of(example)
    after = parse_critique(render_critique(before))
    for name in ("label", "flaw_type", "severity", "evidence", "strengths", "critique", "fix"):
        was, now = getattr(before, name), getattr(after, name)
        if " ".join((was or "").split()) != " ".join((now or "").split()):
            yield f"{name}: reads back as {now!r}"
