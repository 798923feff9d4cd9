"""Tokens and examples a second, and memory, to TensorBoard."""

import resource
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from minicrit.plan import StepBatch


class Throughput(Callback):
    """Logs the speed of each optimizer step and the peak memory so far.

    It must come after a callback that waits for the device, as `HealthGuard` does: a GPU is mostly
    still at the backward pass when the step has been told it.
    """

    def __init__(self) -> None:
        self._start = 0.0

    def on_train_batch_start(  # noqa: D102
        self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(  # noqa: D102
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: StepBatch, idx: int
    ) -> None:
        seconds = time.perf_counter() - self._start
        module.log_dict(
            {
                "speed/tokens_per_s": batch.tokens / seconds,
                "speed/examples_per_s": batch.examples / seconds,
                "memory/peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "memory/peak_gpu_gb": torch.cuda.max_memory_allocated() / 2**30,
            }
        )
