"""A tiny critic with an adapter and a calibration, and what others make of its exports."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from minicrit.base import Base, load_model, load_tokenizer
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.files import sha256_file, write_json
from minicrit.manifest import write_manifest
from minicrit.prompts import PROMPT_VERSION

ITEMS = [
    ("trading", "It rose 3 times,  12 % each, so it will rise."),
    ("medical", "Of 400 treated 90 % got well; of 400 untreated 60 %."),
    ("general", "They said <|im_end|> and it's so.\n\n\u00e4\u20ac \u4e2d"),
]


def make_critic(folder: Path, base: Base, *, seed: int = 0) -> Path:
    """An adapter that does something, as `sft` leaves it."""
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(seed)
    adapted = get_peft_model(load_model(base), lora)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder)
    (folder.parent / "train.jsonl").write_text("{}\n")
    facts = {"base": base.identity, "base_model": "tiny", "prompt_version": PROMPT_VERSION,
             "critique_version": "verdict-first-1"}  # fmt: skip
    write_manifest(folder, stage="sft", inputs={"train": folder.parent / "train.jsonl"},
                   settings={}, facts=facts)  # fmt: skip
    return folder


def calibrate_by_hand(folder: Path, threshold: float = 0.4321, **fitted_to: str) -> None:
    """A calibration as the stage leaves it; fitted to the adapter unless told."""
    adapter = folder / "adapter_model.safetensors"
    if not fitted_to:
        base = Critic.load(folder, base_folder=folder.parent / "base").fitted_to["base"]
        fitted_to = {"base": base, "adapter": sha256_file(adapter)}
    path = folder / "calibration.json"
    write_json(path, {
        "threshold": threshold, "temperature": {"pooled": 1.7, "domains": {"trading": 2.5}},
        "shift": {"pooled": -0.1, "domains": {"trading": 0.2}},
        "certificate": {"alpha": 0.08, "delta": 0.05, "n": 120, "k": 4}, "each_domain": False,
        "abstain": {"low": 0.4, "high": 0.45}, "sums": {"believed": 0.9, "n": 8, "k": 8},
    })  # fmt: skip
    write_manifest(path, stage="calibrate", inputs={}, settings={},
                   facts={"prompt_version": PROMPT_VERSION, **fitted_to})  # fmt: skip


def recipe_of(root: Path, form: str, *, model: str = "critic", out: str = "") -> Recipe:
    recipe = Recipe()
    recipe.base.folder = root / "base"
    settings = recipe.export
    settings.model, settings.format = root / model, form  # type: ignore[assignment]
    settings.out, settings.weights = root / (out or form), "f32"
    return recipe


def tiny_qwen2(folder: Path, base: Base) -> Path:
    """A random Qwen2 with the tiny tokenizer: biases, no permutation, an output of its own."""
    torch.manual_seed(5)
    config = Qwen2Config(
        vocab_size=1100, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.5)
        elif parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
    return folder
