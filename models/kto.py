"""Learning from thumbs up and down, against a reference that is the policy's own start."""

import torch

from minicrit.critic import Critic
from minicrit.plan import StepBatch, StepPlan
from minicrit.preferring import SLACK, check_zero
from minicrit.schedule import Optimization
from minicrit.thumbs import Opinions, log_ratios
from models.module import CriticModule


class KTOModule(CriticModule):
    """Trains an adapter on critiques that are good or bad, each by itself.

    A step first reads, without gradients, its rationales with critiques of others: their mean
    log-ratio is z of KTO, over all passes and processes. Then it learns.
    """

    def __init__(
        self,
        critic: Critic,
        optimization: Optimization,
        opinions: Opinions,
        others: StepPlan,
        *,
        loss_chunk: int = 0,
        slack: float | None = SLACK,
        seed: int = 0,
    ) -> None:
        """`others` has the steps of the plan, with the critiques of other rationales.

        `slack`: see `preferring.slack_of`.
        """
        super().__init__(critic, optimization, seed=seed)
        self.opinions, self.others = opinions, others
        self.loss_chunk, self.slack = loss_chunk, slack

    def divergence(self) -> torch.Tensor:
        """How far policy and reference are apart in this step: z of KTO, a scalar."""
        trainer = self.trainer
        step = self.others.step(self.global_step, self.global_rank, trainer.world_size)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for packed in step.packs:
                ratios, _ = log_ratios(
                    self.critic.causal_lm, packed.to(self.device), self.opinions.reference_others,
                    chunk=self.loss_chunk,
                )  # fmt: skip
                total += ratios.sum() / step.examples
        return torch.as_tensor(self.all_gather(total)).sum()

    def training_step(self, batch: StepBatch, batch_idx: int) -> torch.Tensor:
        """One optimizer step; returns this process's part of the loss."""
        z = self.divergence()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for packed in batch.packs:
            own = packed.to(self.device)
            ratios, numbers = log_ratios(
                self.critic.causal_lm, own, self.opinions.reference, chunk=self.loss_chunk
            )
            if self.slack is not None and self.global_step == 0:
                check_zero(ratios, own.lengths[own.keys >= 0], self.slack)
            loss = self.opinions.losses(ratios, numbers, z).sum() / batch.examples
            # Gradients are averaged over processes; the number is that of all of them.
            self.manual_backward(loss * self.trainer.world_size)
            total += loss.detach()
        self.log("thumbs/divergence", z)
        return self.take_step({"thumbs": total})
