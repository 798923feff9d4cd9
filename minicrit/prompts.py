"""The words that the critic reads and writes: one renderer, one strict parser, a version each.

Whatever changes here changes what every adapter has learnt, so any edit bumps the version, and a
golden test pins the rendered text. The verdict stands first, in a fixed form, so that one forward
pass over `prompt + LEAD_IN` gives p(flawed) from the likelihood of the two verdict words.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES, SEVERITIES

PROMPT_VERSION = "plain-1"
CRITIQUE_VERSION = "verdict-first-1"
LEAD_IN = "Verdict:"
_ESCAPE = re.compile(r"\\([\\n])")
VERDICT_WORDS = {"valid": " valid", "flawed": " flawed"}


def _plain(domain: str, rationale: str) -> str:
    return f"### Domain: {domain}\n### Rationale:\n{rationale}\n\n### Critique:\n"


def _analyze(domain: str, rationale: str) -> str:
    return (
        f"Analyze the following {domain} rationale. Say whether its reasoning is valid or flawed, "
        f"and why.\n\n### Rationale:\n{rationale}\n\n### Critique:\n"
    )


def _expert(domain: str, rationale: str) -> str:
    return (
        f"You are an expert in {domain} and in critical thinking, reviewing a colleague's "
        f"reasoning before anybody acts on it.\n\n### Rationale:\n{rationale}\n\n### Critique:\n"
    )


def _cot(domain: str, rationale: str) -> str:
    return (
        f"### Domain: {domain}\n### Rationale:\n{rationale}\n\n### Instruction:\n"
        "Check step by step whether each conclusion follows from the evidence given, then state "
        "the verdict.\n\n### Critique:\n"
    )


#: Prompt styles by version. Only `plain-1` is trained on; the others serve experiments.
STYLES: dict[str, Callable[[str, str], str]] = {
    "plain-1": _plain,
    "analyze": _analyze,
    "expert": _expert,
    "cot": _cot,
}


def render_prompt(domain: str, rationale: str, style: str = PROMPT_VERSION) -> str:
    """The prompt up to and including the answer marker."""
    if style not in STYLES:
        raise ValueError(f"expected a prompt style of {sorted(STYLES)}, got {style!r}; pick one")
    return STYLES[style](domain, rationale)


@dataclass(frozen=True)
class Critique:
    """What the critic writes. Fields that the source does not give are None."""

    label: str
    flaw_type: str | None = None
    severity: str | None = None
    evidence: str | None = None
    strengths: str | None = None
    critique: str | None = None
    fix: str | None = None


#: Lines after the verdict: (heading, field, labels that may have it), in this order.
_LINES = (
    ("Flaw", "flaw_type", ("flawed",)),
    ("Severity", "severity", ("flawed",)),
    ("Evidence", "evidence", ("flawed",)),
    ("Strengths", "strengths", ("valid",)),
    ("Critique", "critique", ("valid", "flawed")),
    ("Fix", "fix", ("flawed",)),
)

#: All fields of a critique, in the order in which they are written.
FIELDS = ("label", *(field for _, field, _ in _LINES))


def critique_of(example: Example) -> Critique:
    """The reference critique of a labelled example."""
    return Critique(
        label=example.label,
        flaw_type=example.flaw_type,
        severity=example.severity,
        evidence=example.evidence,
        strengths=example.strengths,
        critique=example.critique,
        fix=example.fix,
    )


def render_critique(critique: Critique) -> str:
    """The text of a critique, without an end token. `parse_critique` reads it back."""
    lines = [LEAD_IN + VERDICT_WORDS[critique.label]]
    for heading, field, labels in _LINES:
        value = getattr(critique, field)
        if value is None or critique.label not in labels:
            continue
        text = f'"{escaped(value)}"' if field == "evidence" else " ".join(value.split())
        lines.append(f"{heading}: {text}")
    return "\n".join(lines)


def begun(critique: Critique, field: str) -> str:
    """The text of a critique up to where a field is written: its heading is the last word."""
    if field == "label":
        return LEAD_IN
    at = FIELDS.index(field) - 1
    later: dict[str, Any] = dict.fromkeys(FIELDS[at + 1 :])
    return f"{render_critique(replace(critique, **later))}\n{_LINES[at][0]}:"


class UnparsedError(ValueError):
    """The text is not a critique in the fixed form; the message says where it departs from it."""


def parse_critique(text: str) -> Critique:
    """Reads a critique back. Anything but the fixed form raises UnparsedError.

    No keyword is looked for: "no flaw found" is unparsed, neither valid nor flawed.
    """
    head, *rest = text.rstrip("\n").split("\n")
    label = {LEAD_IN + word: label for label, word in VERDICT_WORDS.items()}.get(head)
    if label is None:
        raise UnparsedError(f"line 1: expected 'Verdict: valid' or 'Verdict: flawed', got {head!r}")
    found: dict[str, str] = {}
    allowed = [(heading, field) for heading, field, labels in _LINES if label in labels]
    for number, line in enumerate(rest, 2):
        while allowed and not line.startswith(allowed[0][0] + ": "):
            allowed.pop(0)
        if not allowed:
            raise UnparsedError(f"line {number}: expected a field of a {label} critique in order, "
                                f"got {line!r}")  # fmt: skip
        heading, field = allowed.pop(0)
        found[field] = _checked(number, field, line[len(heading) + 2 :])
    return Critique(label=label, **found)


def attempt(text: str) -> tuple[Critique | None, str | None]:
    """What a text parses to, or why it does not."""
    try:
        return parse_critique(text), None
    except UnparsedError as error:
        return None, str(error)


def _checked(number: int, field: str, value: str) -> str:
    known = {"flaw_type": FLAW_TYPES, "severity": SEVERITIES}.get(field)
    if known is not None and value not in known:
        raise UnparsedError(f"line {number}: expected a known {field}, got {value!r}")
    if field != "evidence":
        return value
    if value in ("", '"') or value[0] != '"' or value[-1] != '"':
        raise UnparsedError(f"line {number}: expected evidence in quotes, got {value!r}")
    return _unescaped(value[1:-1])


def escaped(text: str) -> str:
    r"""Keeps a span on one line: line breaks become \n, backslashes are doubled."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else "\\", text)
