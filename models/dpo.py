"""Preference learning: DPO and its kin, against a reference that is the policy's own start."""

import torch

from minicrit.critic import Critic
from minicrit.plan import StepBatch
from minicrit.preferring import Mixture, check_start, pair_logprobs, watched
from minicrit.schedule import Optimization
from models.module import CriticModule


class DPOModule(CriticModule):
    """Trains an adapter on preference pairs whose rationales are computed once.

    The loss of a step is the mean over its pairs, over all passes and processes.
    """

    def __init__(
        self,
        critic: Critic,
        optimization: Optimization,
        mixture: Mixture,
        reference: torch.Tensor,
        *,
        loss_chunk: int = 0,
        exact: bool = True,
        seed: int = 0,
    ) -> None:
        """`exact` says that nothing random (dropout) parts the policy from its reference."""
        super().__init__(critic, optimization, seed=seed)
        self.exact = exact
        self.mixture, self.reference, self.loss_chunk = mixture, reference, loss_chunk

    def training_step(self, batch: StepBatch, batch_idx: int) -> torch.Tensor:
        """One optimizer step; returns this process's part of the loss."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        seen: dict[str, torch.Tensor] = {}
        for packed in batch.packs:
            pairs = pair_logprobs(
                self.critic.causal_lm,
                packed.to(self.device),
                self.reference,
                chunk=self.loss_chunk,
            )
            if self.exact and self.global_step == 0 and len(pairs.chosen):
                check_start(pairs)
            loss = self.mixture(pairs).sum() / batch.examples
            # Gradients are averaged over processes; the number of pairs is that of all of them.
            self.manual_backward(loss * self.trainer.world_size)
            total += loss.detach()
            for name, value in watched(pairs, self.mixture.settings.beta).items():
                seen[name] = value / batch.examples + seen.get(name, 0)
        shown = {f"pairs/{name}": value for name, value in seen.items()}
        self.log_dict(shown, sync_dist=True, reduce_fx="sum")
        return self.take_step({"preference": total})
