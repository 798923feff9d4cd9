"""History, health, samples and throughput, driven by a small stand-in for the trainer's values."""

import json
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import LlamaConfig, LlamaForCausalLM

from callbacks.health import HealthGuard
from callbacks.history import History
from callbacks.samples import LONGEST, SampleCritiques, _cell, writable
from callbacks.throughput import Throughput
from data_gen.compose import compose
from minicrit.base import load_tokenizer
from minicrit.critic import Critic
from minicrit.prompts import critique_of, render_critique


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


def test_speed_is_that_of_the_step(monkeypatch):
    """300 tokens of 6 examples in 1.5 s."""
    clock, logged = iter((10.0, 11.5)), {}
    monkeypatch.setattr("callbacks.throughput.time.perf_counter", lambda: next(clock))
    watcher, module = Throughput(), SimpleNamespace(log_dict=logged.update)
    watcher.on_train_batch_start(None, module, None, 0)
    watcher.on_train_batch_end(None, module, None, SimpleNamespace(tokens=300, examples=6), 0)
    assert (logged["speed/tokens_per_s"], logged["speed/examples_per_s"]) == (200.0, 4.0)
    assert 0.01 < logged["memory/peak_rss_gb"] < 1000


def test_a_sample_stands_in_a_table_beside_its_reference(tiny, tiny_model, tmp_path):
    critic = Critic(tiny_model, load_tokenizer(tiny), name="tiny", identity="tiny")
    example = next(compose(1, 0, "validation")).example
    logger = TensorBoardLogger(tmp_path, name="run", version="sft")
    samples = SampleCritiques([example], max_new_tokens=4)
    samples.on_validation_end(
        SimpleNamespace(sanity_checking=False, is_global_zero=True, logger=logger, global_step=7),
        SimpleNamespace(readable=nullcontext, critic=critic),
    )
    logger.experiment.flush()
    log = EventAccumulator(str(tmp_path / "run" / "sft"))
    log.Reload()
    (written,) = critic.critique([(example.domain, example.rationale)], max_new_tokens=4)
    (found,) = log.Scalars("samples/tokens")
    assert (found.step, found.value) == (7, written.tokens) == (7, samples.mean_tokens)
    (told,) = log.Tensors("critiques/text_summary")
    head, rule, row = told.tensor_proto.string_val[0].decode().splitlines()
    assert (head, rule) == ("| rationale | reference | critic |", "|---|---|---|")
    texts = (example.rationale, render_critique(critique_of(example)),
             f"{written.verdict.p_flawed:.2f} {written.text}")  # fmt: skip
    assert row == f"| {' | '.join(map(_cell, texts))} |"


def test_samples_are_texts_behind_which_a_critique_has_places(tiny):
    """Validation asks for the reference's own tokens alone, samples for as many as may be written.

    The encoder lets in as many tokens as there are places; a critique takes lead-in, verdict and
    what `Reader.reserve` counts. So the longest text that leaves that room is one, the next is not.
    """
    tokenizer = load_tokenizer(tiny)
    size = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2}  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**size, max_position_embeddings=400))
    critic = Critic(model, tokenizer, name="small", identity="small")
    room = 400 - critic.reserve(LONGEST)
    assert 100 < room < 400 - LONGEST
    seed = next(compose(1, 0, "validation")).example
    texts = [replace(seed, id=str(n), rationale="so " * n) for n in range(1, 400)]
    lengths = [len(critic.prompt(e.domain, e.rationale)) for e in texts if int(e.id) < 300]
    assert lengths == sorted(lengths)
    fit = sum(length <= room for length in lengths)
    assert 0 < fit < len(lengths)
    assert writable(critic, texts[fit - 1 :], 2) == texts[fit - 1 : fit]
    assert writable(critic, texts, 2) == texts[:2]


class OfLength(Critic):
    """Writes critiques of these lengths, and has room behind a prompt for so many tokens."""

    def __init__(self, lengths: tuple[int, ...], room: int = 1000) -> None:
        self.lengths, self.room = lengths, room

    def reserve(self, longest: int) -> int:
        return max(0, longest - self.room)

    def critique(self, items, *, max_new_tokens):
        verdict = SimpleNamespace(p_flawed=0.5)
        return [SimpleNamespace(tokens=min(n, max_new_tokens), verdict=verdict, text="")
                for n in self.lengths]  # fmt: skip


@pytest.mark.parametrize(("lengths", "room", "limit", "mean"), [
    ((80, 90), 1000, 129, 129.0),  # 1.5 times 85 and one more, so that 1.5 times can be exceeded
    ((80, 90), 125, 125, 125.0),  # a longer one would take places from the prompt
    ((40, 50), 1000, 120, 120.0),
    ((80, 120), 1000, 120, 120.0),  # cut: how much longer it was is not known
])  # fmt: skip
def test_critiques_are_written_on_until_their_growth_shows(tmp_path, lengths, room, limit, mean):
    items = [case.example for case in compose(2, 0, "validation")]
    samples = SampleCritiques(items, at_start=True, longer=1.5)
    critic = OfLength(lengths, room)
    module = SimpleNamespace(readable=nullcontext, critic=critic, eval=list, train=list)
    told = SimpleNamespace(sanity_checking=False, is_global_zero=True, global_step=0,
                           logger=TensorBoardLogger(tmp_path))  # fmt: skip
    samples.on_train_start(told, module)
    assert samples.mean_tokens == sum(lengths) / 2
    again = SampleCritiques(items, at_start=True, longer=1.5)
    again.load_state_dict(samples.state_dict())
    critic.lengths, told.global_step = (999, 999), 7
    for one in (samples, again):
        one.on_validation_end(told, module)
        assert (one.max_new_tokens, one.mean_tokens) == (limit, mean)


def test_sample_text_cannot_leave_its_table_cell():
    assert _cell("a|b\n<script>&") == "a&#124;b<br>&lt;script>&amp;"
