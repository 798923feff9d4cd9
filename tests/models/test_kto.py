"""Learning from thumbs: the divergence of a step, what is learnt, and that resume is exact."""

from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_gen.compose import compose
from minicrit.config import BaseConfig, Recipe
from minicrit.data_config import DataConfig
from minicrit.files import folder_hashes
from minicrit.jsonl import read_lines, write_rows
from minicrit.logprobs import token_logprobs
from minicrit.manifest import read_manifest
from minicrit.packing import pack
from minicrit.plan import StepPlan
from minicrit.prompts import critique_of, render_critique
from minicrit.records import write_examples
from minicrit.reference import reference_logprobs
from minicrit.run import run_of
from minicrit.thumbs import Thumb, log_ratios, mismatched, thumb_groups
from minicrit.train import train_kto, train_sft
from minicrit.trainee import trainee
from minicrit.training_config import DPOConfig, KTOConfig, LoraConfig, SFTConfig
from models.kto import KTOModule

EXAMPLES = [c.example for c in compose(8, 3, "train")]
#: Whole critiques are liked, bare verdicts are not.
THUMBS = [
    Thumb(e.domain, e.rationale, text, good, e.group)
    for e in EXAMPLES
    for text, good in ((render_critique(critique_of(e)), True), (f"Verdict: {e.label}", False))
]


def by_hand(model, encoder, thumb):
    """Log-likelihood by an ordinary forward over the whole text."""
    prompt = encoder.prompt(thumb.domain, thumb.rationale)
    ids = torch.tensor([[*prompt, *encoder.written(thumb.text)]])
    scored = token_logprobs(model(ids).logits[0, :-1], ids[0, 1:])
    return scored[len(prompt) + len(encoder.lead_in) - 1 :].sum()


def test_packed_and_shared_equals_one_text_at_a_time(tiny_adapted, tiny_encoder, tmp_path):
    model = tiny_adapted.get_base_model()
    groups = thumb_groups(THUMBS, tiny_encoder)
    assert sum(group.examples for group in groups) == len(THUMBS)
    plain = torch.stack([by_hand(model, tiny_encoder, thumb) for thumb in THUMBS]).detach()
    known = reference_logprobs(model, groups, tmp_path / "r.safetensors", pack_tokens=500)
    sums = torch.stack([piece.double().sum() for piece in known.pieces])
    torch.testing.assert_close(sums, plain, atol=1e-8, rtol=1e-10)
    batch = pack([tree for group in groups for tree in group.trees])
    nothing = torch.zeros(len(batch.targets), dtype=torch.float64)
    ratios, numbers = log_ratios(model, batch, lambda _: nothing)
    assert sorted(numbers.tolist()) == list(range(len(THUMBS)))
    torch.testing.assert_close(ratios, plain[numbers], atol=1e-8, rtol=1e-10)
    start, _ = log_ratios(model, batch, known)
    torch.testing.assert_close(start, torch.zeros_like(start), atol=1e-8, rtol=0)
    assert ratios.requires_grad


def test_the_others_of_a_step_are_those_of_its_rationales(tiny_encoder):
    options = {"epochs": 2, "batch_examples": 4, "pack_tokens": 4096, "seed": 3}
    own, others = (StepPlan(thumb_groups(some, tiny_encoder), **options)
                   for some in (THUMBS, mismatched(THUMBS, 0, tiny_encoder)))  # fmt: skip
    assert len(own) == len(others)
    for number in range(len(own)):
        for rank in (0, 1):
            one, two = own.step(number, rank, 2), others.step(number, rank, 2)
            assert (one.ids, one.examples) == (two.ids, two.examples)
        keys = [
            sorted(key for rank in (0, 1) for p in plan.step(number, rank, 2).packs
                   for key in p.keys.tolist() if key >= 0)
            for plan in (own, others)
        ]  # fmt: skip
        assert keys[0] == keys[1]


@pytest.fixture(scope="module")
def recipe(tiny, tmp_path_factory):
    """A tiny SFT adapter, and what KTO needs beside it."""
    folder = tmp_path_factory.mktemp("kto")
    (folder / "data").mkdir()
    for split, count in (("train", 8), ("validation", 8)):
        rows = [c.example for c in compose(count, 0, split)]
        write_examples(folder / "data" / f"{split}.jsonl", rows)
    write_rows(folder / "thumbs.jsonl", [vars(thumb) for thumb in THUMBS])
    shared = {"precision": "32-true", "log_folder": folder / "logs", "samples": 1}
    recipe = Recipe(
        base=BaseConfig(model="tiny", folder=tiny.folder.parent), lora=LoraConfig(rank=4),
        data=DataConfig(folder=folder / "data"), sft=SFTConfig(out=folder / "sft", **shared),
        kto=KTOConfig(start=folder / "sft", thumbs=folder / "thumbs.jsonl", out=folder / "kto",
                      epochs=3, batch_examples=8, learning_rate=5e-3, save_every=2, pack_tokens=500,
                      validate_every=1,
                      **shared),
    )  # fmt: skip
    train_sft(recipe)
    return recipe


