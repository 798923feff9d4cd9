"""Missci: arguments that misuse a study to support a claim about health, with the fallacious step.

Published at github.com/UKPLab/acl2024-missci, `dataset/<part>.missci.jsonl`. Licence: Apache-2.0.
Glockner et al., ACL 2024.

Every interchangeable fallacy of an argument is one example: accurate premise, context, fallacious
premise, and the claim after `Therefore:`. The fallacious premise is the evidence, the annotators'
comment the critique. All of them are flawed. The parts are the set's own: `dev` for validation and
`test`; none is for training.
"""

from data_gen.importers.draft import Draft, Importer, Place, Row, inner, objects, text
from minicrit.jsonl import RefusedError

_PARTS = {"dev": "validation", "test": "test"}


def convert(row: Row, place: Place) -> list[Draft]:
    """The drafts of all fallacies of one argument."""
    if place.stem not in _PARTS:
        raise RefusedError("a file named dev.missci or test.missci", place.path.name,
                           "give it its published name")  # fmt: skip
    argument = inner(row, "argument")
    premise = text(inner(argument, "accurate_premise_p0"), "premise").strip()
    claim = text(argument, "claim").strip()
    drafts = []
    for fallacy in objects(argument, "fallacies"):
        context = str(fallacy.get("fallacy_context") or "").strip()
        for one in objects(fallacy, "interchangeable_fallacies"):
            wrong = text(one, "premise").strip()
            parts = [premise, context, wrong, f"Therefore: {claim}"]
            drafts.append(Draft(key=claim, split=_PARTS[place.stem], fields={
                "id": f"missci/{text(one, 'id')}", "source": f"missci/{place.stem}",
                "domain": "medical", "licence": IMPORTER.licence, "label": "flawed",
                "rationale": " ".join(part for part in parts if part), "evidence": wrong,
                "flaw_type": text(one, "class"),
                "critique": text(fallacy, "consolidation_comment").strip(),
            }))  # fmt: skip
    return drafts


IMPORTER = Importer(
    kind="missci",
    home="github.com/UKPLab/acl2024-missci",
    licence="Apache-2.0",
    valid="(all are flawed)",
    keys=frozenset({"argument", "study"}),
    convert=convert,
)
