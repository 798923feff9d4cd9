"""Critics of which all weights were trained (`lora.rank 0`): what may be asked, how they are kept.

    make sft ARGS="--lora.rank 0 --sft.learning_rate 1e-5"

The folder is a model of its own: config, safetensors, tokenizer, manifest of the stage `sft`. It is
loaded without its base and can be a base itself (`BASE=`), for an adapter on it.
"""

import logging
from pathlib import Path

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from minicrit import attention
from minicrit.config import Recipe
from minicrit.files import atomic_folder
from minicrit.lora import save_lora
from minicrit.training_config import LoraConfig, TrainingConfig

log = logging.getLogger(__name__)

#: The strategy that shares all weights out over processes.
SHARED = "fsdp"
_KEPT = "weights.safetensors"
#: Above it, a rate is one of adapters: all weights at once want some hundred times less.
_HIGH = 1e-4

Tensors = dict[str, torch.Tensor]


def refuse_contradictions(recipe: Recipe, stage: str, settings: TrainingConfig) -> None:
    """What does not go together with all weights, or with adapters.

    Raises:
        ValueError: with the setting to change.
    """
    if recipe.lora.rank:
        if settings.strategy == SHARED:
            raise ValueError(f"{stage}.strategy: expected auto or ddp for an adapter, got {SHARED},"
                             " which shares out all weights; set lora.rank 0, or ddp")  # fmt: skip
        return
    if stage != "sft":
        raise ValueError(f"lora.rank: expected an adapter's rank for {stage}, got 0; all weights "
                         "are trained by sft alone. From such a critic go on with its folder as "
                         f"base.model: an adapter on it (sft), then {stage}")  # fmt: skip
    if start := getattr(settings, "start", None):
        raise ValueError(f"{stage}.start: expected none with lora.rank 0, got {start}; to go on "
                         "from a critic of all weights take its folder as base.model")  # fmt: skip
    _refuse_adapter_settings(recipe.lora)
    _refuse_low_precision(recipe, stage, settings)


def _refuse_adapter_settings(lora: LoraConfig) -> None:
    usual = LoraConfig()
    for name in ("alpha", "dropout", "targets"):
        if (got := getattr(lora, name)) != (default := getattr(usual, name)):
            raise ValueError(f"lora.{name}: expected {default} with lora.rank 0 (all weights, no "
                             f"adapter), got {got}; leave it out, or set a rank")  # fmt: skip


def _refuse_low_precision(recipe: Recipe, stage: str, settings: TrainingConfig) -> None:
    """Steps of fine-tuning are smaller than what bfloat16 can tell apart (2 ** -8 of a weight)."""
    if recipe.base.dtype != "float32":
        raise ValueError(f"base.dtype: expected float32 with lora.rank 0, got {recipe.base.dtype}, "
                         "in which small steps are lost; compute in bfloat16 by "
                         f"{stage}.precision bf16-mixed")  # fmt: skip
    rate = settings.learning_rate  # type: ignore[attr-defined]
    if rate > _HIGH:
        log.warning("%s.learning_rate: %g is one for adapters; all weights mostly want 1e-6 to %g",
                    stage, rate, _HIGH)  # fmt: skip


def gathered(model: PreTrainedModel, *, keep: bool) -> Tensors:
    """All weights on the CPU, by name, those that layers share once.

    Where they are shared out over processes, all of them call it together.

    Args:
        model: whose weights.
        keep: in one process alone; the others help and get nothing.
    """
    found: Tensors = {}
    # Its state_dict first, as that parts weights that were gathered to be read with.
    named, seen = model.state_dict(keep_vars=True), set[int]()
    for name, parameter in named.items():
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        value = parameter.detach()
        value = value.full_tensor() if isinstance(value, DTensor) else value
        if keep:
            found[name] = value.cpu().contiguous()
    return found


def keep_trained(model: PreTrainedModel | PeftModel, folder: Path, *, write: bool) -> None:
    """Writes the adapter, or all weights, in one step.

    Args:
        model: what is trained.
        folder: where to; it is made.
        write: in one process alone; the others call it, too.
    """
    if isinstance(model, PeftModel):
        if write:
            save_lora(model, folder)
        return
    weights = gathered(model, keep=write)
    if write:
        with atomic_folder(folder, mark=_KEPT) as box:
            save_file(weights, box / _KEPT)


def kept_weights(folder: Path) -> Tensors:
    """All weights as `keep_trained` wrote them."""
    return load_file(folder / _KEPT)


def read_folder(folder: Path) -> Tensors:
    """All weights of a model's folder, by name."""
    return {n: t for p in sorted(folder.glob("*.safetensors")) for n, t in load_file(p).items()}


def rebuilt(like: PreTrainedModel, weights: Tensors) -> PreTrainedModel:
    """A plain model of these weights, without copying them; `like` may be shared out."""
    dtype = next(iter(weights.values())).dtype
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            like.config, attn_implementation=attention.NAME, dtype=dtype
        )
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    absent = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    assert not absent, absent
    model.generation_config = like.generation_config
    return model  # type: ignore[no-any-return]
