"""Preference learning: DPO and its kin, against a reference that is the policy's own start."""

from collections.abc import Sequence

import torch

from minicrit.critic import Critic
from minicrit.losses import PairLogprobs
from minicrit.metrics import NamedSums
from minicrit.packing import PackedBatch
from minicrit.plan import StepBatch
from minicrit.preferring import (
    SLACK,
    WATCHED,
    Mixture,
    check_start,
    means,
    pair_logprobs,
    watched,
)
from minicrit.records import Example
from minicrit.reference import Reference
from minicrit.schedule import Optimization
from models.module import CriticModule

#: What of `preferring.means` is shown of the held-out pairs.
HELD_OUT = ("reward_accuracy", "reward_margin", "kl")


class DPOModule(CriticModule):
    """Trains an adapter on preference pairs whose rationales are computed once.

    The loss of a step is the mean over its pairs, over all passes and processes.
    """

    def __init__(
        self,
        critic: Critic,
        optimization: Optimization,
        mixture: Mixture,
        reference: Reference,
        *,
        loss_chunk: int = 0,
        slack: float | None = SLACK,
        seed: int = 0,
    ) -> None:
        """`slack`: see `preferring.slack_of`."""
        super().__init__(critic, optimization, seed=seed)
        self.slack = slack
        self.mixture, self.reference, self.loss_chunk = mixture, reference, loss_chunk
        self.held_out = NamedSums(WATCHED)

    def training_step(self, batch: StepBatch, batch_idx: int) -> torch.Tensor:
        """One optimizer step; returns this process's part of the loss."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        seen = torch.zeros(len(WATCHED), dtype=torch.float64, device=self.device)
        for packed in batch.packs:
            pairs = self._pairs(packed)
            if self.slack is not None and self.global_step == 0 and len(pairs.chosen):
                check_start(pairs, self.slack)
            loss = self.mixture(pairs).sum() / batch.examples
            # Gradients are averaged over processes; the number of pairs is that of all of them.
            self.manual_backward(loss * self.trainer.world_size)
            total += loss.detach()
            seen += torch.stack(list(watched(pairs, self.mixture.settings.beta).values()))
        whole = self.trainer.strategy.reduce(seen, reduce_op="sum")
        shown = means(dict(zip(WATCHED, whole, strict=True)))
        self.log_dict({f"pairs/{name}": value for name, value in shown.items()})
        return self.take_step({"preference": total})

    def validation_step(self, batch: Sequence[Example] | PackedBatch, batch_idx: int) -> None:
        """Examples as the critic judges them; held-out pairs by whether the chosen one is ahead."""
        if not isinstance(batch, PackedBatch):
            super().validation_step(batch, batch_idx)
            return
        pairs = self._pairs(batch)
        self.held_out.update(watched(pairs, self.mixture.settings.beta))

    def on_validation_epoch_end(self) -> None:
        """Adds the scores of the held-out pairs, if there are any."""
        super().on_validation_epoch_end()
        sums = self.held_out.compute()
        if sums["pairs"]:
            found = means(sums)
            self.log_scores({name: found[name] for name in HELD_OUT})
        self.held_out.reset()

    def _pairs(self, packed: PackedBatch) -> PairLogprobs:
        return pair_logprobs(
            self.critic.causal_lm,
            packed.to(self.device),
            self.reference,
            chunk=self.loss_chunk,
            words=[len(ids) for ids in self.critic.encoder.verdict_words.values()],
        )
