"""Padding-free batches in which continuations share their prefix.

A *tree* is a prefix and its branches: a prompt and k critiques, or what two twins have in common
and how each goes on. A batch is one flat sequence of trees. The prefix is computed once; branches
do not see each other; positions restart after the prefix; and logits are needed only where a token
is scored.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from minicrit.attention import Segment


@dataclass(frozen=True)
class Branch:
    """Token ids after the prefix, and the weight of each in the loss (0: not scored)."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.weights) or not self.ids:
            raise ValueError(
                f"expected one weight for each of at least one token, got {len(self.ids)} ids and "
                f"{len(self.weights)} weights; build branches with `branch_of`"
            )


@dataclass(frozen=True)
class Tree:
    """A prefix (possibly empty) and at least one branch."""

    prefix: tuple[int, ...]
    branches: tuple[Branch, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens computed for this tree."""
        return len(self.prefix) + sum(len(branch.ids) for branch in self.branches)


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
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: tuple[Segment, ...]
    sources: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    owners: torch.Tensor
    branches: int

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


def pack(trees: Iterable[Tree]) -> PackedBatch:
    """Lays trees out one behind the other."""
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    scored: list[tuple[int, int, float, int]] = []
    owner = 0
    for tree in trees:
        root = len(ids)
        trunk = len(segments) if tree.prefix else -1
        if tree.prefix:
            segments.append(Segment(len(tree.prefix)))
            ids += tree.prefix
            positions += range(len(tree.prefix))
        for branch in tree.branches:
            start = len(ids)
            last = root + len(tree.prefix) - 1
            segments.append(Segment(len(branch.ids), trunk))
            for offset, (token, weight) in enumerate(zip(branch.ids, branch.weights, strict=True)):
                if weight:
                    scored.append((start + offset - 1 if offset else last, token, weight, owner))
            ids += branch.ids
            positions += range(len(tree.prefix), len(tree.prefix) + len(branch.ids))
            owner += 1
    columns = list(zip(*scored, strict=True)) or [(), (), (), ()]
    return PackedBatch(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        segments=tuple(segments),
        sources=torch.tensor(columns[0], dtype=torch.long),
        targets=torch.tensor(columns[1], dtype=torch.long),
        weights=torch.tensor(columns[2], dtype=torch.float32),
        owners=torch.tensor(columns[3], dtype=torch.long),
        branches=owner,
    )


def grow(sequences: Sequence[Branch]) -> Tree:
    """The tree of sequences that begin alike: what all share, unscored, becomes the prefix.

    At least one token of each sequence stays in its branch.
    """
    shared = 0
    shortest = min(len(sequence.ids) for sequence in sequences) - 1
    first = sequences[0].ids
    while (
        len(sequences) > 1
        and shared < shortest
        and all(s.ids[shared] == first[shared] and not s.weights[shared] for s in sequences)
    ):
        shared += 1
    return Tree(
        first[:shared],
        tuple(Branch(s.ids[shared:], s.weights[shared:]) for s in sequences),
    )
