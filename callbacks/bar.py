"""The progress bar of a training, where all the other bars are: on standard error.

Standard output is for results, and spells out what steers a terminal (`minicrit/discreet.py`), so a
bar there would be one endless line.
"""

import sys
from contextlib import redirect_stdout

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
