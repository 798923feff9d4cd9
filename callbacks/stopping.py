"""Stops training when a signal asks for it, at an optimizer step, with a checkpoint."""

import signal
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from callbacks.resume import Resume
from minicrit.stopping import SIGNALS, Stopped, let_through


class Stopping(Callback):
    """Saves and raises `Stopped` at the first step after which any process was asked to stop.

    The handler only sets a flag: saving inside of a handler is what hangs and tears checkpoints
    (docs/architecture.md, "Stopping and going on"). All processes compare their flags after each
    step, so that they stop at the same one. Where validation follows a step, the stop follows the
    validation. Must come last, after the callback that saves.
    """

    def __init__(self, resume: Resume, *, steps: int) -> None:
        """`steps`: of the whole run; after the last one there is nothing to go on with."""
        self.resume = resume
        self.steps = steps
        self.asked: signal.Signals | None = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Takes the signals from Lightning, which puts back what was there before at the end.

        Its own handlers would save and call scontrol, or talk to the other processes, at any time.
        A signal that came while the processes were still finding each other counts now.
        """
        for number in SIGNALS:
            signal.signal(number, self._ask)
        let_through()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops here, unless validation comes next."""
        if not self.resume.validates_after(trainer.global_step):
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Stops with the validation done."""
        if not trainer.sanity_checking:
            self._stop_if_asked(trainer)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        asked = trainer.strategy.reduce_boolean_decision(self.asked is not None, all=False)
        if not asked or trainer.global_step >= self.steps:
            return
        self.resume.save(trainer)
        by = self.asked.name if self.asked else "another process"
        raise Stopped(f"stopped by {by} after step {trainer.global_step} of {self.steps}")
