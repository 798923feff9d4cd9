"""BIG-Bench Mistake: reasoning traces of PaLM 2 on five puzzle tasks, first wrong step marked.

Published at github.com/WHGTyen/BIG-Bench-Mistake, `<task>.jsonl`. Licence: Apache-2.0.
Tyen et al., arXiv:2311.08516.

`mistake_index` counts from 0; null says that no step is wrong, which is what `valid` means, even
where the answer differs from `target`. There are neither explanations nor corrections. Three tasks
give a bare input; a line that says what to do stands before it. Steps are often the same, or part
of another (`] ; stack: {`): the evidence then begins some lines before the wrong step.
"""

from data_gen.importers.draft import (
    Draft,
    Importer,
    Place,
    Row,
    in_context,
    item_at,
    text,
    texts,
    told_apart,
)
from data_gen.importers.draft import whole as whole_number
from minicrit.jsonl import RefusedError

#: What is asked, by task; None where the input says it.
TASKS = {
    "dyck_languages": "Close all brackets that are still open, in the right order.",
    "logical_deduction": None,
    "multistep_arithmetic": "Work out the value of the expression.",
    "tracking_shuffled_objects": None,
    "word_sorting": "Sort the words alphabetically.",
}


def convert(row: Row, place: Place) -> list[Draft]:
    """The draft of one trace."""
    if place.stem not in TASKS:
        raise RefusedError(f"a file named after its task ({', '.join(TASKS)})", place.path.name,
                           "give it its published name")  # fmt: skip
    given, steps, task = text(row, "input"), texts(row, "steps"), TASKS[place.stem]
    rationale = in_context(f"{task}\nInput: {given}" if task else given, "\n".join(steps))
    wrong = None
    if "mistake_index" not in row or row["mistake_index"] is not None:
        index = whole_number(row, "mistake_index")
        item_at(steps, index, first=0, key="mistake_index")
        wrong = told_apart(steps, index, index + 1, rationale)
    return [Draft(key=given, fields={
        "id": f"big-bench-mistake/{place.stem}/{place.mark}",
        "source": f"big-bench-mistake/{place.stem}", "domain": "general",
        "rationale": rationale,
        "label": "valid" if wrong is None else "flawed", "evidence": wrong,
        "licence": IMPORTER.licence,
    })]  # fmt: skip


IMPORTER = Importer(
    kind="big-bench-mistake",
    home="github.com/WHGTyen/BIG-Bench-Mistake",
    licence="Apache-2.0",
    valid="no step is wrong; the answer may still differ from the target",
    keys=frozenset({"input", "steps", "mistake_index"}),
    convert=convert,
)
