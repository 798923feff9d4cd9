"""An independent opinion on labels that the critic is sure are wrong.

A language model reads each text without its label or the critic's verdict. It also reads as many
texts as `errors.control` asks on which the critic agrees with the label: a judge that does not
agree with most labels there, or with no more than one label for all would, is no witness against
the others, and nothing is laid to the label on its word. Opinions of an earlier run, or of a
person, can be given as a file instead.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_gen.answers import read_fields, schema_of, template
from data_gen.asker import Asker
from data_gen.asking import Service, asking
from data_gen.backends.protocol import Request, UnanswerableError
from data_gen.tamper import REASON
from minicrit.files import to_json
from minicrit.jsonl import BadLine, read_lines, shown
from minicrit.measures import plain
from minicrit.misses import LEAST_AGREEMENT, LEAST_CONTROL
from minicrit.records import Example
from minicrit.statistics import wilson
from minicrit.taxonomy import FLAW_TYPES, LABELS

VERSION = "1"
_SCHEMA = schema_of(verdict=LABELS, flaw_type=(*FLAW_TYPES, "none"), reason=None)


@dataclass(frozen=True)
class Opinions:
    """What somebody says of labels.

    Attributes:
        rows: by id: verdict, reason, flaw_type, by; a row without a verdict has no answer.
        by: who.
        trusted: whether they may count against a label.
        facts: for the report: asked, unanswered, agreement on the control with its interval, and
            with how many of it one label for all would agree.
    """

    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by: str | None = None
    trusted: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    def verdict(self, example: Example) -> str | None:
        """The label that they give, if any."""
        return self.rows.get(example.id, {}).get("verdict")


def ask_opinions(
    service: Service,
    doubtful: Sequence[Example],
    control: Sequence[Example],
    journal: Path,
    threads: int,
) -> Opinions:
    """A model's opinions; every answer is kept, and nothing is asked twice.

    Args:
        service: whom to ask.
        doubtful: texts on which the critic is sure that the label is wrong.
        control: texts on which it agrees with the label.
        journal: file of the answers.
        threads: requests at the same time.
    """
    asked = [*doubtful, *control]
    if not asked:
        return Opinions(facts=_facts({}, doubtful, control))
    with asking(service, journal) as asker:
        found = asker.each(lambda e: _opinion(asker, e), asked, threads=threads)
        by = to_json(asker.backend.identity)
    rows = {e.id: {**row, "by": by} for e, row in zip(asked, found, strict=True)}
    return _judged(rows, by, doubtful, control)


def question(example: Example) -> Request:
    """What is asked about a text; label and verdict are not shown."""
    system, prompt = template("verify", VERSION)
    flaws = "\n".join(f"- {f.name}: {f.definition}" for f in FLAW_TYPES.values())
    # No text may close the block it stands in and go on as if it were us.
    text = example.rationale.replace("</", "< /")
    return Request(system, prompt.substitute(domain=example.domain, flaws=flaws, rationale=text),
                   _SCHEMA)  # fmt: skip


def _opinion(asker: Asker, example: Example) -> dict[str, Any]:
    try:
        answer = asker.ask(question(example))
    except UnanswerableError as error:
        return {"verdict": None, "reason": shown(str(error), REASON)}
    if answer.stop != "end":
        return {"verdict": None, "reason": answer.stop}
    fields, why = read_fields(answer.text, _SCHEMA)
    return dict(fields) if fields else {"verdict": None, "reason": why}


def read_opinions(path: Path, doubtful: Sequence[Example], agreed: Sequence[Example]) -> Opinions:
    """Opinions from a file of `id`, `verdict`, and if there are any `reason`, `by`.

    Those on items on which the critic agrees with the label are the control; a file without any is
    believed as it is.

    Raises:
        ValueError: if a line is no opinion, or an id comes twice.
    """
    rows: dict[str, dict[str, Any]] = {}
    for found in read_lines(path):
        if isinstance(found, BadLine):
            raise ValueError(str(found))
        line, row = found
        if not isinstance(row.get("id"), str) or row.get("verdict") not in (*LABELS, None):
            got = shown(to_json(row))
            raise ValueError(f"{path}:{line}: expected id and verdict (valid or flawed), got {got};"
                             " mend the line")  # fmt: skip
        if row["id"] in rows:
            raise ValueError(f"{path}:{line}: expected one opinion on an item, got a second one on "
                             f"{row['id']}; keep one")  # fmt: skip
        rows[row["id"]] = row
    control = [e for e in agreed if e.id in rows]
    found_by = {str(row.get("by") or path) for row in rows.values()}
    return _judged(rows, ", ".join(sorted(found_by)), doubtful, control, given=True)


def _judged(
    rows: Mapping[str, Mapping[str, Any]],
    by: str,
    doubtful: Sequence[Example],
    control: Sequence[Example],
    *,
    given: bool = False,
) -> Opinions:
    facts = _facts(rows, doubtful, control)
    tested = facts["control"]
    good = (tested["n"] >= LEAST_CONTROL and tested["value"] >= LEAST_AGREEMENT
            and tested["agreed"] > tested["one_label"])  # fmt: skip
    return Opinions(rows, by, good or (given and not control), facts)


def _facts(
    rows: Mapping[str, Mapping[str, Any]], doubtful: Sequence[Example], control: Sequence[Example]
) -> dict[str, Any]:
    said = [rows[e.id].get("verdict") for e in doubtful if e.id in rows]
    held = [(e, rows[e.id].get("verdict")) for e in control if e.id in rows]
    known = [(e.label, verdict) for e, verdict in held if verdict]
    agreed = sum(a == b for a, b in known)
    rate = wilson(agreed, len(known))
    return {
        "asked": len(said) + len(held),
        "unanswered": said.count(None) + len(held) - len(known),
        "doubtful": len(doubtful),
        "control": {k: plain(getattr(rate, k)) for k in ("value", "low", "high")}
        | {
            "n": len(known),
            "agreed": agreed,
            "one_label": max(Counter(label for label, _ in known).values(), default=0),
        },
    }
