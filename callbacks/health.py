"""Stops a run whose loss or gradient is no longer a number, before it spoils a checkpoint."""

import math

from lightning import Callback, LightningModule, Trainer

from minicrit.plan import StepBatch


class HealthGuard(Callback):
    """Raises at the first step with a non-finite loss or gradient and names the examples in it.

    It must come before the callback that saves checkpoints, so that the newest checkpoint stays
    the last sound one.
    """

    def on_train_batch_end(  # noqa: D102
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: StepBatch, idx: int
    ) -> None:
        for name in ("train/loss", "train/grad_norm"):
            value = float(trainer.callback_metrics[name])
            if not math.isfinite(value):
                raise ValueError(
                    f"step {trainer.global_step}: expected a finite {name}, got {value} in the "
                    f"groups {', '.join(batch.ids[:8])}; look at these examples or lower "
                    "the learning rate. The last sound checkpoint is kept"
                )
