"""What preference learning learns from: pairs of critiques of one rationale, prefixes shared.

All pairs of a group go into one tree: a rationale is computed once for both of its critiques, and
what the rationales of twins have in common once for all of them.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from minicrit.encoding import Encoder
from minicrit.jsonl import BadLine, RefusedError, read_lines
from minicrit.packing import Branch, grow
from minicrit.plan import Group
from minicrit.records import Preference


def read_preferences(path: Path) -> list[Preference]:
    """The pairs of a file.

    Raises:
        ValueError: `file:line: expected ..., got ...; remedy` at the first bad line, as pairs are
            made by a program and none should be bad.
    """
    pairs = []
    for found in read_lines(path):
        if isinstance(found, BadLine):
            raise ValueError(str(found))
        line, row = found
        try:
            pairs.append(Preference.from_row(row))
        except RefusedError as error:
            raise ValueError(f"{path}:{line}: {error}") from error
    if not pairs:
        raise ValueError(f"{path}: expected at least one pair, got none; make pairs first")
    return pairs


def comparison_groups(pairs: Sequence[Preference], encoder: Encoder) -> list[Group]:
    """One tree a group; pair n has the keys 2 n (chosen) and 2 n + 1 (rejected)."""
    numbered = sorted(enumerate(pairs), key=lambda p: (p[1].group, p[0]))
    groups = []
    for name, members in groupby(numbered, key=lambda p: p[1].group):
        some = list(members)
        branches = [branch for n, pair in some for branch in _branches(n, pair, encoder)]
        groups.append(Group(name, (grow(branches),), len(some)))
    return groups


def _branches(number: int, pair: Preference, encoder: Encoder) -> tuple[Branch, Branch]:
    """Both whole sequences. The lead-in, the same in both, weighs nothing; all else 1."""
    completions = [encoder.written(text) for text in (pair.chosen, pair.rejected)]
    longest = max(map(len, completions))
    prompt = encoder.prompt(pair.domain, pair.rationale, reserve=longest)
    silent = len(prompt) + len(encoder.lead_in)
    chosen, rejected = (
        Branch((*prompt, *ids), (0.0,) * silent + (1.0,) * (len(ids) - len(encoder.lead_in)),
               key=2 * number + side)
        for side, ids in enumerate(completions)
    )  # fmt: skip
    return chosen, rejected


def scorers(pairs: Sequence[Preference]) -> dict[str, int]:
    """How many pairs each scorer gave."""
    return dict(sorted(Counter(pair.scorer for pair in pairs).items()))
