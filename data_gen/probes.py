"""Can the label be had without the reasoning? From words, from length, from where a row comes from.

Composed data are held to a bar: words must not predict labels of families that were not seen, nor
tell a flawed text from its twin. Public sets are as they are; what each gives away is printed, as a
critic must beat it before its score on such a set says anything.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_gen.compose import SOURCE
from data_gen.public import draw_groups
from minicrit.bagofwords import ProbeResult, shortcuts
from minicrit.bagofwords import probe as probe_words
from minicrit.config import Recipe
from minicrit.measures import family_of
from minicrit.records import Example, read_examples
from minicrit.taxonomy import LABELS

#: Above this AUC the words alone say too much about the label.
BAR = 0.60
#: Most rows of a set that are probed, whole groups drawn by seed; fewest of a label.
MOST, FEWEST = 20_000, 20


def probe(recipe: Recipe) -> ProbeResult | None:
    """Prints what words, length and source give away, and holds composed data to the bar.

    Returns:
        What words do on composed rows; None if there are none.

    Raises:
        ValueError: if they do too much, by more than `BAR`, over items or within twins.
    """
    path = recipe.probe.data or recipe.data.folder / "train.jsonl"
    examples = read_examples(path).examples
    sys.stdout.write(table(examples, recipe.seed))
    composed = [e for e in examples if e.source.startswith(f"{SOURCE}/")]
    return _held_to_the_bar(path, composed, recipe.seed) if composed else None


def table(examples: Sequence[Example], seed: int) -> str:
    """One line for all rows, and one for each set if there are several."""
    sets: dict[str, list[Example]] = {}
    for example in examples:
        sets.setdefault(example.source.partition("/")[0], []).append(example)
    parts = {"all rows": list(examples), **(dict(sorted(sets.items())) if len(sets) > 1 else {})}
    lines = ["AUC of the label from      rows flawed  words             length            source"]
    lines += [_line(name, rows, seed) for name, rows in parts.items()]
    return "\n".join([*lines, ""])


def _line(name: str, rows: list[Example], seed: int) -> str:
    flawed = sum(e.label == "flawed" for e in rows)
    line = f"{name:<24}{len(rows):>7}{flawed / len(rows):>7.0%}"
    clusters = [family_of(e) for e in rows]
    if min(flawed, len(rows) - flawed) < FEWEST or len(set(clusters)) < FEWEST // 2:
        return f"{line}  too few of a label to say"
    drawn = draw_groups(rows, MOST, f"{seed}/probe")
    found = shortcuts(
        [e.rationale for e in drawn], [e.label == "flawed" for e in drawn],
        [e.source for e in drawn], [family_of(e) for e in drawn], seed=seed,
    )  # fmt: skip
    return line + "".join(f"  {i.value:.2f} [{i.low:.2f}, {i.high:.2f}]" for i in found.values())


def _held_to_the_bar(path: Path, examples: Sequence[Example], seed: int) -> ProbeResult:
    result = probe_words(
        [e.rationale for e in examples],
        [e.label == "flawed" for e in examples],
        twin_names(examples),
        [family_of(e) for e in examples],
        seed=seed,
    )
    sys.stdout.write(
        f"words alone, composed rows: AUC {result.auc:.3f} [{result.low:.3f}, {result.high:.3f}] "
        f"over {result.n} examples; within twins {result.within_twins_auc:.3f} "
        f"[{result.within_twins_low:.3f}, {result.within_twins_high:.3f}] over "
        f"{result.num_pairs} pairs; bar {BAR:.2f}\n"
    )
    if max(result.auc, result.within_twins_auc) > BAR:
        raise ValueError(f"{path}: expected words to predict labels with an AUC of at most {BAR}, "
                         "got more, see above; mend the mechanism whose wording leaks")  # fmt: skip
    return result


def twin_names(examples: Sequence[Example]) -> list[str]:
    """What twins share. Of a group of four, the two with the same premise are twins."""
    sizes = Counter(e.group for e in examples)
    return [e.id[:-1] if sizes[e.group] > len(LABELS) else e.group for e in examples]
