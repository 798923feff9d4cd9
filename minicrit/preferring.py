"""One step of preference learning: likelihoods of pairs, a mixture of losses, what to watch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from minicrit.logprobs import scored_logprobs
from minicrit.losses import (
    PAIR_LOSSES,
    PairLogprobs,
    PairSettings,
    divergence,
    verdict_divergence,
)
from minicrit.packing import PackedBatch
from minicrit.readout import branch_sums
from minicrit.reference import Reference

#: Nats that rounding may leave of one token where policy and reference are the same: they are read
#: in other batches, and a logit of 16 to 32 is rounded to an eighth in bfloat16. Of many tokens it
#: adds up as their square root: a GPU sums a longer batch in another order, and a critic of 135 M
#: parameters then puts 120 tokens of bfloat16 up to two nats apart.
SLACK, ROUNDED_SLACK = 0.01, 0.5


def pair_logprobs(
    model: Callable[..., object],
    batch: PackedBatch,
    reference: Reference | None = None,
    *,
    chunk: int = 0,
    words: Sequence[int] = (0, 0),
) -> PairLogprobs:
    """Likelihoods of the pairs of a batch of `comparisons.comparison_groups`, by pair number.

    Args:
        model: a causal LM with `packed` attention.
        batch: holds both completions of each of its N pairs.
        reference: gives the log-probabilities of the same tokens; None for none.
        chunk: see `logprobs.scored_logprobs`.
        words: tokens of both verdict words. A whole critique ends with an end token, so a pair that
            is as long as these compares nothing else.
    """
    # First, so that its activations are gone when those of the policy are kept.
    before = None if reference is None else reference(batch)
    own = scored_logprobs(model, batch, chunk=chunk)
    named = torch.nonzero(batch.keys >= 0)[:, 0]
    order = named[batch.keys[named].argsort()].view(-1, 2)

    def by_pair(tokens: torch.Tensor) -> torch.Tensor:
        return branch_sums(batch, tokens)[order].T

    policy, lengths = by_pair(own), by_pair(torch.ones_like(own))
    if before is None:
        return PairLogprobs(*policy, *lengths)
    start = by_pair(before)
    with torch.no_grad():
        bare = (lengths.sort(0).values == lengths.new_tensor(sorted(words))[:, None]).all(0)
        apart = torch.where(bare, verdict_divergence(policy.T, start.T),
                            by_pair(divergence(own.double(), before.double())))  # fmt: skip
    return PairLogprobs(*policy, *lengths, *start, *apart)


@dataclass(frozen=True)
class Mixture:
    """Losses by name and weight (`losses.PAIR_LOSSES`), and what they are told."""

    weights: Mapping[str, float]
    settings: PairSettings

    @classmethod
    def of(
        cls, names: Sequence[str], weights: Sequence[float], settings: PairSettings
    ) -> "Mixture":
        """From names and one weight each.

        Raises:
            ValueError: if there are more of one than of the other, or a name twice or unknown.
        """
        if len(set(names)) != len(names) or len(names) != len(weights):
            raise ValueError(f"dpo.losses: expected each name once and one of dpo.loss_weights for "
                             f"each, got {list(names)} and {list(weights)}")  # fmt: skip
        return cls(dict(zip(names, weights, strict=True)), settings)

    def __post_init__(self) -> None:
        known = ", ".join(PAIR_LOSSES)
        if unknown := sorted(set(self.weights) - set(PAIR_LOSSES)):
            raise ValueError(f"dpo.losses: expected names of {known}, got {unknown[0]}; pick one")
        weights = self.weights.values()
        if not (all(weight >= 0 for weight in weights) and any(weights)):
            raise ValueError(f"dpo.loss_weights: expected one above 0 for one of {known} and none "
                             f"below, got {list(weights)}; below 0 a loss is unlearnt")  # fmt: skip

    def __call__(self, pairs: PairLogprobs) -> torch.Tensor:
        """The weighted sum of the losses, (N,)."""
        losses = [weight * PAIR_LOSSES[name](pairs, self.settings)
                  for name, weight in self.weights.items() if weight]  # fmt: skip
        return torch.stack(losses).sum(0)


def watched(pairs: PairLogprobs, beta: float) -> dict[str, torch.Tensor]:
    """Sums over pairs of what tells whether learning goes well; `means` makes them readable."""
    with torch.no_grad():
        better, worse = pairs.ratios
        assert pairs.kl_chosen is not None
        assert pairs.kl_rejected is not None
        return {
            "pairs": torch.ones_like(better).sum(),
            "reward_chosen": (beta * better).sum(),
            "reward_rejected": (beta * worse).sum(),
            "reward_margin": (beta * (better - worse)).sum(),
            "reward_accuracy": (better > worse).to(better.dtype).sum(),
            "logprob_chosen": pairs.chosen.sum(),
            "logprob_rejected": pairs.rejected.sum(),
            "drift_chosen": better.sum(),
            "drift_rejected": worse.sum(),
            "kl": (pairs.kl_chosen + pairs.kl_rejected).sum(),
            "tokens_chosen": pairs.chosen_tokens.sum(),
            "tokens_rejected": pairs.rejected_tokens.sum(),
        }


#: Names of `watched`.
WATCHED = ("pairs", "reward_chosen", "reward_rejected", "reward_margin", "reward_accuracy",
           "logprob_chosen", "logprob_rejected", "drift_chosen", "drift_rejected", "kl",
           "tokens_chosen", "tokens_rejected")  # fmt: skip


def means(sums: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `watched` has summed over all passes and processes, as people read it.

    A pair: rewards in units of beta times nats, lengths in scored tokens. A token: log-likelihoods,
    drifts (log-ratios to the reference, which is the start) and KL, in nats; so a pair of which the
    verdict word alone is compared counts for one token.
    """
    chosen, rejected = sums["tokens_chosen"], sums["tokens_rejected"]
    by = {"logprob_chosen": chosen, "drift_chosen": chosen, "logprob_rejected": rejected,
          "drift_rejected": rejected, "kl": chosen + rejected}  # fmt: skip
    return {
        name: value / by.get(name, sums["pairs"]) for name, value in sums.items() if name != "pairs"
    }


