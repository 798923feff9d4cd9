"""Rejection-sampling fine-tuning: the critic learns from the best of its own critiques."""

import torch

from minicrit.critic import Critic
from minicrit.logprobs import scored_logprobs
from minicrit.losses import sft_loss
from minicrit.plan import StepBatch
from minicrit.schedule import Optimization
from models.module import CriticModule


class RSFModule(CriticModule):
    """Trains an adapter on chosen critiques, prefix-shared, by their token-weighted likelihood."""

    def __init__(
        self,
        critic: Critic,
        optimization: Optimization,
        *,
        loss_chunk: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(critic, optimization, seed=seed)
        self.loss_chunk = loss_chunk

    def training_step(self, batch: StepBatch, batch_idx: int) -> torch.Tensor:
        """One optimizer step; returns this process's part of the loss."""
        total = torch.zeros((), device=self.device)
        for packed in batch.packs:
            own = packed.to(self.device)
            logprobs = scored_logprobs(self.critic.causal_lm, own, chunk=self.loss_chunk)
            loss = sft_loss(logprobs, own.weights).total / batch.weight
            # Gradients are averaged over processes; the weight is that of all of them together.
            self.manual_backward(loss * self.trainer.world_size)
            total += loss.detach()
        return self.take_step({"critique": total})
