"""What gives labels away without any reasoning: words, length, where a row comes from.

Everything is learnt and then asked of families that were not seen, see `minicrit/bagofwords.py`.
`make probe` prints it of a file, `make data-report` shows it of a folder.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_gen.survey import ALL, FLAWED, VALID, FileSurvey
from minicrit.bagofwords import probe, shortcuts
from minicrit.measures import COMPOSER, family_of
from minicrit.records import Example, change_of
from minicrit.statistics import Interval
from minicrit.taxonomy import LABELS

#: Above this AUC a shortcut says too much about the label.
BAR = 0.60
#: Fewest rows, and fewest of each label, from which it is worth asking.
LEAST, LEAST_EACH = 100, 20
CHANCE = 0.5
WORDS, WITHIN, LENGTH, SOURCE = ASKED = ("words", "words, within twins", "length", "source")
EVERYTHING = "everything"
#: Why there is an AUC and no interval of it.
FEW = "too few groups"


@dataclass(frozen=True)
class Finding:
    """How well one thing alone tells flawed from valid.

    Attributes:
        file, part: which rows; `rows`: how many; `what`: by what they are told apart.
        auc: share of (flawed, valid) pairs in the right order; None if it could not be asked.
        note: why it could not, or empty.
    """

    file: str
    part: str
    rows: int
    what: str
    auc: Interval | None
    note: str = ""

    @property
    def status(self) -> str:
        """`told` if the whole interval is beyond the bar on either side, `open` if only a part."""
        if self.auc is None or np.isnan(self.auc.low):
            return "unknown"
        inside = (1 - BAR, BAR)
        if self.auc.low > inside[1] or self.auc.high < inside[0]:
            return "told"
        return "hidden" if inside[0] <= self.auc.low and self.auc.high <= inside[1] else "open"


def findings(file: FileSurvey, seed: int) -> list[Finding]:
    """All that is asked of the rows that were drawn from a file: of each set, then of all."""
    several = len(file.parts) > 1 + 1
    found = []
    for name, part in sorted(file.parts.items(), key=lambda item: (item[0] == ALL, item[0])):
        if name == ALL and not several:
            continue
        rows = [row for group in part.probed.drawn() for row in group]
        found += asked_of(file.name, name, rows, seed)
    return found


def asked_of(file: str, part: str, rows: Sequence[Example], seed: int) -> list[Finding]:
    """All that is asked of some rows; one finding with a note if they are too few."""
    each = Counter(row.label for row in rows)
    if len(rows) < LEAST or min(each[VALID], each[FLAWED]) < LEAST_EACH:
        told = ", ".join(f"{n} {label}" for label, n in sorted(each.items()))
        note = f"too few: {told}; asked from {LEAST} rows on, {LEAST_EACH} of each label"
        return [Finding(file, part, len(rows), EVERYTHING, None, note)]
    found = []
    for what, ask in ((WORDS, of_words), (LENGTH, _of_the_rest)):
        try:
            answers = ask(rows, seed)
        except ValueError as error:  # too few families, or a part of them with one label only
            found.append(Finding(file, part, len(rows), what, None, str(error)))
        else:
            found += [Finding(file, part, len(rows), name, auc) for name, auc in answers.items()]
    return found


def of_words(rows: Sequence[Example], seed: int) -> dict[str, Interval]:
    """The bag of words over all rows and, if there are twins, within them."""
    result = probe([row.rationale for row in rows], _flawed(rows), twin_names(rows),
                   [family_of(row) for row in rows], seed=seed)  # fmt: skip
    found = {WORDS: Interval(result.auc, result.low, result.high, result.n)}
    if result.num_pairs and not np.isnan(result.within_twins_auc):
        found[WITHIN] = Interval(result.within_twins_auc, result.within_twins_low,
                                 result.within_twins_high, result.num_pairs)  # fmt: skip
    return found


def _of_the_rest(rows: Sequence[Example], seed: int) -> dict[str, Interval]:
    found = shortcuts([row.rationale for row in rows], _flawed(rows), [row.source for row in rows],
                      [family_of(row) for row in rows], seed=seed)  # fmt: skip
    return {LENGTH: found["length"], SOURCE: found["source"]}


def _flawed(rows: Sequence[Example]) -> list[bool]:
    return [row.label == FLAWED for row in rows]


def twin_names(examples: Sequence[Example]) -> list[str]:
    """What twins share. Of a composed group of four, the two with the same premise are twins.

    So are two that were changed alike, whatever others their group holds.
    """
    changes = [change_of(e) for e in examples]
    sizes = Counter(e.group for e, change in zip(examples, changes, strict=True) if not change)
    return [f"{e.group}/{change}" if change
            else e.id[:-1] if e.source.startswith(f"{COMPOSER}/") and sizes[e.group] > len(LABELS)
            else e.group for e, change in zip(examples, changes, strict=True)]  # fmt: skip
