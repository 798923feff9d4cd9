"""Stepwise verification: students' wrong solutions to word problems, and those after tutoring.

Published at github.com/eth-lre/verify-then-generate, `dataset/dataset.json`, a list. Licence:
CC-BY-SA-4.0 by its text (a badge says CC-BY-4.0). Daheim et al., arXiv:2407.09136.

One row gives two examples: the wrong solution with the first wrong step (`incorrect_index` counts
from 0), category and description by a teacher, and the student's solution after tutoring, whose
steps nobody checked. The two differ in layout (a step a line, an answer line of digits), so both
are written as one paragraph, without that line. They still differ in wording.

Set apart are wrong solutions of which the teacher says that nothing is wrong, or whose answer line
alone is; and later ones that state a false sum or do not end in the answer of the source.
"""

import operator
import re

from data_gen.importers.draft import (
    Draft,
    Importer,
    Place,
    Row,
    in_context,
    item_at,
    text,
    text_or_none,
    texts,
    told_apart,
    whole,
)
from minicrit.figures import NUMBER, figures, value_printed
from minicrit.jsonl import RefusedError
from minicrit.recount import miscounts

_ANSWER = re.compile(r"[^\w=]*\d(?:\d|[^\w=])*")
#: What a teacher says of a solution that is right.
_NOTHING_WRONG = re.compile(
    r"\bno (?:errors?|mistakes?)\b|n['\u2019]t (?:think|see|believe|find)\b[^.]*\b"
    r"(?:error|mistake)|\banswered correctly|\banswer (?:is|was) (?:correct|right)|"
    r"\bis a correct solution|\b(?:question|problem) has an error", re.IGNORECASE)  # fmt: skip
_SPOKEN = re.compile(r"\Astudent:\s*", re.IGNORECASE)
_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_FIGURE = r"\$?(\d+(?:,\d{3})*(?:\.\d+)?)"
#: `a / b = c`, also of money and in the middle of a sentence, but no part of a longer sum.
_SUM = re.compile(r"(?<![\w.,)$+*/x=\u00d7\u00f7-])(?<![)+*/x=\u00d7\u00f7-] )(?<!\bof )"
                  rf"{_FIGURE} ?([-+*/x\u00d7\u00f7]) ?{_FIGURE} ?= ?{_FIGURE}"
                  r"(?![.,:]?\d| ?(?:[-+*/x%\u00d7\u00f7(]|cents?\b|percent\b))")  # fmt: skip
_ACTS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "x": operator.mul,
         "\u00d7": operator.mul, "/": operator.truediv, "\u00f7": operator.truediv}  # fmt: skip


def convert(row: Row, place: Place) -> list[Draft]:
    """The drafts of the wrong solution and of the later one."""
    problem, steps = text(row, "problem"), texts(row, "student_incorrect_solution")
    wrong = _wrong_step(row, steps)
    described, apart = text_or_none(row, "error_description"), None
    if described and _NOTHING_WRONG.search(described):
        apart = "with no error, by the teacher"
    elif len(steps) > 1 and _ANSWER.fullmatch(steps[-1]):
        apart = "wrong in the answer line alone" if steps[-1].strip() == wrong else None
        steps = steps if apart else steps[:-1]
    steps, index = [step.strip() for step in steps], whole(row, "incorrect_index")
    rationale = in_context(problem, " ".join(steps))
    flawed: dict[str, str | None] = {
        "id": f"stepverify/incorrect/{place.mark}", "label": "flawed", "rationale": rationale,
        "flaw_type": text_or_none(row, "error_category"),
        "evidence": wrong and told_apart(steps, index, index + 1, rationale, between=" "),
        "critique": described,
    }  # fmt: skip
    drafts = [(flawed, apart)]
    if later := text_or_none(row, "student_correct_response"):
        later = _SPOKEN.sub("", " ".join(later.split()))
        valid: dict[str, str | None] = {
            "id": f"stepverify/corrected/{place.mark}", "label": "valid",
            "rationale": in_context(problem, later),
        }  # fmt: skip
        drafts.append((valid, _unsound(later, text_or_none(row, "reference_solution"))))
    shared = {"source": "stepverify", "domain": "general", "licence": IMPORTER.licence}
    return [Draft(fields={**shared, **fields}, key=problem, apart=why) for fields, why in drafts]


def _wrong_step(row: Row, steps: list[str]) -> str:
    index = whole(row, "incorrect_index")
    wrong, named = item_at(steps, index, first=0, key="incorrect_index"), row.get("incorrect_step")
    if isinstance(named, str) and named.split() != wrong.split():
        raise RefusedError(f"incorrect_step to be step {index}", named, "mend one of the two")
    return wrong


def _unsound(later: str, reference: str | None) -> str | None:
    """Why a solution after tutoring is none; the last figure of the reference is the answer."""
    if miscounts(later) or any(map(_false, _SUM.finditer(later))):
        return "corrected with a false sum"
    answer = NUMBER.findall(reference or "")[-1:]
    ends = next((found for sentence in reversed(_SENTENCES.split(later))
                 if (found := figures(sentence))), set())  # fmt: skip
    if answer and value_printed(answer[0]) not in ends:
        return "corrected without the answer of the source"
    return None


def _false(found: re.Match[str]) -> bool:
    """Whether a sum is wrong by more than rounding, which whole sums and products need not."""
    one, other, said = (value_printed(found[n]) for n in (1, 3, 4))
    if found[2] in "/\u00f7" and not other:
        return True
    value: float = _ACTS[found[2]](one, other)
    rounded = found[2] in "/\u00f7" or "." in found[0]
    return abs(value - said) > (max(1.0, 0.02 * value) if rounded else 1e-6)


IMPORTER = Importer(
    kind="stepverify",
    home="github.com/eth-lre/verify-then-generate",
    licence="CC-BY-SA-4.0",
    valid="corrected after tutoring, with the right answer; only plain sums of it were checked",
    keys=frozenset({"problem", "student_incorrect_solution", "incorrect_index"}),
    convert=convert,
)
