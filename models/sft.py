"""Supervised fine-tuning of the critic."""

from functools import partial
from typing import Any

import torch

from minicrit.critic import Critic
from minicrit.packing import PackedBatch
from minicrit.plan import StepBatch
from minicrit.schedule import Optimization
from minicrit.twinning import TwinWeights, VerdictProbes, twin_losses
from models.module import CriticModule
from models.sharing import share_out

#: The probes are linear and start at zero: they learn faster than the adapter.
PROBE_RATE = 6.0


class SFTModule(CriticModule):
    """Trains an adapter, or all weights, on reference critiques and on twins.

    The loss of a step is the weighted token sum over all passes and processes, divided once by the
    weight of the step.
    """

    def __init__(
        self,
        critic: Critic,
        optimization: Optimization,
        twins: TwinWeights,
        *,
        loss_chunk: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(critic, optimization, seed=seed)
        self.loss_chunk = loss_chunk
        self.twins = twins
        settings = critic.causal_lm.config
        self.probes = VerdictProbes(settings.num_hidden_layers, settings.hidden_size)
        self.words = critic.encoder.verdict_heads

    def configure_model(self) -> None:
        """Shares all weights out, if the strategy has a mesh of processes to do so."""
        if self.device_mesh is None or self.root:
            return
        low = torch.bfloat16 if self.trainer.precision == "bf16-mixed" else None
        mesh = self.device_mesh["data_parallel"]
        self.root = share_out(self.critic.causal_lm, self.probes, mesh, low)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The adapter and, faster, the probes."""
        rate = PROBE_RATE * self.optimization.learning_rate
        probes = {"params": list(self.probes.parameters()), "lr": rate}
        return [*super().parameter_groups(), probes]

    def training_step(self, batch: StepBatch, batch_idx: int) -> torch.Tensor:
        """One optimizer step; returns this process's part of the loss."""
        parts: dict[str, torch.Tensor] = {}
        for packed in batch.packs:
            work = partial(self._losses, packed.to(self.device), batch)
            losses = self.root(work) if self.root else work()
            # Gradients are averaged over processes; the weights are those of all of them together.
            self.manual_backward(torch.stack(list(losses.values())).sum() * self.trainer.world_size)
            parts = {name: loss.detach() + parts.get(name, 0) for name, loss in losses.items()}
        return self.take_step(parts)

    def _losses(self, packed: PackedBatch, batch: StepBatch) -> dict[str, torch.Tensor]:
        """What one forward pass adds to each part of the loss of a step."""
        found = twin_losses(
            self.critic.causal_lm, self.probes, packed, self.words, chunk=self.loss_chunk
        )
        return found.of_step(batch, self.twins)
