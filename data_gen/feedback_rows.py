"""What one rationale with operators' decisions becomes: an example and preference pairs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_gen.preferences import preference
from minicrit.feedback.entries import group_of
from minicrit.feedback.opinions import Case
from minicrit.jsonl import check_string
from minicrit.prompts import Critique, attempt, critique_of, render_critique
from minicrit.records import Example, Preference
from minicrit.taxonomy import FLAW_TYPES

REWRITE, VERDICT = "operator-rewrite", "operator-verdict"
Requests = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Settled:
    """A case with the label that operators give it; `chance` is theirs of flawed."""

    case: Case
    flawed: bool
    chance: float

    @property
    def label(self) -> str:
        """The word for it."""
        return "flawed" if self.flawed else "valid"

    def right(self) -> list[Mapping[str, Any]]:
        """The decisions that say this label and were not taken back, the newest first."""
        return [row for row in reversed(self.case.held) if row["label"] == self.label]


def kept_out(group: str, share: float) -> bool:
    """Whether rationales that are alike are kept for validation: by their hash alone, for good."""
    digest = hashlib.blake2b(f"feedback validation/{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64 < share


def example_of(
    one: Settled, requests: Requests, validation: float, distrusted: Sequence[str] = ()
) -> Example:
    """The example that a settled case makes; of a share of the groups it is for `validation`.

    The text is the one that the newest of those who meet the label saw. What operators corrected
    wins, the newest first, but for words of those who are `distrusted`; what the critic said of
    flaw, place, critique and fix stands where its verdict was right and somebody who agrees left it
    as it was.

    Raises:
        ValueError: if no data file may hold it.
    """
    seen = (one.right() or one.case.decisions)[0]
    request = requests[seen["request_id"]]
    rationale = _text(request["rationale"])
    group = group_of(request["domain"], request["rationale"])
    told = _told(one, requests, distrusted)
    row = {
        "id": f"feedback-{one.case.unit[:16]}", "domain": request["domain"],
        "rationale": rationale, "label": one.label, "group": group, "source": "feedback",
        "split": "validation" if kept_out(group, validation) else "train",
        "critique": told.critique,
    }  # fmt: skip
    if one.flawed:
        evidence = told.evidence if told.evidence and told.evidence in rationale else None
        row |= {"flaw_type": told.flaw_type, "severity": told.severity, "evidence": evidence,
                "fix": told.fix}  # fmt: skip
    else:
        row["strengths"] = told.strengths
    example = Example.from_row(row)
    _check_lines(example)
    return example


def pairs_of(
    one: Settled, example: Example, requests: Requests, distrusted: Sequence[str]
) -> tuple[list[Preference], list[tuple[int, str]]]:
    """Pairs of a settled case, and (decision, reason) of what should have made one and did not.

    A rewritten critique is preferred to the critic's, by operators who meet the label and are not
    `distrusted`. Where the critic's verdict was wrong and nobody wrote a critique, the right
    verdict is preferred to the wrong one: the critique that came with it, if there is any, else
    verdict against verdict, so that length says nothing.
    """
    pairs: list[Preference] = []
    lost: list[tuple[int, str]] = []
    for row in one.case.decisions:
        found = _compared(row, one, example, requests, distrusted)
        if found is None:
            continue
        if isinstance(found, str):
            lost.append((int(row["id"]), found))
            continue
        better, worse = map(render_critique, found[:2])
        if why := _unfit(better, worse):
            lost.append((int(row["id"]), why))
        else:
            pairs.append(preference(example, better, worse, (1.0, 0.0), found[2]))
    return pairs, lost


def _compared(
    row: Mapping[str, Any],
    one: Settled,
    example: Example,
    requests: Requests,
    distrusted: Sequence[str],
) -> tuple[Critique, Critique, str] | str | None:
    """(better, worse, by whom) of one decision, or why there is none; None if none is due."""
    answer = requests[row["request_id"]]["result"]
    own = _said(answer)
    wrong = answer["label"] != one.label
    if row["critique"] is None or (wrong and own.critique is None):
        return _verdicts(one, example, own) if wrong else None
    if row["operator"] in distrusted:
        return "operator is not trusted"
    if row["label"] != one.label:
        return "rewritten for the other label"
    if row not in one.right():
        return "taken back by its operator"
    if own.critique is None:
        return "nothing to compare with"
    return _mended(row, own, requests), own, REWRITE


def _unfit(better: str, worse: str) -> str | None:
    if better == worse:
        return "nothing was changed"
    wrong = [why for text in (better, worse) if (why := attempt(text)[1] or _odd(text))]
    return f"no critique in the fixed form: {wrong[0]}" if wrong else None


def _odd(text: str) -> str | None:
    """Why JSON Lines would refuse a text, None if they would not."""
    try:
        check_string(text)
    except ValueError as error:
        return str(error)
    return None


def _verdicts(one: Settled, example: Example, own: Critique) -> tuple[Critique, Critique, str]:
    if example.critique is not None and own.critique is not None:
        return critique_of(example), own, VERDICT
    return Critique(one.label), Critique(own.label), VERDICT


def _told(one: Settled, requests: Requests, distrusted: Sequence[str]) -> Critique:
    """Flaw, place, critique and fix as operators left or mended them."""
    rows = one.right()
    mended = [row for row in rows if row["decision"] == "correct"]
    rewritten = [row for row in rows
                 if row["critique"] is not None and row["operator"] not in distrusted]  # fmt: skip
    named = [row for row in rows if row["flaw_type"] is not None]
    marked = [row for row in rows if row["evidence"] is not None]
    agreeing = [row for row in rows if row["decision"] != "disagree"
                and requests[row["request_id"]]["result"]["label"] == one.label]  # fmt: skip
    base = _said(requests[agreeing[0]["request_id"]]["result"]) if agreeing else Critique(one.label)
    found = dict(_fields(base))
    if named:
        found |= _typed(named[0]["flaw_type"], base)
    if marked:
        found["evidence"] = _span(marked[0], requests)
    if rewritten:
        found["critique"] = _text(rewritten[0]["critique"])
    elif mended:  # its words argue for what was mended
        found |= {"critique": None, "fix": None}
    return Critique(**found)


def _mended(row: Mapping[str, Any], own: Critique, requests: Requests) -> Critique:
    """The critic's critique with everything that one operator mended in it."""
    found = dict(_fields(own if own.label == row["label"] else Critique(row["label"])))
    if row["flaw_type"] is not None:
        found |= _typed(row["flaw_type"], own)
    if row["evidence"] is not None:
        found["evidence"] = _span(row, requests)
    return Critique(**{**found, "critique": _text(row["critique"])})


