"""MR-Ben: three models' step-by-step answers to exam questions, judged by people.

Published at github.com/dvlab-research/Mr-Ben, `data/<subject>.json`: an object that maps every
question id to a list of solutions. Licence: MIT. Zeng et al., arXiv:2406.13975.

`Model_Solution_Correctness` is about the reasoning: every step and the answer. The first error is
a step number, or for coding a line of the code. "Step 4:" is found by its number, as empty and
unnumbered lines stand in between; unnumbered lines after it belong to it. Steps whose words stand
elsewhere too get lines before them to tell them apart; a line of code, known by its words alone, is
the first such line. Of several annotators' reasons and corrections the first is taken. The set was
published as a benchmark: after training on a part of it, no score on it can be reported.
"""

import re
from typing import Any

from data_gen.importers.draft import (
    Draft,
    Importer,
    Place,
    Row,
    in_context,
    item_at,
    located,
    one_of,
    text,
    text_or_none,
    texts,
    told_apart,
)
from minicrit.jsonl import RefusedError

_STEP = re.compile(r"\s*Step\s+(\d+)\b")
_END = re.compile(r"\s*(?:Step\s+\d|Solution\b)")
_NUMBER = re.compile(r"(?:step\s*)?(\d+)\.?", re.IGNORECASE)
_FIRST = "Model_Solution_First_Error_Step"


def convert(row: Row, place: Place) -> list[Draft]:
    """The draft of one solution."""
    question, options = text(row, "Question"), row.get("Options")
    asked = f"{question.strip()}\n{options.strip()}" if isinstance(options, str) else question
    steps, reasoning = _steps(row)
    flawed = one_of(row, "Model_Solution_Correctness", ("correct", "incorrect")) == "incorrect"
    marked = text_or_none(row, _FIRST)
    if marked and not flawed:
        raise RefusedError(f"no {_FIRST} in a correct solution", marked, "mend one of the two")
    rationale = in_context(asked, reasoning)
    medical = "medic" in f"{place.stem} {text(row, 'Subject')}".lower()
    uuid, model = text(row, "Question_UUID"), text(row, "Sampled_Model")
    return [Draft(key=question, fields={
        "id": f"mr-ben/{place.stem}/{uuid}/{model}", "source": f"mr-ben/{place.stem}",
        "domain": "medical" if medical else "general", "licence": IMPORTER.licence,
        "rationale": rationale, "label": "flawed" if flawed else "valid",
        "evidence": _evidence(steps, reasoning, marked, rationale) if marked else None,
        "critique": _first(row, "Model_Solution_Error_Reason") if flawed else None,
        "fix": _first(row, "Model_Solution_Rectified_First_Error_Step") if flawed else None,
    })]  # fmt: skip


def _steps(row: Row) -> tuple[list[str], str]:
    """The lines of a solution and all of it; code is one piece and has none."""
    if isinstance(row.get("Model_Solution_Steps"), str):
        return [], text(row, "Model_Solution_Steps").strip()
    steps = [step for step in texts(row, "Model_Solution_Steps") if step.strip()]
    return steps, "\n".join(steps)


def _evidence(steps: list[str], reasoning: str, marked: str, rationale: str) -> str:
    number = _NUMBER.fullmatch(marked) if steps else None
    if number is None:
        return located(marked, reasoning, _FIRST)
    begins = {found[1]: at for at, step in reversed([*enumerate(steps)])
              if (found := _STEP.match(step))}  # fmt: skip
    if not begins:
        item_at(steps, int(number[1]), first=1, key=_FIRST)
        return told_apart(steps, int(number[1]) - 1, int(number[1]), rationale)
    if number[1] not in begins:
        raise RefusedError(f"{_FIRST} among steps {', '.join(reversed(begins))}", marked,
                           "look it up in the source")  # fmt: skip
    at = begins[number[1]]
    ends = (end for end in range(at + 1, len(steps)) if _END.match(steps[end]))
    return told_apart(steps, at, next(ends, len(steps)), rationale)


def _first(row: Row, key: str) -> str | None:
    value: Any = row.get(key)
    return text_or_none({key: value[0]} if isinstance(value, list) and value else row, key)


IMPORTER = Importer(
    kind="mr-ben",
    home="github.com/dvlab-research/Mr-Ben",
    licence="MIT",
    valid="every step and the answer are right",
    keys=frozenset({"Question_UUID", "Model_Solution_Steps", "Model_Solution_Correctness"}),
    convert=convert,
)
