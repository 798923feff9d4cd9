"""The constitution: ten rules that a critique must obey, and how code sees to those it can.

`constitution-<version>.yaml` holds the rules. What code checks needs no model, so a draft can be
told which rule it breaks and in which field; what is left to a judge is asked of one.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from data_gen.oracle import QUOTED, stray
from minicrit.derivations import untrue
from minicrit.prompts import FIELDS, Critique
from minicrit.records import Example
from minicrit.strictyaml import read_settings
from minicrit.written import is_verbatim

VERSION = "1"
PATH = Path(__file__).parent / f"constitution-{VERSION}.yaml"
#: Who can see to a rule.
LABEL, CODE, JUDGE = "label", "code", "judge"
#: The rule that the label alone decides.
VERDICT = "verdict"
#: Fewest words that explain anything, and most words of prose of a whole critique.
FEWEST, MOST = 4, 100
_PROSE = ("strengths", "critique", "fix")
#: Kinds of texts whose caution, or whose assurance, tempts to the wrong verdict.
CAUTIOUS = ("uncertain_correct", "mixed_signals", "suspicious_valid")
ASSURED = ("overconfident_wrong", "subtle_flaw")
#: With the word after it, as `my card` may be the rationale's own; `mine` is also dug.
_FIRST_PERSON = re.compile(r"\b(?:I|me|my|myself)\b(?: \w+)?")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Rule:
    """One rule. `by` says who can see to it: label, code, judge."""

    id: str
    text: str
    by: tuple[str, ...]


@dataclass(frozen=True)
class Review:
    """Which rules a critique keeps, and where it breaks others; what does not apply is in neither.

    Attributes:
        kept: ids of the rules that apply and are not seen to be broken.
        broken: by id of the rule, the first field of the critique that breaks it.
    """

    kept: frozenset[str]
    broken: dict[str, str]

    @property
    def first(self) -> str | None:
        """The first field that breaks a rule; None if none does."""
        return min(self.broken.values(), key=FIELDS.index, default=None)


def read_rules(path: Path = PATH) -> list[Rule]:
    """The rules of a file, in its order.

    Raises:
        ValueError: `file:line: expected ..., got ...; remedy`.
    """
    settings = read_settings(path)
    rules = []
    for name, entry in settings.items():
        if "." in name:
            continue
        text, by = (settings.get(f"{name}.{part}") for part in ("rule", "by"))
        if text is None or not isinstance(text.value, str):
            raise ValueError(f"{path}:{entry.line}: expected rule of {name} as text, got none; "
                             "say what it asks")  # fmt: skip
        known = by.value if by is not None and isinstance(by.value, list) else []
        if not known or set(known) - {LABEL, CODE, JUDGE}:
            raise ValueError(f"{path}:{entry.line}: expected by of {name} as a list of {LABEL}, "
                             f"{CODE}, {JUDGE}, got {known}; say who sees to it")  # fmt: skip
        if (CODE in known or LABEL in known) and name not in CHECKS:
            raise ValueError(f"{path}:{entry.line}: expected a rule that code can see to "
                             f"({', '.join(CHECKS)}), got {name}; leave it to a judge, or write "
                             "its check")  # fmt: skip
        rules.append(Rule(name, text.value, tuple(str(one) for one in known)))
    return rules


def review(example: Example, critique: Critique) -> Review:
    """Holds a critique of a labelled example against every rule that has a check here."""
    found = {name: check(example, critique) for name, check in CHECKS.items()}
    return Review(
        kept=frozenset(name for name, field in found.items() if field == _KEPT),
        broken={name: field for name, field in found.items() if field and field != _KEPT},
    )


_KEPT = "kept"
#: The field that breaks the rule, `_KEPT`, or None where the rule does not apply.
Check = Callable[[Example, Critique], str | None]


def _verdict(example: Example, critique: Critique) -> str | None:
    return _KEPT if critique.label == example.label else "label"


def _named(example: Example, critique: Critique) -> str | None:
    if critique.label != "flawed":
        return None
    known = example.flaw_type or critique.flaw_type  # where the label says nothing, any will do
    return _KEPT if critique.flaw_type and critique.flaw_type == known else "flaw_type"


def _quoted(example: Example, critique: Critique) -> str | None:
    if critique.label != "flawed":
        return None
    quoted = critique.evidence
    whole = quoted is not None and quoted.strip() == example.rationale.strip()
    return _KEPT if quoted and is_verbatim(example, quoted) and not whole else "evidence"


def _figures(example: Example, critique: Critique) -> str | None:
    """Figures that the reference works out follow from the text, too, so they may be cited.

    What a sum, or what else is worked out, does not come to follows from nothing.
    """
    wrong = (field for field, text in _prose(critique)
             if stray(example, text) or untrue(example.rationale, text))  # fmt: skip
    return next(wrong, _KEPT)


def _cautious(example: Example, critique: Critique) -> str | None:
    if example.label != "valid" or example.kind not in CAUTIOUS:
        return None
    return _KEPT if critique.label == "valid" else "label"


def _unswayed(example: Example, critique: Critique) -> str | None:
    if example.label != "flawed" or example.kind not in ASSURED:
        return None
    return _KEPT if critique.label == "flawed" else "label"


def _mechanism(example: Example, critique: Critique) -> str | None:
    said = critique.critique or ""
    repeated = critique.evidence is not None and _bare(said) in _bare(critique.evidence)
    return _KEPT if len(said.split()) >= FEWEST and not repeated else "critique"


def _fix(example: Example, critique: Critique) -> str | None:
    if critique.label != "flawed":
        return None
    others = {_bare(text) for text in (critique.evidence, critique.critique) if text}
    good = len((critique.fix or "").split()) >= FEWEST and _bare(critique.fix or "") not in others
    return _KEPT if good else "fix"


def _plain(example: Example, critique: Critique) -> str | None:
    seen: set[str] = set()
    words = 0
    for field, text in _prose(critique):
        sentences = [_bare(one) for one in _SENTENCE.split(text)]
        words += len(text.split())
        twice = len(set(sentences)) < len(sentences) or seen & set(sentences)
        spoken = _FIRST_PERSON.findall(QUOTED.sub(" ", text))
        if twice or words > MOST or any(one not in example.rationale for one in spoken):
            return field
        seen |= set(sentences)
    return _KEPT


#: By rule. A rule that only a model can see to has none.
CHECKS: dict[str, Check] = {
    VERDICT: _verdict, "named": _named, "quoted": _quoted, "figures": _figures,
    "cautious": _cautious, "unswayed": _unswayed, "mechanism": _mechanism, "fix": _fix,
    "plain": _plain,
}  # fmt: skip


def _prose(critique: Critique) -> Iterator[tuple[str, str]]:
    return ((name, text) for name in _PROSE if (text := getattr(critique, name)))


def _bare(text: str) -> str:
    return " ".join(text.lower().strip(" .!?\"'").split())


@cache
def rules() -> tuple[Rule, ...]:
    """Today's rules."""
    return tuple(read_rules())
