"""The one place where logits become log-probabilities.

Shapes: S scored tokens, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from minicrit.packing import PackedBatch


def token_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probability of each target: logits (S, V), targets (S,) -> (S,) in float32 or better.

    `-cross_entropy` is `gather(log_softmax)` in one kernel that never holds a second (S, V).
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return -cross_entropy(wide, targets, reduction="none")


def scored_logprobs(
    model: Callable[..., object], batch: PackedBatch, *, chunk: int = 0
) -> torch.Tensor:
    """Log-probabilities (S,) of the scored tokens of a packed batch, in their order.

    Args:
        model: a causal LM with `packed` attention.
        batch: see `packing.PackedBatch`.
        chunk: scored tokens whose logits exist at the same time; 0 for all of them. Each chunk is
            recomputed in the backward pass, so memory is bounded by chunk x V, not S x V.
    """
    if not chunk or batch.sources.numel() <= chunk:
        logits = model(**batch.model_inputs()).logits  # type: ignore[attr-defined]
        return token_logprobs(logits[0], batch.targets)
    backbone, head = model.model, model.lm_head  # type: ignore[attr-defined]
    inputs = batch.model_inputs()
    del inputs["logits_to_keep"]
    hidden = backbone(**inputs).last_hidden_state[0, batch.sources]

    def part(rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return token_logprobs(head(rows), targets)

    pieces = zip(hidden.split(chunk), batch.targets.split(chunk), strict=True)
    return torch.cat([checkpoint(part, h, t, use_reentrant=False) for h, t in pieces])


def choice_logprobs(logprobs: torch.Tensor) -> torch.Tensor:
    """Normalises log-likelihoods of alternatives over the last dimension."""
    return torch.log_softmax(logprobs, dim=-1)
