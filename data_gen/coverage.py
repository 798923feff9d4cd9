"""What a data set covers: counts by domain, flaw type, kind and source, and the gaps."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minicrit.records import Example, change_of
from minicrit.taxonomy import DOMAINS, KINDS, LABELS


def cells(examples: Iterable[Example]) -> Counter[tuple[str, str, str]]:
    """Counts by (domain, flaw type or, without one, label, kind)."""
    return Counter((e.domain, e.flaw_type or e.label, e.kind) for e in examples)


def coverage(splits: Mapping[str, Sequence[Example]]) -> dict[str, Any]:
    """A JSON summary of each split: sizes, cells, and words a rationale."""
    return {name: _summary(examples) for name, examples in splits.items()}


def table(splits: Mapping[str, Sequence[Example]]) -> str:
    """Markdown: a line a split, groups by change, flaw by domain and by kind over all splits."""
    counts = cells(e for examples in splits.values() for e in examples)
    flaws = sorted({flaw for _, flaw, _ in counts}, key=lambda flaw: (flaw in LABELS, flaw))
    sizes = [
        (name, *map(str, (len(rows), len({e.group for e in rows}), len({e.source for e in rows}))))
        for name, rows in splits.items()
    ]
    return "\n".join([
        *markdown(("file", "examples", "groups", "sources"), sizes), "", *_changed(splits),
        *markdown(("flaw", *DOMAINS), [_line(f, counts, 0, DOMAINS) for f in flaws]), "",
        *markdown(("flaw", *KINDS), [_line(f, counts, 2, KINDS) for f in flaws]), "",
    ])  # fmt: skip


def _changed(splits: Mapping[str, Sequence[Example]]) -> list[str]:
    """A table of the changed groups by file and change; nothing where there are none."""
    files = {name: counts for name, rows in splits.items() if (counts := changes(rows))}
    if not files:
        return []
    names = sorted(set().union(*files.values()))
    rows = [(name, *(str(counts[name] or "-") for counts in files.values())) for name in names]
    totals = ("all", *(str(counts.total()) for counts in files.values()))
    return [*markdown(("groups changed by", *files), [*rows, totals]), ""]


def changes(examples: Iterable[Example]) -> Counter[str]:
    """Groups by the change that their texts went through; those without one do not count."""
    return Counter(change for _, change in {(e.group, change_of(e)) for e in examples} if change)


def _summary(examples: Sequence[Example]) -> dict[str, Any]:
    words = [len(e.rationale.split()) for e in examples]
    changed = changes(examples)
    return {
        "examples": len(examples),
        "groups": len({e.group for e in examples}),
        "flawed": sum(e.label == "flawed" for e in examples),
        "sources": dict(sorted(Counter(e.source for e in examples).items())),
        **({"changed": dict(sorted(changed.items()))} if changed else {}),
        "words_mean": round(sum(words) / max(1, len(words)), 2),
        "words_max": max(words, default=0),
        "cells": [
            {"domain": d, "flaw": f, "kind": k, "examples": n}
            for (d, f, k), n in sorted(cells(examples).items())
        ],
    }


def _line(
    flaw: str, counts: Counter[tuple[str, str, str]], place: int, names: Sequence[str]
) -> tuple[str, ...]:
    row = Counter[str]()
    for cell, number in counts.items():
        if cell[1] == flaw:
            row[cell[place]] += number
    return (flaw, *(str(row[name] or "-") for name in names))


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose columns are as wide as their widest cell."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
             for row in (head, *rows)]  # fmt: skip
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return [lines[0], rule, *lines[1:]]
