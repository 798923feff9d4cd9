"""Validation after given steps; Lightning itself knows one distance between them alone."""

from collections.abc import Sequence
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Validating(Callback):
    """Makes the next of the given steps the one that Lightning's distance ends at."""

    def __init__(self, steps: Sequence[int]) -> None:
        """`steps`: see `plan.validation_steps`."""
        self.steps = steps

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Before the first step Lightning asks whether the one before was validated."""
        self._aim(trainer, trainer.global_step)

    def on_train_batch_start(  # noqa: D102
        self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._aim(trainer, batch_idx + 1)

    def _aim(self, trainer: Trainer, step: int) -> None:
        trainer.val_check_batch = next(mark for mark in self.steps if mark >= step)
