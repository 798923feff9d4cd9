"""Losses: pure functions of tensors. They return sums and counts; dividing happens once, outside.

Shapes: S scored tokens.
"""

from typing import NamedTuple

import torch


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
