"""PRMBench: right solutions of PRM800K, and versions into which GPT-4o wrote one kind of flaw.

Published at github.com/ssmisya/PRMBench (`docs/data_format.md`), the rows at
huggingface.co/datasets/hitsmy/PRMBench_Preview, one object a line. Licence: Apache-2.0.
Song et al., arXiv:2501.03124.

One row gives two examples: the original solution, valid, once a problem, and the modified one,
flawed. `error_steps` count from 1; the first of them is the evidence. `reason` is no critique: it
tells how the flaw was put in ("In step 7 we altered ..."), by numbers that the steps do not have.
Steps may come with their numbers, which are left out, as not all versions have them. `circular` and
`confidence` are faults of rigour, not of truth. Solutions made longer but not wrong (`redundency`)
are set apart, and rows of several right ones (`multi_solutions`): their layout gives them away.
"""

import re

from data_gen.importers.draft import (
    Draft,
    Importer,
    Place,
    Row,
    SetApartError,
    in_context,
    item_at,
    text,
    texts,
    told_apart,
)
from minicrit.jsonl import RefusedError

_NUMBER = re.compile(r"\s*\d+\.\s")


def convert(row: Row, place: Place) -> list[Draft]:
    """The drafts of the original and of the modified solution."""
    del place
    kind = text(row, "classification")
    if kind == "multi_solutions":
        raise SetApartError("several right solutions")
    problem = text(row, "idx").removeprefix(f"{kind}_")
    question = text(row, "original_question")
    steps = _bare(texts(row, "modified_process"))
    original = {
        "id": f"prmbench/original/{problem}", "source": "prmbench/original", "domain": "general",
        "licence": IMPORTER.licence, "label": "valid",
        "rationale": in_context(question, "\n".join(_bare(texts(row, "original_process")))),
    }  # fmt: skip
    changed = in_context(text(row, "modified_question"), "\n".join(steps))
    first = _first_error(row)
    wrong = item_at(steps, first, first=1, key="error_steps")
    modified = {
        "id": f"prmbench/{kind}/{problem}", "source": f"prmbench/{kind}", "domain": "general",
        "licence": IMPORTER.licence, "label": "flawed", "flaw_type": kind,
        "rationale": changed,
        "evidence": wrong and told_apart(steps, first - 1, first, changed),
    }  # fmt: skip
    apart = "redundant, not wrong" if kind == "redundency" else None
    return [Draft(fields=original, key=question),
            Draft(fields=modified, key=question, apart=apart)]  # fmt: skip


def _first_error(row: Row) -> int:
    marked = row.get("error_steps")
    whole = isinstance(marked, list) and all(type(number) is int for number in marked)
    if not isinstance(marked, list) or not marked or not whole:
        raise RefusedError("'error_steps' as a list of whole numbers", repr(marked),
                           "use the published file")  # fmt: skip
    return int(min(marked))


def _bare(steps: list[str]) -> list[str]:
    if all(_NUMBER.match(step) for step in steps):
        steps = [_NUMBER.sub("", step, count=1) for step in steps]
    return [step.strip() for step in steps]


IMPORTER = Importer(
    kind="prmbench",
    home="github.com/ssmisya/PRMBench",
    licence="Apache-2.0",
    valid="every step is right; a flawed one may still end in the right answer",
    keys=frozenset({"original_process", "modified_process", "error_steps", "classification"}),
    convert=convert,
)
