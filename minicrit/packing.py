"""Padding-free batches in which continuations share their prefix.

A *tree* is a prefix and its branches: a prompt and k critiques, or what two twins have in common
and how each goes on. A batch is one flat sequence of trees. The prefix is computed once; branches
do not see each other; positions restart after the prefix; and logits are needed only where a token
is scored.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from minicrit.attention import Segment


@dataclass(frozen=True)
class Branch:
    """Token ids after the prefix, and the weight of each in the loss (0: not scored).

    Attributes:
        ids: the tokens. weights: one each.
        key: what its owner calls it; -1 for nothing.
        departure: where the text departs from its nearest twin of the other label: (first token,
            behind the last, +1 in a sound text or -1 in a flawed one); None for no such mark.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    departure: tuple[int, int, int] | None = None
    key: int = -1

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.weights) or not self.ids:
            raise ValueError(
                f"expected one weight for each of at least one token, got {len(self.ids)} ids and "
                f"{len(self.weights)} weights; build branches with `branch_of`"
            )


@dataclass(frozen=True)
class Tree:
    """A prefix (possibly empty, never scored) and at least one branch, which may fork again."""

    prefix: tuple[int, ...]
    branches: "tuple[Branch | Tree, ...]"

    @property
    def leaves(self) -> tuple[Branch, ...]:
        """The ends of all sequences, in order."""
        nested = (b.leaves if isinstance(b, Tree) else (b,) for b in self.branches)
        return tuple(leaf for leaves in nested for leaf in leaves)

    @property
    def sequences(self) -> tuple[Branch, ...]:
        """The whole sequences, what they share before each; without marks of departures."""
        return tuple(
            replace(b, ids=self.prefix + b.ids, weights=(0.0,) * len(self.prefix) + b.weights,
                    departure=None)
            for part in self.branches
            for b in (part.sequences if isinstance(part, Tree) else (part,))
        )  # fmt: skip

    @property
    def tokens(self) -> int:
        """Number of tokens computed for this tree."""
        parts = (b.tokens if isinstance(b, Tree) else len(b.ids) for b in self.branches)
        return len(self.prefix) + sum(parts)

    @property
    def weight(self) -> float:
        """Sum of the weights of all scored tokens."""
        return sum(sum(leaf.weights) for leaf in self.leaves)

    @property
    def departures(self) -> int:
        """Number of leaves that depart from a twin."""
        return sum(leaf.departure is not None for leaf in self.leaves)

    @property
    def versions(self) -> int:
        """Number of keys (but -1) that several leaves bear: texts that are here changed, too."""
        counts = Counter(leaf.key for leaf in self.leaves)
        return sum(key != -1 and count > 1 for key, count in counts.items())


@dataclass(frozen=True)
class PackedBatch:
    """One flat sequence of T tokens with S scored tokens.

    Attributes:
        input_ids: (1, T). position_ids: (1, T).
        segments: who sees whom, see `attention.Segment`.
        sources: (S,) index of the token whose hidden state predicts the scored one.
        targets: (S,) ids of the scored tokens. weights: (S,) their weights.
        owners: (S,) number of the branch that each scored token belongs to.
        branches: number of branches.
        departed: (M,) index of each token from where a text departs from its twin.
        before: (M,) index of the token before each of them.
        signs: (M,) +1 in a sound text, -1 in a flawed one.
        departed_owners: (M,) number of the branch. trees: (branches,) number of the tree of each.
        keys: (branches,) what their owner calls them.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: tuple[Segment, ...]
    sources: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    owners: torch.Tensor
    branches: int
    departed: torch.Tensor
    before: torch.Tensor
    signs: torch.Tensor
    departed_owners: torch.Tensor
    trees: torch.Tensor
    keys: torch.Tensor

    @property
    def firsts(self) -> torch.Tensor:
        """(branches,) index of the token that predicts the first scored one of each branch."""
        places = torch.searchsorted(
            self.owners, torch.arange(self.branches, device=self.owners.device)
        )
        return self.sources[places]

    @property
    def lengths(self) -> torch.Tensor:
        """(branches,) number of scored tokens of each branch."""
        return torch.bincount(self.owners, minlength=self.branches)

    @property
    def tokens(self) -> int:
        """T, the number of tokens computed."""
        return self.input_ids.shape[1]

    def to(self, device: torch.device | str) -> "PackedBatch":
        """The same batch on another device."""
        moved = {n: v.to(device) for n, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return PackedBatch(**{**vars(self), **moved})

    def model_inputs(self) -> dict[str, Any]:
        """Keyword arguments for a causal LM whose attention is `packed`: logits at sources only."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            # A ready-made 4-D mask stops transformers from building one; `packed` ignores it.
            "attention_mask": torch.zeros(1, 1, 1, 1, device=self.input_ids.device),
            "segments": self.segments,
            "use_cache": False,
            "logits_to_keep": self.sources,
        }


