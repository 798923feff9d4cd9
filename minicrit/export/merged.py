"""The merged folder: what transformers, vLLM and the conversion to GGUF read."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minicrit.base import Base, identity_of, load_model, load_tokenizer
from minicrit.critic import Critic
from minicrit.export.probes import EXACT, PROBES, apart, said
from minicrit.export.source import Source, plain_config
from minicrit.export.template import chat_template

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
SHORT = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def write_merged(source: Source, box: Path, dtype: str) -> dict[str, Any]:
    """Writes config, generation config, safetensors and tokenizer, and reads them again.

    The critic of the source is used up: its adapter is merged in place, so that the model is in
    memory once.

    Args:
        source: whose adapter is merged, in float32.
        box: an empty folder.
        dtype: of the weights as they are written.

    Returns:
        For the manifest: `probe` (p of the critic), `moved` (furthest that the folder's p is from
        it), `merged` (identity of the folder), `weights` (their type, in short).

    Raises:
        ValueError: if the folder does not say what the critic says.
    """
    critic = source.critic
    odds = critic.log_odds(PROBES)
    model = critic.model
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    torch.nn.Module.to(model, getattr(torch, dtype))
    model.config.dtype = getattr(torch, dtype)
    critic.tokenizer.chat_template = chat_template(critic.tokenizer)
    save_model(model, critic.tokenizer, box)
    del model
    critic.model = torch.nn.Module()  # type: ignore[assignment]
    gc.collect()
    facts = {"probe": said(odds), "merged": identity_of(box), "weights": SHORT[dtype]}
    return {**facts, "moved": _moved(box, facts, odds, dtype)}


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, box: Path) -> None:
    """Config, generation config, safetensors and tokenizer, without what names code or a place."""
    model.save_pretrained(box, max_shard_size="5GB")
    if model.generation_config is not None:
        model.generation_config.save_pretrained(box)
    tokenizer.save_pretrained(box)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        plain_config(box / name)


def _moved(box: Path, facts: dict[str, Any], odds: Any, dtype: str) -> float:
    """Furthest that p of the probes moved; refuses a folder that says something else."""
    base = Base(box, facts["merged"])
    again = Critic(load_model(base), load_tokenizer(base), name=str(box), identity="").log_odds(
        PROBES
    )
    moved, most = apart(facts, said(again))
    if moved > most or (dtype == "float32" and np.abs(again - odds).max() > EXACT):
        raise ValueError(f"{facts['weights']}: expected the merged folder to say what its critic "
                         f"says, got p that differ by {moved:.4f}; export in float32, or report "
                         "it: the conversion is broken")  # fmt: skip
    return round(moved, 6)
