"""The critic that is trained: base and adapter put together before, what learnt saved after."""

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from minicrit.base import identity_of, licence_of, load_model, load_tokenizer
from minicrit.config import BaseConfig
from minicrit.critic import Critic
from minicrit.encoding import Encoder
from minicrit.export.merged import save_model
from minicrit.files import atomic_folder, write_atomic, write_json
from minicrit.lora import POLICY, attach_lora, load_lora
from minicrit.manifest import inherited, read_manifest, write_manifest
from minicrit.processes import take_gpu
from minicrit.prompts import CRITIQUE_VERSION, PROMPT_VERSION
from minicrit.run import Run
from minicrit.whole import SHARED, Tensors, rebuilt

log = logging.getLogger(__name__)


def trainee(run: Run) -> Critic:
    """The base of a run with its adapter, fresh or as it starts; without one, all of it learns."""
    recipe, settings = run.recipe, run.settings
    take_gpu()
    model = load_model(run.base, **_precision(recipe.base))
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    trained = _adapted(run, model) if recipe.lora.rank else model
    trained.train()
    tokenizer, data = load_tokenizer(run.base), recipe.data
    encoder = Encoder(tokenizer, max_tokens=data.max_tokens, truncate=data.truncate)
    # What is shared out goes to its GPU slice by slice.
    device = "cpu" if settings.strategy == SHARED else None
    return Critic(trained, tokenizer, name="training", identity="training", encoder=encoder,
                  device=device)  # fmt: skip


def _adapted(run: Run, model: PreTrainedModel) -> PeftModel:
    lora, settings = run.recipe.lora, run.settings
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
    adapted = attach_lora(
        model,
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        targets=lora.targets,
        seed=run.recipe.seed,
    )
    if settings.start:
        load_lora(adapted, settings.start)
    return adapted


def _precision(config: BaseConfig) -> dict[str, Any]:
    if config.dtype != "nf4":
        return {"dtype": getattr(torch, config.dtype)}
    from transformers import BitsAndBytesConfig

    if not torch.cuda.is_available():
        raise ValueError("base.dtype nf4: expected a GPU, got none; use float32")
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"dtype": torch.bfloat16, "quantization_config": settings}


@contextlib.contextmanager
def precise(model: torch.nn.Module, precision: str) -> Iterator[None]:
    """The arithmetic that Lightning will train with: of -true it converts for 64 bits alone."""
    if precision.endswith("-true"):
        if precision == "64-true":
            model.to(torch.float64)
        yield
        return
    with torch.autocast(str(model.device).partition(":")[0], torch.bfloat16):
        yield


def save_trained(run: Run, critic: Critic, weights: Tensors, known: dict[str, Any]) -> None:
    """Adapter or whole model, learning curve and manifest, all or nothing.

    Args:
        run: that is finished.
        critic: that was trained.
        weights: all of them, where there is no adapter; else none.
        known: facts for the manifest.
    """
    with atomic_folder(run.settings.out) as box:
        if weights:
            known = known | _save_whole(run, critic, weights, box)
        else:
            critic.model.save_pretrained(str(box), selected_adapters=[POLICY])
            (box / "README.md").unlink(missing_ok=True)  # peft's empty model card
            _sort_lists(box / "adapter_config.json")
        write_atomic(box / "history.jsonl", (run.work / "history.jsonl").read_bytes())
        start = run.settings.start
        facts = {
            "base": run.base.identity,
            "base_model": run.recipe.base.model,
            "base_revision": run.base.revision,
            "prompt_version": PROMPT_VERSION,
            "critique_version": CRITIQUE_VERSION,
            **known,
            **({"trained_on": inherited({"start": read_manifest(start)})} if start else {}),
        }
        write_manifest(box, stage=run.stage, inputs=run.files, settings=run.relevant, facts=facts,
                       hashes=run.hashes)  # fmt: skip


def _save_whole(run: Run, critic: Critic, weights: Tensors, box: Path) -> dict[str, Any]:
    """The model, and its tokenizer: so the critic needs no base. What the manifest says of it."""
    save_model(rebuilt(critic.causal_lm, weights), critic.tokenizer, box)
    licence = licence_of(run.base)
    return {"whole": identity_of(box), **({"licence": licence} if licence else {})}


def _sort_lists(path: Path) -> None:
    """Peft writes sets in the order of their hashes, which differs between processes."""
    config = json.loads(path.read_text(encoding="utf-8"))
    ordered = {k: sorted(v) if isinstance(v, list) else v for k, v in config.items()}
    write_json(path, ordered)
