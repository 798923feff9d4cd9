"""Rejection-sampling fine-tuning: the loss, the rounds, and that it learns what was kept."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_gen.compose import compose
from data_gen.rejection import Kept
from minicrit.comparisons import selected_groups
from minicrit.config import BaseConfig, Recipe
from minicrit.data_config import DataConfig
from minicrit.jsonl import read_lines, write_rows
from minicrit.logprobs import scored_logprobs, token_logprobs
from minicrit.manifest import read_manifest
from minicrit.packing import pack
from minicrit.prompts import critique_of, render_critique
from minicrit.records import write_examples
from minicrit.rounds import run_control, run_dpo_rounds, run_rounds
from minicrit.train import train_rsf, train_sft
from minicrit.training_config import DPOConfig, LoraConfig, RSFConfig, SFTConfig
from models.rsf import RSFModule

EXAMPLES = [c.example for c in compose(8, 0, "train")]
KEPT = [
    Kept(example, text, score)
    for example in EXAMPLES
    for text, score in ((render_critique(critique_of(example)), 0.8),
                        (f"Verdict: {example.label}", 0.4))
]  # fmt: skip


@pytest.fixture
def selected(tmp_path):
    write_rows(tmp_path / "selected.jsonl", [one.to_row() for one in KEPT])
    return tmp_path / "selected.jsonl"


@pytest.mark.parametrize(("weighted", "verdict"), [(False, 1.0), (True, 1.0), (True, 7.0)])
def test_shared_rationales_give_the_likelihood_of_each_text(
    tiny_adapted, tiny_encoder, selected, weighted, verdict
):
    model = tiny_adapted.get_base_model()
    groups = selected_groups(selected, tiny_encoder, verdict, weighted=weighted)
    assert sum(group.examples for group in groups) == len(KEPT)
    batch = pack([tree for group in groups for tree in group.trees])
    found = (scored_logprobs(model, batch) * batch.weights).sum()
    total = 0.0
    for one in KEPT:
        e = one.example
        prompt = tiny_encoder.prompt(e.domain, e.rationale) + tiny_encoder.lead_in
        ids = prompt[: len(prompt) - len(tiny_encoder.lead_in)] + tiny_encoder.written(one.text)
        logits = model(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1]
        scored = token_logprobs(logits, torch.tensor(ids[len(prompt) :]))
        words = len(tiny_encoder.verdict_words[e.label])
        emphasis = (verdict / words - 1) * scored[:words].sum().item() if verdict != 1 else 0
        total += (scored.sum().item() + emphasis) * (one.score if weighted else 1.0)
    assert found.item() == pytest.approx(total, rel=1e-6)


def test_of_a_text_that_goes_on_the_end_is_not_learnt(tmp_path, tiny_encoder):
    rows = [KEPT[1].to_row(), replace(KEPT[1], finished=False).to_row()]
    ids = []
    for number, row in enumerate(rows):
        write_rows(tmp_path / f"{number}.jsonl", [row])
        (tree,) = selected_groups(tmp_path / f"{number}.jsonl", tiny_encoder)[0].trees
        ids.append([*tree.prefix, *tree.branches[0].ids])
    assert ids[0] == [*ids[1], tiny_encoder.end]


def test_a_critique_that_does_not_fit_is_left_out_and_stops_no_other(selected, tiny_encoder):
    lengths = [len(tiny_encoder.prompt(k.example.domain, k.example.rationale))
               + len(tiny_encoder.written(k.text)) for k in KEPT]  # fmt: skip
    room = sorted(lengths)[len(KEPT) // 2]
    small = replace(tiny_encoder, max_tokens=room, ledger=Counter())
    found = selected_groups(selected, small)
    fit = sum(length <= room for length in lengths)
    assert sum(group.examples for group in found) == fit == len(KEPT) - small.ledger["left_out"]
    with pytest.raises(ValueError, match=r"selected.jsonl: expected critiques of at most 9 tokens"):
        selected_groups(selected, replace(small, max_tokens=9))


@pytest.mark.parametrize(("told", "said"), [
    ({"text": ...}, r"s.jsonl:2: expected text, got none; select again"),
    ({"text": "Fine."}, r"s.jsonl:2: expected a critique that begins with its verdict, got 'Fine"),
    ({"group": 3}, r"s.jsonl:2: expected group as text, got 3; select again"),
    ({"score": "1"}, r"s.jsonl:2: expected score as a number, got '1'; select again"),
    ({"score": True}, r"s.jsonl:2: expected score as a number, got True; select again"),
    ({"score": 0}, r"s.jsonl:2: expected a score above 0, as it is the weight, got 0; sel"),
    ({"score": -0.5}, r"s.jsonl:2: expected a score above 0, as it is the weight, got -0.5; sele"),
])  # fmt: skip
def test_a_row_that_teaches_nothing_is_named(tmp_path, tiny_encoder, told, said):
    first = KEPT[0].to_row()
    second = {k: v for k, v in (first | told).items() if v is not ...}
    write_rows(tmp_path / "s.jsonl", [first, second])
    with pytest.raises(ValueError, match=said):
        selected_groups(tmp_path / "s.jsonl", tiny_encoder, weighted=True)


def test_a_score_of_0_teaches_as_any_where_it_is_no_weight(tmp_path, tiny_encoder):
    write_rows(tmp_path / "s.jsonl", [KEPT[0].to_row() | {"score": 0}])
    (group,) = selected_groups(tmp_path / "s.jsonl", tiny_encoder, weighted=False)
    assert sum(group.trees[0].branches[0].weights) > 0


def test_an_empty_selection_is_refused(tmp_path, tiny_encoder):
    write_rows(tmp_path / "s.jsonl", [])
    with pytest.raises(ValueError, match=r"s.jsonl: expected at least one critique, got none"):
        selected_groups(tmp_path / "s.jsonl", tiny_encoder)


def test_training_learns_what_was_kept(tmp_path, tiny, tiny_encoder, selected, monkeypatch):
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        rows = [c.example for c in compose(8, 0, split)]
        write_examples(tmp_path / "data" / f"{split}.jsonl", rows)
    shared = {"precision": "32-true", "log_folder": tmp_path / "logs", "samples": 0}
    recipe = Recipe(
        base=BaseConfig(model="tiny", folder=tiny.folder.parent), lora=LoraConfig(rank=4),
        data=DataConfig(folder=tmp_path / "data"), sft=SFTConfig(out=tmp_path / "sft", **shared),
        rsf=RSFConfig(start=tmp_path / "sft", data=selected, out=tmp_path / "rsf", epochs=6,
                      batch_examples=4, learning_rate=5e-3, verdict_weight=7.0, weighted=True,
                      validate_every=6, **shared),
    )  # fmt: skip
    train_sft(recipe)
    step, weights = RSFModule.training_step, []

    def spied(module, batch, number):
        weights.append(batch.weight)
        return step(module, batch, number)

    monkeypatch.setattr(RSFModule, "training_step", spied)
    out = train_rsf(recipe)
    epoch = sum(weights[: len(weights) // 6])  # by score; the words of a verdict weigh 7 together
    encoder = tiny_encoder
    lead = {name: len(encoder.lead_in + ids) for name, ids in encoder.verdict_words.items()}
    assert epoch == pytest.approx(
        sum(
            one.score * (7 + len(encoder.written(one.text)) - lead[one.example.label])
            for one in KEPT
        )
    )
    losses = [row["train/loss"] for _, row in read_lines(out / "history.jsonl")]
    assert losses[-1] < losses[0] - 0.2  # nats a token
    record, start = read_manifest(out), read_manifest(tmp_path / "sft")
    assert record["stage"] == "rsf"
    assert record["facts"]["trained_on"] == {
        f"start.{name}": start["inputs"][name]["sha256"] for name in ("train", "validation")
    }
    assert "trained_on" not in start["facts"]
    before = (out / "manifest.json").stat().st_mtime_ns
    train_rsf(recipe)
    assert (out / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(("settings", "message"), [
    ({"rounds": 0}, r"rsf.rounds: expected 1 or more, got 0"),
    ({"clip": 0.0}, r"rsf.clip: expected more than 0, got 0"),
    ({"best": "val/f2"}, r"rsf.best: expected one of .*, got 'val/f2'"),
    ({}, r"none/validation.jsonl: expected a file to validate on, got none; make the data first"),
])  # fmt: skip
def test_what_training_would_refuse_is_refused_before_the_first_critique(tiny, settings, message):
    def begin(*_):
        pytest.fail("it was begun")

    recipe = Recipe(
        base=BaseConfig(model="tiny", folder=tiny.folder.parent), data=DataConfig(Path("none")),
        rsf=RSFConfig(start=None, **settings),
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        run_rounds(recipe, begin, begin)


def test_rounds_go_on_from_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr("minicrit.rounds.refuse_untrainable", lambda *_: None)
    recipe = Recipe(rsf=RSFConfig(start=tmp_path / "sft", out=tmp_path / "rsf", rounds=3))
    seen = []

    def select(told, adapter, folder, number):
        seen.append(("select", adapter.name, folder.name, number))
        return folder

    def train(told):
        seen.append(("train", told.rsf.start.name, told.rsf.data.parent.name, told.rsf.out.name))
        return told.rsf.out

    assert run_rounds(recipe, select, train) == tmp_path / "rsf"
    assert seen == [
        ("select", "sft", "rsf-1-selection", 1), ("train", "sft", "rsf-1-selection", "rsf-1"),
        ("select", "rsf-1", "rsf-2-selection", 2), ("train", "rsf-1", "rsf-2-selection", "rsf-2"),
        ("select", "rsf-2", "rsf-3-selection", 3), ("train", "rsf-2", "rsf-3-selection", "rsf"),
    ]  # fmt: skip


def test_control_goes_the_same_rounds_without_the_samples(tmp_path):
    recipe = Recipe(rsf=RSFConfig(start=tmp_path / "sft", out=tmp_path / "rsf", rounds=2))
    seen = []

    def train(told):
        seen.append((told.rsf.start.name, str(told.rsf.data.relative_to(tmp_path))))
        return told.rsf.out

    def find(told, adapter, folder, number):
        seen.append(("find", adapter.name, folder.name, number))
        return folder

    assert run_control(recipe, find, train) == tmp_path / "rsf-control"
    assert seen == [
        ("find", "sft", "rsf-1-selection", 1), ("sft", "rsf-1-selection/control.jsonl"),
        ("find", "rsf-1", "rsf-2-selection", 2), ("rsf-control-1", "rsf-2-selection/control.jsonl"),
    ]  # fmt: skip


def test_rounds_of_dpo_begin_with_the_pairs_that_are_there(tmp_path):
    told = DPOConfig(
        start=tmp_path / "sft", pairs=tmp_path / "p.jsonl", out=tmp_path / "dpo", rounds=2
    )
    seen = []

    def make(_, adapter, folder, number):
        seen.append(("make", adapter.name, folder.name, number))
        return folder

    def train(recipe):
        d = recipe.dpo
        seen.append(("train", d.start.name, str(d.pairs.relative_to(tmp_path)), d.out.name))
        return d.out

    assert run_dpo_rounds(Recipe(dpo=told), make, train) == tmp_path / "dpo"
    assert seen == [
        ("train", "sft", "p.jsonl", "dpo-1"), ("make", "dpo-1", "dpo-2-pairs", 2),
        ("train", "dpo-1", "dpo-2-pairs/pairs.jsonl", "dpo"),
    ]  # fmt: skip
    seen.clear()
    run_dpo_rounds(Recipe(dpo=replace(told, rounds=1)), make, train)
    assert seen == [("train", "sft", "p.jsonl", "dpo")]
    seen.clear()
    (tmp_path / "dpo-2-pairs").mkdir()
    (tmp_path / "dpo-2-pairs" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"dpo-2-pairs: .* holds other things"):
        run_dpo_rounds(Recipe(dpo=told), make, train)
    assert seen == []  # said before the first round
