"""Stopping when asked: at an optimizer step, with a checkpoint, and on to the same bytes."""

import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.resume import DurableIO, newest
from callbacks.throughput import Throughput
from data_gen.compose import compose
from minicrit.config import BaseConfig, Recipe
from minicrit.data_config import DataConfig
from minicrit.files import folder_hashes
from minicrit.records import write_examples
from minicrit.stopping import Stopped
from minicrit.train import train_sft
from minicrit.training_config import LoraConfig, SFTConfig

STEPS, VALIDATES = 8, 4


@pytest.fixture
def recipe(tiny, tmp_path, monkeypatch):
    """A run of eight steps with two validations; its name is a folder."""
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 32), ("validation", 4)):
        rows = [c.example for c in compose(count, 0, split)]
        write_examples(tmp_path / "data" / f"{split}.jsonl", rows)

    def named(name: str) -> Recipe:
        sft = SFTConfig(out=Path(name, "sft"), log_folder=Path(name, "logs"), precision="32-true",
                        batch_examples=8, epochs=2, validate_every=VALIDATES, save_every=100,
                        samples=0)  # fmt: skip
        return Recipe(
            base=BaseConfig(model="tiny", folder=tiny.folder.parent),
            sft=sft,
            data=DataConfig(folder=Path("data")),
            lora=LoraConfig(rank=4, dropout=0.1),
        )

    return named


@pytest.fixture
def during(monkeypatch):
    """Does something at the end of a step, before the callbacks that save and stop.

    Returns the learning rates that were seen, by step.
    """
    rates: dict[int, float] = {}

    def plan(at: int, act) -> dict[int, float]:
        rates.clear()

        def end(self, trainer, *_):
            rates[trainer.global_step] = trainer.optimizers[0].param_groups[0]["lr"]
            if trainer.global_step == at:
                act(trainer)

        monkeypatch.setattr(Throughput, "on_train_batch_end", end)
        return rates

    return plan


def test_stopped_by_either_signal_it_ends_in_the_same_bytes(recipe, during):
    whole = during(0, None)
    train_sft(recipe("whole"))
    expected, seen = dict(whole), {}
    assert list(expected) == list(range(1, STEPS + 1))
    stopped = recipe("stopped")
    work = stopped.sft.out.with_name("sft.work")
    before = signal.getsignal(signal.SIGUSR1)
    # One step in the middle, one that validation follows, and one right after going on.
    for step, number in ((3, signal.SIGUSR1), (4, signal.SIGTERM), (5, signal.SIGUSR1)):
        rates = during(step, lambda _, number=number: os.kill(os.getpid(), number))
        with pytest.raises(Stopped, match=f"stopped by {number.name} after step {step} of 8"):
            train_sft(stopped)
        assert newest(work) == work / f"step-{step}.ckpt"
        assert not seen.keys() & rates.keys()
        seen |= rates
    assert signal.getsignal(signal.SIGUSR1) == before
    rates = during(0, None)
    train_sft(stopped)
    assert folder_hashes("whole/sft") == folder_hashes("stopped/sft")
    assert seen | rates == expected
    assert not work.exists()


def test_asked_before_the_first_step_it_stops_after_that(recipe, monkeypatch):
    """While it loads there is nothing to save, and Lightning's own handlers are not to be met."""
    ask = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(Throughput, "on_fit_start", ask, raising=False)
    with pytest.raises(Stopped, match=f"stopped by SIGTERM after step 1 of {STEPS}"):
        train_sft(recipe("early"))
    assert newest(Path("early/sft.work")) == Path("early/sft.work/step-1.ckpt")


def test_what_saving_takes_is_measured(recipe, during, caplog):
    """Eight saves; the validations' are among them."""
    told = recipe("measured")
    told.sft.save_every = 1
    during(0, None)
    with caplog.at_level("INFO"):
        train_sft(told)
    found = re.search(r"(\d+) checkpoints of ([\d.]+) MB in ([\d.]+) s, ([\d.]+) % of", caplog.text)
    assert found
    assert int(found[1]) == STEPS
    assert 0 < float(found[2]) < 60
    assert 0 < float(found[4]) < 100
    log = EventAccumulator("measured/logs/measured/sft")
    log.Reload()
    share, seconds = (log.Scalars(f"checkpoint/{n}")[-1].value for n in ("share", "seconds"))
    assert 100 * share == pytest.approx(float(found[4]), abs=0.006)
    assert seconds == pytest.approx(float(found[3]), abs=0.006)


def test_asked_at_the_last_step_it_finishes(recipe, during):
    during(STEPS, lambda _: os.kill(os.getpid(), signal.SIGUSR1))
    out = train_sft(recipe("last"))
    assert (out / "manifest.json").is_file()


def spoil(trainer) -> None:
    trained = [p for p in trainer.lightning_module.parameters() if p.requires_grad]
    trained[0].data.fill_(torch.nan)


@pytest.mark.parametrize(("every", "spoilt", "message", "kept"), [
    (1, 2, "step 2: expected finite weights", 1),  # before it could be saved
    (2, 3, "step 4: expected a finite train/loss", 2),  # before the next save
])  # fmt: skip
def test_what_is_no_number_stops_the_run_and_never_gets_into_a_checkpoint(
    recipe, during, every, spoilt, message, kept
):
    told = recipe("nan")
    told.sft.save_every = every
    during(spoilt, spoil)
    with pytest.raises(ValueError, match=message):
        train_sft(told)
    path = newest(told.sft.out.with_name("sft.work"))
    assert path is not None
    assert path.name == f"step-{kept}.ckpt"
    weights = DurableIO().load_checkpoint(path)["state_dict"]
    assert weights
    assert all(bool(torch.isfinite(w).all()) for w in weights.values())


def test_a_full_disk_stops_the_run_with_the_last_checkpoint(recipe, during, monkeypatch):
    told = recipe("full")
    told.sft.save_every = 1
    full = SimpleNamespace(free=1000)
    during(2, lambda _: monkeypatch.setattr("callbacks.resume.shutil.disk_usage", lambda _: full))
    with pytest.raises(
        ValueError, match=r"expected [1-9]\d* MB of free disk for a checkpoint, got 0"
    ):
        train_sft(told)
    work = told.sft.out.with_name("sft.work")
    assert newest(work) == work / "step-1.ckpt"


def test_a_checkpoint_that_was_spoilt_is_written_anew(recipe, during, caplog):
    told = recipe("spoilt")
    told.sft.save_every = 2
    during(4, lambda _: os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(Stopped):
        train_sft(told)
    last = told.sft.out.with_name("sft.work") / "step-4.ckpt"
    last.write_bytes(last.read_bytes()[:-1])
    assert newest(last.parent) == last.with_name("step-2.ckpt")
    with pytest.raises(Stopped):
        train_sft(told)
    assert newest(last.parent) == last


def test_other_data_than_before_are_refused(recipe, during):
    told = recipe("changed")
    during(3, lambda _: os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(Stopped):
        train_sft(told)
    during(0, None)
    rows = [c.example for c in compose(32, 1, "train")]
    write_examples(Path("data/train.jsonl"), rows)
    message = (r"^changed/sft.work: expected checkpoints of these .*; rm -r changed/sft.work to "
               r"start again \(a finished critic")  # fmt: skip
    with pytest.raises(ValueError, match=message):
        train_sft(told)
