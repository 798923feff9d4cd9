"""ProcessBench: solutions of twelve models to four sets of maths problems, first wrong step marked.

Published at huggingface.co/datasets/Qwen/ProcessBench (`gsm8k.json`, `math.json`,
`olympiadbench.json`, `omnimath.json`), code at github.com/QwenLM/ProcessBench. Licence: Apache-2.0.
Zheng et al., arXiv:2412.06559.

`label` is the index of the first wrong step from 0, or -1 where all steps are right;
`final_answer_correct` may be true of a flawed solution and does not count. There are neither
explanations nor corrections. It was published as a benchmark: after training on a part of it, no
score on it can be reported.
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
    whole,
)

_SOUND = -1


def convert(row: Row, place: Place) -> list[Draft]:
    """The draft of one solution."""
    del place
    problem, steps, label = text(row, "problem"), texts(row, "steps"), whole(row, "label")
    rationale, wrong = in_context(problem, "\n\n".join(steps)), None
    if label != _SOUND:
        wrong = item_at(steps, label, first=0, key="label") and told_apart(
            steps, label, label + 1, rationale, between="\n\n"
        )
    name = text(row, "id")
    return [Draft(key=problem, fields={
        "id": f"processbench/{name}", "source": f"processbench/{name.rpartition('-')[0] or name}",
        "domain": "general", "rationale": rationale,
        "label": "valid" if wrong is None else "flawed", "evidence": wrong,
        "licence": IMPORTER.licence,
    })]  # fmt: skip


IMPORTER = Importer(
    kind="processbench",
    home="huggingface.co/datasets/Qwen/ProcessBench",
    licence="Apache-2.0",
    valid="every step is right",
    keys=frozenset({"problem", "steps", "label", "final_answer_correct"}),
    convert=convert,
)
