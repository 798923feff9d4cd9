"""Reading answers off likelihoods: trees to score, and what their scores mean.

One forward pass over `prompt + lead-in` with a few short branches gives p(flawed), the flaw type
and the likelihood of a reference critique. The same readout works on any causal LM.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from minicrit.encoding import Encoder, common_length, quoted
from minicrit.packing import Branch, PackedBatch, Tree
from minicrit.prompts import critique_of
from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES

_WORTH_SHARING = 16  # tokens with which prompts begin alike: twins, not only the same domain


def scored(ids: Sequence[int]) -> Branch:
    """A branch of which every token counts once."""
    return Branch(tuple(ids), (1.0,) * len(ids))


def verdict_tree(encoder: Encoder, prompt: Sequence[int]) -> Tree:
    """Prompt and lead-in, continued by `valid` and by `flawed`, in this order."""
    return joined([prompt], reading(encoder))


def reading(encoder: Encoder, *, types: bool = False) -> Tree:
    """What is asked after a prompt: the lead-in, continued by `valid`, by `flawed`, and by types.

    The types, in the order of the taxonomy, share ` flawed` and the words before the name, whose
    likelihood is the same for all and left out.
    """
    words = encoder.verdict_words
    verdicts = (scored(words["valid"]), scored(words["flawed"]))
    return Tree(tuple(encoder.lead_in), (*verdicts, _types(encoder)) if types else verdicts)


def _types(encoder: Encoder) -> Tree:
    lines = encoder.flaw_lines
    shared = min(common_length(lines[0], line) for line in lines)
    return Tree(tuple(lines[0][:shared]), tuple(scored(line[shared:]) for line in lines))


def bundles(prompts: Sequence[Sequence[int]], most: int, tail: int = 0) -> Iterator[list[int]]:
    """Rows of prompts that begin alike, as twins do, so that it is computed once.

    Args:
        prompts: token ids.
        most: tokens of a bundle, what is shared counted once; a longer prompt is alone.
        tail: tokens that are asked after each prompt.
    """
    bundle: list[int] = []
    shared = whole = 0  # tokens that all of the bundle begin with, and of all its texts, unshared
    for row in sorted(range(len(prompts)), key=lambda r: list(prompts[r])):
        more = len(prompts[row]) + tail
        if bundle:
            alike = min(shared, common_length(prompts[bundle[-1]], prompts[row]))
            if alike < _WORTH_SHARING or whole + more - alike * len(bundle) > most:
                yield bundle
                bundle = []
        shared, whole = (alike, whole + more) if bundle else (len(prompts[row]), more)
        bundle.append(row)
    if bundle:
        yield bundle


def joined(prompts: Sequence[Sequence[int]], tail: Tree) -> Tree:
    """What the prompts share, and each one's own rest with the tail behind it."""
    if len(prompts) == 1:
        return Tree((*prompts[0], *tail.prefix), tail.branches)
    first = prompts[0]
    shared = min(common_length(first, prompt) for prompt in prompts)
    rests = (Tree((*p[shared:], *tail.prefix), tail.branches) for p in prompts)
    return Tree(tuple(first[:shared]), tuple(rests))


def judging_tree(encoder: Encoder, example: Example) -> Tree:
    """The verdict tree, the reference critique, and for flawed items every flaw type.

    Branches: valid, flawed, reference, then one a type of the taxonomy in its order.
    """
    critique = critique_of(example)
    completion = encoder.completion(critique)
    prompt = encoder.prompt(example.domain, example.rationale, len(completion), quoted(critique))
    tree = verdict_tree(encoder, prompt)
    reference = scored(completion[len(encoder.lead_in) :])
    types = (_types(encoder),) if example.label == "flawed" else ()
    return Tree(tree.prefix, (*tree.branches, reference, *types))


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
