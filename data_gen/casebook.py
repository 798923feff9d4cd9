"""The casebook: squares in natural prose, written by hand, to train on and never to measure with.

A case has two versions of its evidence and two of its claim; each claim fits one of the versions
and not the other, so that neither half alone tells the label. `casebook/*.yaml` says

    id, domain, text        with {evidence} and {claim} in it once each
    kind                    of the flawed texts, none that is of sound ones
    evidence, claim         a: ..., b: ...
    flawed                  ab and ba (evidence, claim): flaw, severity, evidence, critique, fix;
                            null for a text whose label could be disputed
    sound                   aa and bb: strengths, critique

`<one|another>` are wordings that mean the same. A draw takes one of each for all texts of a square.
A flawed text quotes its `claim`, its `evidence`, or a span that is written out.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count as count_from
from pathlib import Path
from typing import Any

from data_gen.public import order_key
from data_gen.scene import read_items
from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES, SEVERITIES

SOURCE = "casebook"
FOLDER = Path(__file__).parent / "casebook"
#: Of so many cases one is kept for validation.
VALIDATION = 10

_CHOICE = re.compile(r"<([^<>|]*(?:\|[^<>|]*)+)>")
_FIELDS = {"id", "domain", "kind", "text", "evidence", "claim", "flawed", "sound"}
_FLAWED = {"flaw", "severity", "evidence", "critique", "fix"}
_SOUND = {"strengths", "critique"}
_HALVES = ("evidence", "claim")
#: Kinds of sound texts: flawed ones among them would blur what is measured by kind.
_SOUND_KINDS = ("sophisticated_valid", "suspicious_valid", "uncertain_correct")


@dataclass(frozen=True)
class Case:
    """One case as it is written, wordings still open; see above for the fields."""

    id: str
    domain: str
    kind: str
    text: str
    evidence: Mapping[str, str]
    claim: Mapping[str, str]
    flawed: Mapping[str, Mapping[str, str] | None]
    sound: Mapping[str, Mapping[str, str]]

    @property
    def split(self) -> str:
        """Where all its texts go; decided by the id alone, so that new cases move no old one."""
        place = int.from_bytes(order_key("casebook", self.id)) % VALIDATION
        return "validation" if place == 0 else "train"

    def draw(self, seed: str, number: int) -> list[Example]:
        """The texts of one draw of wordings, evidence a before evidence b."""
        rng = random.Random(f"{seed}/{self.id}/{number}")  # noqa: S311 - reproducible, not secret
        text = worded(self.text, rng)
        halves = {half: {side: worded(getattr(self, half)[side], rng) for side in "ab"}
                  for half in _HALVES}  # fmt: skip
        found = []
        for which in ("aa", "ab", "ba", "bb"):
            said = self.sound.get(which) or self.flawed.get(which)
            if said is None:
                continue
            parts = {half: halves[half][side] for half, side in zip(_HALVES, which, strict=True)}
            row = self._row(which, text, parts, {k: worded(v, rng) for k, v in said.items()})
            group = f"{SOURCE}/{self.id}/{number}"
            found.append(Example.from_row({**row, "id": f"{group}/{which}", "group": group}))
        return found

    def _row(
        self, which: str, text: str, parts: Mapping[str, str], said: Mapping[str, str]
    ) -> dict[str, Any]:
        row = {
            "domain": self.domain, "source": f"{SOURCE}/{self.id}", "split": self.split,
            "rationale": text.replace("{evidence}", parts["evidence"])
                             .replace("{claim}", parts["claim"]).strip(),
        }  # fmt: skip
        if which in self.sound:
            return {**row, **said, "label": "valid", "kind": "suspicious_valid"}
        quoted = parts.get(said["evidence"], said["evidence"]).strip()
        told = {"flaw_type": said["flaw"], "severity": said["severity"], "evidence": quoted,
                "critique": said["critique"], "fix": said["fix"]}  # fmt: skip
        return {**row, **told, "label": "flawed", "kind": self.kind}


def drawn_cases(
    count: int, seed: int, split: str, cases: Sequence[Case] | None = None
) -> list[Example]:
    """At least `count` texts of a split, whole squares, the cases in turn; no text comes twice.

    Fewer if the wordings are used up.
    """
    own = [case for case in (casebook() if cases is None else cases) if case.split == split]
    own.sort(key=lambda case: order_key(f"{seed}/casebook", case.id))
    going = [_squares(case, str(seed)) for case in own]
    found: list[Example] = []
    while going:
        for squares in list(going):
            if len(found) >= count:
                return found
            square = next(squares, None)
            if square is None:
                going.remove(squares)
            else:
                found += square
    return found


def _squares(case: Case, seed: str) -> Iterator[list[Example]]:
    """Draws of a case that share no text."""
    seen: set[str] = set()
    missed = 0
    for number in count_from(0):
        texts = case.draw(seed, number)
        if seen.isdisjoint(e.rationale for e in texts):
            seen.update(e.rationale for e in texts)
            missed = 0
            yield texts
        elif (missed := missed + 1) == _PATIENCE:
            return


#: Draws in a row without a new square after which the wordings count as used up.
_PATIENCE = 50


@cache
def casebook() -> tuple[Case, ...]:
    """The cases that are shipped."""
    return tuple(read_cases(FOLDER))


def read_cases(folder: Path) -> list[Case]:
    """The cases of all files of a folder, in the order of their names.

    Raises:
        ValueError: `path: case (id): expected ..., got ...; remedy`.
    """
    cases = [case for path in sorted(folder.glob("*.yaml")) for case in _read_file(path)]
    double = [name for name, n in Counter(case.id for case in cases).items() if n > 1]
    if double:
        raise ValueError(f"{folder}: expected each id once, got {double[0]} again; rename one")
    return cases


def _read_file(path: Path) -> Iterator[Case]:
    for number, row in enumerate(read_items(path, "cases"), 1):
        where = f"{path}: case {number} ({row.get('id')})"
        try:
            yield _case(row)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _case(row: Mapping[str, Any]) -> Case:
    _check_keys("a case", row, _FIELDS, inner=(*_HALVES, "flawed", "sound"))
    for half in _HALVES:
        _check_keys(half, row[half], {"a", "b"})
        if row["text"].count("{" + half + "}") != 1:
            times = row["text"].count("{" + half + "}")
            raise ValueError(f"expected {{{half}}} once in the text, got it {times} times; "
                             "mend the text")  # fmt: skip
    _check_keys("sound", row["sound"], {"aa", "bb"}, inner=("aa", "bb"))
    for said in row["sound"].values():
        _check_keys("a sound text", said, _SOUND)
    _check_flawed(row)
    case = Case(**{name: row[name] for name in _FIELDS})
    for number in range(_TRIED):
        _check_texts(case.draw("check", number))
    return case


def _check_flawed(row: Mapping[str, Any]) -> None:
    if row["kind"] in _SOUND_KINDS:
        raise ValueError(f"expected the kind of the flawed texts, got {row['kind']}, which is one "
                         "of sound texts; name another")  # fmt: skip
    _check_keys("flawed", row["flawed"], {"ab", "ba"}, inner=("ab", "ba"))
    wrong = [said for said in row["flawed"].values() if said is not None]
    if not wrong:
        raise ValueError("expected a flawed text, got none; drop the case")
    for said in wrong:
        _check_keys("a flawed text", said, _FLAWED)
        if said["flaw"] not in FLAW_TYPES or said["severity"] not in SEVERITIES:
            raise ValueError(f"expected a flaw and a severity of the taxonomy, got {said['flaw']} "
                             f"and {said['severity']}; see minicrit/taxonomy.py")  # fmt: skip


#: Draws of each case that are checked when it is read.
_TRIED = 4


def _check_texts(texts: Sequence[Example]) -> None:
    if len({text.rationale for text in texts}) < len(texts):
        raise ValueError("expected different texts, got one twice; let the halves differ")
    for text in texts:
        if left := re.search(r"[<>{}|]", re.sub(r"[<>]=?\s*-?[\d$€£]", "", text.rationale)):
            raise ValueError(f"expected no open brackets, got {left[0]!r} in {text.rationale!r}; "
                             "close the wordings")  # fmt: skip
        times = text.rationale.count(text.evidence) if text.evidence else 1
        if times != 1:
            raise ValueError(f"expected the quoted evidence once in the text, got "
                             f"{text.evidence!r} {times} times; mend it")  # fmt: skip


def _check_keys(what: str, value: Any, wanted: set[str], *, inner: Sequence[str] = ()) -> None:
    """Exactly these keys, with text in each but those of `inner`, which are checked themselves."""
    if not isinstance(value, dict) or set(value) != wanted:
        got = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise ValueError(f"expected {what} with {sorted(wanted)}, got {got}; mend it")
    for key, one in value.items():
        if key not in inner and not (isinstance(one, str) and one.strip()):
            raise ValueError(f"expected text in {key}, got {one!r}; mend it")


def worded(text: str, rng: random.Random) -> str:
    """One of each `<one|another>`, inner ones first."""
    while found := _CHOICE.search(text):
        text = text[: found.start()] + rng.choice(found[1].split("|")) + text[found.end() :]
    return text
