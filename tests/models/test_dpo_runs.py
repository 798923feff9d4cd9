"""Runs of DPO: what is learnt and what is not, cut off and gone on, refused."""

import math
from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_gen.compose import compose
from data_gen.preferences import preference
from minicrit.comparisons import read_preferences
from minicrit.config import BaseConfig, Recipe
from minicrit.data_config import DataConfig
from minicrit.encoding import said
from minicrit.files import folder_hashes
from minicrit.goal import SCORES
from minicrit.jsonl import read_lines, write_rows
from minicrit.losses import PairSettings
from minicrit.manifest import read_manifest
from minicrit.pairing import choose_pairs
from minicrit.preferring import Mixture
from minicrit.prompts import critique_of, render_critique
from minicrit.records import write_examples
from minicrit.run import run_of
from minicrit.train import train_dpo, train_kto, train_sft
from minicrit.trainee import trainee
from minicrit.training_config import DPOConfig, KTOConfig, LoraConfig, SFTConfig
from models.dpo import DPOModule
from tests.models.pair_case import by_hand, completion, some_pairs

pairs = pytest.fixture(scope="module", name="pairs")(some_pairs)


@pytest.fixture(scope="module")
def recipe(tiny, tmp_path_factory, pairs):
    """A tiny SFT adapter, and what DPO needs beside it."""
    folder = tmp_path_factory.mktemp("dpo")
    (folder / "data").mkdir()
    for split, count in (("train", 16), ("validation", 8)):
        rows = [c.example for c in compose(count, 0, split, squares=split == "train")]
        write_examples(folder / "data" / f"{split}.jsonl", rows)
    rows = [c.example for c in compose(8, 0, "train")]
    # Whole critiques over bare verdicts: easily learnt, unlike which critique belongs to a twin.
    easy = [preference(e, render_critique(critique_of(e)), f"Verdict: {e.label}", (1.0, 0.4),
                       "oracle") for e in rows]  # fmt: skip
    other = "valid" if rows[2].label == "flawed" else "flawed"
    easy[2] = replace(easy[2], rejected=f"Verdict: {other}")
    write_rows(folder / "pairs.jsonl", [pair.to_row() for pair in [pairs[0], *easy]])
    shared = {"precision": "32-true", "log_folder": folder / "logs", "samples": 1}
    recipe = Recipe(
        base=BaseConfig(model="tiny", folder=tiny.folder.parent), lora=LoraConfig(rank=4),
        data=DataConfig(folder=folder / "data"), sft=SFTConfig(out=folder / "sft", **shared),
        dpo=DPOConfig(
            start=folder / "sft", pairs=folder / "pairs.jsonl", out=folder / "dpo", epochs=8,
            batch_pairs=4, learning_rate=3e-3, save_every=3, losses=["dpo"], loss_weights=[1.0],
            **shared,
        ),
    )  # fmt: skip
    train_sft(recipe)
    return recipe


class Spy:
    """Looks at the steps of a run: keys and loss of each, the norm that AdamW gets, the margins."""

    def __init__(self, monkeypatch):
        self.keys, self.losses, self.norms, self.margins = [], [], [], []
        step = DPOModule.training_step

        def spied(module, batch, number):
            self.module = module
            self.margins.append(module.trainer.callback_metrics.get("pairs/reward_margin"))
            self.keys.append({k for p in batch.packs for k in p.keys.tolist() if k >= 0})
            self.losses.append(step(module, batch, number))
            return self.losses[-1]

        def before(module, _):
            self.norms.append(torch.stack([p.grad.norm() for p in module.trained()]).norm().item())

        monkeypatch.setattr(DPOModule, "training_step", spied)
        monkeypatch.setattr(DPOModule, "on_before_optimizer_step", before)


