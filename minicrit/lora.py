"""LoRA adapters (arXiv 2106.09685) through peft: attached, saved, loaded, checked."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import (
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import safe_open
from safetensors.torch import load_file, save
from transformers import PreTrainedModel

from minicrit.files import atomic_file
from minicrit.fused import fuse
from minicrit.jsonl import parse_object, shown

log = logging.getLogger(__name__)

WEIGHTS = "adapter_model.safetensors"
#: Stages that leave an adapter, so that others can go on from it.
ADAPTERS = ("sft", "dpo", "rsf", "kto", "constitution", "average")
#: Names of the adapter that is trained and of its frozen start beside it.
POLICY, REFERENCE = "default", "reference"


def attach_lora(
    model: PreTrainedModel, *, rank: int, alpha: float, dropout: float, targets: str, seed: int
) -> PeftModel:
    """Adds a fresh adapter (B is zero, so nothing changes yet) and fuses what can be fused.

    Raises:
        ValueError: if a name among `targets` is that of no layer, or of the output layer.
    """
    named = targets if targets == "all-linear" else _layers_named(model, targets)
    settings = PeftLoraConfig(
        r=rank,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,  # type: ignore[arg-type]
        lora_dropout=dropout,
        target_modules=named,
        exclude_modules=_more_than_linear(model) if named == "all-linear" else None,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(model, settings)
    _tell_of_experts(model)
    fuse(adapted)
    return cast("PeftModel", adapted)


def _tell_of_experts(model: PreTrainedModel) -> None:
    """Says so where experts are tensors of three dimensions, which LoRA of layers leaves alone."""
    bare = [name for name, weights in model.named_parameters() if weights.dim() == 3]  # noqa: PLR2004
    if bare:
        log.warning("%s: its experts (%s and %d more) are no linear layers; the adapter is on the "
                    "others alone", model.config.model_type, bare[0], len(bare) - 1)  # fmt: skip


def _more_than_linear(model: PreTrainedModel) -> list[str] | None:
    """Layers that a model derives from linear ones and that return more, such as PhiMoE's router.

    Peft takes them for linear, and fails in the first forward over what they return.
    """
    found = [name for name, layer in model.named_modules() if _own_kind(layer)]
    return found or None


def _own_kind(layer: torch.nn.Module) -> bool:
    """Whether a linear layer is of a class of its model; those of quantized weights are not."""
    of_a_model = type(layer).__module__.startswith("transformers.models.")
    return of_a_model and isinstance(layer, torch.nn.Linear)


def _layers_named(model: PreTrainedModel, targets: str) -> list[str]:
    """The names, apart; peft would leave those that it does not find out without a word."""
    named = [name.strip() for name in targets.split(",")]
    head = model.get_output_embeddings()
    layers = {name: layer for name, layer in model.named_modules()
              if isinstance(layer, torch.nn.Linear) and not _own_kind(layer)}  # fmt: skip
    for name in named:  # as peft takes it: the full name, or the end of it
        found = [layer for own, layer in layers.items() if f".{own}".endswith(f".{name}")]
        if head in found:  # losses read it bare; and a tied embedding would be merged with it
            raise ValueError(f"lora.targets: expected layers below the output layer, got {name!r}, "
                             "which is that one; leave it out, or set all-linear, which takes all "
                             "others")  # fmt: skip
        if not found:
            below = {own.rpartition(".")[2] for own, layer in layers.items() if layer is not head}
            raise ValueError("lora.targets: expected all-linear or names of linear layers "
                             f"({', '.join(sorted(below))}), got {name!r}; correct it")  # fmt: skip
    return named


def load_lora(adapted: PeftModel, folder: Path, name: str = POLICY) -> None:
    """Gives a fresh adapter the weights of a saved one.

    Raises:
        ValueError: if the saved one has other layers or another rank.
    """
    saved = load_file(folder / WEIGHTS)
    fresh = get_peft_model_state_dict(adapted, adapter_name=name)
    expected = {k: tuple(v.shape) for k, v in fresh.items()}
    if (got := {k: tuple(v.shape) for k, v in saved.items()}) != expected:
        name = min(set(got.items()) ^ set(expected.items()))[0]
        raise ValueError(
            f"{folder}: expected an adapter of the layers and the rank of this recipe, got another "
            f"{name}; set lora.rank and lora.targets to those it was trained with"
        )
    set_peft_model_state_dict(adapted, saved, adapter_name=name)


def open_lora(model: PreTrainedModel, folder: Path, name: str = POLICY) -> PeftModel:
    """A model with the whole of a saved adapter, in evaluation mode.

    Raises:
        ValueError: if peft cannot read it, or not all of it fits the model.
    """
    try:
        adapted = PeftModel.from_pretrained(model, folder, adapter_name=name, is_trainable=False)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        got = shown(" ".join(str(error).split()), 200)
        raise ValueError(f"{folder}: expected an adapter that peft reads into its base, got: "
                         f"{got}; restore the folder or train it again") from error  # fmt: skip
    require_applied(adapted, folder, name)
    return adapted.eval()


def require_applied(adapted: PeftModel, folder: Path, name: str) -> None:
    """Refuses an adapter of which peft has left weights out, or begun some anew, without a word.

    Raises:
        ValueError: with one of them.
    """
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        saved = {key for key in file.keys() if "lora_" in key}  # noqa: SIM118
    held = get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=False)
    if other := saved ^ {key for key in held if "lora_" in key}:
        one = min(other)
        got = "has no place for" if one in saved else "lacks"
        raise ValueError(f"{folder}: expected the weights of the layers that adapter_config.json "
                         f"names, got one that {got} {one} ({len(other)} such); restore the folder "
                         "or train it again")  # fmt: skip


def refuse_foreign(folder: Path) -> None:
    """Refuses an adapter that peft would read other than as weights of LoRA.

    Raises:
        ValueError: if its weights are pickled, or its configuration names code to import.
    """
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder}: expected {WEIGHTS}, got none; pickled weights are not loaded, "
                         "convert them first")  # fmt: skip
    told = parse_object((folder / "adapter_config.json").read_bytes())
    if told.get("peft_type") != "LORA" or told.get("auto_mapping"):
        raise ValueError(f"{folder}: expected an adapter of type LORA without auto_mapping, got "
                         "another; an adapter names no code")  # fmt: skip


def weights_of(folder: Path) -> Path:
    """The weights of a saved adapter.

    Raises:
        ValueError: if there is none, as in the folder of a critic of all weights.
    """
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder}: expected the folder of an adapter, with {WEIGHTS}, got none; "
                         "train one first, on a critic of all weights as base.model")  # fmt: skip
    return folder / WEIGHTS


def save_lora(adapted: PeftModel, folder: Path) -> None:
    """Writes the weights of the policy, as `load_lora` reads them, in one step."""
    weights = get_peft_model_state_dict(adapted, adapter_name=POLICY)
    with atomic_file(folder / WEIGHTS) as file:
        file.write(save({k: v.detach().cpu().contiguous() for k, v in weights.items()}))


def attach_reference(adapted: PeftModel, folder: Path) -> None:
    """Adds a saved adapter beside the policy, frozen, without dropout; the policy stays active."""
    settings = replace(cast("PeftLoraConfig", adapted.peft_config[POLICY]), lora_dropout=0.0)
    adapted.add_adapter(REFERENCE, settings)
    load_lora(adapted, folder, REFERENCE)
    adapted.set_adapter(POLICY)