def pack(trees: Iterable[Tree], *, ends: bool = True) -> PackedBatch:
    """Lays trees out one behind the other.

    Args:
        trees: what is computed.
        ends: compute the last token of each leaf too. What is predicted after it is not scored, so
            where likelihoods alone are asked for it can be left out.
    """
    layout = _Layout(ends)
    numbers: list[int] = []
    keys: list[int] = []
    for number, tree in enumerate(trees):
        layout.tree(tree, parent=-1, depth=0, last=-1)
        numbers += [number] * len(tree.leaves)
        keys += [leaf.key for leaf in tree.leaves]
    sources, targets, weights, owners = _columns(layout.scored, 4)
    departed, before, signs, departed_owners = _columns(layout.departed, 4)
    return PackedBatch(
        input_ids=torch.tensor([layout.ids]),
        position_ids=torch.tensor([layout.positions]),
        segments=tuple(layout.segments),
        sources=torch.tensor(sources, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        weights=torch.tensor(weights, dtype=torch.float32),
        owners=torch.tensor(owners, dtype=torch.long),
        branches=layout.leaves,
        departed=torch.tensor(departed, dtype=torch.long),
        before=torch.tensor(before, dtype=torch.long),
        signs=torch.tensor(signs, dtype=torch.float32),
        departed_owners=torch.tensor(departed_owners, dtype=torch.long),
        trees=torch.tensor(numbers, dtype=torch.long),
        keys=torch.tensor(keys, dtype=torch.long),
    )


def _columns(rows: Sequence[tuple[float, ...]], width: int) -> tuple[tuple[float, ...], ...]:
    return tuple(zip(*rows, strict=True)) or ((),) * width


class _Layout:
    """The flat sequence while it grows. `last` is the index of the token before, -1 for none."""

    def __init__(self, ends: bool) -> None:
        self.ends = ends
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.segments: list[Segment] = []
        self.scored: list[tuple[int, int, float, int]] = []
        self.departed: list[tuple[int, int, int, int]] = []
        self.leaves = 0

    def tree(self, tree: Tree, parent: int, depth: int, last: int) -> None:
        """Adds a tree whose prefix goes on from the segment `parent` at position `depth`."""
        if tree.prefix:
            parent = self._segment(tree.prefix, parent, depth)
            depth, last = depth + len(tree.prefix), len(self.ids) - 1
        for branch in tree.branches:
            if isinstance(branch, Tree):
                self.tree(branch, parent, depth, last)
            else:
                self._leaf(branch, parent, depth, last)

    def _leaf(self, branch: Branch, parent: int, depth: int, last: int) -> None:
        start = len(self.ids)
        computed = branch.ids if self.ends or branch.departure else branch.ids[:-1]
        if computed:
            self._segment(computed, parent, depth)
        for offset, (token, weight) in enumerate(zip(branch.ids, branch.weights, strict=True)):
            source = start + offset - 1 if offset else last
            if weight:
                if source < 0:
                    raise ValueError("expected a token before every scored one, got none; the "
                                     "first token of a text cannot be scored")  # fmt: skip
                self.scored.append((source, token, weight, self.leaves))
        if branch.departure:
            first, behind, sign = branch.departure
            for offset in range(first, behind):
                source = start + offset - 1 if offset else last
                self.departed.append((start + offset, source, sign, self.leaves))
        self.leaves += 1

    def _segment(self, ids: Sequence[int], parent: int, depth: int) -> int:
        self.segments.append(Segment(len(ids), parent))
        self.ids += ids
        self.positions += range(depth, depth + len(ids))
        return len(self.segments) - 1


#: A fork saves less than it costs below so many shared tokens.
_WORTH_A_FORK = 8


def grow(sequences: Sequence[Branch]) -> Tree:
    """The tree of sequences that begin alike: what they share, unscored, is computed once.

    At least one token of each sequence stays in its leaf. Leaves may come in another order.
    """
    shared = _shared(sequences)
    first = sequences[0].ids
    rest = [_without(s, shared) for s in sequences]
    kin: dict[int, list[Branch]] = {}
    for branch in rest:
        kin.setdefault(branch.ids[0], []).append(branch)
    branches: list[Branch | Tree] = []
    for members in kin.values():
        forks = len(members) > 1 and _shared(members) >= _WORTH_A_FORK
        branches += [grow(members)] if forks else members
    return Tree(first[:shared], tuple(branches))


def parted(tree: Tree, most: int, keys: int = 1) -> tuple[Tree, ...]:
    """The tree, or, where it is longer than `most` tokens, several that are not, as far as it goes.

    A tree whose sequences depart from each other stays whole.

    Args:
        tree: of a group.
        most: tokens.
        keys: how many consecutive keys belong together: sequences of one, or 2 n and 2 n + 1.
    """
    if tree.tokens <= most or tree.departures:
        return (tree,)
    kin: dict[int, list[Branch]] = {}
    for number, branch in enumerate(tree.sequences):
        kin.setdefault(branch.key // keys if branch.key >= 0 else -1 - number, []).append(branch)
    parts: list[list[Branch]] = [[]]
    for members in kin.values():
        together = [*parts[-1], *members]
        spared = (len(together) - 1) * _shared(together)
        if parts[-1] and sum(len(b.ids) for b in together) - spared > most:
            parts.append([])
        parts[-1] += members
    return tuple(grow(part) for part in parts)


def _without(branch: Branch, shared: int) -> Branch:
    """The branch without its first tokens, which its departure never reaches into."""
    marked = branch.departure
    moved = marked and (marked[0] - shared, marked[1] - shared, marked[2])
    return replace(
        branch, ids=branch.ids[shared:], weights=branch.weights[shared:], departure=moved
    )


def _shared(sequences: Sequence[Branch]) -> int:
    """How many unscored tokens all sequences share at their start, short of the whole."""
    if len(sequences) == 1:
        return 0
    first = sequences[0].ids
    most = min(len(s.ids) - 1 if s.departure is None else s.departure[0] for s in sequences)
    shared = 0
    while shared < most and all(
        s.ids[shared] == first[shared] and not s.weights[shared] for s in sequences
    ):
        shared += 1
    return shared
