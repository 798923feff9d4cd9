"""Checkpoints from which a killed run goes on, bit for bit.

A checkpoint is written beside its target, synced, renamed, and only then marked by a file with its
SHA-256; names carry the step and are never overwritten. The newest one whose hash fits is resumed;
a torn one is skipped with a warning. A checkpoint of a step at which validation runs is written
after that validation, so that nothing of it is lost or done twice.
"""

import logging
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import CheckpointIO

from minicrit.files import atomic_file, sha256_file, write_atomic

log = logging.getLogger(__name__)
_NAME = re.compile(r"step-(\d+)\.ckpt")
KEEP = 2


class DurableIO(CheckpointIO):
    """Writes checkpoints atomically; reads tensors and plain values only, never pickled objects."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Temporary file beside the target, fsync, rename, hash, in this order."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as file:
            torch.save(checkpoint, file)
        write_atomic(_marker(target), sha256_file(target) + "\n")

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Loads what `save_checkpoint` wrote."""
        return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]

    def remove_checkpoint(self, path: Any) -> None:
        """Removes the marker first, so that no reader trusts what is going."""
        target = Path(path)
        _marker(target).unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose hash fits; torn ones are named in a warning and skipped."""
    found = [(int(m[1]), p) for p in folder.glob("step-*.ckpt") if (m := _NAME.fullmatch(p.name))]
    for _, path in sorted(found, reverse=True):
        marker = _marker(path)
        if marker.is_file() and marker.read_text().strip() == sha256_file(path):
            return path
        log.warning("%s: expected a whole checkpoint, got a torn one; it is skipped", path)
    return None


def _marker(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


class Resume(Callback):
    """Saves every so many steps into a folder and keeps the newest few."""

    def __init__(self, folder: Path, *, every: int, validate_every: int) -> None:
        self.folder = folder
        self.every = every
        self.validate_every = validate_every

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves, unless validation comes next: then the save follows it."""
        step = trainer.global_step
        validates = self.validate_every and step % self.validate_every == 0
        if step % self.every == 0 and not validates:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Saves with the validation done."""
        if not trainer.sanity_checking and trainer.global_step:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        path = self.folder / f"step-{trainer.global_step}.ckpt"
        # Process zero decides: another one may look while the file is being written.
        if not trainer.strategy.broadcast(_marker(path).exists()):
            trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            io = DurableIO()
            steps = {int(m[1]): p for p in self.folder.glob("*.ckpt")
                     if (m := _NAME.fullmatch(p.name))}  # fmt: skip
            for step in sorted(steps)[:-KEEP]:
                io.remove_checkpoint(steps[step])

    def clear(self) -> None:
        """Removes all checkpoints of a finished run."""
        shutil.rmtree(self.folder, ignore_errors=True)
