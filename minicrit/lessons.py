"""What SFT learns from: reference critiques, encoded and grouped, twins as one tree."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from minicrit.encoding import CutOffError, Encoder, naming, quoted
from minicrit.packing import Branch, Tree, grow
from minicrit.plan import Group, grouped
from minicrit.prompts import critique_of
from minicrit.readout import judging_tree
from minicrit.records import Example, Reading, change_of, read_examples
from minicrit.training_config import SFTConfig
from minicrit.twinning import with_departures


def sft_groups(read: Reading, encoder: Encoder, settings: SFTConfig, seed: int) -> list[Group]:
    """`training_groups` of a file; how many are left out is said and counted.

    Raises:
        ValueError: if all are.
    """
    groups = training_groups(read.examples, encoder, settings, seed)
    count, learnt = len(read.examples), sum(group.examples for group in groups)
    encoder.leave_out(read.path, "examples", count - learnt, of=count)
    return groups


def training_groups(
    examples: Sequence[Example], encoder: Encoder, settings: SFTConfig, seed: int
) -> list[Group]:
    """Encodes the training examples; twins become one tree with what they share as its prefix.

    A group one of which would lose its evidence where it is cut is left out: what is left of that
    one may be without a flaw, and of twins alone with their label to be cut would come to mean it.
    """
    wanted = settings.coherence or settings.running or settings.deep
    if (wanted or settings.steady) and not settings.share_prefix:
        raise ValueError(
            "sft.share_prefix: expected true with sft.coherence, sft.running, sft.deep or "
            "sft.steady, got false; set these four to 0"
        )
    groups = []
    for members in grouped(examples):
        name, known = members[0].group, encoder.ledger.copy()
        explained = random.Random(f"{seed}/{name}").random() < settings.explained  # noqa: S311
        try:
            branches = [sft_branch(e, encoder, settings.verdict_weight, explained) for e in members]
        except CutOffError:
            encoder.ledger = known
            continue
        origins = _origins(members)
        branches = [replace(b, key=origin) for b, origin in zip(branches, origins, strict=True)]
        if wanted:
            branches = _with_departures(members, branches)
        trees = (grow(branches),) if settings.share_prefix else tuple(map(_alone, branches))
        groups.append(Group(name, trees, len(members), keys=1))
    return groups


def _origins(members: Sequence[Example]) -> list[int]:
    """The row of the text that each is a change of (`<id>/<change>`), its own where it is none."""
    rows = {(e.id, e.label): row for row, e in enumerate(members)}
    bases = [e.id.removesuffix(f"/{change}") if (change := change_of(e)) else e.id for e in members]
    return [rows.get((base, e.label), row)
            for row, (base, e) in enumerate(zip(bases, members, strict=True))]  # fmt: skip


def _with_departures(members: Sequence[Example], branches: Sequence[Branch]) -> list[Branch]:
    """Marks in the texts that are no change: a change departs from its twin before the flaw."""
    rows = [row for row, branch in enumerate(branches) if branch.key == row]
    marked = with_departures([branches[row] for row in rows],
                             [members[row].label == "flawed" for row in rows])  # fmt: skip
    found = list(branches)
    for row, branch in zip(rows, marked, strict=True):
        found[row] = branch
    return found


def validation_examples(path: Path, encoder: Encoder) -> list[Example]:
    """The examples of a file, to validate on, but groups that training would leave out.

    Raises:
        TooLongError: if one does not fit; not only when it is validated for the first time.
        ValueError: if none is left.
    """
    examples, lost = read_examples(path).examples, set()
    for example in examples:
        try:
            with naming(f"{path}: {example.id}"):
                judging_tree(encoder, example)
        except CutOffError:
            lost.add(example.group)
    kept = [example for example in examples if example.group not in lost]
    encoder.leave_out(path, "examples", len(examples) - len(kept), of=len(examples))
    return kept


def _alone(branch: Branch) -> Tree:
    return Tree((), (branch,))


def sft_branch(
    example: Example, encoder: Encoder, verdict_weight: float, explained: bool
) -> Branch:
    """Prompt and critique of one example: the prompt and the lead-in weigh nothing.

    The verdict word weighs `verdict_weight` in all, every later token 1. Without `explained` the
    sequence ends after the verdict of a sound text, after the flaw type of a flawed one.

    Raises:
        TooLongError: see `Encoder.prompt`.
    """
    critique = critique_of(example)
    completion = encoder.completion(critique)
    with naming(example.id):
        prompt = encoder.prompt(example.domain, example.rationale, len(completion),
                                quoted(critique))  # fmt: skip
    lead = len(encoder.lead_in)
    word = len(encoder.verdict_words[example.label])
    kept = completion if explained else completion[: encoder.opening_lines(critique)]
    weights = [0.0] * (len(prompt) + lead) + [verdict_weight / word] * word
    weights += [1.0] * (len(prompt) + len(kept) - len(weights))
    return Branch((*prompt, *kept), tuple(weights))
