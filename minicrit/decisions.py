"""Operators' decisions, read strictly from CSV, and the rationales they were made on."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minicrit.jsonl import shown
from minicrit.tabular import table_rows
from minicrit.taxonomy import DOMAINS

REQUIRED = ("rationale", "domain", "operator", "decision")
OPTIONAL = ("request_id", "time")


@dataclass(frozen=True, slots=True)
class Decision:
    """What one operator decided on one rationale; `line` is where it stands."""

    line: int
    domain: str
    rationale: str
    operator: str
    flawed: bool
    request_id: str = ""
    time: str = ""


@dataclass(frozen=True)
class Case:
    """A rationale with all decisions on it."""

    decisions: tuple[Decision, ...]

    @property
    def domain(self) -> str:
        """Of the rationale."""
        return self.decisions[0].domain

    @property
    def rationale(self) -> str:
        """What was decided on."""
        return self.decisions[0].rationale

    @property
    def flawed(self) -> int:
        """How many called it flawed."""
        return sum(decision.flawed for decision in self.decisions)

    @property
    def majority(self) -> bool | None:
        """Whether most called it flawed; None for a tie."""
        twice = 2 * self.flawed - len(self.decisions)
        return twice > 0 if twice else None

    def others(self, decision: Decision) -> bool | None:
        """What most of the others said; None if there is no majority or nobody else."""
        rest = tuple(one for one in self.decisions if one is not decision)
        return Case(rest).majority if rest else None


def read_decisions(path: Path, valid: str, flawed: str) -> list[Case]:
    """The rationales of a log in the order in which they first occur.

    All is read in NFC, as the service reads a rationale, so that what systems spell in two ways (an
    accent of its own or not) is one: a rationale, an operator who else counted twice, a word.

    Args:
        path: a .csv or .csv.gz file.
        valid: words for "valid", separated by commas; case does not count.
        flawed: words for "flawed".

    Raises:
        ValueError: `file:line: expected ..., got ...; remedy`.
    """
    meaning = _meaning(valid, flawed)
    found: dict[tuple[str, str], dict[str, Decision]] = {}
    for line, given in table_rows(path, REQUIRED, OPTIONAL):
        row = {**given, **{name: _composed(given[name]) for name in REQUIRED}}
        where = f"{path}:{line}"
        for name in ("rationale", "operator"):
            if not row[name]:
                raise ValueError(f"{where}: expected {name} with something in it, got nothing; "
                                 "fill it in")  # fmt: skip
        if row["domain"] not in DOMAINS:
            raise ValueError(f"{where}: expected domain of {', '.join(DOMAINS)}, got "
                             f"{shown(row['domain'])}; write one of them")  # fmt: skip
        said = meaning.get(row["decision"].lower())
        if said is None:
            raise ValueError(f"{where}: expected decision of {', '.join(meaning)}, got "
                             f"{shown(row['decision'])}; write one of them, or name it in "
                             "agreement.valid or agreement.flawed")  # fmt: skip
        case = found.setdefault((row["domain"], row["rationale"]), {})
        if (earlier := case.get(row["operator"])) is not None:
            raise ValueError(f"{where}: expected one decision of {shown(row['operator'])} on a "
                             f"rationale, got a second one (first on line {earlier.line}); keep "
                             "the one that counts")  # fmt: skip
        case[row["operator"]] = Decision(line, row["domain"], row["rationale"], row["operator"],
                                         said, row.get("request_id", ""), row.get("time", "")
                                         )  # fmt: skip
    if not found:
        raise ValueError(f"{path}:2: expected at least one decision, got none; check the file")
    return [Case(tuple(case.values())) for case in found.values()]


def _meaning(valid: str, flawed: str) -> dict[str, bool]:
    words = {name: _words(name, text) for name, text in (("valid", valid), ("flawed", flawed))}
    if both := set(words["valid"]) & set(words["flawed"]):
        raise ValueError(f"agreement.valid, agreement.flawed: expected each word in one of them, "
                         f"got {shown(min(both))} in both; keep it in one")  # fmt: skip
    return {w: False for w in words["valid"]} | {w: True for w in words["flawed"]}


def _words(name: str, text: str) -> Sequence[str]:
    found = [word.strip().lower() for word in _composed(text).split(",") if word.strip()]
    if not found:
        raise ValueError(f"agreement.{name}: expected words separated by commas, got none; name at "
                         "least one")  # fmt: skip
    return found


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
