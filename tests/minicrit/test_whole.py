"""Critics of which all weights were trained: trained, loaded, made smaller, refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_gen.compose import compose
from minicrit.base import load_model, prepare_base
from minicrit.config import BaseConfig, Recipe
from minicrit.critic import Critic
from minicrit.data_config import DataConfig
from minicrit.export.source import open_source
from minicrit.files import folder_hashes
from minicrit.lora import weights_of
from minicrit.manifest import read_manifest
from minicrit.quantize import quantize
from minicrit.quantize_config import QuantizeConfig
from minicrit.records import write_examples
from minicrit.run import run_of
from minicrit.train import train_dpo, train_sft
from minicrit.training_config import DPOConfig, LoraConfig, SFTConfig
from minicrit.whole import gathered, keep_trained, kept_weights, read_folder, rebuilt

ITEMS = [("general", "Three of three swans were white, so all swans are white."),
         ("trading", "RSI is oversold, so buy.")]  # fmt: skip
WHOLE = LoraConfig(rank=0)


@pytest.fixture(scope="module")
def recipe(tiny, tmp_path_factory) -> Recipe:
    """Four steps of all weights of the tiny base."""
    folder = tmp_path_factory.mktemp("whole")
    for split, count in (("train", 16), ("validation", 4), ("test", 8)):
        examples = [c.example for c in compose(count, 0, split)]
        write_examples(folder / "data" / f"{split}.jsonl", examples)
    sft = SFTConfig(out=folder / "run" / "sft", log_folder=folder / "logs", precision="32-true",
                    batch_examples=4, learning_rate=1e-4, samples=0)  # fmt: skip
    return Recipe(
        base=BaseConfig(model="tiny", folder=tiny.folder.parent), lora=WHOLE, sft=sft,
        data=DataConfig(folder=folder / "data"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(recipe) -> Path:
    return train_sft(recipe)


def test_the_folder_is_a_critic_that_needs_no_base(tiny, folder, tmp_path):
    facts = read_manifest(folder)["facts"]
    assert facts["base"] == tiny.identity != facts["whole"]
    assert read_manifest(folder)["settings"]["lora"] == {"rank": 0}
    critic = Critic.load(folder, base_folder=tmp_path / "nowhere")
    assert critic.identity == facts["whole"]
    assert critic.adapter is None
    assert critic.trained
    before = Critic.load("tiny", base_folder=tiny.folder.parent)
    assert not before.trained
    assert abs(critic.log_odds(ITEMS) - before.log_odds(ITEMS)).min() > 1e-4
    start, after = read_folder(tiny.folder), read_folder(folder)
    assert start.keys() == after.keys()  # the head that is the embedding is there once
    assert not [name for name in start if torch.equal(start[name], after[name])]


def test_a_second_run_does_nothing_and_the_same_run_gives_the_same_bytes(recipe, folder, tmp_path):
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    train_sft(recipe)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    again = replace(recipe, sft=replace(recipe.sft, out=tmp_path / "again" / "sft"))
    assert folder_hashes(train_sft(again)) == folder_hashes(folder)


def test_a_changed_weight_is_refused(folder, tmp_path):
    import shutil

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"expected the files of its manifest, got .*model.safe"):
        Critic.load(copy)


def test_it_is_a_base_for_an_adapter(recipe, folder, tmp_path):
    told = replace(
        recipe, base=replace(recipe.base, model=str(folder)), lora=LoraConfig(rank=2),
        sft=replace(recipe.sft, out=tmp_path / "on" / "sft", learning_rate=1e-2),
    )  # fmt: skip
    critic = Critic.load(train_sft(told), base_folder=tmp_path)
    assert critic.identity.startswith(prepare_base(str(folder), tmp_path).identity)
    assert critic.adapter


@pytest.mark.parametrize("bits", [16, 4])
def test_smaller_ones_say_nearly_the_same(recipe, folder, tmp_path, bits):
    told = QuantizeConfig(model=folder, data=recipe.data.folder / "test.jsonl", bits=bits,
                          out=tmp_path / "small", report=tmp_path / "report", latency_items=1,
                          rounds=1, written=0, draws=50)  # fmt: skip
    report = quantize(replace(recipe, quantize=told))
    assert report["p_difference"]["max"] < 0.05
    assert report["size"]["float_critic"] == (folder / "model.safetensors").stat().st_size
    assert Critic.load(tmp_path / "small").bits == bits


def test_it_is_a_source_of_exports_that_is_merged_already(recipe, folder):
    source = open_source(folder, Path("nowhere"))
    assert source.merged
    assert set(source.trained_on) == {"train", "validation"}
    assert source.facts["base_model"] == "tiny"


def test_weights_are_gathered_once_and_a_plain_model_is_rebuilt(tiny, tmp_path):
    model = load_model(tiny, torch.float64)
    weights = gathered(model, keep=True)
    assert sum(t.numel() for t in weights.values()) == model.num_parameters()
    assert gathered(model, keep=False) == {}
    keep_trained(model, tmp_path / "best-1", write=False)
    assert not (tmp_path / "best-1").exists()
    keep_trained(model, tmp_path / "best-1", write=True)
    again = rebuilt(model, kept_weights(tmp_path / "best-1"))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)
    assert again.lm_head.weight is again.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("changed", "told", "said"),
    [
        ({"lora": replace(WHOLE, dropout=0.1)}, {}, r"lora.dropout: expected 0.0 with lora.rank 0"),
        ({"lora": replace(WHOLE, targets="q_proj")}, {}, r"lora.targets: expected all-linear"),
        ({"lora": replace(WHOLE, alpha=64)}, {}, r"lora.alpha: expected 32.0 .* leave it out"),
        ({}, {"start": Path("x")}, r"sft.start: expected none .* take its folder as base.model"),
        ({"lora": LoraConfig()}, {"strategy": "fsdp"}, r"sft.strategy: .* set lora.rank 0, or ddp"),
    ],
)
def test_what_contradicts_all_weights_is_refused_before_anything_is_loaded(
    recipe, changed, told, said
):
    with pytest.raises(ValueError, match=said):
        train_sft(replace(recipe, sft=replace(recipe.sft, **told), **changed))


@pytest.mark.parametrize("dtype", ["bfloat16", "nf4"])
def test_weights_in_which_small_steps_are_lost_are_refused(recipe, dtype):
    told = replace(recipe, base=replace(recipe.base, dtype=dtype))
    with pytest.raises(ValueError, match=rf"base.dtype: expected float32 .* got {dtype}, in which"):
        train_sft(told)


def test_other_stages_want_an_adapter(recipe, folder, tmp_path):
    dpo = DPOConfig(start=folder, pairs=tmp_path / "pairs.jsonl")
    with pytest.raises(ValueError, match=r"lora.rank: expected an adapter's rank for dpo, got 0;"):
        train_dpo(replace(recipe, dpo=dpo))
    with pytest.raises(ValueError, match=r"dpo.start: expected an adapter, got .*of all weights"):
        train_dpo(replace(recipe, dpo=dpo, lora=LoraConfig()))
    with pytest.raises(ValueError, match=r"expected the folder of an adapter, with adapter_model"):
        weights_of(folder)


def test_a_rate_of_adapters_is_warned_of(recipe, caplog):
    lessons = recipe.data.folder / "train.jsonl"
    run_of(recipe, "sft", recipe.sft, lessons)
    assert not caplog.records
    run_of(recipe, "sft", replace(recipe.sft, learning_rate=1e-3), lessons)
    assert "sft.learning_rate: 0.001 is one for adapters" in caplog.text