@pytest.mark.slow
def test_training_likes_what_was_liked_and_a_stopped_run_ends_in_the_same_bytes(
    recipe, tmp_path, monkeypatch
):
    out = train_kto(recipe)
    history = [row for _, row in read_lines(out / "history.jsonl")]
    assert history[0]["train/loss"] == pytest.approx(0.5, abs=1e-5)  # 1 - s(0), good and bad alike
    assert history[-1]["train/loss"] < 0.45
    record = read_manifest(out)
    assert (record["stage"], record["facts"]["thumbs"]) == ("kto", {"good": 8, "bad": 8})
    before = (out / "manifest.json").stat().st_mtime_ns
    train_kto(recipe)
    assert (out / "manifest.json").stat().st_mtime_ns == before

    from models.kto import KTOModule

    step = KTOModule.training_step

    def stopped(self, batch, batch_idx):
        if self.global_step == 3 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(KTOModule, "training_step", stopped)
    cut = replace(recipe, kto=replace(recipe.kto, out=tmp_path / "cut"))
    with pytest.raises(KeyboardInterrupt):
        train_kto(cut)
    assert not (tmp_path / "cut").exists()
    train_kto(cut)
    assert folder_hashes(out) == folder_hashes(tmp_path / "cut")


def moved(model, encoder, some, numbers, start):
    """Log-ratios of critiques to what they were at the start, by hand."""
    with torch.inference_mode():
        return torch.stack([by_hand(model, encoder, some[n]) - start[n] for n in numbers])


def curve(folder):
    """The losses that TensorBoard shows: of every step, however few."""
    log = EventAccumulator(str(folder))
    log.Reload()
    return [one.value for one in log.Scalars("train/loss")]


def test_it_comes_to_like_what_was_liked_and_another_stage_may_go_on_from_it(
    recipe, tmp_path, monkeypatch
):
    """The losses of its first steps, too, by hand."""
    told = replace(recipe.kto, out=tmp_path / "kto", epochs=1, validate_every=0, samples=0,
                   beta=0.4, good_weight=0.8, bad_weight=1.2)  # fmt: skip
    step, losses, expected, z = KTOModule.training_step, [], [], None

    def spied(module, batch, number):
        nonlocal z
        model, encoder = module.critic.causal_lm, module.critic.encoder
        others = mismatched(THUMBS, recipe.seed, encoder)
        if not losses:
            numbers = range(len(THUMBS))
            module.starts = [moved(model, encoder, some, numbers, [0.0] * len(THUMBS))
                             for some in (THUMBS, others)]  # fmt: skip
        numbers = [k for p in batch.packs for k in p.keys.tolist() if k >= 0]
        both = zip((THUMBS, others), module.starts, strict=True)
        ratios, apart = (moved(model, encoder, some, numbers, start) for some, start in both)
        z = apart.mean().clamp(min=0)
        expected.append(torch.stack([
            0.8 * torch.sigmoid(-0.4 * (h - z)) if THUMBS[n].good else
            1.2 * torch.sigmoid(-0.4 * (z - h)) for n, h in zip(numbers, ratios, strict=True)
        ]).mean().item())  # fmt: skip
        losses.append(step(module, batch, number).item())
        return torch.tensor(losses[-1])

    monkeypatch.setattr(KTOModule, "training_step", spied)
    train_kto(replace(recipe, kto=told))
    assert read_manifest(told.out)["facts"]["encoded"] == {"prompts": len(THUMBS)}
    assert len(losses) == 2
    assert z > 0
    assert losses == pytest.approx(expected, abs=1e-4)
    assert curve(told.log_folder / tmp_path.name / "kto") == pytest.approx(expected, abs=1e-4)
    ways = [DPOConfig(start=start, out=tmp_path / "dpo", precision="32-true")
            for start in (told.start, told.out)]  # fmt: skip
    before, after = (
        trainee(run_of(replace(recipe, dpo=way), "dpo", way, recipe.kto.thumbs)) for way in ways
    )
    with torch.inference_mode():
        liked, disliked = (
            by_hand(after.causal_lm.eval(), after.encoder, thumb)
            - by_hand(before.causal_lm.eval(), before.encoder, thumb)
            for thumb in THUMBS[:2]
        )
    assert disliked < 0 < liked
    nowhere = replace(recipe.kto, start=tmp_path / "none", out=tmp_path / "x")
    with pytest.raises(ValueError, match=r"kto.start: expected the folder of a trained adapter"):
        train_kto(replace(recipe, kto=nowhere))
