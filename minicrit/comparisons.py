"""What is learnt from a critic's own critiques: pairs of them, or the best; prefixes shared.

All critiques of a group go into one tree: a rationale is computed once for all of its critiques,
and what the rationales of twins have in common once for all of them.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from minicrit.encoding import Encoder, naming, said
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


def comparison_groups(
    pairs: Sequence[Preference], encoder: Encoder, *, explained: float = 1.0, seed: int = 0
) -> list[Group]:
    """One tree a group; pair n has the keys 2 n (chosen) and 2 n + 1 (rejected).

    Args: see `encoded_pairs`.
    """
    encoded = encoded_pairs(pairs, encoder, explained=explained, seed=seed)
    return grown(pairs, encoded, range(len(pairs)))


def encoded_pairs(
    pairs: Sequence[Preference], encoder: Encoder, *, explained: float = 1.0, seed: int = 0
) -> list[tuple[Branch, Branch]]:
    """Both sequences of each pair, with their keys.

    Args:
        pairs: what is preferred to what.
        encoder: of the base.
        explained: share of the pairs of different verdicts that are compared to the end. What
            follows a verdict says little about which is right and drowns the word that does, and
            the flaw type of a rejected critique is mostly a good one elsewhere; so of the others
            the verdict word alone is compared.
        seed: of the draw.
    """
    return [
        _branches(n, pair, encoder, whole=compared_whole(pair, explained, seed))
        for n, pair in enumerate(pairs)
    ]


def grown(
    pairs: Sequence[Preference], encoded: Sequence[tuple[Branch, Branch]], numbers: Iterable[int]
) -> list[Group]:
    """One tree a group of the pairs with these numbers, which they keep."""
    ordered = sorted(numbers, key=lambda n: (pairs[n].group, n))
    groups = []
    for name, members in groupby(ordered, key=lambda n: pairs[n].group):
        some = list(members)
        groups.append(Group(name, (grow([b for n in some for b in encoded[n]]),), len(some)))
    return groups


def compared_whole(pair: Preference, explained: float, seed: int) -> bool:
    """Whether a pair is compared to the end; decided by what it says, wherever it stands."""
    if said(pair.chosen) == said(pair.rejected):
        return True
    name = f"{seed}/{pair.group}/{pair.chosen}/{pair.rejected}"
    return random.Random(name).random() < explained  # noqa: S311


def _branches(
    number: int, pair: Preference, encoder: Encoder, *, whole: bool
) -> tuple[Branch, Branch]:
    """Both sequences. The lead-in, the same in both, weighs nothing; all else 1."""
    texts = (pair.chosen, pair.rejected)
    completions = [encoder.written(text) for text in texts]
    longest = max(map(len, completions))
    if not whole:
        completions = [[*encoder.lead_in, *encoder.verdict_words[said(text)]] for text in texts]
    with naming(f"pair {number + 1} of group {pair.group}"):
        prompt = encoder.prompt(pair.domain, pair.rationale, reserve=longest)
    chosen, rejected = (
        replace(completion_branch(encoder, prompt, ids, 1.0), key=2 * number + side)
        for side, ids in enumerate(completions)
    )
    return chosen, rejected


def completion_branch(
    encoder: Encoder, prompt: Sequence[int], completion: Sequence[int], weight: float
) -> Branch:
    """A whole sequence of which all after the lead-in weighs `weight`, the rest nothing."""
    silent = len(prompt) + len(encoder.lead_in)
    scored = len(completion) - len(encoder.lead_in)
    return Branch((*prompt, *completion), (0.0,) * silent + (weight,) * scored)


def selected_groups(
    path: Path, encoder: Encoder, verdict_weight: float = 1.0, *, weighted: bool = False
) -> list[Group]:
    """One tree a group of the critiques that rejection sampling kept.

    Args:
        path: rows of `group, domain, rationale, text, score`, and `finished`: false where the text
            is the beginning of a critique, so that the end token is not learnt.
        encoder: of the base.
        verdict_weight: weight of the verdict word; every later token has 1.
        weighted: weigh the tokens of each by its score instead of by 1.

    Raises:
        ValueError: `file:line: expected ..., got ...; remedy`.
    """
    rows: list[dict[str, Any]] = []
    for found in read_lines(path):
        if isinstance(found, BadLine):
            raise ValueError(str(found))
        line, row = found
        if missing := [name for name in _SELECTED if name not in row]:
            raise ValueError(f"{path}:{line}: expected {missing[0]}, got none; select again")
        rows.append(row)
    groups = []
    for name, members in groupby(sorted(rows, key=lambda r: r["group"]), key=lambda r: r["group"]):
        some = list(members)
        branches = [_selected(row, encoder, verdict_weight, weighted=weighted) for row in some]
        groups.append(Group(name, (grow(branches),), len(some)))
    return groups


_SELECTED = ("group", "domain", "rationale", "text", "score")


def _selected(
    row: dict[str, Any], encoder: Encoder, verdict_weight: float, *, weighted: bool
) -> Branch:
    whole = row.get("finished", True)
    completion = encoder.written(row["text"]) if whole else encoder.begun(row["text"])
    with naming(f"a critique of group {row['group']}"):
        prompt = encoder.prompt(row["domain"], row["rationale"], reserve=len(completion))
    worth = float(row["score"]) if weighted else 1.0
    word = len(encoder.verdict_words[said(row["text"])])
    branch = completion_branch(encoder, prompt, completion, worth)
    weights = list(branch.weights)
    start = len(prompt) + len(encoder.lead_in)
    weights[start : start + word] = [worth * verdict_weight / word] * word
    return replace(branch, weights=tuple(weights))


def scorers(pairs: Sequence[Preference]) -> dict[str, int]:
    """How many pairs each scorer gave."""
    return dict(sorted(Counter(pair.scorer for pair in pairs).items()))
