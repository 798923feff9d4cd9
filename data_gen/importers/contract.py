"""Example files (`minicrit/records.py`), as anybody may write them: checked and taken as they are.

Group and split are the row's own. A row without a label is set apart.
"""

from dataclasses import asdict

from data_gen.importers.draft import Draft, Importer, Place, Row, SetApartError
from minicrit.records import Example


def convert(row: Row, place: Place) -> list[Draft]:
    """The draft of one row."""
    if row.get("label", row.get("is_valid", "")) is None:
        raise SetApartError("no label")
    example = Example.from_row(row, source=place.stem)
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
