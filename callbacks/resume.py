"""Checkpoints from which a killed run goes on, bit for bit.

A checkpoint is written beside its target, synced, renamed, and only then marked by a file with its
SHA-256; names carry the step. The newest one whose hash fits is resumed and never overwritten; a
torn one is skipped with a warning, and written anew when its step is reached. A checkpoint of a
step at which validation runs is written after that validation, so that nothing of it is lost or
done twice.
"""

import logging
import math
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import CheckpointIO
from torch.distributed.tensor import DTensor

from minicrit.files import atomic_file, sha256_file, sha256_json, write_atomic

log = logging.getLogger(__name__)
_NAME = re.compile(r"step-(\d+)\.ckpt")
KEEP = 2
#: What loads again with `weights_only`, beside tensors and what holds such.
_PLAIN = {str, bytes, int, float, bool, type(None), torch.dtype, torch.device}
#: Tensors a trained weight: itself and the two moments of AdamW.
STATES = 3
#: Checkpoints that must fit on the disk before one is written; others write there too.
MARGIN = 2


class DurableIO(CheckpointIO):
    """Writes checkpoints atomically; reads tensors and plain values only, never pickled objects."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Temporary file beside the target, fsync, rename, hash, in this order.

        Raises:
            OSError: if the disk is full; what was there before stays.
            ValueError: if there is something in it that could not be loaded again.
        """
        target = Path(path)
        refuse_objects(checkpoint, target.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_file(target) as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch says where its writer stood, not why
                raise error.__context__ from error
            raise
        write_atomic(_marker(target), sha256_file(target) + "\n")

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Loads what `save_checkpoint` wrote.

        Raises:
            ValueError: if there is anything else in it; it is not run.
        """
        if Path(path).is_dir():
            raise ValueError(f"{path}: expected a checkpoint of one file, got one of slices; go on "
                             "with the strategy that wrote it: set sft.strategy fsdp")  # fmt: skip
        try:
            return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
        except Exception as error:
            raise ValueError(
                f"{path}: expected tensors and plain values (weights_only), got "
                f"{type(error).__name__}; remove it, the one before is taken"
            ) from error

    def remove_checkpoint(self, path: Any) -> None:
        """Removes the marker first, so that no reader trusts what is going."""
        target = Path(path)
        _marker(target).unlink(missing_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)


def seal(folder: Path) -> None:
    """Marks a checkpoint of several files, each of which is marked already, as whole."""
    hashes = {path.name: _marker(path).read_text().strip() for path in folder.glob("*.ckpt")}
    write_atomic(_marker(folder), sha256_json(hashes) + "\n")


def _digest(path: Path) -> str:
    """What the marker of a whole checkpoint says."""
    if not path.is_dir():
        return sha256_file(path)
    return sha256_json({part.name: sha256_file(part) for part in path.glob("*.ckpt")})


def refuse_objects(state: object, where: str) -> None:
    """A ValueError that names what is neither a tensor nor a plain value: it would not load."""
    if isinstance(state, dict):
        for key, value in state.items():
            refuse_objects(key, where)
            refuse_objects(value, f"{where}: {key}")
    elif isinstance(state, list | tuple | set):
        for value in state:
            refuse_objects(value, where)
    elif type(state) not in _PLAIN and not isinstance(state, torch.Tensor):
        raise ValueError(f"{where}: expected tensors and plain values, got "
                         f"{type(state).__name__}; keep numbers and text")  # fmt: skip


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose hash fits; torn ones are named in a warning and skipped.

    Raises:
        ValueError: if some were finished once, but none fits: then going on is not possible, and
            to start again is for somebody else to decide.
    """
    steps = _steps(folder)
    for step in sorted(steps, reverse=True):
        path, marker = steps[step], _marker(steps[step])
        if marker.is_file() and marker.read_text().strip() == _digest(path):
            return path
        log.warning("%s: expected a whole checkpoint, got a torn one; it is skipped", path)
    if any(_marker(path).is_file() for path in steps.values()):
        raise ValueError(
            f"{folder}: expected a checkpoint that fits its hash, got none of {len(steps)}; "
            "restore one, or remove the folder to start again"
        )
    return None


def _steps(folder: Path) -> dict[int, Path]:
    """The checkpoints of a folder by their steps."""
    return {int(m[1]): p for p in folder.glob("*.ckpt") if (m := _NAME.fullmatch(p.name))}


def _marker(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _size(path: Path) -> int:
    """Bytes of a checkpoint."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _free(folder: Path) -> int:
    """Bytes of free disk where a folder is, or will be."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


class Resume(Callback):
    """Saves every so many steps into a folder and keeps the newest few."""

    def __init__(self, folder: Path, *, every: int, validated: Sequence[int]) -> None:
        """`validated`: steps after which validation runs."""
        self.folder = folder
        self.every = every
        self.validated = frozenset(validated)
        self.saves, self.spent, self._begun = 0, 0.0, 0.0
        self._saved = 0  # the step of the checkpoint that this process knows to be sound

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """From here on counts what saving takes of the time; what was gone on from is saved."""
        self._begun = time.perf_counter()
        self._saved = trainer.global_step

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Says it, to the log and to TensorBoard; a manifest holds no times."""
        share = self.spent / max(time.perf_counter() - self._begun, 1e-9)
        if self.saves and trainer.is_global_zero:
            size = max(map(_size, _steps(self.folder).values()), default=0) / 1e6
            log.info("%d checkpoints of %.1f MB in %.2f s, %.2f %% of the training",
                     self.saves, size, self.spent, 100 * share)  # fmt: skip
            measured = {"checkpoint/seconds": self.spent, "checkpoint/share": share,
                        "checkpoint/mb": size}  # fmt: skip
            for logger in trainer.loggers:
                logger.log_metrics(measured, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves, unless validation comes next: then the save follows it."""
        step = trainer.global_step
        if step % self.every == 0 and not self.validates_after(step):
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Saves with the validation done."""
        if not trainer.sanity_checking and trainer.global_step:
            self.save(trainer)

    def validates_after(self, step: int) -> bool:
        """Whether a validation follows this step."""
        return step in self.validated

    def save(self, trainer: Trainer) -> None:
        """Saves this step, unless this run has; removes what is older than the newest few.

        One that an earlier run has left of this step is overwritten: it was not gone on from, so it
        may be torn.

        Raises:
            ValueError: if the weights are no numbers any more or the disk is too full; what was
                saved before stays.
        """
        begun = time.perf_counter()
        path = self.folder / f"step-{trainer.global_step}.ckpt"
        trained = [p for p in trainer.lightning_module.parameters() if p.requires_grad]
        if trainer.global_step != self._saved:
            self._refuse_infinite(trainer, trained)
            # All decide by the disk of process zero, which writes.
            self._refuse_full_disk(trainer.strategy.broadcast(_free(self.folder)), trained)
            trainer.save_checkpoint(path)
            self._saved = trainer.global_step
            self.saves += 1
        if trainer.is_global_zero:
            io, steps = DurableIO(), _steps(self.folder)
            for step in sorted(steps)[:-KEEP]:
                io.remove_checkpoint(steps[step])
        self.spent += time.perf_counter() - begun

    def _refuse_infinite(self, trainer: Trainer, trained: Sequence[torch.Tensor]) -> None:
        mine = (p.to_local() if isinstance(p, DTensor) else p for p in trained)
        finite = all(bool(torch.isfinite(p).all()) for p in mine)
        if not trainer.strategy.reduce_boolean_decision(finite):
            raise ValueError(
                f"step {trainer.global_step}: expected finite weights, got others; lower the "
                "learning rate. The last sound checkpoint is kept"
            )

    def _refuse_full_disk(self, free: int, trained: Sequence[torch.Tensor]) -> None:
        need = MARGIN * STATES * sum(p.numel() * p.element_size() for p in trained)
        if free < need:
            raise ValueError(f"{self.folder}: expected {math.ceil(need / 1e6)} MB of free disk for "
                             f"a checkpoint, got {free / 1e6:.0f}; make room, the same command "
                             "goes on from the last one")  # fmt: skip

    def clear(self) -> None:
        """Removes all checkpoints of a finished run; says what cannot be removed, and goes on."""
        try:
            shutil.rmtree(self.folder)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s: expected to remove it, got %s; the run is finished, the same command "
                        "tries again", self.folder, error)  # fmt: skip
