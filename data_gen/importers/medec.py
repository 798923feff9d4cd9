"""MEDEC: clinical notes that are right or hold one wrong sentence, put in by people.

Published at github.com/abachaa/MEDEC, `MEDEC-MS-<Part>Set-with-GroundTruth-and-ErrorType.csv`; the
UW part has the same columns and needs a data usage agreement. Licence of MEDEC-MS: CC-BY-4.0.
Ben Abacha et al., arXiv:2412.19260.

The text itself is the rationale. The wrong sentence is the evidence, the corrected one the fix;
there is no explanation. The part (training, validation, test) is the set's own. Notes come in twins
made from one vignette, which share no id: notes that have half of their sentences in common share a
group. UTF-8 that was once read as Windows-1252 is read rightly again.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from data_gen.importers.draft import (
    Draft,
    Importer,
    Place,
    Row,
    located,
    one_of,
    text,
    text_or_none,
)
from minicrit.jsonl import RefusedError

_PARTS = {"train": "train", "val": "validation", "test": "test"}
_PART = re.compile(r"(?:^|[^a-z])(train|val|test)", re.IGNORECASE)
_NUMBERED = re.compile(r"^(\d+) ", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")
_FOREIGN = re.compile(r"[^\x00-\x7f]{2,}")
#: A sentence that more notes have is a stock phrase.
_STOCK = 20


def convert(row: Row, place: Place) -> list[Draft]:
    """The draft of one note."""
    note, name = _mended(text(row, "Text")).strip(), text(row, "Text ID")
    flawed = one_of(row, "Error Flag", ("0", "1")) == "1"
    sentence = text_or_none(row, "Error Sentence")
    if (sentence is not None) != flawed:
        raise RefusedError("an Error Sentence where Error Flag is 1, and only there",
                           str(sentence), "mend one of the two")  # fmt: skip
    _check_number(row, flawed)
    fix = text_or_none(row, "Corrected Sentence")
    return [Draft(key=note, split=_part(name, place), fields={
        "id": f"medec/{name}", "source": f"medec/{name.split('-', 1)[0]}", "domain": "medical",
        "licence": "MEDEC-UW data usage agreement" if name.startswith("uw") else IMPORTER.licence,
        "rationale": note, "label": "flawed" if flawed else "valid",
        "flaw_type": text_or_none(row, "Error Type") if flawed else None,
        "evidence": located(_mended(sentence), note, "Error Sentence") if sentence else None,
        "fix": _mended(fix) if fix and flawed else None,
    })]  # fmt: skip


def _check_number(row: Row, flawed: bool) -> None:
    number, known = text(row, "Error Sentence ID"), _NUMBERED.findall(text(row, "Sentences"))
    if flawed and number.strip() not in known:
        raise RefusedError(f"Error Sentence ID from {known[:1]} to {known[-1:]}", number,
                           "look it up in the source")  # fmt: skip


def _part(name: str, place: Place) -> str:
    found = _PART.search(name) or _PART.search(place.path.name)
    if found is None:
        raise RefusedError("train, val or test in Text ID or file name", name,
                           "give the file its published name")  # fmt: skip
    return _PARTS[found[1].lower()]


def keys_of(drafts: Sequence[Draft]) -> list[str]:
    """One key for notes that share half of the sentences of the shorter one."""
    sentences = [{s.casefold() for s in _SENTENCE_END.split(d.key)} for d in drafts]
    homes: defaultdict[str, list[int]] = defaultdict(list)
    root = list(range(len(drafts)))
    for this, own in enumerate(sentences):
        shared = Counter(other for s in own for other in homes[s][:_STOCK])
        for other, count in shared.items():
            if 2 * count >= min(len(own), len(sentences[other])):
                _join(root, this, other)
        for sentence in own:
            homes[sentence].append(this)
    return [drafts[_root(root, this)].key for this in range(len(drafts))]


def _join(root: list[int], one: int, other: int) -> None:
    one, other = _root(root, one), _root(root, other)
    root[max(one, other)] = min(one, other)


def _root(root: list[int], at: int) -> int:
    while root[at] != at:
        at = root[at]
    return at


def _mended(damaged: str) -> str:
    return _FOREIGN.sub(lambda run: _read_again(run[0]), damaged)


def _read_again(run: str) -> str:
    """Characters whose Windows-1252 bytes are UTF-8, as what they were; others as they are."""
    try:
        return b"".join(_byte(character) for character in run).decode("utf-8")
    except UnicodeError:
        return run


def _byte(character: str) -> bytes:
    """The byte of a character; five bytes are no character of Windows-1252 and stay themselves."""
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return character.encode("latin-1")


IMPORTER = Importer(
    kind="medec",
    home="github.com/abachaa/MEDEC",
    licence="CC-BY-4.0",
    valid="the note holds no medical error",
    keys=frozenset({"Text ID", "Text", "Error Flag", "Error Sentence"}),
    convert=convert,
    keys_of=keys_of,
)
