"""Losses: pure functions of tensors. They return sums and counts; dividing happens once, outside.

Shapes: S scored tokens; M tokens from where a text departs from its twin; B branches (texts);
G groups of twins.
"""

from typing import NamedTuple

import torch
from torch.nn.functional import softplus


class LossSum(NamedTuple):
    """A weighted sum of losses and the sum of the weights, both scalars."""

    total: torch.Tensor
    weight: torch.Tensor


def sft_loss(logprobs: torch.Tensor, weights: torch.Tensor) -> LossSum:
    """Negative log-likelihood of the reference tokens.

    total = -sum_t w_t log p(y_t | y_<t, x), weight = sum_t w_t; logprobs and weights are (S,).
    """
    if logprobs.shape != weights.shape:
        raise ValueError(
            f"expected one weight per token, got {tuple(logprobs.shape)} log-probabilities and "
            f"{tuple(weights.shape)} weights"
        )
    weights = weights.to(logprobs.dtype)
    return LossSum(-(weights * logprobs).sum(), weights.sum())


def coherence_loss(
    logprobs: torch.Tensor, signs: torch.Tensor, owners: torch.Tensor, trees: torch.Tensor
) -> LossSum:
    """How far sound texts are from being likelier than their flawed twins, a group each.

    total = sum_g softplus(-(mean over sound texts of log p - mean over flawed texts of log p)),
    where log p is that of the tokens from the departure on, given what stands before. In a square
    each half of an argument stands once in a sound and once in a flawed text, so that its own
    likelihood cancels and the fit of the two halves is left. It is the logistic preference of a
    sound text over its twin, without a reference model (CPO, arXiv 2401.08417, eq. 3 without the
    likelihood term).

    Args:
        logprobs: (M,) of the tokens from the departure on.
        signs: (M,) +1 in sound, -1 in flawed texts.
        owners: (M,) branch of each token.
        trees: (B,) group of each branch.
    """
    texts = torch.zeros(len(trees), dtype=logprobs.dtype, device=logprobs.device)
    likelihood = texts.index_add(0, owners, logprobs)
    sign = texts.index_put((owners,), signs.to(logprobs.dtype))
    groups = int(trees.max()) + 1 if len(trees) else 0
    nothing = torch.zeros(groups, dtype=logprobs.dtype, device=logprobs.device)
    sound, flawed = (sign == 1).to(logprobs.dtype), (sign == -1).to(logprobs.dtype)
    counts = [nothing.index_add(0, trees, chosen) for chosen in (sound, flawed)]
    present = (counts[0] > 0) & (counts[1] > 0)
    means = [
        nothing.index_add(0, trees, chosen * likelihood) / count.clamp(min=1)
        for chosen, count in zip((sound, flawed), counts, strict=True)
    ]
    margin = (means[0] - means[1])[present]
    return LossSum(softplus(-margin).sum(), present.sum())


def running_verdict_loss(
    log_odds: torch.Tensor, signs: torch.Tensor, owners: torch.Tensor, branches: int
) -> LossSum:
    """Binary cross-entropy of the verdict after every token from the departure on, a mean a text.

    total = sum_b mean_t softplus(z_bt) for sound and softplus(-z_bt) for flawed texts, where z_bt
    is the log-odds of `flawed` after token t: a verdict at every step of the argument, whose labels
    twins give for nothing (outcome-labelled process supervision, arXiv 2211.14275).

    Args:
        log_odds: (M,) of `flawed` after each token.
        signs: (M,) +1 in sound, -1 in flawed texts.
        owners: (M,) branch of each token.
        branches: B.
    """
    texts = torch.zeros(branches, dtype=log_odds.dtype, device=log_odds.device)
    losses = texts.index_add(0, owners, softplus(signs.to(log_odds.dtype) * log_odds))
    tokens = texts.index_add(0, owners, torch.ones_like(log_odds))
    present = tokens > 0
    return LossSum((losses[present] / tokens[present]).sum(), present.sum())