def slack_of(precision: str, *, dropout: bool, dtype: str = "float32") -> float | None:
    """What `check_zero` allows a token; None where chance parts policy and reference.

    Args:
        precision: Lightning's name of it.
        dropout: whether there is any.
        dtype: of the weights (`base.dtype`); at 32-true they stay as they are, and logits with them
            are as rounded as under autocast.
    """
    if dropout:
        return None
    rounded = "16" in precision or (precision == "32-true" and dtype != "float32")
    return ROUNDED_SLACK if rounded else SLACK


def check_start(pairs: PairLogprobs, slack: float = SLACK) -> None:
    """`check_zero` of the margins of pairs."""
    check_zero(pairs.margin, pairs.chosen_tokens + pairs.rejected_tokens, slack)


def check_zero(margins: torch.Tensor, tokens: torch.Tensor, slack: float = SLACK) -> None:
    """Refuses a policy that does not start at its reference: then the loss would mean nothing.

    Args:
        margins: (N,) of the first step, between policy and reference, in nats.
        tokens: (N,) that each is summed over.
        slack: largest one of a token that passes; of n tokens, the square root of n times that.

    Raises:
        ValueError: if one is larger.
    """
    if not len(margins):
        return
    apart = margins.detach().abs()
    each = apart / tokens.sqrt()
    worst = int(each.argmax())
    if not each[worst] <= slack:
        raise ValueError(
            f"expected zero margins at the first step, got {float(apart[worst]):.3f} nats "
            f"over {int(tokens[worst])} tokens: policy and reference differ. The reference must be "
            "the adapter that training starts from, in the same precision and without dropout; "
            "remove the folder of this run's reference and start again"
        )
