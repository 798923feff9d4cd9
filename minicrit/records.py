"""Records: the example (one rationale and what is known about it) and the preference pair.

reading = read_examples("data/train.jsonl")
reading.examples, reading.bad, reading.unlabelled
"""

import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Self

from minicrit.fields import check_choice, check_filled, check_keys, check_text, number, refuse_all
from minicrit.jsonl import BadLine, RefusedError, parse_line, raw_lines, write_rows
from minicrit.row_files import example_files, split_of, split_word, stem_of
from minicrit.taxonomy import (
    CHANGES,
    DOMAINS,
    FLAW_TYPES,
    KINDS,
    LABELS,
    SEVERITIES,
    flaw_type_of,
    renamed,
)

SPLITS = ("train", "validation", "calibration", "test")
_CHOICES = {
    "domain": DOMAINS,
    "label": LABELS,
    "flaw_type": tuple(FLAW_TYPES),
    "severity": SEVERITIES,
    "kind": KINDS,
    "split": SPLITS,
}
_OLD_NAMES = {"input": "rationale", "expected_critique": "critique", "data_type": "kind"}
_SPAN_BREAK = "\n[...]\n"
_MARGIN_SLACK = 1e-6  # scores are rounded when written
_FIRST = 5  # messages shown of many
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One rationale with its verdict. `group` holds together what must share a split."""

    id: str
    domain: str
    rationale: str
    label: str
    flaw_type: str | None = None
    severity: str | None = None
    evidence: str | None = None
    critique: str | None = None
    fix: str | None = None
    kind: str = "plain"
    group: str
    source: str
    split: str
    strengths: str | None = None
    licence: str | None = None

    def to_row(self) -> dict[str, Any]:
        """The JSON object; `strengths` and `licence` only where there are any."""
        row = asdict(self)
        return {k: v for k, v in row.items() if v is not None or k not in ("strengths", "licence")}

    @classmethod
    def from_row(
        cls, row: Mapping[str, Any], *, source: str = "unknown", split: str = "train"
    ) -> Self:
        """Check a row (of today's or upstream's names); ValueError says what is wrong with it.

        Args:
            row: the JSON object.
            source: what a row that names no source gets.
            split: what a row that names no split gets.
        """
        new = {"kind": "plain", "split": split, "source": source, **_today(row)}
        # Two sets may both count from 1; what stands in their rows is not of one group for that.
        new.setdefault("group", f"{new['source']}/{new['id']}" if "id" in new else None)
        check_keys(new, [f.name for f in fields(cls)])
        if new.get("label") != "":  # as a word first, lest true be made text
            check_choice("label", new.get("label"), LABELS)
        for one in fields(cls):
            (check_text if one.type == str | None else check_filled)(one.name, new.get(one.name))
        new["flaw_type"] = flaw_type_of(new.get("flaw_type"))
        for name, choices in _CHOICES.items():
            check_choice(name, new.get(name), choices)
        _check_verdict(new)
        _check_evidence(new.get("evidence"), new["rationale"])
        return cls(**new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Two critiques of one rationale, the better one first; scores by `scorer`, higher better."""

    domain: str
    rationale: str
    chosen: str
    rejected: str
    chosen_score: float
    rejected_score: float
    margin: float
    scorer: str
    group: str

    def to_row(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Check a row; ValueError says all that is wrong with its keys, else the first other."""
        new = dict(row)
        checks: list[Callable[[], object]] = [
            partial(check_keys, new, [one.name for one in fields(cls)])
        ]
        for one in fields(cls):
            check: Callable[[str, object], object] = number if one.type is float else check_filled
            checks.append(partial(check, one.name, new.get(one.name)))
        refuse_all(checks)
        new |= {one.name: float(new[one.name]) for one in fields(cls) if one.type is float}
        check_choice("domain", new["domain"], DOMAINS)
        _check_begins("chosen", new["chosen"])
        _check_begins("rejected", new["rejected"])
        if new["chosen"] == new["rejected"]:
            raise RefusedError("two different critiques", "the same text twice", "drop the pair")
        margin = new["chosen_score"] - new["rejected_score"]
        if abs(new["margin"] - margin) > _MARGIN_SLACK:
            raise RefusedError(
                f"margin {margin}", str(new["margin"]), "chosen minus rejected score"
            )
        return cls(**new)


@dataclass(frozen=True)
class Reading:
    """What one file held; `bad` lines were set aside, `unlabelled` rows have label null.

    `renamed` counts the flaws that had a public set's name (`minicrit.taxonomy`), by both names.
    """

    examples: list[Example]
    bad: int
    unlabelled: int
    path: Path
    renamed: Counter[str] = field(default_factory=Counter)


def change_of(example: Example) -> str | None:
    """The change that a training text went through; None without one."""
    change = example.id.rpartition("/")[2]
    of_the_suite = example.source.startswith("adversarial/")
    return change if change in CHANGES and not of_the_suite else None


def lacking_span(evidence: str, rationale: str) -> str | None:
    """A span of the evidence that does not stand in a text word for word; None if all do."""
    spans = [] if evidence in rationale else evidence.split(_SPAN_BREAK)
    return next((one for one in spans if not one.strip() or one not in rationale), None)


def read_examples(
    path: str | Path,
    *,
    max_bad: float = 0.01,
    rejects: str | Path | None = None,
    setting: str | None = None,
) -> Reading:
    """Read a file of examples; bad lines go to `<name>.rejected.jsonl`.

    A row that names no split is of the one that the file is named after (`test.jsonl`), else of
    `train`.

    Args:
        path: a .jsonl or .jsonl.gz file.
        max_bad: largest share of bad lines, 0 to 1; more is a ValueError, as is no good line.
        rejects: folder for the bad lines; None: beside the file.
        setting: what a user sets `max_bad` by, for the message; None: nothing.
    """
    path = Path(path)
    examples: dict[str, Example] = {}
    bad: list[BadLine] = []
    unlabelled = unnamed = 0
    split = split_of(stem_of(path))
    names: Counter[str] = Counter()
    for line, raw in raw_lines(path):
        try:
            row = labelled(parse_line(raw))
            if row is None:
                unlabelled += 1
                continue
            example = Example.from_row(row, source=stem_of(path), split=split)
            if example.id in examples:
                raise RefusedError("each id once", example.id, "give every row its own id")
            examples[example.id] = example
            unnamed += "split" not in row
            names.update(renamed(row.get("flaw_type"), example.flaw_type))
        except RefusedError as error:
            bad.append(BadLine(path, line, error.expected, error.got, error.remedy, raw))
    aside = Path(rejects or path.parent) / f"{stem_of(path)}.rejected.jsonl"
    _set_aside(bad, aside)
    allow = f", or allow more ({setting})" if setting else ""
    place = (aside, f"mend them, all are in {aside}{allow}")
    _judge(path, bad, (len(examples), unlabelled), max_bad, place)
    if unnamed and {split_word(stem_of(path))} == {e.label for e in examples.values()}:
        _doubt_name(path)
    return Reading(list(examples.values()), len(bad), unlabelled, path, names)


def _doubt_name(path: Path) -> None:
    """Valid is its split by its name, but may be the label of all its rows."""
    if (beside := path.with_name(path.name.replace("valid", "flawed"))).is_file():
        raise ValueError(f"{path}: expected a name that is not that of the split validation, "
                         f"got the label of all its rows, as of {beside.name} beside it; "
                         "rename it, or write the split into the rows")  # fmt: skip
    _log.warning("%s: its name is taken for that of the split validation, not for the label of "
                 "all its rows; where it is the label, rename the file or write the split into "
                 "the rows", path)  # fmt: skip


def read_folder(path: str | Path, **told: Any) -> list[Reading]:
    """Read every file of a folder (`example_files`), told the same as `read_examples`.

    ValueError with all files that are refused: the lines of one can be mended with the others'.
    """
    found: list[Reading] = []
    refused: list[str] = []
    for file in example_files(path):
        try:
            found.append(read_examples(file, **told))
        except ValueError as error:
            refused.append(str(error))
    if refused:
        raise ValueError("\n".join(refused))
    return found


def write_examples(path: str | Path, examples: Iterable[Example]) -> int:
    """Write examples that `read_examples` will take, atomically; the number of rows."""
    return write_rows(path, _checked(path, examples))


def _checked(path: str | Path, examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for line, example in enumerate(examples, start=1):
        row = example.to_row()
        try:
            Example.from_row(row)
            if example.id in seen:
                raise RefusedError("each id once", example.id, "give every example its own id")
        except RefusedError as error:
            raise ValueError(f"{path}:{line}: {error}") from error
        seen.add(example.id)
        yield row


def labelled(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row under today's names; None if its label is null."""
    new = _today(row)
    return None if new.get("label", "") is None else new


def _today(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row under today's names; a row that has them already comes back equal."""
    new: dict[str, Any] = {}
    for key, value in row.items():
        name = _OLD_NAMES.get(key, key)
        if name in new:
            raise RefusedError(
                f"{name} once", f"it under an older name too ({key})", "keep one of them"
            )
        new[name] = value
    suspicious = new.get("kind") == "hard_negative"  # upstream: valid, but looks suspicious
    labels = [new["label"]] if "label" in new else []
    if "is_valid" in new:
        labels.append(_label_of(new.pop("is_valid")))
    if suspicious:
        new["kind"] = "suspicious_valid"
        labels.append("valid")
    if any(label != labels[0] for label in labels):
        got = " and ".join(map(str, labels))
        raise RefusedError("label, is_valid and data_type to agree", got, "keep the right one")
    return {**new, "label": labels[0]} if labels else new


def _label_of(is_valid: object) -> str | None:
    if is_valid is not None and not isinstance(is_valid, bool):
        remedy = "write it so, without quotes"
        raise RefusedError("is_valid true, false or null", repr(is_valid), remedy)
    return None if is_valid is None else LABELS[0] if is_valid else LABELS[1]


def _check_begins(name: str, critique: str) -> None:
    """A critique is learnt from its verdict on."""
    from minicrit.prompts import LEAD_IN, VERDICT_WORDS  # which needs this module first

    if not critique.startswith(tuple(LEAD_IN + word for word in VERDICT_WORDS.values())):
        raise RefusedError(f"{name} that begins with its verdict", repr(critique[:40]),
                           "leave the pair out")  # fmt: skip


def _check_verdict(row: Mapping[str, Any]) -> None:
    wrong = ("strengths",) if row["label"] == "flawed" else ("flaw_type", "severity", "fix")
    for name in wrong:
        if row.get(name) is not None:
            remedy = "make it null or mend the label"
            raise RefusedError(f"no {name} on a {row['label']} row", row[name], remedy)


def _check_evidence(evidence: str | None, rationale: str) -> None:
    if evidence is not None and (span := lacking_span(evidence, rationale)) is not None:
        remedy = "copy the span, or join several by a line holding [...]"
        if lacking_span(_composed(evidence), _composed(rationale)) is None:
            remedy = "write both in one form of Unicode, such as NFC: accents are spelt otherwise"
        raise RefusedError("evidence verbatim in the rationale", repr(span), remedy)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _set_aside(bad: list[BadLine], target: Path) -> None:
    """Write the refused lines; without any, remove the file of an earlier reading.

    Raises:
        ValueError: if it cannot be written, or somebody else's file has that name.
    """
    try:
        if target.exists() and not _holds_refused(target):
            if bad:
                raise ValueError(f"{target}: expected no file, or the refused lines of an earlier "
                                 "reading, got another one; move it away, or pass another folder "
                                 "(rejects)")  # fmt: skip
            return
        if bad:
            write_rows(target, (line.to_row() for line in bad))
        elif target.exists():
            target.unlink()
    except OSError as error:
        remedy = "pass another folder (rejects)"
        message = f"{target}: expected a folder for refused lines, got {error.strerror}; {remedy}"
        raise ValueError(message) from error


def _holds_refused(path: Path) -> bool:
    """Whether a file begins as one of refused lines does."""
    with path.open("rb") as file:
        first = file.readline()
    try:
        return parse_line(first).keys() == {"line", "reason", "raw"}
    except ValueError:
        return False


def _judge(
    path: Path, bad: list[BadLine], other: tuple[int, int], max_bad: float, place: tuple[Path, str]
) -> None:
    """Log what was left out; ValueError that shows it if too much was, or if nothing was good."""
    total = len(bad) + sum(other)
    first = [str(line) for line in bad[:_FIRST]]
    got = f"{len(bad)} bad lines of {total}"
    aside, remedy = place
    if other[0] == 0:
        expected = "at least one labelled example"
        remedy = f"check that this is the right file{', or ' + remedy if bad else ''}"
    elif len(bad) / total > max_bad:
        expected = f"at most {max_bad:.2%} bad lines"
    else:
        said = [*first, f"{path}: {got} set aside in {aside}"] if bad else []
        said += [f"{path}: left out, as their label is null: {other[1]} rows"] if other[1] else []
        for message in said:
            _log.warning("%s", message)
        return
    raise ValueError("\n".join([f"{path}: expected {expected}, got {got}; {remedy}", *first]))
