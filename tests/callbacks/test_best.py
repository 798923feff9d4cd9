"""The best adapter: which one, when to stop, and that a restart decides the same."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from callbacks.best import Best
from callbacks.resume import KEEP
from minicrit.goal import Goal
from minicrit.lora import WEIGHTS

SCORES = [0.3, 0.5, 0.5, float("nan"), 0.4, 0.6]


def trainer(step: int, value: float, name: str = "val/f1", rank: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        global_step=step, callback_metrics={name: torch.tensor(value, dtype=torch.float64)},
        sanity_checking=False, is_global_zero=rank == 0, should_stop=False,
    )  # fmt: skip


def validated(best: Best, model, values, first: int = 1, rank: int = 0) -> int | None:
    """Validates at each step; the step after which it asks to stop."""
    for step, value in enumerate(values, first):
        told = trainer(step, value, best.goal.score, rank)
        best.on_validation_end(told, SimpleNamespace(model=model))
        if told.should_stop:
            return step
    return None


def test_the_first_of_the_highest_is_kept(tmp_path, tiny_adapted):
    best = Best(Goal("val/f1"), tmp_path)
    assert validated(best, tiny_adapted, SCORES[:5]) is None
    assert (best.step, best.value, best.waited) == (2, 0.5, 3)
    saved = load_file(best.path(2) / WEIGHTS)
    assert len(saved) == sum(p.requires_grad for p in tiny_adapted.parameters())


def test_the_lowest_where_less_is_better(tmp_path, tiny_adapted):
    best = Best(Goal("val/fpr"), tmp_path)
    validated(best, tiny_adapted, SCORES)
    assert (best.step, best.value) == (1, 0.3)


@pytest.mark.parametrize(("patience", "stops"), [(0, None), (1, 3), (3, 5), (4, None)])
def test_patience_counts_validations_without_a_better_one(tmp_path, tiny_adapted, patience, stops):
    best = Best(Goal("val/f1"), tmp_path, patience=patience)
    assert validated(best, tiny_adapted, SCORES) == stops


def test_a_restart_decides_the_same_and_stops_again(tmp_path, tiny_adapted):
    first, second = (Best(Goal("val/f1"), tmp_path, patience=3) for _ in range(2))
    validated(first, tiny_adapted, SCORES[:4])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert validated(second, tiny_adapted, SCORES[4:], first=5) == 5
    third = Best(Goal("val/f1"), tmp_path, patience=3)
    third.load_state_dict(second.state_dict())
    told = trainer(5, 0.0)
    third.on_train_start(told, None)
    assert told.should_stop


def test_as_many_stay_as_a_restart_may_go_back_to(tmp_path, tiny_adapted):
    best = Best(Goal("val/f1"), tmp_path)
    validated(best, tiny_adapted, [0.1 * n for n in range(9)], first=2)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == sorted(f"best-{step}" for step in (8, 9, 10))
    assert len(names) == KEEP + 1


def test_what_an_earlier_run_has_left_does_not_take_the_place_of_the_new(tmp_path, tiny_adapted):
    for step in (20, 30, 40):
        (tmp_path / f"best-{step}").mkdir()
    best = Best(Goal("val/f1"), tmp_path)
    validated(best, tiny_adapted, SCORES[:2])
    assert {p.name for p in tmp_path.iterdir()} == {"best-1", "best-2"}


def test_only_process_zero_writes(tmp_path, tiny_adapted):
    best = Best(Goal("val/f1"), tmp_path)
    validated(best, tiny_adapted, SCORES, rank=1)
    assert (best.step, best.value) == (6, pytest.approx(0.6))
    assert list(tmp_path.iterdir()) == []


def test_patience_begins_with_the_first_score_that_is_a_number(tmp_path, tiny_adapted, caplog):
    best = Best(Goal("val/f1"), tmp_path, patience=2)
    nan = float("nan")
    assert validated(best, tiny_adapted, [nan] * 3) is None
    assert (best.step, best.waited) == (None, 0)
    assert [record.getMessage() for record in caplog.records] == [
        "expected a finite val/f1, got none at step 1; patience begins with the first"
    ]
    assert validated(best, tiny_adapted, [0.3, nan, nan], first=4) == 6
    assert best.step == 4
