"""Edge cases of about 4,000 words: a log in which one line decides, or none does.

The frame is written by hand, the lines follow from their number. The claim is about every line, so
a critic has to have read them all.
"""

from collections.abc import Mapping

from data_gen.handwritten import VERSION
from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES

LINES = 430
LOW, HIGH = 2.0, 8.0  # degrees
_OPENING = (
    "Vaccine fridge, readings of the whole log, one each shift. The batch may be used if no "
    f"reading left the range of {LOW} to {HIGH} degrees."
)
_CLOSING = (
    f"No reading in this log left the range of {LOW} to {HIGH} degrees. The batch may be used."
)
#: Item -> what stands at which line (from 1) in place of the usual reading.
_ODD: Mapping[str, Mapping[int, str]] = {
    "long-log-quiet": {},
    "long-log-near-the-top": {77: "7.9", 301: "8.0"},
    "long-log-near-the-bottom": {12: "2.1", 415: "2.0"},
    "long-log-early": {9: "11.3"},
    "long-log-middle": {214: "11.3"},
    "long-log-late": {422: "1.2"},
}


def long_logs() -> list[Example]:
    """The items, three valid and three flawed, in one group."""
    return [_item(name, odd) for name, odd in _ODD.items()]


def _item(name: str, odd: Mapping[int, str]) -> Example:
    lines = [_line(number, odd.get(number)) for number in range(1, LINES + 1)]
    outside = [n for n, reading in odd.items() if not LOW <= float(reading) <= HIGH]
    flaw = "logical_contradiction" if outside else None
    why = (f"Line {outside[0]} reads {odd[outside[0]]} degrees, which the conclusion denies."
           if outside else "Every one of the readings lies in the range.")  # fmt: skip
    return Example(
        id=f"adversarial-{VERSION}/{name}", domain="medical",
        rationale="\n".join([_OPENING, *lines, _CLOSING]),
        label="flawed" if flaw else "valid", flaw_type=flaw,
        severity=FLAW_TYPES[flaw].severity if flaw else None,
        evidence=lines[outside[0] - 1] if outside else None, critique=why,
        group="adversarial/long-log", source="adversarial/edge_case/composed", split="test",
    )  # fmt: skip


def _line(number: int, odd: str | None) -> str:
    shift = ("early", "late", "night")[number % 3]
    reading = odd or f"{3.0 + number * 7 % 31 / 10:.1f}"
    return f"{number}. {shift} shift, {reading} degrees, door shut, alarm quiet."
