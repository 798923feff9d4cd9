"""Reading answers off likelihoods: trees to score, and what their scores mean.

One forward pass over `prompt + lead-in` with a few short branches gives p(flawed), the flaw type
and the likelihood of a reference critique. The same readout works on any causal LM.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from minicrit.encoding import Encoder
from minicrit.packing import Branch, PackedBatch, Tree
from minicrit.prompts import critique_of
from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES


def scored(ids: Sequence[int]) -> Branch:
    """A branch of which every token counts once."""
    return Branch(tuple(ids), (1.0,) * len(ids))


def verdict_tree(encoder: Encoder, prompt: Sequence[int]) -> Tree:
    """Prompt and lead-in, continued by `valid` and by `flawed`, in this order."""
    words = encoder.verdict_words
    return Tree((*prompt, *encoder.lead_in), (scored(words["valid"]), scored(words["flawed"])))


def judging_tree(encoder: Encoder, example: Example) -> Tree:
    """The verdict tree, the reference critique, and for flawed items every flaw type.

    Branches: valid, flawed, reference, then one a type of the taxonomy in its order.
    """
    completion = encoder.completion(critique_of(example))
    prompt = encoder.prompt(example.domain, example.rationale, reserve=len(completion))
    tree = verdict_tree(encoder, prompt)
    branches = [*tree.branches, scored(completion[len(encoder.lead_in) :])]
    if example.label == "flawed":
        flawed = encoder.verdict_words["flawed"]
        branches += [scored([*flawed, *encoder.ids(f"\nFlaw: {name}\n")]) for name in FLAW_TYPES]
    return Tree(tree.prefix, tuple(branches))


def branch_sums(batch: PackedBatch, logprobs: torch.Tensor) -> torch.Tensor:
    """Sum of the scored log-probabilities of each branch: (S,) -> (branches,) in float64."""
    sums = torch.zeros(batch.branches, dtype=torch.float64, device=logprobs.device)
    return sums.index_add_(0, batch.owners, logprobs.double())


@dataclass(frozen=True)
class Judged:
    """What one judging tree says about one example.

    Attributes:
        log_odds: log p(flawed) - log p(valid).
        flaw_type: the likeliest type if the critique said flawed; None for valid examples.
        nll: negative log-likelihood of the reference critique, in nats. tokens: its length.
    """

    log_odds: float
    flaw_type: str | None
    nll: float
    tokens: int


def read_judged(trees: Sequence[Tree], sums: torch.Tensor) -> list[Judged]:
    """Takes the sums of `branch_sums` apart again, one Judged a tree."""
    judged = []
    names = list(FLAW_TYPES)
    parts = sums.cpu().split([len(tree.leaves) for tree in trees])
    for tree, part in zip(trees, parts, strict=True):
        types = part[3:]
        judged.append(
            Judged(
                log_odds=float(part[1] - part[0]),
                flaw_type=names[int(types.argmax())] if len(types) else None,
                nll=-float(part[2]),
                tokens=len(tree.leaves[2].ids),
            )
        )
    return judged
