"""Example files (`minicrit/records.py`), as anybody may write them: checked and taken as they are.

Group and split are the row's own; one that names no split is of that of its file. A row without a
label is set apart. In a table, which knows no null, an empty cell says nothing.
"""

from dataclasses import asdict
from pathlib import Path

from data_gen.importers.draft import Draft, Importer, Place, Row, SetApartError
from data_gen.importers.raw import ending
from minicrit.records import Example, labelled
from minicrit.row_files import split_of


def convert(row: Row, place: Place) -> list[Draft]:
    """The draft of one row."""
    if table := ending(place.path) == ".csv":
        row = {name: cell for name, cell in row.items() if cell.strip()}
    found = labelled(row)
    if found is None or (table and "label" not in found):
        raise SetApartError("no label")
    stem = Path(place.path.name.removesuffix(".gz")).stem  # `desk.test` of `desk.test.jsonl`
    example = Example.from_row(row, source=stem, split=split_of(stem))
    fields = {k: v for k, v in asdict(example).items() if k not in ("group", "split")}
    fields["flaw_type"] = row.get("flaw_type")  # as it was called, which is counted
    return [Draft(fields=fields, key=example.group, split=example.split, group=example.group)]


IMPORTER = Importer(
    kind="example",
    home="(your own)",
    licence="as the rows say",
    valid="as the source says",
    keys=frozenset({"id", "rationale", "label"}),
    older={"input": "rationale", "is_valid": "label"},
    convert=convert,
)
