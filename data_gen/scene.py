"""Scenes: the vocabulary of one scenario family, from `families/<domain>/<name>.yaml`.

A scene holds no reasoning. It says what a rationale in this scenario can be about: who measures
what, on whom, under which conditions, which rival explanation is near. The mechanisms (in
`data_gen/mechanisms/`) turn these words into an argument and break it. Every slot is a list of
alternatives; one is drawn for each case. The grammar of each slot is fixed by the sentences
that use it, shown in `SLOTS` with the slot in braces.

What an argument turns on that anybody knows (which conclusion a fact allows, which reason bears on
which question) cannot be learnt from a few families. So each domain has a bank of many more
alternatives for such slots, `banks/<domain>.yaml`; it serves training alone.

    python -m data_gen.scene            # checks every family file
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from minicrit.taxonomy import DOMAINS

FAMILIES = Path(__file__).parent / "families"
BANKS = Path(__file__).parent / "banks"
SPLITS = ("train", "validation", "calibration", "test")


@dataclass(frozen=True)
class Slot:
    """One slot: its fields (empty: a plain string), how many alternatives, and its sentence."""

    fields: tuple[str, ...]
    least: int
    sentence: str
    required: bool = False


SLOTS: dict[str, Slot] = {
    "things": Slot((), 3, "I credit {thing} with it.", required=True),
    "adopt": Slot((), 2, "We should {adopt}.", required=True),
    "decline": Slot((), 2, "We should {decline}.", required=True),
    "openings": Slot((), 5, "{opening}", required=True),
    "fillers": Slot((), 7, "{filler}", required=True),
    "contrary": Slot((), 3, "{contrary}", required=True),
    "closings": Slot((), 5, "{closing}", required=True),
    "units": Slot(("one", "many", "success"), 2, "Of 40 {many}, 36 {success}; each {one} counts."),
    "metric": Slot(
        ("name", "unit", "low", "high", "step", "better"),
        2,
        "{name} went from 4.1{unit} to 2.9{unit}.  # better: lower or higher",
    ),
    "groups": Slot(("treated", "control"), 2, "{treated} got {thing}, {control} did not."),
    "conditions": Slot(
        ("a", "b", "why"),
        2,
        "The trial was run only {a}. We shall use it {b}. What holds in one need not hold in the "
        "other: {why}.  # true the other way round too, so neither may be the harder one",
    ),
    "rosters": Slot(
        ("all", "survivors", "lost", "starters", "did", "do"),
        2,
        "The table covers {all|survivors}; 70% of them {did}. About 70% of {starters} will {do}. "
        "{lost} are not in the table.",
    ),
    "series": Slot(
        ("many", "total", "subject", "ahead"),
        2,
        "I quote five of the twelve {many}. {subject} {ahead} over {total} as a whole.",
    ),
    "sequences": Slot(("a", "b"), 2, "{a} came nine minutes before {b}. {a} brought on {b}."),
    "alarms": Slot(
        ("alarm", "truth", "items"),
        2,
        "Of 1,000 {items} one is {truth}. {alarm} nearly always means {truth}.",
    ),
    "trackers": Slot(
        ("who", "call", "hit"),
        2,
        "Of {who}'s last 40 {call}s, 36 {hit}. That the next {call} will do so too has a chance "
        "of 90%.",
    ),
    "batches": Slot(
        ("items", "period", "periods", "verb"),
        2,
        "{verb} 40 {items} a {period} over 6 {periods}: 240 {items}.",
    ),
    "entailments": Slot(
        ("a", "b", "if_a", "if_b", "why"),
        4,
        "{a|b}. Therefore {if_a|if_b}. That does not fit: {why}.",
    ),
    "options": Slot(
        ("one", "two", "third", "closed", "open"),
        2,
        "{closed|open}. That leaves {one} and {two}. {third} is possible too.",
    ),
    "checks": Slot(
        ("figure", "source", "independent", "derived"),
        2,
        "{figure} agrees with {source}. {source} {independent|derived}.",
    ),
    "criteria": Slot(
        ("hypothesis", "measure", "unit", "low", "high", "keep", "drop"),
        2,
        "{measure} above 50{unit} was to make us give up {hypothesis}. It came to 62{unit}. "
        "We {keep|drop}.",
    ),
    "estimates": Slot(
        ("quantity", "unit", "low", "high", "rumour", "first", "second"),
        2,
        "{rumour} put {quantity} at 3,000{unit}. {first} gives 1,000{unit}, {second} 1,050{unit}.",
    ),
    "relevance": Slot(
        ("q1", "r1", "q2", "r2"),
        3,
        "The question is {q1|q2}. The answer is yes, because {r1|r2}.",
    ),
    "experts": Slot(
        ("q1", "e1", "q2", "e2"),
        2,
        "The question is {q1|q2}. {e1|e2} says yes, and I go by that.",
    ),
    "projects": Slot(
        ("project", "finish", "unit"), 2, "{project} has cost 400{unit} so far. We shall {finish}."
    ),
    "confounders": Slot(
        ("present", "absent", "noun"),
        2,
        "{present|absent}. Besides {thing}, {noun} can explain it.",
    ),
    "assignments": Slot(
        ("lot", "self", "who"), 2, "{lot|self}. The difference may come from {who}."
    ),
    "signs": Slot(
        ("present", "absent", "risk", "proceed", "hold"),
        3,
        "{present|absent}. Nothing points to {risk}, so we {proceed}. / There is a sign of {risk}, "
        "so we {hold}.",
    ),
    "extremes": Slot(
        ("measure", "worst", "drawn"),
        2,
        "As for {thing}, {worst|drawn}. A month later {measure} was better there.  # worst in the "
        "measure, one of the metrics by name; what they got is the thing",
    ),
    "exposures": Slot(
        ("a", "b", "events", "exposure"),
        2,
        "{a} had 40 {events} in 4,000 {exposure}, {b} 20 in 1,000.",
    ),
    "rules": Slot(("one", "many", "data"), 2, "{one} was the best of 60 {many} tried on {data}."),
    "changes": Slot(
        ("test", "change"),
        2,
        "{test} was run two weeks before {change}. It shows how things stand now.",
    ),
}
META = ("name", "domain", "split")


@dataclass(frozen=True)
class Scene:
    """One family. `slots[name]` is a tuple of strings or of mappings, as `SLOTS` says."""

    name: str
    domain: str
    split: str
    slots: Mapping[str, tuple[Any, ...]]

    @property
    def family(self) -> str:
        """Domain and name, as in the path."""
        return f"{self.domain}/{self.name}"


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is far faster


class StrictLoader(_Loader):  # type: ignore[misc]
    """YAML without silent surprises: a key that stands twice is an error."""


def _mapping_without_duplicates(loader: StrictLoader, node: yaml.MappingNode) -> dict[str, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} stands twice", node.start_mark
            )
    return {
        key: loader.construct_object(value, deep=True)
        for key, (_, value) in zip(keys, node.value, strict=True)
    }


StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def read_items(path: Path, what: str) -> list[dict[str, Any]]:
    """The mappings of a YAML file that is a list of them.

    Raises:
        ValueError: `path: expected ..., got ...; remedy`.
    """
    try:
        rows = yaml.load(path.read_text(encoding="utf-8"), Loader=StrictLoader)  # noqa: S506
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: expected YAML, got {error}; mend the file") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: expected a list of {what}, got something else; mend the file")
    return rows


def read_scene(path: Path) -> Scene:
    """Reads and checks one family file; every fault is a ValueError naming file and slot."""
    raw = _mapping(path)
    faults = list(_faults(raw))
    if raw.get("domain") != path.parent.name or raw.get("name") != path.stem:
        faults.append(f"name and domain must be those of the path, {path.parent.name}/{path.stem}")
    _refuse(path, faults)
    slots = {key: tuple(value) for key, value in raw.items() if key not in META}
    return Scene(raw["name"], raw["domain"], raw["split"], slots)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=StrictLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got {error}; mend the file") from error
    if not isinstance(raw, dict):
        raise ValueError(
            f"{path}: expected a mapping at the top, got something else; mend the file"
        )
    return raw


def _refuse(path: Path, faults: list[str]) -> None:
    if faults:
        raise ValueError(f"{path}: " + f"\n{path}: ".join(faults))


def _faults(raw: dict[str, Any]) -> "list[str]":
    faults = [f"missing key {key!r}" for key in META if key not in raw]
    if raw.get("domain") not in DOMAINS:
        faults.append(f"domain: expected one of {DOMAINS}, got {raw.get('domain')!r}")
    if raw.get("split") not in SPLITS:
        faults.append(f"split: expected one of {SPLITS}, got {raw.get('split')!r}")
    faults += [f"unknown slot {key!r}" for key in raw if key not in META and key not in SLOTS]
    faults += [f"missing slot {k!r}" for k, slot in SLOTS.items() if slot.required and k not in raw]
    for key, slot in SLOTS.items():
        if key in raw:
            faults += _slot_faults(key, slot, raw[key])
    return faults or _measure_faults(raw)


def _measure_faults(raw: Mapping[str, Any]) -> "list[str]":
    """Where what was picked for being extreme is so in nothing that the family measures."""
    names = [metric["name"] for metric in raw.get("metric", ())]
    return [
        f"extremes[{number}].measure: expected the name of a metric, one of {names}, got "
        f"{item['measure']!r}"
        for number, item in enumerate(raw.get("extremes", ()), 1)
        if item["measure"] not in names
    ]


_NUMERIC = {"low", "high", "step"}
#: The answer to each of these is yes.
_QUESTIONS = {"q1", "q2"}
_SENTENCES = {"openings", "fillers", "contrary", "closings"}
#: What ought to be done and what is worth doing: every merit bears on it, so that no reason is
#: beside the point.
_WEIGHED = re.compile(r"\b(?:should|worth|good value|right place)\b")


def _slot_faults(key: str, slot: Slot, items: Any) -> "list[str]":
    if not isinstance(items, list) or len(items) < slot.least:
        return [f"{key}: expected a list of at least {slot.least}"]
    faults = []
    for number, item in enumerate(items, 1):
        where = f"{key}[{number}]"
        if slot.fields:
            if not isinstance(item, dict) or set(item) != set(slot.fields):
                faults.append(f"{where}: expected the fields {slot.fields}, got {item!r}")
                continue
            faults += [f"{where}.{f}: {m}" for f, v in item.items() if (m := _bad_value(f, v))]
            if key == "relevance":
                faults += _weighed(where, item)
        elif message := _bad_value(key, item):
            faults.append(f"{where}: {message}")
    return faults


def _weighed(where: str, item: Mapping[str, Any]) -> "list[str]":
    return [
        f"{where}.{q}: expected a question of fact, got {item[q]!r}; every merit bears on that one"
        for q in sorted(_QUESTIONS)
        if isinstance(item[q], str) and _WEIGHED.search(item[q])
    ]


def _bad_value(field: str, value: Any) -> str | None:
    if field in _NUMERIC:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
        return None if good else f"expected a number above 0, got {value!r}"
    if not isinstance(value, str) or (not value.strip() and field != "unit"):
        return f"expected text, got {value!r}; put it in quotes"
    if field == "better":
        return None if value in ("lower", "higher") else f"expected lower or higher, got {value!r}"
    if field in _SENTENCES:
        return None if re.search(r"[.!?:)]$", value) else f"expected a full sentence: {value!r}"
    if value.rstrip().endswith("."):
        return f"expected a phrase without a full stop, got {value!r}"
    choice = field in _QUESTIONS and re.search(r"\bor\b", value)
    return f"expected a question that yes or no answers, got {value!r}" if choice else None


@cache
def scenes() -> tuple[Scene, ...]:
    """All families, sorted by path so that drawing from them is reproducible."""
    return tuple(read_scene(path) for path in sorted(FAMILIES.glob("*/*.yaml")))


def read_bank(path: Path) -> dict[str, tuple[Any, ...]]:
    """More alternatives by slot; faults as in `read_scene`."""
    raw = _mapping(path)
    faults = [f"unknown slot {key!r}" for key in raw if key not in SLOTS]
    if path.stem not in DOMAINS:
        faults.append(f"name: expected that of a domain, one of {DOMAINS}")
    for key in raw.keys() & SLOTS.keys():
        faults += _slot_faults(key, SLOTS[key], raw[key])
    _refuse(path, faults)
    return {key: tuple(items) for key, items in raw.items()}


@cache
def _bank(domain: str) -> dict[str, tuple[Any, ...]]:
    path = BANKS / f"{domain}.yaml"
    return read_bank(path) if path.is_file() else {}


def banked(scene: Scene) -> Scene:
    """The scene with what the bank of its domain adds to the slots that it has.

    Raises:
        ValueError: for a scene that is not for training: a bank is shared by all families.
    """
    if scene.split != "train":
        raise ValueError(f"{scene.family}: expected a family for training, got one for "
                         f"{scene.split}; compose that without banks")  # fmt: skip
    more = _bank(scene.domain)
    slots = {key: (*items, *more.get(key, ())) for key, items in scene.slots.items()}
    return replace(scene, slots=slots)


def main() -> int:
    """Checks every file and prints the faults; the exit status is 1 if there are any."""
    bad = 0
    families, banks = sorted(FAMILIES.glob("*/*.yaml")), sorted(BANKS.glob("*.yaml"))
    for path, read in [*((f, read_scene) for f in families), *((b, read_bank) for b in banks)]:
        try:
            read(path)
        except ValueError as error:
            bad += 1
            sys.stdout.write(f"{error}\n")
    sys.stdout.write(f"{len(families)} families, {len(banks)} banks, {bad} with faults\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
