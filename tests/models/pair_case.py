"""Pairs of twins, and their likelihoods one text at a time, for the tests of DPO."""

import torch

from data_gen.compose import compose
from data_gen.preferences import preference, twin_pairs
from minicrit.encoding import said
from minicrit.logprobs import token_logprobs
from minicrit.plan import grouped


def some_pairs():
    """Pairs of twins, in groups of four rationales, one of them with two pairs."""
    examples = [c.example for c in compose(8, 3, "train", squares=True)]
    found = [pair for group in grouped(examples) for pair in twin_pairs(group)]
    other = preference(examples[0], found[0].chosen, "Verdict: valid", (0.9, 0.3), "oracle")
    return [*found, other]


def completion(encoder, text, *, whole=True):
    """Its ids, or those of its verdict alone, with the lead-in."""
    word = encoder.verdict_words[said(text)]
    return encoder.written(text) if whole else [*encoder.lead_in, *word]


def by_hand(model, encoder, pair, *, whole=True):
    """Log-likelihood of both completions by two ordinary forwards over the whole texts."""
    sums = []
    prompt = encoder.prompt(pair.domain, pair.rationale)
    for text in (pair.chosen, pair.rejected):
        ids = torch.tensor([[*prompt, *completion(encoder, text, whole=whole)]])
        scored = token_logprobs(model(ids).logits[0, :-1], ids[0, 1:])
        sums.append(scored[len(prompt) + len(encoder.lead_in) - 1 :].sum())
    return torch.stack(sums)
