"""The bar of a training that goes on: how far it is, and how fast."""

import warnings
from types import SimpleNamespace

import pytest
from lightning.fabric.utilities.warnings import PossibleUserWarning

from callbacks.bar import Bar
from minicrit import cli


def bar_from(step: int, steps: int) -> Bar:
    """The bar of a run that goes on after a step, as Lightning begins it."""
    bar = Bar(refresh_rate=1)
    bar._trainer = SimpleNamespace(
        max_epochs=1, num_training_batches=steps, global_step=step, current_epoch=0
    )
    bar.on_train_start(bar.trainer, None)
    return bar


def test_what_was_trained_before_counts_for_how_far_and_not_for_how_fast(capsys, monkeypatch):
    bar = bar_from(30, 50)
    assert "Epoch 0:  60%" in capsys.readouterr().err
    monkeypatch.setattr(bar, "get_metrics", lambda *_: {})
    drawn = bar.train_progress_bar
    drawn.start_t = drawn._time() - 10
    bar.on_train_batch_end(bar.trainer, None, None, None, 39)
    text = capsys.readouterr().err
    assert "80%" in text
    assert "40/50 [00:10<00:10," in text  # 10 steps in 10 s, 10 to go
    bar.train_progress_bar.close()


def test_a_run_that_begins_has_it_all_before_it(capsys):
    bar = bar_from(0, 50)
    bar.on_train_epoch_start(bar.trainer)
    bar.train_progress_bar.close()
    assert " 0/50 [" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "shown"), [
    ("You're resuming from a checkpoint that ended before the epoch ended and your dataloader is "
     "not resumable. This can cause unreliable results if further training is done.", 0),
    ("Something else is wrong.", 1),
])  # fmt: skip
def test_no_library_warns_of_going_on(text, shown):
    """Each run goes on to the same bytes (tests/models/test_stopping.py)."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        cli._set_up_logging()
        warnings.warn(text, PossibleUserWarning, stacklevel=1)
    assert len(seen) == shown
