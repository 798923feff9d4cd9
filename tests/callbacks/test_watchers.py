"""History, health, samples and throughput, driven by a small stand-in for the trainer's values."""

import json
from types import SimpleNamespace

import pytest
import torch

from callbacks.health import HealthGuard
from callbacks.history import History
from callbacks.samples import _cell


def trainer(step: int, **metrics: float) -> SimpleNamespace:
    values = {name.replace("_", "/", 1): torch.tensor(v) for name, v in metrics.items()}
    return SimpleNamespace(
        global_step=step, callback_metrics=values, sanity_checking=False, is_global_zero=True
    )


def after_step(history: History, step: int, loss: float) -> None:
    history.on_train_batch_end(trainer(step, train_loss=loss), None, None, None, 0)


def after_validation(history: History, step: int, **metrics: float) -> None:
    history.on_validation_end(trainer(step, **metrics), None)


def test_history_holds_the_mean_loss_since_the_last_validation(tmp_path):
    history = History(tmp_path / "history.jsonl")
    for step, loss in ((1, 4.0), (2, 2.0)):
        after_step(history, step, loss)
    after_validation(history, 2, val_f1=0.5, val_auroc=float("nan"))
    after_step(history, 3, 1.0)
    after_validation(history, 3, val_f1=0.75)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert rows == [
        {"step": 2, "train/loss": 3.0, "val/f1": 0.5, "val/auroc": None},
        {"step": 3, "train/loss": 1.0, "val/f1": 0.75},
    ]


def test_history_goes_on_in_the_middle_of_a_mean(tmp_path):
    first, second = History(tmp_path / "a.jsonl"), History(tmp_path / "b.jsonl")
    after_step(first, 1, 4.0)
    after_validation(first, 1, val_f1=0.1)
    after_step(first, 2, 3.0)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for history in (first, second):
        after_step(history, 3, 1.0)
        after_validation(history, 3, val_f1=0.2)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert second.rows[-1]["train/loss"] == 2.0


@pytest.mark.parametrize("name", ["train_loss", "train_grad_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_health_guard_names_step_and_examples(name, value):
    metrics = {"train_loss": 1.0, "train_grad_norm": 1.0, name: value}
    batch = SimpleNamespace(ids=("composer/trading/a/b/1", "composer/medical/c/d/2"))
    with pytest.raises(ValueError, match=r"step 7: expected a finite .*composer/medical/c/d/2"):
        HealthGuard().on_train_batch_end(trainer(7, **metrics), None, None, batch, 0)


def test_health_guard_lets_sound_steps_pass():
    batch = SimpleNamespace(ids=("a",))
    guard = HealthGuard()
    guard.on_train_batch_end(trainer(1, train_loss=1.0, train_grad_norm=0.0), None, None, batch, 0)
    assert not vars(guard)


def test_sample_text_cannot_leave_its_table_cell():
    assert _cell("a|b\n<script>&") == "a&#124;b<br>&lt;script>&amp;"
