"""What gives labels away without any reasoning: words, length, domain, source.

`SHORTCUTS` are single numbers, none negative, that somebody could sort the rows by; add a function
and it is on the page. The words are a trained probe, see `minicrit/bagofwords.py`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from data_gen.probes import BAR, twin_names
from data_gen.survey import ALL, FLAWED, FileSurvey, mechanism_or_set
from minicrit import scores
from minicrit.bagofwords import probe
from minicrit.measures import COMPOSER, family_of
from minicrit.records import Example
from minicrit.statistics import Interval, cluster_bootstrap

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Shortcut = Callable[[Sequence[Example]], Floats]

#: Fewest rows, and fewest of each label, from which it is worth asking.
LEAST, LEAST_EACH = 100, 20
CHANCE = 0.5
_DRAWS = 400


@dataclass(frozen=True)
class Finding:
    """How well one thing alone tells flawed from valid.

    Attributes:
        file, part: which rows; `what`: by what they are told apart.
        auc: share of (flawed, valid) pairs in the right order; None if it could not be asked.
        note: why it could not, or empty.
    """

    file: str
    part: str
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


def share_flawed(key: Callable[[Example], str]) -> Shortcut:
    """Scores a row by the share of flawed rows among those of its key."""

    def scored(rows: Sequence[Example]) -> Floats:
        sizes, flawed = Counter(map(key, rows)), Counter[str]()
        flawed.update(key(row) for row in rows if row.label == FLAWED)
        return np.array([flawed[key(row)] / sizes[key(row)] for row in rows])

    return scored


SHORTCUTS: Mapping[str, Shortcut] = {
    "number of characters": lambda rows: np.array([float(len(e.rationale)) for e in rows]),
    "number of words": lambda rows: np.array([float(len(e.rationale.split())) for e in rows]),
    "domain": share_flawed(lambda e: e.domain),
    "mechanism or set": share_flawed(mechanism_or_set),
}

WORDS, WITHIN, EVERYTHING = "words", "words, within twins", "everything"
#: All that is asked, in the order of the page.
ASKED = (WORDS, WITHIN, *SHORTCUTS)


def findings(file: FileSurvey, seed: int) -> list[Finding]:
    """All probes on the rows that were drawn from a file: of each set, then of all together."""
    several = len(file.parts) > 1 + 1
    found = []
    for name, part in sorted(file.parts.items(), key=lambda item: (item[0] == ALL, item[0])):
        if name == ALL and not several:
            continue
        rows = [row for group in part.probed.drawn() for row in group]
        found += _findings(file.name, name, rows, seed)
    return found


def _findings(file: str, part: str, rows: Sequence[Example], seed: int) -> list[Finding]:
    each = Counter(row.label for row in rows)
    if len(rows) < LEAST or len(each) < len(("valid", FLAWED)) or min(each.values()) < LEAST_EACH:
        told = ", ".join(f"{n} {label}" for label, n in sorted(each.items()))
        note = f"too few: {told}; asked from {LEAST} rows on, {LEAST_EACH} of each label"
        return [Finding(file, part, EVERYTHING, None, note)]
    families = np.unique([family_of(row) for row in rows], return_inverse=True)[1]
    flawed = np.array([row.label == FLAWED for row in rows])
    found = list(_of_words(file, part, rows, seed))
    for what, shortcut in SHORTCUTS.items():
        p = shortcut(rows)
        p = p / max(1.0, p.max())  # only their order counts, but probabilities are asked for
        auc = partial(_auroc, p, flawed)
        interval = cluster_bootstrap(auc, families, draws=_DRAWS, seed=seed)
        found.append(Finding(file, part, what, interval))
    return found


def _auroc(p: Floats, flawed: Bools, weights: Floats) -> float:
    return scores.auroc(p, flawed, weights=weights)


def _of_words(file: str, part: str, rows: Sequence[Example], seed: int) -> list[Finding]:
    """The bag of words, on rows of families that it has not seen, over items and within twins."""
    twins = twin_names(rows) if part == COMPOSER else [row.group for row in rows]
    labels = [row.label == FLAWED for row in rows]
    texts, families = [row.rationale for row in rows], [family_of(row) for row in rows]
    try:
        result = probe(texts, labels, twins, families, seed=seed)
    except ValueError as error:  # too few families, or a part of them with one label only
        return [Finding(file, part, WORDS, None, str(error))]
    within = Interval(result.within_twins_auc, result.within_twins_low, result.within_twins_high,
                      result.num_pairs)  # fmt: skip
    found = [Finding(file, part, WORDS, Interval(result.auc, result.low, result.high, result.n))]
    if result.num_pairs and not np.isnan(within.value):
        found.append(Finding(file, part, WITHIN, within))
    return found
