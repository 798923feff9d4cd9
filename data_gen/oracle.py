"""The oracle: how good a critique is of a rationale whose flaw is known. No model is asked.

The verdict decides: a critique with the wrong one scores 0, with the right one at least 1/2, and
the rest says how well it is argued: above all whether it names the flaw and gives the reasons that
the reference gives (`reasons`). One that states a sum which does not hold, or works out what does
not come to what it says, is worth its verdict alone. Words are never searched for a verdict; see
`prompts`.
"""

import re
from dataclasses import dataclass

from data_gen.reasons import reasons_f1, stems
from minicrit.derivations import Derivations, untrue
from minicrit.figures import figures
from minicrit.prompts import Critique, UnparsedError, parse_critique
from minicrit.records import Example
from minicrit.sources import sourced, unsourced
from minicrit.written import evidence_f1

#: Raise it with any change of a score: what was selected by another version is selected anew.
VERSION = "7"
#: What each part counts among those that apply.
WEIGHTS = {
    "flaw_type": 3.0, "content": 3.0, "evidence": 2.0, "severity": 0.5, "figures": 1.0,
    "complete": 1.0, "concise": 0.5, "impersonal": 0.5, "plain": 0.5,
}  # fmt: skip
#: Of a score, what the right verdict alone gives.
VERDICT = 0.5
#: A text of at most so many times the words of the reference is concise; of twice that, not at all.
LONG, FEWEST = 1.5, 30
#: Singular alone: `we` and `our` are as often those of the rationale, whose words it takes up; and
#: without `mine`, which people also dig and clear.
_FIRST_PERSON = re.compile(r"\b(I|me|my|myself)\b")
QUOTED = re.compile(r"[\"“][^\"”]*[\"”]")
#: What fills a page and says nothing about this rationale.
_BOILER_PLATE = re.compile(
    r"\b(as an ai|it is important to (note|remember)|it is worth noting|in conclusion|"
    r"overall, (the|this)|needless to say|at the end of the day|more research is needed|"
    r"there are many factors|please consult)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Score:
    """`total` from 0 to 1; None for one that does not parse or was cut. `parts`: 0 to 1 each."""

    total: float | None
    parts: dict[str, float]


def score(example: Example, text: str, *, whole: bool = True) -> Score:
    """Scores a critique of a labelled example.

    Args:
        example: what is criticized.
        text: the critique.
        whole: whether it ended by itself. Who learns from one that was cut learns to stop there.
    """
    if not whole:
        return Score(None, {})
    try:
        critique = parse_critique(text)
    except UnparsedError:
        return Score(None, {})
    if critique.label != example.label:
        return Score(0.0, {"verdict": 0.0})
    parts = _parts(example, critique)
    if untrue(example.rationale, prose_of(critique)):
        return Score(VERDICT, {"verdict": 1.0, **parts, "figures": 0.0})
    weight = sum(WEIGHTS[name] for name in parts)
    argued = sum(WEIGHTS[name] * value for name, value in parts.items()) / weight
    return Score(VERDICT + (1 - VERDICT) * argued, {"verdict": 1.0, **parts})


def _parts(example: Example, critique: Critique) -> dict[str, float]:
    prose, reference = prose_of(critique), prose_of(example)
    own = QUOTED.sub(" ", prose)
    parts = {
        "figures": _figures_right(example, prose),
        "complete": _complete(critique),
        "concise": _concise(reference, prose),
        "impersonal": float(_first_person(own) <= _first_person(reference)),
        "plain": float(not _BOILER_PLATE.search(own)),
    }
    for name in ("flaw_type", "severity"):
        if wanted := getattr(example, name):
            parts[name] = float(getattr(critique, name) == wanted)
    if gives_reasons(example):
        parts["content"] = reasons_f1(reference, prose, example.rationale)
    if example.evidence:
        parts["evidence"] = evidence_f1(
            example.rationale, example.evidence, critique.evidence or ""
        )
    return parts


def gives_reasons(example: Example) -> bool:
    """Whether its reference gives any; some public sets give none, or a bare formula."""
    return bool(stems(prose_of(example)))


def _first_person(text: str) -> set[str]:
    return set(_FIRST_PERSON.findall(text))


def prose_of(said: Example | Critique) -> str:
    """What a critique says in words of its own, evidence and names apart."""
    return " ".join(filter(None, (said.strengths, said.critique, said.fix)))


def stray(example: Example, prose: str) -> set[float]:
    """Figures of a critique without a source.

    They neither stand in the rationale or the reference, nor follow, nor are worked out rightly.
    """
    known = sourced(example.rationale) | figures(prose_of(example))
    return unsourced(prose) - known - Derivations(example.rationale).right(prose)


def _figures_right(example: Example, prose: str) -> float:
    """Share of the figures cited that have a source."""
    cited = figures(prose)
    return 1 - len(stray(example, prose)) / len(cited) if cited else 1.0


def _complete(critique: Critique) -> float:
    flawed = (critique.flaw_type, critique.evidence, critique.critique, critique.fix)
    fields = flawed if critique.label == "flawed" else (critique.strengths, critique.critique)
    return sum(field is not None for field in fields) / len(fields)


def _concise(reference: str, prose: str) -> float:
    fair = LONG * max(FEWEST, len(reference.split()))
    return min(1.0, max(0.0, 2 - len(prose.split()) / fair))
