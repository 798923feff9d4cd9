"""What a million rows cost: filters, duplicates and firewall over rows made on the fly.

Half of the rows are twins of the other half. Among the groups are planted, in known numbers, copies
with another case and punctuation, copies with one word changed, and evaluation items between other
sentences; so the run says what was found of them, and whether anything else was taken out.
"""

import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_gen.filters import ENGLISH, Screening
from minicrit.config import Recipe
from minicrit.files import write_atomic, write_json
from minicrit.records import Example

REPORT = Path("reports/bench-filters")
#: Words a text, evaluation items, and each how many groups a copy, a near-copy, an item is planted.
WORDS, ITEMS, EVERY = 60, 5000, 50
#: The bar: peak memory, in GiB.
MOST_MEMORY = 2.0
_CHANGED = 12  # words in which twins differ
_BATCH = 10_000
_SYLLABLES = [c + v + e for c in "bdfgklmnprstvz" for v in "aeiou" for e in ("", "n", "r", "s")]
#: What the first groups of every fifty are.
_KINDS = ("original", "copy", "near-copy", "leak")


def bench_filters(recipe: Recipe) -> dict[str, Any]:
    """Measures, writes `reports/bench-filters.json` and `.md`, returns the figures.

    Raises:
        ValueError: if it took more memory than the bar.
    """
    total = recipe.bench_filters.rows
    begun, cpu = time.perf_counter(), time.process_time()
    evaluation = {"test": [_example(f"item/{n}", _text(f"item/{n}"), "test") for n in range(ITEMS)]}
    screening = Screening(evaluation, recipe.filters)
    quarters = _taken(screening, total)
    removed = screening.removed()
    seconds, spent = time.perf_counter() - begun, time.process_time() - cpu
    planted, found = _counts(range(total)), _counts(removed)
    figures: dict[str, Any] = {
        "rows": total,
        "evaluation_items": ITEMS,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(spent, 1),
        "cpu_seconds_a_quarter": [round(s, 1) for s in quarters],
        "cpu_seconds_before_and_after": round(spent - sum(quarters), 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        # Of a text and its copies one stays, whichever.
        "copies": [
            found.total() - found["leak"] - found["none"],
            planted["copy"] + planted["near-copy"],
        ],
        "leaks": [found["leak"], planted["leak"]],
        "removed_besides": found["none"],
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_json(REPORT.with_suffix(".json"), figures)
    write_atomic(REPORT.with_suffix(".md"), _page(figures))
    sys.stdout.write(_page(figures))
    if figures["peak_gib"] > MOST_MEMORY:
        raise ValueError(f"{REPORT}.md: expected at most {MOST_MEMORY} GiB, got "
                         f"{figures['peak_gib']}; see what grew with the rows")  # fmt: skip
    return figures


def _counts(numbers: Iterable[int]) -> Counter[str]:
    return Counter(_planted(row // 2) for row in numbers)


def rows(total: int) -> Iterator[Example]:
    """`total` rows, two a group, the same each time."""
    for group in range((total + 1) // 2):
        for twin, text in enumerate(_texts(group)[: total - 2 * group]):
            yield _example(f"bench/{group}", text, "train", twin)


def _taken(screening: Screening, total: int) -> list[float]:
    """Lets the screening see all rows; the seconds of a processor that each quarter took."""
    source, times = rows(total), [time.process_time()]
    with tqdm(total=total, unit="row", desc="screen") as bar:
        for quarter in range(1, 5):
            left = quarter * total // 4 - len(screening)
            while left > 0:
                screening.add(islice(source, min(left, _BATCH)))
                bar.update(min(left, _BATCH))
                left -= _BATCH
            times.append(time.process_time())
    return [end - start for start, end in pairwise(times)]


def _planted(group: int) -> str:
    """What is planted in a group."""
    place = group % EVERY
    if place >= len(_KINDS):
        return "none"
    return _KINDS[place] if group >= EVERY else "original"


def _texts(group: int) -> tuple[str, str]:
    """The sound and the flawed text of a group."""
    kind = _planted(group)
    if kind in ("copy", "near-copy"):
        first, second = _twins(f"bench/{EVERY * (group // EVERY // 2)}")
        if kind == "copy":
            return first.upper(), second.upper()
        return _with_one_changed(first), _with_one_changed(second)
    first, second = _twins(f"bench/{group}")
    if kind == "leak":
        item = _text(f"item/{group % ITEMS}").replace(" the ", ", the ")
        return f"{first} {item} {second}", second
    return first, second


def _twins(name: str) -> tuple[str, str]:
    text = _text(name)
    changed = _text(f"{name}/flaw").split()[:_CHANGED]
    return text, " ".join([*text.split()[:-_CHANGED], *changed])


def _with_one_changed(text: str) -> str:
    words = text.split()
    return " ".join([*words[:20], "otherwise", *words[21:]])


def _text(name: str) -> str:
    """A text of its own for each name, with as many function words as English has."""
    rng = random.Random(name)  # noqa: S311 - not for secrets
    content = ["".join(rng.choices(_SYLLABLES, k=2)) for _ in range(WORDS // 2)]
    words = [*content, *rng.choices(_FUNCTION_WORDS, k=WORDS - len(content))]
    rng.shuffle(words)
    return " ".join(words)


_FUNCTION_WORDS = ENGLISH.split()


def _example(group: str, text: str, split: str, twin: int = 0) -> Example:
    return Example(id=f"{group}/{twin}", domain="general", rationale=text,
                   label=("valid", "flawed")[twin], group=group, source="bench",
                   split=split)  # fmt: skip


def _page(figures: dict[str, Any]) -> str:
    found = [f"| planted {kind} taken out | {figures[kind][0]:,} of {figures[kind][1]:,} rows |"
             for kind in ("copies", "leaks")]  # fmt: skip
    quarters = ", ".join(f"{s:.1f}" for s in figures["cpu_seconds_a_quarter"])
    return "\n".join([
        "# Filters, duplicates and firewall", "", "| what | figure |", "|---|---|",
        f"| rows, against evaluation items | {figures['rows']:,}, "
        f"{figures['evaluation_items']:,} |",
        f"| seconds, making the rows included | {figures['seconds']:.1f} |",
        f"| seconds of a processor | {figures['cpu_seconds']:.1f} |",
        f"| for each quarter of the rows | {quarters} |",
        f"| for the index and to decide | {figures['cpu_seconds_before_and_after']:.1f} |",
        f"| peak memory | {figures['peak_gib']:.2f} GiB of {MOST_MEMORY:.0f} |",
        *found, f"| other rows taken out | {figures['removed_besides']:,} |", "",
    ])  # fmt: skip
