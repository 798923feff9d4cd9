"""Training as a plan of optimizer steps, the same for every process and every restart.

A step holds whole groups (twins stay together), packed into as many forward passes as the token
limit asks for; a group that is no square and too long for one pass is taken apart. Each process
computes the whole plan and takes its share, so that nothing is left out or counted twice and the
weight of a step is known everywhere before it starts.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from minicrit.packing import Branch, PackedBatch, Tree, pack, parted
from minicrit.records import Example


@dataclass(frozen=True)
class StepBatch:
    """One optimizer step of one process.

    Attributes:
        packs: forward passes, one after the other.
        weight: sum of the token weights of the whole step, over all processes.
        departures: texts of the whole step that depart from a twin. squares: groups that have such.
        versions: texts of the whole step that stand in it changed, too.
        examples: number of examples of the whole step.
        tokens: number of tokens of the whole step.
        ids: where the step's trees come from (group names), for error messages.
    """

    packs: tuple[PackedBatch, ...]
    weight: float
    departures: int
    squares: int
    versions: int
    examples: int
    tokens: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """The trees of examples that belong together.

    Attributes:
        name: of the group.
        trees: of their sequences.
        examples: how many.
        keys: of how many consecutive keys sequences stay together where a tree is too long for one
            pass (`packing.parted`); 0 if it is never taken apart.
    """

    name: str
    trees: tuple[Tree, ...]
    examples: int
    keys: int = 0


class StepPlan:
    """All optimizer steps of a run: epoch after epoch, each a seeded permutation of the groups."""

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        epochs: int,
        batch_examples: int,
        pack_tokens: int,
        seed: int,
    ) -> None:
        groups = [part for group in groups for part in _bounded(group, pack_tokens)]
        self.groups = groups
        self.pack_tokens = pack_tokens
        self.steps: list[list[int]] = []
        for epoch in range(epochs):
            order = list(range(len(groups)))
            random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - not for secrets
            self.steps += _cut(order, [groups[i].examples for i in order], batch_examples)

    def __len__(self) -> int:
        return len(self.steps)

    def step(self, number: int, rank: int = 0, world: int = 1) -> StepBatch:
        """The share of one process in one step.

        Every process gets the same number of packs, as gradients are summed over processes after
        each; one that has fewer trees computes a pack of weight zero.
        """
        groups = [self.groups[i] for i in self.steps[number]]
        trees = [tree for group in groups for tree in group.trees]
        shares = _deal(trees, world)
        packed = [_fill(share, self.pack_tokens) for share in shares]
        most = max(len(packs) for packs in packed)
        mine = packed[rank] + [[_unscored(trees[0])]] * (most - len(packed[rank]))
        packs = tuple(pack(chosen) for chosen in mine)
        return StepBatch(
            packs=packs,
            weight=sum(tree.weight for tree in trees),
            departures=sum(tree.departures for tree in trees),
            squares=sum(tree.departures > 0 for tree in trees),
            versions=sum(tree.versions for tree in trees),
            examples=sum(group.examples for group in groups),
            tokens=sum(tree.tokens for tree in trees),
            ids=tuple(group.name for group in groups),
        )


def packs_of(groups: Sequence[Group], tokens: int) -> list[PackedBatch]:
    """All groups once, in packs."""
    if not groups:
        return []
    size = sum(group.examples for group in groups)
    whole = StepPlan(groups, epochs=1, batch_examples=size, pack_tokens=tokens, seed=0)
    return list(whole.step(0).packs)


def validation_steps(steps: int, every: int) -> tuple[int, ...]:
    """The optimizer steps of a run after which it is validated: evenly spaced, the last at the end.

    Args:
        steps: of the run.
        every: steps between them, as near as that goes; 0 for only at the end.
    """
    rounds = max(1, round(steps / every)) if every else 1
    return tuple(steps * number // rounds for number in range(1, rounds + 1))


def _cut(order: list[int], sizes: list[int], batch: int) -> list[list[int]]:
    """Consecutive groups in steps of nearly the same number of examples.

    There are as many steps as if each were filled with whole groups until it held `batch` examples;
    the few that this leaves for the last one would then count as much as all of another.
    """
    count = held = 0
    for size in sizes:
        held = 0 if held >= batch else held
        count += held == 0
        held += size
    steps: list[list[int]] = [[] for _ in range(count)]
    whole, before = sum(sizes), 0
    for index, size in zip(order, sizes, strict=True):
        steps[(2 * before + size) * count // (2 * whole)].append(index)  # by its middle
        before += size
    return [step for step in steps if step]  # a group of several steps' size leaves some empty


def _bounded(group: Group, most: int) -> list[Group]:
    """The group, or several of one tree each where it is too long for one forward pass.

    Rows of one source may be thousands: one step of all would not fit in memory, nor teach much.
    """
    if not group.keys:
        return [group]
    trees = [part for tree in group.trees for part in parted(tree, most, group.keys)]
    if len(trees) == len(group.trees):
        return [group]
    leaves = sum(len(tree.leaves) for tree in trees)
    return [Group(group.name, (tree,), max(1, group.examples * len(tree.leaves) // leaves))
            for tree in trees]  # fmt: skip


def _deal(trees: Sequence[Tree], world: int) -> list[list[Tree]]:
    """Trees to processes, largest first to the one with the least; ties by rank."""
    shares: list[list[Tree]] = [[] for _ in range(world)]
    loads = [0] * world
    for tree in sorted(trees, key=lambda tree: -tree.tokens):
        rank = loads.index(min(loads))
        shares[rank].append(tree)
        loads[rank] += tree.tokens
    return shares


def _fill(trees: Sequence[Tree], most: int) -> list[list[Tree]]:
    """Packs of at most `most` tokens; a longer tree has a pack of its own."""
    packs: list[list[Tree]] = []
    held = 0
    for tree in trees:
        if not packs or held + tree.tokens > most:
            packs.append([])
            held = 0
        packs[-1].append(tree)
        held += tree.tokens
    return packs


def _unscored(tree: Tree) -> Tree:
    """The same tree with one token of weight zero that is nevertheless scored (a tiny weight)."""
    branch = tree.leaves[0]
    kept = Branch(branch.ids[:1], (1e-30,))
    return Tree(tree.prefix[-1:] or branch.ids[:1], (kept,))


def grouped(examples: Sequence[Example]) -> list[list[Example]]:
    """Examples of one group together, groups in the order of their names."""
    ordered = sorted(examples, key=lambda example: (example.group, example.id))
    return [list(members) for _, members in groupby(ordered, key=lambda e: e.group)]
