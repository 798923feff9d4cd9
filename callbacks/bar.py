"""The progress bar of a training, where all the other bars are: on standard error.

Standard output is for results, and spells out what steers a terminal (`minicrit/discreet.py`), so a
bar there would be one endless line.
"""

import sys
from contextlib import redirect_stdout

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class Bar(TQDMProgressBar):
    """Lightning's bar, which takes standard output as it finds it when a bar begins."""

    def init_train_tqdm(self) -> Tqdm:
        """The bar of the steps."""
        with redirect_stdout(sys.stderr):
            return super().init_train_tqdm()

    def init_validation_tqdm(self) -> Tqdm:
        """The bar of a validation."""
        with redirect_stdout(sys.stderr):
            return super().init_validation_tqdm()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begins with what an earlier command has trained, which is no part of the speed.

        Lightning sets a total where an epoch begins, and no epoch begins in its middle.
        """
        super().on_train_start(trainer, module)
        bar = self.train_progress_bar
        bar.total = self.total_train_batches
        bar.initial = bar.n = trainer.global_step
        bar.set_description(f"Epoch {trainer.current_epoch}")
