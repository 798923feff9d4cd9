"""LoRA adapters (arXiv 2106.09685) through peft, with one fused step for the frozen linear layers.

y = x W' + s (x A') B'. As peft computes it, the product, the scaling and the sum each walk over a
full-size activation and keep it for the backward pass; on a CPU those walks cost as much as the
matrix products. The fused step accumulates in place and keeps x and x A' only.

Shapes: T tokens, I inputs, O outputs, R rank.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import (
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.lora.layer import Linear as LoraLinear
from safetensors.torch import load_file, save
from torch import nn
from transformers import PreTrainedModel

from minicrit.files import atomic_file
from minicrit.jsonl import parse_object
from minicrit.thin import product

WEIGHTS = "adapter_model.safetensors"
#: Stages that leave an adapter, so that others can go on from it.
ADAPTERS = ("sft", "dpo", "rsf", "kto", "constitution", "average")
#: Names of the adapter that is trained and of its frozen start beside it.
POLICY, REFERENCE = "default", "reference"


def attach_lora(
    model: PreTrainedModel, *, rank: int, alpha: float, dropout: float, targets: str, seed: int
) -> PeftModel:
    """Adds a fresh adapter (B is zero, so nothing changes yet) and fuses what can be fused."""
    named: str | list[str] = targets if targets == "all-linear" else targets.split(",")
    settings = PeftLoraConfig(
        r=rank,
        lora_alpha=int(alpha),
        lora_dropout=dropout,
        target_modules=named,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(model, settings)
    fuse(adapted)
    return cast("PeftModel", adapted)


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


def fuse(model: nn.Module) -> int:
    """Gives every plain LoRA layer the fused forward; returns how many there are."""
    layers = [m for m in model.modules() if type(m) is LoraLinear]
    for layer in layers:
        layer.forward = _Fused(layer)  # type: ignore[method-assign]
    return len(layers)


def unfuse(model: nn.Module) -> None:
    """Gives every LoRA layer peft's own forward again."""
    for layer in model.modules():
        if isinstance(vars(layer).get("forward"), _Fused):
            del layer.forward


class _Fused:
    """Forward of one layer: fused where the algebra above is the whole story, else peft's own."""

    def __init__(self, layer: LoraLinear) -> None:
        self.layer = layer
        self.low: torch.Tensor | None = None  # the frozen weight in the autocast precision

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        layer = self.layer
        name = layer.active_adapters[0] if layer.active_adapters else ""
        if not self._plain(name):
            return LoraLinear.forward(layer, x, *args, **kwargs)
        a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
        dtype = _compute_dtype(x)
        weight = self._weight(dtype)
        step = _LoraStep.apply(x, weight, a, b, float(layer.scaling[name]), dtype)  # type: ignore[no-untyped-call]
        return cast("torch.Tensor", step)

    def _plain(self, name: str) -> bool:
        layer = self.layer
        return (
            len(layer.active_adapters) == 1
            and name in layer.lora_A
            and not layer.merged
            and not layer.disable_adapters
            and isinstance(layer.lora_dropout[name], nn.Identity)
            and type(layer.base_layer) is nn.Linear
            and layer.base_layer.bias is None
            and not layer.base_layer.weight.requires_grad
            and not layer.use_dora.get(name, False)
        )

    def _weight(self, dtype: torch.dtype) -> torch.Tensor:
        weight = cast("torch.Tensor", self.layer.base_layer.weight)
        if weight.dtype == dtype:
            return weight
        if self.low is None or self.low.dtype != dtype or self.low.device != weight.device:
            # A copy born in inference mode could not be used for training afterwards.
            with torch.inference_mode(mode=False), torch.no_grad():
                self.low = weight.detach().to(dtype)
        return self.low


def _compute_dtype(x: torch.Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class _LoraStep(torch.autograd.Function):
    """y = x W' + s (x A') B' for x (..., I), W (O, I) frozen, A (R, I), B (O, R)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(dtype)
        low_a, low_b = a.to(dtype), b.to(dtype)
        with torch.autocast(x.device.type, enabled=False):
            y = product(rows, weight)
            inner = rows @ low_a.t()
            y.addmm_(inner, low_b.t(), alpha=scale)
        ctx.save_for_backward(rows, weight, a, b, inner)
        ctx.scale, ctx.shape, ctx.dtype = scale, x.shape, x.dtype
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, a, b, inner = ctx.saved_tensors
        dy = grads[0].reshape(-1, grads[0].shape[-1]).to(rows.dtype)
        low_a, low_b = a.to(rows.dtype), b.to(rows.dtype)
        d_inner = dy @ low_b
        dx = None
        if ctx.needs_input_grad[0]:
            dx = dy @ weight
            dx.addmm_(d_inner, low_a, alpha=ctx.scale)
            dx = dx.view(ctx.shape).to(ctx.dtype)
        da = (d_inner.t() @ rows).to(a.dtype) * ctx.scale
        db = (dy.t() @ inner).to(b.dtype) * ctx.scale
        return dx, None, da, db, None, None
