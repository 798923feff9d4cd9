"""Public sets in the Example form: their splits are kept, nothing is cut, all that goes is counted.

A public file's rows keep the split they came with. Rows without a label and rows that would not
fit into the token limit are left out; a limit takes whole groups, so that no group is torn apart.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from minicrit.records import Example, Reading, read_folder

#: Tokens of an example, prompt and reference critique together.
Length = Callable[[Example], int]


@dataclass
class Public:
    """What was read: `splits[name]` holds examples in file order, `counts[set]` what became of it.

    Attributes:
        splits: examples by split.
        counts: per set: kept, unlabelled, bad, too_long, over_limit.
        kept: per set and split, how many of each label were kept.
        files: the files that were read.
        renamed: per set, flaws that had the set's own name for them, by both names.
        fits: whether an example is within the limit of tokens; always, where no set was read.
    """

    splits: dict[str, list[Example]] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    kept: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    renamed: dict[str, Counter[str]] = field(default_factory=dict)
    fits: Callable[[Example], bool] = lambda _: True


def read_public(
    folder: Path,
    *,
    length: Length,
    max_tokens: int,
    limit: int = 0,
    seed: int = 0,
    max_bad: float = 0.01,
    rejects: Path | None = None,
) -> Public:
    """Reads all sets of a folder.

    Args:
        folder: holds *.jsonl or *.jsonl.gz files; each file is a set.
        length: tokens of prompt and reference critique.
        max_tokens: longer rows are left out.
        limit: at most so many rows a set and split, whole groups drawn by seed; 0 for all.
        seed: of the draw.
        max_bad: largest share of bad lines in a file.
        rejects: folder for bad lines; None: beside the file.

    Raises:
        ValueError: if a file is not to be read, or two hold the same id.
    """
    public = Public(fits=lambda e: length(e) <= max_tokens)
    origins: dict[str, Path] = {}
    told = {"max_bad": max_bad, "rejects": rejects, "setting": "data.max_bad"}
    for reading in read_folder(folder, **told):
        name = reading.path.name.removesuffix(".gz").removesuffix(".jsonl")
        count = Counter(unlabelled=reading.unlabelled, bad=reading.bad)
        labels = public.kept.setdefault(name, {})
        for split, rows in _by_split(reading).items():
            fitting = [e for e in rows if public.fits(e)]
            kept = draw_groups(fitting, limit, str(seed))
            count.update(too_long=len(rows) - len(fitting), over_limit=len(fitting) - len(kept))
            count.update(kept=len(kept))
            _refuse_known(kept, reading.path, origins)
            labels[split] = Counter(e.label for e in kept)
            public.splits.setdefault(split, []).extend(kept)
        public.counts[name] = count
        public.renamed[name] = reading.renamed
        public.files.append(reading.path)
    return public


def _refuse_known(rows: list[Example], path: Path, origins: dict[str, Path]) -> None:
    """Refuses an id that another file has; `origins` is where each comes from."""
    for example in rows:
        if (other := origins.setdefault(example.id, path)) != path:
            raise ValueError(f"{path}: expected ids that no other set has, got {example.id} of "
                             f"{other} too; put the name of the set before them")  # fmt: skip


def draw_groups(examples: list[Example], limit: int, seed: str, turn: int = 1) -> list[Example]:
    """At most `limit` examples as whole groups, in the order given; all if the limit is 0.

    A group that no longer fits is passed over, a smaller one behind it may still fit. Of one seed a
    later turn, counted from 1, takes those that have waited longest: no group comes again before
    all had their turn, but to fill a last gap.
    """
    if limit == 0 or len(examples) <= limit:
        return examples
    sizes = Counter(example.group for example in examples)
    waiting = sorted(sizes, key=lambda name: order_key(seed, name))
    taken: set[str] = set()
    for _ in range(turn):
        room, taken = limit, set()
        for group in waiting:
            if sizes[group] <= room:
                taken.add(group)
                room -= sizes[group]
        waiting.sort(key=taken.__contains__)  # stable: who had a turn goes behind the others
    return [example for example in examples if example.group in taken]


def require_drawn(drawn: list[Example], limit: int, where: str) -> list[Example]:
    """The examples that were drawn.

    Raises:
        ValueError: if there are none, as no whole group is so small; names what to change.
    """
    if not drawn:
        raise ValueError(
            f"{where}: expected room for a group of rationales, got {limit}; groups "
            "are drawn whole, such as the twins of one argument; draw more"
        )
    return drawn


def order_key(seed: str, name: str) -> bytes:
    """A place in a shuffled order that depends on this name and the seed alone."""
    return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()


def _by_split(reading: Reading) -> dict[str, list[Example]]:
    splits: dict[str, list[Example]] = {}
    for example in reading.examples:
        splits.setdefault(example.split, []).append(example)
    return splits