def _typed(flaw_type: str, base: Critique) -> dict[str, Any]:
    same = base.flaw_type == flaw_type
    return {"flaw_type": flaw_type,
            "severity": base.severity if same else FLAW_TYPES[flaw_type].severity}  # fmt: skip


def _span(row: Mapping[str, Any], requests: Requests) -> str:
    text, span = requests[row["request_id"]]["rationale"], row["evidence"]
    return _text(text[span["start"] : span["end"]])


def _said(result: Mapping[str, Any]) -> Critique:
    """What the critic wrote, as far as it did."""
    span = result.get("evidence")
    text = span.get("text") if isinstance(span, Mapping) else span
    fields = {name: result.get(name) for name in ("flaw_type", "severity", "critique", "fix")}
    if result["label"] == "valid":
        written = attempt(result["text"])[0] if result.get("text") else None
        strengths = written.strengths if written else None  # stands in the text alone
        return Critique("valid", strengths=strengths, critique=fields["critique"])
    return Critique("flawed", evidence=text, **fields)


def _fields(critique: Critique) -> dict[str, Any]:
    """The fields of a critique by name."""
    return {name: getattr(critique, name) for name in Critique.__dataclass_fields__}


def _text(text: str) -> str:
    return text.replace("\r\n", "\n")


def _check_lines(example: Example) -> None:
    """A critique of it must read back; ValueError if it does not."""
    text = render_critique(critique_of(example))
    if why := attempt(text)[1] or _odd(text) or _odd(example.rationale):
        raise ValueError(f"expected a critique in the fixed form, got {why}; leave it out")
