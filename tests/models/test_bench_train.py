"""Both sides of the training bench learn the same; what is made of their times is right."""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig

from minicrit.config import BaseConfig, Recipe
from minicrit.preferring import ROUNDED_SLACK, SLACK
from minicrit.settings import load_recipe
from minicrit.training_config import BenchTrainConfig, LoraConfig
from models import bench_train as bench
from models.bench_case import (
    SHAPES,
    Case,
    Lesson,
    build,
    config_of,
    lessons,
    sequence_tokens,
    step_plan,
)
from models.bench_figures import Ran, figures_of, flops, page
from models.bench_ours import train_ours
from models.bench_trl import train_trl
from models.bench_turns import Side, Step, Turns, surroundings

SMALL = Case("dpo", "tiny", 3, 2, "lora", completion=8, steps=3, rank=4)


@pytest.fixture
def small(tiny_folder):
    return replace(SMALL, base_folder=tiny_folder)


def losses(train, case, **options):
    turns = Turns(None, case.steps)
    train(turns, case, **options)
    assert all(step.cpu > 0 and step.tokens for step in turns.steps)
    return torch.tensor([step.loss for step in turns.steps])


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_dpo_steps_are_those_of_trl(small, adapter):
    case = replace(small, adapter=adapter)
    found = [losses(train, case, precomputed=known) for train in (train_ours, train_trl)
             for known in (False, True)]  # fmt: skip
    assert found[0][0] == pytest.approx(0.6931471805599453)
    assert found[0][1:].sub(found[0][0]).abs().min() > 1e-4  # it does learn
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=2e-5, rtol=0)


def test_sft_steps_are_those_of_trl(small):
    case = replace(small, task="sft", model="base", base="tiny")
    ours, padded = losses(train_ours, case), losses(train_trl, case)
    free = losses(train_trl, case, padding_free=True)
    torch.testing.assert_close(padded, ours, atol=2e-5, rtol=0)
    torch.testing.assert_close(free, ours, atol=2e-5, rtol=0)


