"""What is learnt from a critic's own critiques: pairs of them, or the best; prefixes shared.

All critiques of a group go into one tree: a rationale is computed once for all of its critiques,
and what the rationales of twins have in common once for all of them.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from minicrit.encoding import Encoder, TooLongError, quoted_by, said
from minicrit.jsonl import BadLine, RefusedError, read_lines, shown
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
            raise ValueError(error.at(f"{path}:{line}")) from error
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
    return grown(encoded, range(len(encoded.pairs)))


@dataclass(frozen=True)
class Encoded:
    """What can be learnt from pairs.

    Attributes:
        pairs: those that fit.
        branches: both sequences of each of them; pair n has the keys 2 n and 2 n + 1.
        too_long: how many do not fit.
        repeated: how many others are, token by token, one that came before: such as those of a
            rationale's own critique and of its twin's, of which the verdict alone is compared.
    """

    pairs: list[Preference]
    branches: list[tuple[Branch, Branch]]
    too_long: int
    repeated: int


def encoded_pairs(
    pairs: Sequence[Preference], encoder: Encoder, *, explained: float = 1.0, seed: int = 0
) -> Encoded:
    """Both sequences of each pair that fits behind its rationale, with their keys.

    Args:
        pairs: what is preferred to what.
        encoder: of the base.
        explained: share of the pairs of different verdicts that are compared to the end. What
            follows a verdict says little about which is right and drowns the word that does, and
            the flaw type of a rejected critique is mostly a good one elsewhere; so of the others
            the verdict word alone is compared.
        seed: of the draw.
    """
    kept: list[Preference] = []
    branches: list[tuple[Branch, Branch]] = []
    known: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    too_long = 0
    for pair in pairs:
        whole = compared_whole(pair, explained, seed)
        try:
            both = _branches(len(kept), pair, encoder, whole=whole)
        except TooLongError:
            too_long += 1
            continue
        ids = (both[0].ids, both[1].ids)
        if ids not in known:
            known.add(ids)
            kept.append(pair)
            branches.append(both)
    return Encoded(kept, branches, too_long, len(pairs) - too_long - len(kept))


def grown(encoded: Encoded, numbers: Iterable[int]) -> list[Group]:
    """One tree a group of the pairs with these numbers, which they keep."""
    pairs = encoded.pairs
    ordered = sorted(numbers, key=lambda n: (pairs[n].group, n))
    groups = []
    for name, members in groupby(ordered, key=lambda n: pairs[n].group):
        both = [encoded.branches[n] for n in members]
        tree = grow([b for pair in both for b in pair])
        groups.append(Group(name, (tree,), len(both), keys=2))
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
    completions = [
        encoder.written(text) if whole else [*encoder.lead_in, *encoder.verdict_words[said(text)]]
        for text in texts
    ]
    prompt = encoder.prompt(pair.domain, pair.rationale, max(map(len, completions)),
                            quoted_by(pair.chosen))  # fmt: skip
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
    """One tree a group of the critiques that rejection sampling kept, as far as they fit.

    Args:
        path: rows of `group, domain, rationale, text, score`, and `finished`: false where the text
            is the beginning of a critique, so that the end token is not learnt.
        encoder: of the base.
        verdict_weight: weight of the verdict word; every later token has 1.
        weighted: weigh the tokens of each by its score, which has to be above 0, instead of by 1.

    Raises:
        ValueError: `file:line: expected ..., got ...; remedy`, or if none fits.
    """
    rows = _read_selected(path, weighted=weighted)
    groups, too_long = [], 0
    for name, members in groupby(sorted(rows, key=lambda r: r["group"]), key=lambda r: r["group"]):
        branches = []
        for row in members:
            try:
                branches.append(_selected(row, encoder, verdict_weight, weighted=weighted))
            except TooLongError:
                too_long += 1
        if branches:
            groups.append(Group(name, (grow(branches),), len(branches), keys=1))
    encoder.leave_out(path, "critiques", too_long, of=len(rows))
    return groups


def _read_selected(path: Path, *, weighted: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for found in read_lines(path):
        if isinstance(found, BadLine):
            raise ValueError(str(found))
        line, row = found
        if wrong := _wrong(row, weighted=weighted):
            raise ValueError(f"{path}:{line}: {wrong}; select again")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: expected at least one critique, got none; select again")
    return rows


_SELECTED = {"group": str, "domain": str, "rationale": str, "text": str, "score": int | float}


def _wrong(row: Mapping[str, Any], *, weighted: bool) -> str:
    """What is wrong with a row of a selection; empty if nothing."""
    for name, kind in _SELECTED.items():
        if name not in row:
            return f"expected {name}, got none"
        if not isinstance(row[name], kind) or isinstance(row[name], bool):
            number = "a number" if name == "score" else "text"
            return f"expected {name} as {number}, got {shown(repr(row[name]))}"
    if weighted and row["score"] <= 0:  # a step of such rows alone would have no mean
        return f"expected a score above 0, as it is the weight, got {row['score']}"
    try:
        said(row["text"])
    except ValueError:
        got = shown(repr(row["text"]))
        return f"expected a critique that begins with its verdict, got {got}"
    return ""


def _selected(
    row: dict[str, Any], encoder: Encoder, verdict_weight: float, *, weighted: bool
) -> Branch:
    whole = row.get("finished", True)
    completion = encoder.written(row["text"]) if whole else encoder.begun(row["text"])
    prompt = encoder.prompt(row["domain"], row["rationale"], len(completion),
                            quoted_by(row["text"]))  # fmt: skip
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
