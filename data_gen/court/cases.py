"""The fixed set by which a judge qualifies: pairs of critiques of known quality, written by hand.

`qualifying-<version>.yaml` has the form in its head. What is shown to the judge is a `Question`; a
case knows beside it which critique is better, or that both are alike.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data_gen.court.comparison import Question
from data_gen.scene import read_items
from minicrit.prompts import UnparsedError, parse_critique
from minicrit.taxonomy import DOMAINS

VERSION = "1"
PATH = Path(__file__).parent / f"qualifying-{VERSION}.yaml"
INJECTION, LENGTH, EQUAL = "injection", "length", "equal"
KINDS = ("verdict", "flaw", "evidence", "mechanism", LENGTH, INJECTION, EQUAL)
_NEEDED = {"id", "domain", "text", "right", "pairs"}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A pair of critiques and what a judge should say of it.

    Attributes:
        id: of the rationale, and the number of the pair.
        kind: what tells the critiques apart, one of `KINDS`.
        question: critique `one` is the better one, or as good as `two` if the kind is `equal`.
        why: why that is so.
    """

    id: str
    kind: str
    question: Question
    why: str


@cache
def read_cases(path: Path = PATH) -> tuple[Case, ...]:
    """All cases of a file, in its order.

    Raises:
        ValueError: `path: item: expected ..., got ...; remedy`.
    """
    return tuple(case for number, row in enumerate(read_items(path, "cases"), 1)
                 for case in _cases(f"{path}: item {number} ({row.get('id')})", row))  # fmt: skip


def _cases(where: str, row: Row) -> Iterator[Case]:
    wrong = sorted(_NEEDED ^ set(row))
    if wrong or row["domain"] not in DOMAINS or not isinstance(row["pairs"], list):
        raise ValueError(f"{where}: expected {sorted(_NEEDED)} and a known domain, got "
                         f"{wrong or row['domain']} amiss; mend the item")  # fmt: skip
    for number, pair in enumerate(row["pairs"], 1):
        yield _case(f"{where}: pair {number}", f"{row['id']}/{number}", row, pair)


def _case(where: str, name: str, row: Row, pair: Row) -> Case:
    kind = pair.get("kind")
    other = "same" if kind == EQUAL else "worse"
    keys = set(pair) - {"better"}
    if kind not in KINDS or keys != {"kind", "why", other}:
        raise ValueError(f"{where}: expected a kind of {', '.join(KINDS)} with why and worse (same "
                         f"if equal), got {kind} with {sorted(keys)}; mend the pair")  # fmt: skip
    better = str(pair.get("better", row["right"]))
    try:
        parse_critique(better)
    except UnparsedError as error:
        raise ValueError(f"{where}: expected a good critique in the fixed form: {error}; mend "
                         "it") from error  # fmt: skip
    question = Question(row["domain"], row["text"], better, str(pair[other]))
    return Case(name, kind, question, str(pair["why"]))
