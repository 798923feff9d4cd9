"""Stepwise verification: students' wrong solutions to word problems, and those after tutoring.

Published at github.com/eth-lre/verify-then-generate, `dataset/dataset.json`, a list. Licence:
CC-BY-SA-4.0 by its text (a badge says CC-BY-4.0). Daheim et al., arXiv:2407.09136.

One row gives two examples: the wrong solution with the first wrong step (`incorrect_index` counts
from 0), category and description by a teacher, and the student's solution after tutoring, whose
steps nobody checked. The two differ in layout (a step a line, an answer line of digits), so both
are written as one paragraph, without that line. They still differ in wording.
"""

import re

from data_gen.importers.draft import (
    Draft,
    Importer,
    Place,
    Row,
    in_context,
    item_at,
    located,
    text,
    text_or_none,
    texts,
    whole,
)
from minicrit.jsonl import RefusedError

_ANSWER = re.compile(r"\W*\d[\d\W]*")


def convert(row: Row, place: Place) -> list[Draft]:
    """The drafts of the wrong solution and of the later one."""
    problem, steps = text(row, "problem"), texts(row, "student_incorrect_solution")
    wrong = _wrong_step(row, steps)
    if len(steps) > 1 and _ANSWER.fullmatch(steps[-1]) and steps[-1].strip() != wrong:
        steps = steps[:-1]
    reasoning = " ".join(step.strip() for step in steps)
    flawed = {
        "id": f"stepverify/incorrect/{place.mark}", "label": "flawed",
        "rationale": in_context(problem, reasoning),
        "flaw_type": text_or_none(row, "error_category"),
        "evidence": located(wrong, reasoning, "incorrect_step"),
        "critique": text_or_none(row, "error_description"),
    }  # fmt: skip
    drafts = [flawed]
    if later := text_or_none(row, "student_correct_response"):
        drafts.append({
            "id": f"stepverify/corrected/{place.mark}", "label": "valid",
            "rationale": in_context(problem, " ".join(later.split())),
        })  # fmt: skip
    shared = {"source": "stepverify", "domain": "general", "licence": IMPORTER.licence}
    return [Draft(fields={**shared, **fields}, key=problem) for fields in drafts]


def _wrong_step(row: Row, steps: list[str]) -> str:
    index = whole(row, "incorrect_index")
    wrong, named = item_at(steps, index, first=0, key="incorrect_index"), row.get("incorrect_step")
    if isinstance(named, str) and named.split() != wrong.split():
        raise RefusedError(f"incorrect_step to be step {index}", named, "mend one of the two")
    return wrong


IMPORTER = Importer(
    kind="stepverify",
    home="github.com/eth-lre/verify-then-generate",
    licence="CC-BY-SA-4.0",
    valid="corrected after tutoring; its steps were not checked",
    keys=frozenset({"problem", "student_incorrect_solution", "incorrect_index"}),
    convert=convert,
)
