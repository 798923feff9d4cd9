"""Can the label be had without the reasoning? From words, from length, from where a row comes from.

Composed data are held to a bar: words must not predict labels of families that were not seen, nor
tell a flawed text from its twin. Public sets are as they are; what each gives away is printed, as a
critic must beat it before its score on such a set says anything.
"""

import sys
from collections.abc import Sequence
from itertools import groupby
from math import isnan

from data_gen.compose import SOURCE
from data_gen.public import draw_groups
from data_gen.shortcuts import ASKED, BAR, EVERYTHING, FEW, asked_of, of_words
from data_gen.survey import FLAWED, set_of
from minicrit.config import Recipe
from minicrit.records import Example, read_examples
from minicrit.statistics import Interval
from minicrit.tables import bounds

#: Most rows of a set that are probed, whole groups drawn by seed.
MOST = 20_000
_WIDTH = 21


def probe(recipe: Recipe) -> dict[str, Interval] | None:
    """Prints what words, length and source give away, and holds composed data to the bar.

    Returns:
        What words do on composed rows, over all and within twins; None if there are none.

    Raises:
        ValueError: if they do too much, by more than `BAR`, or if there are too few to ask.
    """
    path = recipe.probe.data or recipe.data.folder / "train.jsonl"
    examples = read_examples(path).examples
    sys.stdout.write(table(examples, recipe.seed))
    composed = [e for e in examples if e.source.startswith(f"{SOURCE}/")]
    if not composed:
        return None
    try:
        found = of_words(composed, recipe.seed)
    except ValueError as error:
        raise ValueError(f"{path}: expected composed rows of both labels and of many families, as "
                         f"words are asked of families not seen, got {len(composed)} that are too "
                         "few; compose more, or name another file (probe.data)"
                         ) from error  # fmt: skip
    told = "; ".join(f"{what} {_shown(auc, 3)} over {auc.n}" for what, auc in found.items())
    sys.stdout.write(f"composed rows, AUC of {told}; bar {BAR:.2f}\n")
    if max(auc.value for auc in found.values()) > BAR:
        raise ValueError(f"{path}: expected words to predict labels with an AUC of at most {BAR}, "
                         "got more, see above; mend the mechanism whose wording leaks")  # fmt: skip
    return found


def table(examples: Sequence[Example], seed: int) -> str:
    """One line for all rows, and one for each set if there are several."""
    sets = {name: list(rows) for name, rows in groupby(sorted(examples, key=set_of), key=set_of)}
    parts = {"all rows": list(examples), **(sets if len(sets) > 1 else {})}
    head = "AUC of the label from      rows flawed" + "".join(f"  {w:<{_WIDTH}}" for w in ASKED)
    return "\n".join([head.rstrip(), *(_line(*part, seed) for part in parts.items()), ""])


def _line(name: str, rows: list[Example], seed: int) -> str:
    flawed = sum(e.label == FLAWED for e in rows)
    line = f"{name:<24}{len(rows):>7}{flawed / len(rows):>7.0%}"
    drawn = draw_groups(rows, MOST, f"{seed}/probe")
    found = {one.what: one for one in asked_of("", name, drawn, seed)}
    if EVERYTHING in found:
        return f"{line}  {found[EVERYTHING].note}"
    cells = [(found[w].auc if w in found else None) for w in ASKED]
    shown = [_shown(auc, 2) if auc else "-" for auc in cells]
    return (line + "".join(f"  {cell:<{_WIDTH}}" for cell in shown)).rstrip()


def _shown(auc: Interval, digits: int) -> str:
    """With its interval, or why there is none."""
    known = not (isnan(auc.low) or isnan(auc.high))
    interval = bounds(auc.low, auc.high, digits) if known else f"- {FEW}"
    return f"{auc.value:.{digits}f} {interval}"
