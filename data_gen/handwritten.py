"""The hand-written part of the adversarial suite: what stands in `suite/*.yaml`, read strictly.

An item says `id, part, domain, label, text, why`; a flawed one also `flaw` and `evidence`. A twin
says `twin_of` and `edits` instead of domain and text: it is the item named, with each `was`
exchanged for its `now`, so that nothing else can differ. `kind` and `group` are optional; what
shares a group is about the same case. A `note` says why a label can be disputed and what settles
it: for people, not for the critic. `variants.yaml` holds changes that keep the verdict: `of`,
`change`, and a new text or edits; label, flaw and reason are those of the item.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_gen.scene import read_items
from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES

#: Raise it with any change of an item once a result has been published on the version before.
VERSION = "1"
FOLDER = Path(__file__).parent / "suite"
VARIANTS = "variants.yaml"
PARTS = ("false_positive_trap", "subtle_flaw", "edge_case")
KEEP = "metamorphic_keep"
#: Changes that need a person: what a program does to a sentence may change what it says.
HAND_CHANGES = ("paraphrase", "unit_change", "reordered_premises")

_ALWAYS = {"id", "part", "label", "why"}
_TEXT, _TWIN = {"domain", "text"}, {"twin_of", "edits"}
_FLAW = {"flaw", "evidence"}
_OPTIONAL = {"kind", "group", "note"}
_LABELS = {"false_positive_trap": ("valid",), "subtle_flaw": ("flawed",),
           "edge_case": ("valid", "flawed")}  # fmt: skip
_KINDS = {"false_positive_trap": "suspicious_valid", "subtle_flaw": "subtle_flaw",
          "edge_case": "plain"}  # fmt: skip
Row = Mapping[str, Any]


def hand_written(folder: Path = FOLDER) -> list[Example]:
    """The items of all files but the variants, in the order of the files' names.

    Raises:
        ValueError: `path: item: expected ..., got ...; remedy`.
    """
    items: list[Example] = []
    for path in sorted(folder.glob("*.yaml")):
        if path.name != VARIANTS:
            _read_items(path, items)
    double = [name for name, n in Counter(item.id for item in items).items() if n > 1]
    if double:
        raise ValueError(f"{folder}: expected each id once, got {double[0]} again; rename one")
    return items


def notes(folder: Path = FOLDER) -> dict[str, str]:
    """What is said of items whose label can be disputed, by id."""
    rows = (row for path in sorted(folder.glob("*.yaml")) if path.name != VARIANTS
            for row in read_items(path, "items"))  # fmt: skip
    return {row["id"]: row["note"] for row in rows if "note" in row}


def hand_variants(items: Sequence[Example], path: Path = FOLDER / VARIANTS) -> list[Example]:
    """The hand-written changes of `items` that keep the verdict.

    Raises:
        ValueError: `path: item: expected ..., got ...; remedy`.
    """
    by_id = {item.id: item for item in items}
    found = []
    for number, row in enumerate(read_items(path, "items"), 1):
        where = f"{path}: item {number} ({row.get('of')})"
        _check_fields(where, row, {"of", "change"}, {"text", "edits", "evidence"})
        if row["change"] not in HAND_CHANGES or ("text" in row) == ("edits" in row):
            raise ValueError(f"{where}: expected a change of {HAND_CHANGES} and a text or edits, "
                             f"got {row['change']} with {sorted(row)}; mend it")  # fmt: skip
        base = _named(where, row["of"], by_id)
        text = row["text"] if "text" in row else edited(where, base.rationale, row["edits"])
        new = replace(base, id=f"{base.id}/{row['change']}", rationale=text,
                      evidence=row.get("evidence", base.evidence),
                      source=f"adversarial/{KEEP}/{row['change']}")  # fmt: skip
        found.append(_checked(where, new.to_row()))
    return found


def edited(where: str, text: str, edits: Sequence[Row]) -> str:
    """The text with each `was`, which must stand in it once, exchanged for its `now`."""
    for edit in edits:
        _check_fields(where, edit, {"was", "now"}, set())
        if text.count(edit["was"]) != 1 or edit["was"] == edit["now"]:
            raise ValueError(f"{where}: expected {edit['was']!r} once and another text for it, got "
                             f"it {text.count(edit['was'])} times; mend the edit")  # fmt: skip
        text = text.replace(edit["was"], edit["now"])
    return text


def _read_items(path: Path, items: list[Example]) -> None:
    """Adds the items of one file; a twin may be of any item before it."""
    for number, row in enumerate(read_items(path, "items"), 1):
        where = f"{path}: item {number} ({row.get('id')})"
        twin = "twin_of" in row
        flaw = _FLAW if row.get("label") == "flawed" else set()
        _check_fields(where, row, _ALWAYS | (_TWIN if twin else _TEXT) | flaw,
                      {"kind", "note"} if twin else _OPTIONAL)  # fmt: skip
        if row["label"] not in _LABELS.get(row["part"], ()):
            raise ValueError(f"{where}: expected a part of {PARTS} with a label that fits it, got "
                             f"{row['part']} amiss with {row['label']}; mend the item")  # fmt: skip
        base = _named(where, row["twin_of"], {i.id: i for i in items}) if twin else None
        items.append(_item(where, row, base))


def _item(where: str, row: Row, base: Example | None) -> Example:
    flaw = row.get("flaw")
    group = f"adversarial/{row.get('group', row['id'])}"
    return _checked(where, {
        "id": f"adversarial-{VERSION}/{row['id']}",
        "domain": base.domain if base else row["domain"],
        "rationale": edited(where, base.rationale, row["edits"]) if base else row["text"],
        "label": row["label"], "flaw_type": flaw,
        "severity": FLAW_TYPES[flaw].severity if flaw in FLAW_TYPES else None,
        "evidence": row.get("evidence"), "critique": row["why"],
        "kind": row.get("kind", _KINDS[row["part"]]),
        "group": base.group if base else group,
        "source": f"adversarial/{row['part']}/hand", "split": "test",
    })  # fmt: skip


def _checked(where: str, row: Row) -> Example:
    """The example; a flaw must be of the taxonomy, and its evidence stand in the text once."""
    try:
        if row["label"] == "flawed" and row["flaw_type"] not in FLAW_TYPES:
            raise ValueError(f"expected a flaw of the taxonomy, got {row['flaw_type']}; "
                             "see minicrit/taxonomy.py")  # fmt: skip
        example = Example.from_row(row)
        if example.evidence and example.rationale.count(example.evidence) != 1:
            raise ValueError(f"expected evidence once in the text, got {example.evidence!r} "
                             "elsewhere or twice; copy a longer span")  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return example


def _check_fields(where: str, row: Row, needed: set[str], optional: set[str]) -> None:
    if not isinstance(row, Mapping):
        raise ValueError(f"{where}: expected the fields {sorted(needed)}, got {row!r}; mend the "
                         "item")  # fmt: skip
    wrong = sorted((needed - set(row)) | (set(row) - needed - optional))
    wrong += [key for key, value in sorted(row.items())
              if not isinstance(value, list if key == "edits" else str)]  # fmt: skip
    if wrong:
        raise ValueError(f"{where}: expected the fields {sorted(needed)} as text, "
                         f"got {wrong[0]} amiss; mend the item")  # fmt: skip


def _named(where: str, name: str, by_id: Mapping[str, Example]) -> Example:
    key = f"adversarial-{VERSION}/{name}"
    if key not in by_id:
        raise ValueError(f"{where}: expected the id of an item before it, got {name}; mend the id")
    return by_id[key]