def test_the_settings_for_a_gpu_run_on_a_small_model(small):
    case = replace(small, precision="bfloat16", checkpointing=True)
    ours, theirs = losses(train_ours, case), losses(train_trl, case)
    assert ours[0] == theirs[0] == pytest.approx(0.6931471805599453)
    torch.testing.assert_close(theirs, ours, atol=5e-3, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_start_may_be_as_far_off_as_rounding_goes(small, monkeypatch, precision):
    allowed = []
    monkeypatch.setattr("models.dpo.check_start", lambda _, slack: allowed.append(slack))
    losses(train_ours, replace(small, precision=precision), precomputed=True)
    assert allowed == [ROUNDED_SLACK if precision == "bfloat16" else SLACK]


def test_lessons_have_the_lengths_that_were_asked_for():
    case = Case("dpo", "tiny", 3, 8, "lora", completion=40, steps=10)
    some = lessons(case, 1024)
    assert len(some) == 80
    assert some == lessons(case, 1024)
    prompts = sum(len(one.prompt) for one in some)
    completions = sum(len(c) for one in some for c in one.completions)
    assert prompts / completions * 2 == pytest.approx(3, rel=0.1)
    assert sequence_tokens(case, some) == pytest.approx((2 * prompts + completions) / 10)
    step = step_plan(case, some).step(0)
    assert step.examples == 8
    numbers = sorted(map(int, step.ids))
    keys = [2 * n + side for n in numbers for side in (0, 1)]
    assert sorted(step.packs[0].keys.tolist()) == keys
    assert Lesson((1, 2), ((3,), (4, 5))).tree.tokens == 5


def step(cpu, memory, loss=0.5, wall=9.0, gpu=None):
    return Step(loss, cpu, wall, memory, gpu, 100)


def ran(*seconds, memory, loss=0.5):
    return Ran((step(50.0, memory, loss), *(step(s, memory, loss) for s in seconds)))


def test_ratios_are_of_the_rounds_and_the_first_step_does_not_count():
    sides = {
        "ours live": ran(2.0, 4.0, 2.0, memory=10.0),
        "ours precomputed": ran(1.0, 2.0, 1.0, memory=8.0),
        "trl live": ran(8.0, 12.0, 10.0, memory=40.0, loss=0.501),
        "trl precomputed": Ran(failure="exit status -9"),
    }
    found = figures_of(SMALL, sides, (7, 3, 10), None)
    assert [row["what"] for row in found["compared"]] == [
        "DPO, live reference", "DPO, ours precomputed, TRL live",
    ]  # fmt: skip
    live = found["compared"][0]
    assert live["times_as_fast"] == {"median": 4.0, "low": 3.0, "high": 5.0}
    assert live["memory"] == 0.25
    assert found["sides"]["trl precomputed"] == {"failure": "exit status -9"}
    assert found["sides"]["ours live"]["seconds"] == 2.0
    assert found["most_loss_apart"] == pytest.approx(0.001)
    whole = {"hardware": {"gpu": None, "cpu": "a"}, "versions": {"trl": "1"}, "threads": 1,
             "code": "0+f00", "cases":
             [{"name": "n", "case": vars(SMALL), "sequence_tokens": 300.0, **found}]}  # fmt: skip
    text = page(whole)
    assert "| DPO, live reference | 4.00 (3.00 to 5.00) | 0.25 |" in text
    assert "| n | ours live | 2.000 | 10 | 150 |" in text
    assert "| n | trl precomputed | failed: exit status -9 |" in text
    assert "trl 1, minicrit 0+f00." in text


def test_the_fastest_way_of_trl_counts():
    sides = {"ours": ran(1.0, 1.0, 1.0, memory=1.0), "trl padded": ran(3.0, 3.0, 3.0, memory=4.0),
             "trl padding-free": ran(2.0, 2.0, 2.0, memory=4.0)}  # fmt: skip
    found = figures_of(replace(SMALL, task="sft"), sides, (7, 3, 10), None)["compared"]
    assert [(r["against"], r["times_as_fast"]["median"]) for r in found] == [
        ("trl padding-free", 2.0)
    ]


def test_flops_and_mfu_by_hand():
    # 100 tokens x 7 weights + 10 scored x 3 = 730 products of 2 operations, forward and back to the
    # activations; with full fine-tuning also to the weights; a live reference forward once more.
    assert flops(SMALL, 730, live=False) == 2 * 2 * 730
    assert flops(replace(SMALL, adapter="full"), 730, live=True) == 2 * 4 * 730
    sides = {name: Ran((step(1, 1, gpu=5.0, wall=1e-9),) * 3) for name in
             ("ours live", "ours precomputed", "trl live", "trl precomputed")}  # fmt: skip
    found = figures_of(SMALL, sides, (7, 3, 10), "NVIDIA H100 80GB HBM3")["sides"]
    assert found["ours precomputed"]["mfu"] == pytest.approx(4 * 730 / 1e-9 / 989e12)
    assert found["ours live"]["mfu"] == pytest.approx(6 * 730 / 1e-9 / 989e12)
    assert found["ours live"]["memory_mib"] == 5.0
    assert "mfu" not in figures_of(SMALL, sides, (7, 3, 10), "some GPU")["sides"]["ours live"]


@pytest.mark.parametrize(("visible", "taken"), [(None, "0"), ("2,3", "2"), ("", "")])
def test_a_side_sees_one_gpu_at_most(monkeypatch, visible, taken):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert surroundings(3) == {"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": taken}


@pytest.mark.slow
def test_a_side_in_its_own_process_waits_and_its_failure_is_told(small):
    side = Side(partial(bench._ours, case=small), steps=small.steps, threads=1)
    broken = Side(os.getpid, steps=3, threads=1)  # takes no turns: ends with a TypeError
    try:
        first, second = side.step(), side.step()
        assert first.loss == pytest.approx(0.6931471805599453)
        assert second.loss != first.loss
        assert second.memory > 0
        assert broken.step() is None
        assert broken.failure == "exit status 1"
        assert broken.step() is None
    finally:
        side.close()
        broken.close()


def test_one_thing_is_varied_at_a_time():
    told = BenchTrainConfig(models=["tiny"], tasks=["sft"])
    found = bench.cases(Recipe(bench_train=told))
    assert [(c.ratio, c.batch, c.adapter) for c in found] == [
        (3, 4, "lora"), (1, 4, "lora"), (6, 4, "lora"), (3, 8, "lora"), (3, 4, "full"),
    ]  # fmt: skip
    assert {c.steps for c in found} == {6}


@pytest.mark.parametrize(("told", "message"), [
    ({"models": ["70b"]}, "bench_train.models: expected names of tiny, .* got 70b"),
    ({"adapters": ["dora"]}, "bench_train.adapters: expected names of lora, full, got dora"),
    ({"tasks": []}, "bench_train.tasks: expected at least one, got none"),
    ({"sides": ["theirs"]}, "bench_train.sides: expected names of ours live, .* got theirs"),
    ({"rounds": 0}, "bench_train.rounds: expected 1 or more, got 0"),
    ({"ratios": [0.0]}, "bench_train.ratios: expected more than 0"),
    ({"tasks": ["sft"], "sides": ["ours live", "trl live"]}, "bench_train.sides: expected one at "
     "least of ours, trl padded, trl padding-free, got ours live, trl live; name one, or none"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused(told, message):
    with pytest.raises(ValueError, match=message):
        bench.cases(Recipe(bench_train=BenchTrainConfig(**told)))


def test_the_base_is_of_the_commit_that_the_recipe_names(monkeypatch):
    def prepare(*told):
        asked.append(told)
        raise InterruptedError

    asked = []
    monkeypatch.setattr("models.bench_case.prepare_base", prepare)
    recipe = Recipe(base=BaseConfig("some/base", "c" * 40, Path("bases")),
                    bench_train=BenchTrainConfig(models=["base"]))  # fmt: skip
    case = bench.cases(recipe)[0]
    for make in (config_of, partial(build, attention="packed")):
        with pytest.raises(InterruptedError):
            make(case)
    assert asked == [("some/base", Path("bases"), "c" * 40)] * 2


def test_dropout_is_refused():
    with pytest.raises(ValueError, match=r"expected 0 on both sides, got 0\.1"):
        bench.cases(Recipe(lora=LoraConfig(dropout=0.1)))


def test_the_recipe_for_a_gpu_holds_shapes_that_exist():
    found = bench.cases(load_recipe(["vista"], []))
    assert {c.model for c in found} == {"135m", "1.5b", "7b"} <= set(SHAPES)
    assert {(c.precision, c.checkpointing) for c in found} == {("bfloat16", True)}
    body, head, words = bench._weights(found[-1])
    assert body + 2 * head == pytest.approx(7.6e9, rel=0.01)
    assert words == 152064


def test_some_sides_alone_are_run_and_compared():
    told = BenchTrainConfig(models=["tiny"], ratios=[3.0], batches=[4], adapters=["lora"],
                            sides=["ours precomputed", "trl live"])  # fmt: skip
    (case,) = bench.cases(Recipe(bench_train=told))
    assert case.task == "dpo"
    assert list(bench._sides(case)) == told.sides
    sides = {name: ran(1.0, 2.0, memory=2.0) for name in told.sides}
    (row,) = figures_of(case, sides, (1, 1, 1), None)["compared"]
    assert (row["what"], row["times_as_fast"]["median"]) == ("DPO, ours precomputed, TRL live", 1.0)


def test_cases_that_are_done_are_kept_unless_a_side_failed(tmp_path, monkeypatch, tiny_folder):
    asked = []

    def measured(case):
        asked.append(case.name)
        fails = case.task == "dpo" and len(asked) < 3
        sides = {name: Ran(failure="exit status 1") if fails else ran(1.0, 1.0, memory=2.0)
                 for name in bench._sides(case)}  # fmt: skip
        return {"sequence_tokens": 9.0, **figures_of(case, sides, (1, 1, 1), None)}

    monkeypatch.setattr(bench, "_measured", measured)
    told = BenchTrainConfig(models=["tiny"], ratios=[3.0], batches=[4], adapters=["lora"],
                            out=tmp_path / "deep/bench")  # fmt: skip
    recipe = Recipe(bench_train=told, base=BaseConfig("tiny", folder=tiny_folder))
    bench.bench_train(recipe)
    bench.bench_train(recipe)
    names = ["dpo tiny lora 3:1 batch 4", "sft tiny lora 3:1 batch 4"]
    assert asked == [*names, names[0]]
    bench.bench_train(replace(recipe, seed=1))
    assert asked == [*names, names[0], *names]
    monkeypatch.setattr(bench, "code_version", lambda: "another")
    found = bench.bench_train(replace(recipe, seed=1))
    assert asked == [*names, names[0], *names, *names]
    assert json.loads((tmp_path / "deep/bench.json").read_text()) == found
    assert "times as fast" in (tmp_path / "deep/bench.md").read_text()


def test_a_base_that_packed_code_computes_wrongly_is_refused_by_name(tmp_path, tiny_folder):
    config = MistralConfig(
        vocab_size=128, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, sliding_window=512,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "odd")
    told = BenchTrainConfig(out=tmp_path / "b", models=["base"], tasks=["sft"], ratios=[1.0],
                            batches=[1], rounds=1, completion=8)  # fmt: skip
    recipe = Recipe(bench_train=told, base=BaseConfig(str(tmp_path / "odd"), folder=tiny_folder))
    with pytest.raises(ValueError, match=r"odd: expected a base of full .* sliding_window 512"):
        bench.bench_train(recipe)


@pytest.mark.slow
def test_the_whole_bench_runs_on_a_tiny_model(tmp_path, tiny_folder):
    told = BenchTrainConfig(models=["tiny"], ratios=[3.0], batches=[2], adapters=["lora"],
                            completion=8, rounds=2, out=tmp_path / "bench")  # fmt: skip
    recipe = Recipe(bench_train=told, base=BaseConfig("tiny", folder=tiny_folder))
    found = bench.bench_train(recipe)
    assert [len(case["compared"]) for case in found["cases"]] == [3, 1]
    assert max(case["most_loss_apart"] for case in found["cases"]) < 1e-4
    assert bench.bench_train(recipe) == found
