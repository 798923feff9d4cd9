"""The learning curve as a file: one JSON object a validation, in step with the checkpoints."""

import math
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from minicrit.files import to_json, write_atomic


class History(Callback):
    """Keeps `history.jsonl`. The rows travel in the checkpoint, so a restart repeats none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float | int | None]] = []
        self._loss = 0.0
        self._steps = 0

    def state_dict(self) -> dict[str, object]:
        """The rows so far and the unfinished mean: a restart goes on exactly there."""
        return {"rows": self.rows, "loss": self._loss, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The other half of `state_dict`."""
        self.rows, self._loss, self._steps = state["rows"], state["loss"], state["steps"]

    def on_train_batch_end(  # noqa: D102
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, idx: int
    ) -> None:
        self._loss += float(trainer.callback_metrics["train/loss"])
        self._steps += 1

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Appends the scores of this validation and the mean loss since the last one."""
        if trainer.sanity_checking:
            return
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        scores = {k: round(v, 6) if math.isfinite(v) else None for k, v in values.items()}
        loss = round(self._loss / self._steps, 6) if self._steps else None
        self._loss, self._steps = 0.0, 0
        self.rows.append({"step": trainer.global_step, "train/loss": loss, **scores})
        if trainer.is_global_zero:
            text = "".join(to_json(row) + "\n" for row in self.rows)
            write_atomic(self.path, text)
