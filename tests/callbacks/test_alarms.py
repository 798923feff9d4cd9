"""Alarms: once each, at their limits, over a window, and as exact after a restart."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch

from callbacks.alarms import WINDOW, PairAlarms, pair_alarms

SOUND = {"pairs/drift_chosen": -0.1, "pairs/kl": 0.1, "pairs/reward_margin": 2.0}


def trainer(step: int = 0, rank: int = 0, **values: float) -> SimpleNamespace:
    told = SOUND | {f"pairs/{name}": value for name, value in values.items()}
    return SimpleNamespace(
        global_step=step, callback_metrics={n: torch.tensor(v) for n, v in told.items()},
        sanity_checking=False, is_global_zero=rank == 0, logger=None,
    )  # fmt: skip


def watching(**told) -> PairAlarms:
    return PairAlarms(pair_alarms(**{"chosen": 0.5, "kl": 0.5, "margin": 15.0} | told))


def steps(alarms: PairAlarms, count: int, first: int = 1, rank: int = 0, **values: float) -> None:
    for step in range(first, first + count):
        alarms.on_train_batch_end(trainer(step, rank, **values), None, None, None, 0)


@pytest.mark.parametrize(("name", "value", "fine", "alarm", "remedy"), [
    ("drift_chosen", -0.51, -0.49, "chosen_collapse", "raise the weight of `nll`"),
    ("kl", 0.51, 0.49, "kl", "raise dpo.beta"),
    ("reward_margin", 15.1, 14.9, "margin_explosion", "lower dpo.beta"),
])  # fmt: skip
def test_each_alarm_once_at_its_limit_with_a_remedy(caplog, name, value, fine, alarm, remedy):
    alarms = watching()
    steps(alarms, 2 * WINDOW, **{name: fine})
    assert alarms.raised == []
    with caplog.at_level(logging.WARNING):
        steps(alarms, 3 * WINDOW, first=100, **{name: value})
    (found,) = alarms.raised
    assert found["alarm"] == alarm
    assert 100 <= found["step"] < 100 + WINDOW
    assert len(caplog.records) == 1
    assert remedy in caplog.text
    assert f"step {found['step']}: {alarm}: expected at" in caplog.text


def test_one_wild_batch_is_no_alarm_and_a_half_full_window_neither():
    alarms = watching()
    steps(alarms, WINDOW - 1, kl=99.0)
    assert alarms.raised == []
    calm = watching()
    steps(calm, WINDOW)
    steps(calm, 1, first=50, kl=4.0)  # the mean of ten is 0.49
    assert calm.raised == []


def test_a_run_shorter_than_a_window_has_alarms_over_all_of_it():
    alarms = PairAlarms(pair_alarms(chosen=0.5, kl=0.5, margin=15.0), steps=3)
    steps(alarms, 2, kl=0.9)
    assert alarms.raised == []
    steps(alarms, 1, first=3, kl=0.6)
    assert [(one["alarm"], one["step"], one["value"]) for one in alarms.raised] == [("kl", 3, 0.8)]


def test_a_limit_of_zero_is_no_alarm_and_other_processes_are_silent():
    off = watching(chosen=0.0, kl=0.0, margin=0.0)
    steps(off, 2 * WINDOW, kl=99.0, reward_margin=999.0, drift_chosen=-9.0)
    assert off.raised == []
    second = watching()
    steps(second, 2 * WINDOW, rank=1, kl=99.0)
    assert second.raised == []


@pytest.mark.parametrize(("now", "raised"), [(59.0, []), (61.0, [1.525]), (26.0, [1.5385])])
def test_sample_critiques_that_become_longer_or_shorter(caplog, now, raised):
    length = [40.0]
    alarms = PairAlarms({}, length=1.5, written=lambda: length[0])
    alarms.on_train_start(trainer(), None)
    length[0] = now
    alarms.on_validation_end(trainer(7), None)
    alarms.on_validation_end(trainer(8), None)
    assert [one["value"] for one in alarms.raised] == raised
    assert ("from 40 to" in caplog.text) == bool(raised)


def test_without_samples_there_is_no_length_to_compare():
    alarms = PairAlarms({}, length=1.5)
    alarms.on_train_start(trainer(), None)
    alarms.on_validation_end(trainer(7), None)
    assert alarms.raised == []


def test_a_restart_goes_on_in_the_middle_of_a_window():
    first, second = watching(), watching()
    steps(first, WINDOW - 1, kl=0.6)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for alarms in (first, second):
        steps(alarms, 3, first=WINDOW, kl=0.6)
    assert first.raised == second.raised
    assert [one["step"] for one in first.raised] == [WINDOW]
