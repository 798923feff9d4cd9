"""One step of preference learning: likelihoods of pairs, a mixture of losses, what to watch.

The reference is the adapter that training starts from. Its likelihoods are computed before the
first step, by the very weights that are trained afterwards, and kept under the hash of all that
decides them; so there is no second copy of anything, and at the first step every margin is zero.
"""

# mypy: disable-error-code="import-untyped"
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from tqdm import tqdm

from minicrit.files import atomic_file
from minicrit.logprobs import scored_logprobs
from minicrit.losses import PAIR_LOSSES, PairLogprobs, PairSettings
from minicrit.packing import PackedBatch
from minicrit.plan import Group, StepPlan
from minicrit.readout import branch_sums

#: Largest margin, in nats, that rounding may leave where policy and reference are the same.
SLACK = 0.05
_KEY = "logprobs"


def pair_logprobs(
    model: Callable[..., object],
    batch: PackedBatch,
    reference: torch.Tensor | None = None,
    *,
    chunk: int = 0,
) -> PairLogprobs:
    """Likelihoods of the pairs of a batch of `comparisons.comparison_groups`, by pair number.

    Args:
        model: a causal LM with `packed` attention.
        batch: holds both completions of each of its N pairs.
        reference: (2 P,) log-likelihoods by key; None for none.
        chunk: see `logprobs.scored_logprobs`.
    """
    sums = branch_sums(batch, scored_logprobs(model, batch, chunk=chunk))
    tokens = torch.bincount(batch.owners, minlength=batch.branches).to(sums.dtype)
    named = torch.nonzero(batch.keys >= 0)[:, 0]
    order = named[batch.keys[named].argsort()].view(-1, 2)
    if reference is None:
        return PairLogprobs(*sums[order].T, *tokens[order].T)
    known = reference.to(sums.device)[batch.keys[order]]
    return PairLogprobs(*sums[order].T, *tokens[order].T, *known.T)


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
        if not any(self.weights.values()):
            raise ValueError(f"dpo.losses: expected a weight above 0 for one of {known}, got none")

    def __call__(self, pairs: PairLogprobs) -> torch.Tensor:
        """The weighted sum of the losses, (N,)."""
        losses = [weight * PAIR_LOSSES[name](pairs, self.settings)
                  for name, weight in self.weights.items() if weight]  # fmt: skip
        return torch.stack(losses).sum(0)


def watched(pairs: PairLogprobs, beta: float) -> dict[str, torch.Tensor]:
    """Sums over pairs of what tells whether learning goes well; divide by the number of pairs."""
    with torch.no_grad():
        better, worse = pairs.ratios
        return {
            "reward_chosen": (beta * better).sum(),
            "reward_rejected": (beta * worse).sum(),
            "reward_margin": (beta * (better - worse)).sum(),
            "reward_accuracy": (better > worse).to(better.dtype).sum(),
            "logprob_chosen": (pairs.chosen / pairs.chosen_tokens).sum(),
            "logprob_rejected": (pairs.rejected / pairs.rejected_tokens).sum(),
            "tokens_chosen": pairs.chosen_tokens.sum(),
            "tokens_rejected": pairs.rejected_tokens.sum(),
        }


def reference_logprobs(
    model: Callable[..., object],
    groups: Sequence[Group],
    store: Path,
    *,
    pack_tokens: int,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Log-likelihoods (2 P,) of all completions, by key; read from `store` if they are there.

    Args:
        model: the policy before its first step, in the precision in which it will be trained.
        groups: of `comparisons.comparison_groups`.
        store: file named by the hash of all that decides them.
        pack_tokens: most tokens of a forward pass.
        device: of the model.
    """
    pairs = sum(group.examples for group in groups)
    if store.is_file():
        found = load_file(store)[_KEY]
        if found.shape == (2 * pairs,):
            return found
    plan = StepPlan(groups, epochs=1, batch_examples=1, pack_tokens=pack_tokens, seed=0)
    known = torch.full((2 * pairs,), torch.nan, dtype=torch.float64)
    with torch.no_grad():
        for number in tqdm(range(len(plan)), unit="group", desc="reference"):
            for packed in plan.step(number).packs:
                batch = packed.to(device)
                sums = branch_sums(batch, scored_logprobs(model, batch))
                known[packed.keys] = sums.cpu()
    store.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(store) as file:
        file.write(save({_KEY: known}))
    return known


def check_start(pairs: PairLogprobs) -> None:
    """Refuses a policy that does not start at its reference: then the loss would mean nothing.

    Raises:
        ValueError: if a margin of the first step is not zero.
    """
    worst = float(pairs.margin.detach().abs().max())
    if not worst <= SLACK:
        raise ValueError(
            f"expected zero margins at the first step, got {worst:.3f} nats: policy and reference "
            "differ. The reference must be the adapter that training starts from, in the same "
            "precision and without dropout; remove the folder of this run's reference and start "
            "again"
        )
