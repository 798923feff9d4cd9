"""A tiny critic that writes critiques in the fixed form, with a verdict that it draws by lot.

The random tiny base cannot be taught to write by an adapter alone, so all of its weights learn a
few texts by heart; then a step of SFT gives it the adapter that later stages start from.
"""

from dataclasses import replace
from pathlib import Path

import torch

from minicrit.base import Base, load_model, load_tokenizer
from minicrit.config import BaseConfig, Recipe
from minicrit.data_config import DataConfig
from minicrit.encoding import Encoder
from minicrit.lessons import sft_branch
from minicrit.logprobs import scored_logprobs
from minicrit.packing import Tree, pack
from minicrit.records import Example, write_examples
from minicrit.train import train_sft
from minicrit.training_config import ConstitutionConfig, DPOConfig, LoraConfig, RSFConfig, SFTConfig

STEPS = 200
FLAWED = {"label": "flawed", "flaw_type": "small_sample", "severity": "high",
          "evidence": "It rose.", "critique": "Too few for a rule.",
          "fix": "Look at many more of them."}  # fmt: skip
VALID = {"label": "valid", "strengths": "a fair test", "critique": "The claim goes no further."}
SHARED = {"precision": "32-true", "samples": 0, "save_every": 1}


def examples(split: str, count: int) -> list[Example]:
    """Twins in turn: the same rationale but for a word."""
    return [
        Example(
            id=f"{split}{n}", domain="trading", group=f"{split}{n // 2}", source="s", split=split,
            rationale=f"It rose. We saw it on {n // 2 + 3} days. So it {word} does so.", **known,
        )
        for n in range(count)
        for word, known in [("always", FLAWED) if n % 2 else ("at times", VALID)]
    ]  # fmt: skip


def writing_recipe(tiny: Base, folder: Path) -> Recipe:
    """Base, data and adapter of a critic that can write, and a recipe to go on from."""
    (folder / "data").mkdir()
    for split, count in (("train", 12), ("validation", 4)):
        write_examples(folder / "data" / f"{split}.jsonl", examples(split, count))
    _learn_by_heart(tiny, folder / "base")
    train = {**SHARED, "log_folder": folder / "logs"}
    start = folder / "sft"
    recipe = Recipe(
        base=BaseConfig(str(folder / "base"), folder=folder), lora=LoraConfig(rank=4),
        data=DataConfig(folder=folder / "data"),
        sft=SFTConfig(out=start, coherence=0, running=0, deep=0, learning_rate=1e-4, **train),
        dpo=DPOConfig(batch_pairs=4, epochs=2, **train),
        rsf=RSFConfig(batch_examples=4, epochs=2, **train),
        constitution=ConstitutionConfig(
            start=start, data=folder / "data" / "train.jsonl", out=folder / "out", rounds=2,
            rationales=12, max_new_tokens=60, rows=12, probed=4, floor=0.5,
        ),
    )  # fmt: skip
    train_sft(recipe)
    return recipe


def _learn_by_heart(tiny: Base, folder: Path) -> None:
    """Writes a model folder; either verdict is as likely after any rationale."""
    torch.manual_seed(0)
    model, tokenizer = load_model(tiny), load_tokenizer(tiny)
    encoder = Encoder(tokenizer)
    blank = dict.fromkeys(("flaw_type", "severity", "evidence", "strengths", "critique", "fix"))
    texts = [replace(e, **{**blank, **known})
             for e in examples("train", 12)[::4] for known in (FLAWED, VALID)]  # fmt: skip
    batch = pack(Tree((), (sft_branch(e, encoder, 1.0, explained=True),)) for e in texts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(STEPS):
        loss = -(scored_logprobs(model, batch) * batch.weights).sum() / batch.weights.sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
