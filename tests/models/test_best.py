"""Early stopping and the best adapter, in whole runs; and that the names of scores are true."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from data_gen.compose import compose
from minicrit.config import BaseConfig, Recipe
from minicrit.data_config import DataConfig
from minicrit.files import folder_hashes, sha256_file
from minicrit.jsonl import read_lines
from minicrit.manifest import read_manifest
from minicrit.records import write_examples
from minicrit.run import run_of
from minicrit.train import train_sft
from minicrit.training_config import LoraConfig, SFTConfig
from models.module import CriticModule


@pytest.fixture
def recipe(tiny, tmp_path):
    (tmp_path / "data").mkdir()
    for split, count in (("train", 12), ("validation", 4)):
        rows = [c.example for c in compose(count, 0, split)]
        write_examples(tmp_path / "data" / f"{split}.jsonl", rows)
    return Recipe(
        base=BaseConfig(model="tiny", folder=tiny.folder.parent), lora=LoraConfig(rank=4),
        data=DataConfig(folder=tmp_path / "data"),
        sft=SFTConfig(out=tmp_path / "sft", log_folder=tmp_path / "logs", precision="32-true",
                      batch_examples=2, validate_every=1, save_every=2, samples=0,
                      best="val/perplexity", patience=2),
    )  # fmt: skip


def test_what_is_written_anew_while_it_trains_is_not_what_it_was_trained_on(recipe, monkeypatch):
    """The hashes were taken in the end: it was up to date with data that it had never read."""
    from minicrit.trainee import trainee

    train = recipe.data.folder / "train.jsonl"
    read = sha256_file(train)

    def later(run):
        write_examples(train, [c.example for c in compose(12, 1, "train")])
        return trainee(run)

    monkeypatch.setattr("minicrit.train.trainee", later)
    settings = replace(recipe.sft, best=None, patience=0, batch_examples=6)
    out = train_sft(replace(recipe, sft=settings))
    assert read_manifest(out)["inputs"]["train"]["sha256"] == read
    assert not run_of(recipe, "sft", settings, train).finished
    write_examples(train, [c.example for c in compose(12, 0, "train")])
    assert run_of(recipe, "sft", settings, train).finished


def scripted(monkeypatch, values):
    """Validations that give these scores, one after the other, by step."""
    log = CriticModule.log_scores

    def told(self, scores):
        value = torch.tensor(values[self.global_step - 1], dtype=torch.float64)
        log(self, {**scores, "perplexity": value})

    monkeypatch.setattr(CriticModule, "log_scores", told)


def test_the_best_is_kept_and_training_stops(recipe, tmp_path, monkeypatch):
    scripted(monkeypatch, [5.0, 3.0, 4.0, 3.0, 1.0, 1.0])
    out = train_sft(recipe)
    rows = [row for _, row in read_lines(out / "history.jsonl")]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]  # stopped two after the best
    facts = read_manifest(out)["facts"]
    assert facts["best"] == {"score": "val/perplexity", "value": 3.0, "step": 2, "last_step": 4}
    assert facts["steps"] == 6
    last = train_sft(replace(recipe, sft=replace(recipe.sft, out=tmp_path / "last", best=None,
                                                 patience=0)))  # fmt: skip
    assert "best" not in read_manifest(last)["facts"]
    kept, final = (load_file(f / "adapter_model.safetensors") for f in (out, last))
    assert any(not torch.equal(kept[name], final[name]) for name in kept)


@pytest.mark.parametrize("cut", [
    pytest.param(3, id="before-the-stop", marks=pytest.mark.slow),
    pytest.param(5, id="after-it"),
])  # fmt: skip
def test_a_run_cut_off_keeps_and_stops_the_same(recipe, tmp_path, monkeypatch, cut):
    scripted(monkeypatch, [5.0, 3.0, 4.0, 3.5, 1.0, 1.0])
    whole = train_sft(replace(recipe, sft=replace(recipe.sft, out=tmp_path / "whole")))
    import minicrit.train
    from models.sft import SFTModule

    step, save = SFTModule.training_step, minicrit.train.save_trained

    def stopped(self, batch, batch_idx):
        if self.global_step == cut:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as until:
        until.setattr(SFTModule, "training_step", stopped)
        until.setattr(minicrit.train, "save_trained", killed)  # after the stop, before the end
        with pytest.raises(KeyboardInterrupt):
            train_sft(recipe)
    assert not recipe.sft.out.exists()
    assert minicrit.train.save_trained is save
    train_sft(recipe)
    assert folder_hashes(whole) == folder_hashes(recipe.sft.out)
    assert not (tmp_path / "sft.work").exists()


@pytest.mark.parametrize(("epochs", "steps"), [
    pytest.param(8, [2, 5, 8], marks=pytest.mark.slow), (7, [3, 7]),
])  # fmt: skip
def test_the_last_validation_is_at_the_end_of_a_run_cut_off_twice(
    recipe, monkeypatch, epochs, steps
):
    import minicrit.train
    from callbacks.throughput import Throughput

    told = replace(recipe.sft, batch_examples=12, epochs=epochs, validate_every=3, save_every=2,
                   best=None, patience=0)  # fmt: skip
    told = replace(recipe, sft=told)

    def cut(self, trainer, *_):
        if trainer.global_step == 6:
            raise KeyboardInterrupt

    def killed(*_):
        raise KeyboardInterrupt

    for place, name, act in ((Throughput, "on_train_batch_end", cut),
                             (minicrit.train, "save_trained", killed)):  # fmt: skip
        with monkeypatch.context() as until:
            until.setattr(place, name, act)
            with pytest.raises(KeyboardInterrupt):
                train_sft(told)
    out = train_sft(told)
    assert [row["step"] for _, row in read_lines(out / "history.jsonl")] == steps


def test_scores_that_are_no_numbers_keep_the_last(recipe, monkeypatch, caplog):
    scripted(monkeypatch, [math.nan] * 6)
    told = replace(recipe, sft=replace(recipe.sft, patience=0))
    out = train_sft(told)
    facts = read_manifest(out)["facts"]
    assert facts["best"] == {"score": "val/perplexity", "value": None, "step": None,
                             "last_step": 6}  # fmt: skip
    assert "expected a finite val/perplexity in one validation at least" in caplog.text


def test_an_unknown_score_stops_before_training(recipe):
    wrong = replace(recipe, sft=replace(recipe.sft, best="val/acuracy"))
    with pytest.raises(ValueError, match=r"sft.best: expected one of val/f1.*'val/acuracy'"):
        train_sft(wrong)
    assert not recipe.sft.out.with_name("sft.work").exists()


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_every_precision_trains(recipe, precision):
    write_examples(recipe.data.folder / "train.jsonl",
                   [c.example for c in compose(4, 0, "train")])  # fmt: skip
    told = replace(recipe.sft, precision=precision, batch_examples=4, epochs=2, patience=0,
                   learning_rate=1e-2, warmup=0.0, best="val/brier")  # fmt: skip
    out = train_sft(replace(recipe, sft=told))
    first, second = (row["train/loss"] for _, row in read_lines(out / "history.jsonl"))
    assert second < first  # of the same examples
    learnt = load_file(out / "adapter_model.safetensors")
    assert all(weight.any() for weight in learnt.values())  # one of each two began as zeros
    assert read_manifest(out)["facts"]["best"]["value"] < 1


@pytest.mark.parametrize(("multiplied", "precision", "other"), [
    (False, "32-true", "bf16-mixed"),
    pytest.param(True, "bf16-mixed", "32-true", marks=pytest.mark.slow),
])  # fmt: skip
def test_left_to_the_machine_it_is_what_that_is_fast_in(
    recipe, monkeypatch, multiplied, precision, other
):
    def told(precision, *, multiplied):
        monkeypatch.setattr("minicrit.precision.multiplies_bfloat16", lambda: multiplied)
        return replace(recipe, sft=replace(recipe.sft, precision=precision, batch_examples=6,
                                           best=None, patience=0))  # fmt: skip

    out = train_sft(told("auto", multiplied=multiplied))
    assert read_manifest(out)["settings"]["sft"]["precision"] == precision
    # Nor is it made again on a machine that has settled otherwise, or if the same is named.
    for precision_told, here, done in (
        ("auto", not multiplied, True), (precision, True, True), (other, multiplied, False),
    ):  # fmt: skip
        again = told(precision_told, multiplied=here)
        run = run_of(again, "sft", again.sft, recipe.data.folder / "train.jsonl")
        assert run.finished == done