def test_training_prefers_what_it_is_told_and_is_not_done_twice(recipe, monkeypatch):
    told = replace(
        recipe.dpo, losses=["dpo", "simpo"], loss_weights=[1.0, 0.5], beta=0.3, flips=0.1,
        penalty=2.0, gamma=0.7, explained=0.0, clip=0.01, pack_tokens=600, epochs=4,
    )  # fmt: skip
    recipe, spy = replace(recipe, dpo=told), Spy(monkeypatch)
    start = trainee(run_of(recipe, "dpo", told, told.pairs))
    out = train_dpo(recipe)
    assert spy.module.mixture == Mixture(
        {"dpo": 1.0, "simpo": 0.5}, PairSettings(beta=0.3, flips=0.1, penalty=2.0, gamma=0.7)
    )
    read = read_preferences(told.pairs)
    aside = choose_pairs(read, told, list, recipe.seed).held_out
    trained = {2 * n + side for n in range(9) if n not in aside for side in (0, 1)}
    assert set.union(*spy.keys) == trained
    by_pair, bare = [], 0
    for n in sorted({key // 2 for key in spy.keys[0]}):
        whole = said(read[n].chosen) == said(read[n].rejected)
        bare += not whole
        lengths = [len(completion(start.encoder, text, whole=whole)) - len(start.encoder.lead_in)
                   for text in (read[n].chosen, read[n].rejected)]  # fmt: skip
        with torch.inference_mode():
            better, worse = by_hand(start.causal_lm.eval(), start.encoder, read[n], whole=whole)
        gap = (better / lengths[0] - worse / lengths[1]).item() - 0.7
        by_pair.append(math.log(2) + 0.5 * math.log1p(math.exp(-0.3 * gap)))
    assert bare == 1
    assert spy.losses[0].item() == pytest.approx(sum(by_pair) / len(by_pair), abs=1e-4)
    assert spy.margins[-1] > 0
    assert max(spy.norms) == pytest.approx(0.01)
    record = read_manifest(out)
    assert record["stage"] == "dpo"
    facts = record["facts"]["pairs"]
    assert facts["read"] == 9 == facts["held_out"] + sum(facts["trained"].values())
    assert facts["held_out"] in (1, 2)  # the pairs of one group
    assert record["facts"]["alarms"] == []
    assert "best" not in record["facts"]
    history = [row for _, row in read_lines(out / "history.jsonl")]
    assert {*SCORES, "val/kl"} <= set(history[-1])
    before = (out / "manifest.json").stat().st_mtime_ns
    train_dpo(recipe)
    assert (out / "manifest.json").stat().st_mtime_ns == before


def curves(folder):
    """What TensorBoard shows."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["scalars"])


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({}, id="plain"),
        pytest.param({"reference": "live", "best": "val/reward_margin", "patience": 3,
                      "hardest": 0.2, "alarm_margin": 1e-9}, id="live-best-alarms"),
    ],
)  # fmt: skip
@pytest.mark.slow  # one of SFT, in test_stopping, is not
def test_stopped_and_gone_on_ends_in_the_same_bytes(recipe, tmp_path, monkeypatch, told):
    told = {**told, "validate_every": 3, "epochs": 5}
    whole = replace(recipe, dpo=replace(recipe.dpo, out=tmp_path / "whole", **told))
    train_dpo(whole)
    cut = replace(recipe, dpo=replace(recipe.dpo, out=tmp_path / "cut", **told))
    from models.dpo import DPOModule

    step = DPOModule.training_step

    def stopped(self, batch, batch_idx):
        if self.global_step == 7 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(DPOModule, "training_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_dpo(cut)
    assert not (tmp_path / "cut").exists()
    train_dpo(cut)
    assert folder_hashes(tmp_path / "whole") == folder_hashes(tmp_path / "cut")
    assert not (tmp_path / "cut.work").exists()
    if told.get("best"):
        facts = read_manifest(tmp_path / "cut")["facts"]
        rows = [row for _, row in read_lines(tmp_path / "cut" / "history.jsonl")]
        margins = {row["step"]: row["val/reward_margin"] for row in rows}
        assert facts["best"]["value"] == pytest.approx(max(margins.values()), abs=1e-6)
        assert margins[facts["best"]["step"]] == max(margins.values())
        assert [one["alarm"] for one in facts["alarms"]] == ["margin_explosion"]
        assert facts["pairs"]["hardest"] == 1
        shown = curves(recipe.dpo.log_folder / tmp_path.name / "cut")
        assert {"pairs/kl", "pairs/reward_margin", "pairs/tokens_chosen", "val/reward_accuracy",
                "val/kl", "samples/tokens", "alarms/margin_explosion"} <= shown  # fmt: skip


def test_what_cannot_be_trained_on_is_refused(recipe, tmp_path):
    other = replace(recipe, dpo=replace(recipe.dpo, start=tmp_path, out=tmp_path / "x"))
    with pytest.raises(ValueError, match=r"dpo.start: expected the folder of a trained adapter"):
        train_dpo(other)
    strict = replace(recipe, dpo=replace(recipe.dpo, least_margin=2.0, out=tmp_path / "x"))
    with pytest.raises(ValueError, match=r"lower dpo.least_margin"):
        train_dpo(strict)


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_what_is_validated_on_is_read_before_the_reference_is(recipe, tmp_path, stage):
    """Which may take hours, and again after the remedy: likelihoods depend on data.max_tokens."""
    long = replace(next(compose(1, 0, "validation")).example, rationale="It rose. " * 1200)
    write_examples(tmp_path / "data" / "validation.jsonl", [long])
    dpo = replace(recipe.dpo, out=tmp_path / "dpo", hardest=0.0)
    kto = KTOConfig(start=dpo.start, thumbs=dpo.pairs, out=tmp_path / "kto", precision="32-true")
    told = replace(recipe, data=DataConfig(folder=tmp_path / "data"), dpo=dpo, kto=kto)
    with pytest.raises(ValueError, match=r"validation.jsonl: .*expected at most \d+ prompt tokens"):
        {"dpo": train_dpo, "kto": train_kto}[stage](told)
    assert not list(tmp_path.glob("*.work/reference-*"))
