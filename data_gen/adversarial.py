"""The adversarial suite: items that tempt a critic to the wrong verdict. Never trained on.

Four parts: false-positive traps, subtle flaws and edge cases, written by hand, each with the reason
for its label (`handwritten.py`); *keep* variants of them, changed in a way that must not move the
verdict, by hand where no program can do it safely; and *flip* pairs, where one decisive edit must
move it. All that is about one case shares a group.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from data_gen.coverage import markdown
from data_gen.handwritten import FOLDER, KEEP, PARTS, VERSION, hand_variants, hand_written, notes
from data_gen.long_logs import long_logs
from data_gen.variants import kept_variants
from minicrit.config import Recipe
from minicrit.files import atomic_folder, write_atomic
from minicrit.manifest import write_manifest
from minicrit.records import Example, read_examples, write_examples
from minicrit.taxonomy import DOMAINS, FLAW_TYPES, KINDS, LABELS

FLIP = "metamorphic_flip"
#: Pairs of composer version 3 with a seed that no recipe has (8128), of the test families; read one
#: by one and kept in a file, so that they stay what they are when the composer changes.
FLIPS = FOLDER / "flips.jsonl"
#: Fewer items than this of a part, domain, kind or change are thin, and fewer flaws of one type.
THIN, THIN_FLAW = 20, 3


def make_adversarial(recipe: Recipe) -> None:
    """Writes the suite and what it covers to `adversarial.out`."""
    items = suite()
    disputed = [f"* {name}: {note}" for name, note in notes().items()]
    report = "\n".join([coverage(items), "## Disputable", "", *(disputed or ["* none"]), ""])
    with atomic_folder(recipe.adversarial.out) as box:
        write_examples(box / "suite.jsonl", items)
        write_atomic(box / "coverage.md", report)
        write_manifest(box, stage="adversarial", inputs={"suite": FOLDER}, settings={},
                       facts={"version": VERSION, "items": len(items)})  # fmt: skip
    sys.stdout.write(report + f"written: {recipe.adversarial.out}\n")


@cache
def suite() -> tuple[Example, ...]:
    """All items: by hand, the long ones, kept, flipped; read once.

    Raises:
        ValueError: if a file of the suite is at fault, or two items share an id.
    """
    hand = hand_written()
    bases = [item for item in hand if part_of(item) != "edge_case"]
    kept = [variant for item in bases for variant in kept_variants(item)]
    items = [*hand, *long_logs(), *hand_variants(hand), *kept, *flips()]
    double = [name for name, n in Counter(item.id for item in items).items() if n > 1]
    if double:
        raise ValueError(f"{FOLDER}: expected each id once, got {double[0]} again; rename one")
    return tuple(items)


def flips(path: Path = FLIPS) -> list[Example]:
    """The composed pairs; a bad line is an error."""
    return read_examples(path, max_bad=0).examples


def part_of(item: Example) -> str:
    """Which part of the suite an item belongs to (`adversarial/<part>/<origin>`)."""
    return item.source.split("/")[1]


def origin_of(item: Example) -> str:
    """`hand`, `composed`, or the change that a keep variant went through."""
    return item.source.split("/")[2]


def coverage(items: Sequence[Example]) -> str:
    """Markdown: counts by part, domain, flaw type, kind and origin, each by label; what is thin."""
    hand = [item for item in items if origin_of(item) == "hand"]
    tables = [
        ("part", items, {i.id: part_of(i) for i in items}, (*PARTS, KEEP, FLIP)),
        ("origin", items, {i.id: origin_of(i) for i in items}, ()),
        ("domain, by hand", hand, {i.id: i.domain for i in hand}, DOMAINS),
        ("kind, by hand", hand, {i.id: i.kind for i in hand}, KINDS),
    ]  # fmt: skip
    lines, thin = [], []
    for title, chosen, names, order in tables:
        counts = Counter((names[i.id], i.label) for i in chosen)
        rows = [*order, *sorted(set(names.values()) - set(order))]
        lines += [*markdown((title, *LABELS), [_row(name, counts) for name in rows]), ""]
        thin += [f"{title}: {name} {total}" for name in rows
                 if (total := sum(counts[name, label] for label in LABELS)) < THIN]  # fmt: skip
    table, few = _flaws(items)
    return "\n".join([f"# Adversarial suite, version {VERSION}", "", _sizes(items), "", *lines,
                      *table, "", "## Thin", "", *(f"* {what}" for what in thin + few or ["none"]),
                      ""])  # fmt: skip


def _row(name: str, counts: Counter[tuple[str, str]]) -> tuple[str, ...]:
    return (name, *(str(counts[name, label] or "-") for label in LABELS))


def _sizes(items: Sequence[Example]) -> str:
    groups: dict[str, set[str]] = {}
    for item in items:
        groups.setdefault(item.group, set()).add(item.label)
    both = sum(len(labels) > 1 for labels in groups.values())
    words = sorted(len(item.rationale.split()) for item in items)
    by_hand = sum(origin_of(item) == "hand" for item in items)
    return (f"{len(items)} items in {len(groups)} groups, {both} of which hold both labels; "
            f"{by_hand} written by hand. Words: {words[0]} to {words[-1]}, median "
            f"{words[len(words) // 2]}.")  # fmt: skip


def _flaws(items: Sequence[Example]) -> tuple[list[str], list[str]]:
    """A table of flaw types by part, and the types with too few subtle flaws by hand."""
    counts = Counter((item.flaw_type, part_of(item)) for item in items)
    parts = ("subtle_flaw", "edge_case", KEEP, FLIP)
    rows = [(name, *(str(counts[name, part] or "-") for part in parts)) for name in FLAW_TYPES]
    few = [f"flaw type: {name} {counts[name, 'subtle_flaw']}" for name in FLAW_TYPES
           if counts[name, "subtle_flaw"] < THIN_FLAW]  # fmt: skip
    return markdown(("flaw type", *parts), rows), few
