"""The adapter (or all weights) of the best validation, and stopping when there are no better ones.

Lightning has `EarlyStopping` and `ModelCheckpoint`, but here a checkpoint is written after all that
a validation brings and holds the adapter with its optimizer; what is wanted is the adapter alone,
written atomically, together with a decision that a killed run takes again in the same way.
"""

import logging
import math
import re
import shutil
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from callbacks.resume import KEEP
from minicrit.goal import Goal
from minicrit.whole import keep_trained

log = logging.getLogger(__name__)
_NAME = re.compile(r"best-(\d+)")


class Best(Callback):
    """Keeps the adapter of the best validation; asks to stop after `patience` without a better one.

    A score that is not a number is never better, but before the first that is one it does not
    count: there is nothing yet that a better one is waited for.

    It must come before the callback that saves checkpoints: its state travels in them. Each best
    adapter has a folder of its own, named by its step; as many stay as a restart may go back to.
    """

    def __init__(self, goal: Goal, folder: Path, *, patience: int = 0) -> None:
        """`patience` 0 is never to stop."""
        self.goal, self.folder, self.patience = goal, folder, patience
        self.step: int | None = None
        self.value: float | None = None
        self.waited = 0
        self._told = False

    def state_dict(self) -> dict[str, Any]:
        """The best so far and how many validations ago it was."""
        return {"step": self.step, "value": self.value, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The other half of `state_dict`."""
        self.step, self.value, self.waited = state["step"], state["value"], state["waited"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """A run that was killed after it had asked to stop stops again."""
        self._stop_if_done(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Compares, keeps, counts."""
        if trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics[self.goal.score])
        if self.value is None and math.isnan(value):
            self._tell(trainer.global_step)
            return
        if not self.goal.better(value, self.value):
            self.waited += 1
            self._stop_if_done(trainer)
            return
        self.step, self.value, self.waited = trainer.global_step, value, 0
        keep_trained(module.model, self.path(self.step), write=trainer.is_global_zero)  # type: ignore[arg-type]
        if trainer.is_global_zero:
            self._forget()

    def path(self, step: int) -> Path:
        """The folder of the adapter of a step."""
        return self.folder / f"best-{step}"

    def _tell(self, step: int) -> None:
        """Once: it may well be so in every validation of a run."""
        if not self._told:
            log.warning("expected a finite %s, got none at step %d; patience begins with the first",
                        self.goal.score, step)  # fmt: skip
        self._told = True

    def _stop_if_done(self, trainer: Trainer) -> None:
        if self.patience and self.waited >= self.patience:
            log.info("no better %s than %s of step %s in %d validations: training stops",
                     self.goal.score, self.value, self.step, self.waited)  # fmt: skip
            trainer.should_stop = True

    def _forget(self) -> None:
        """Later ones than that of now are of an earlier run: no checkpoint that counts has them."""
        assert self.step is not None
        steps = sorted(int(m[1]) for p in self.folder.iterdir() if (m := _NAME.fullmatch(p.name)))
        kept = [step for step in steps if step <= self.step][-KEEP - 1 :]
        for step in set(steps) - set(kept):
            shutil.rmtree(self.path(step))
