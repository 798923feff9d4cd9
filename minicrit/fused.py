"""Fused training steps of LoRA layers: the values of peft and transformers, less kept and walked.

y = x W' + s (x A') B'. As peft computes it, the product, the scaling and the sum each walk over a
full-size activation and keep it for the backward pass; on a CPU those walks cost as much as the
matrix products. The fused step accumulates in place and keeps x and x A' only.

Of a gated MLP, down(silu(gate) * up), the widest activations are kept twice over: both factors, and
their product as the input of the adapter. The fused step keeps gate and up, and multiplies again
in the backward pass.

Shapes: M rows, I inputs, O outputs, R rank.
"""

from typing import Any, NamedTuple, cast

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn
from torch.nn.functional import silu
from transformers.activations import SiLUActivation

from minicrit.thin import product

#: MLPs whose forward is down_proj(act_fn(gate_proj(x)) * up_proj(x)) and nothing else.
_GATED = frozenset({"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "SmolLM3MLP", "OlmoMLP"})


class Gated(NamedTuple):
    """Input silu(gate) * up (..., I) of a layer, by its factors."""

    gate: torch.Tensor
    up: torch.Tensor


def fuse(model: nn.Module) -> int:
    """Gives every plain LoRA layer the fused forward; returns how many there are."""
    modules = list(model.modules())
    layers = [m for m in modules if type(m) is LoraLinear]
    for layer in layers:
        layer.forward = _Fused(layer)  # type: ignore[method-assign]
    for mlp in modules:
        silus = (nn.SiLU, SiLUActivation)
        if type(mlp).__name__ in _GATED and isinstance(mlp.act_fn, silus):
            mlp.forward = _FusedGate(mlp)
    return len(layers)


def unfuse(model: nn.Module) -> None:
    """Gives every module its own forward again."""
    for module in model.modules():
        if isinstance(vars(module).get("forward"), (_Fused, _FusedGate)):
            del module.forward


class _Fused:
    """Forward of one layer: fused where the algebra above is the whole story, else peft's own."""

    def __init__(self, layer: LoraLinear) -> None:
        self.layer = layer
        self.low: torch.Tensor | None = None  # the frozen weight in the autocast precision

    def __call__(self, x: torch.Tensor | Gated, *args: Any, **kwargs: Any) -> torch.Tensor:
        layer = self.layer
        if not self.plain:  # then nobody gives it factors
            return LoraLinear.forward(layer, cast("torch.Tensor", x), *args, **kwargs)
        name = layer.active_adapters[0]
        a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
        factors = x if isinstance(x, Gated) else (x,)
        weight = self._weight(_compute_dtype(factors[0]))
        step = _GatedStep if isinstance(x, Gated) else _LoraStep
        y = step.apply(*factors, weight, a, b, float(layer.scaling[name]))  # type: ignore[no-untyped-call]
        return cast("torch.Tensor", y)

    @property
    def plain(self) -> bool:
        """Whether the fused step computes what the layer does; else it takes no `Gated`."""
        layer = self.layer
        name = layer.active_adapters[0] if layer.active_adapters else ""
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


class _FusedGate:
    """Forward of a gated MLP: its last layer gets both factors where it can take them."""

    def __init__(self, mlp: nn.Module) -> None:
        self.mlp = mlp

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        mlp: Any = self.mlp
        # A layer that somebody else has given another forward (`lanes`) takes no factors.
        fused = vars(mlp.down_proj).get("forward")
        if isinstance(fused, _Fused) and fused.plain:
            return cast("torch.Tensor", mlp.down_proj(Gated(mlp.gate_proj(x), mlp.up_proj(x))))
        return cast("torch.Tensor", type(mlp).forward(mlp, x))


def _compute_dtype(x: torch.Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class _Adapted(NamedTuple):
    """Weights of one step: W (O, I) frozen, A (R, I), B (O, R), and s."""

    weight: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    scale: float

    def ahead(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of rows x (M, I) the outputs (M, O), and x A' (M, R)."""
        with torch.autocast(rows.device.type, enabled=False):
            y = product(rows, self.weight)
            inner = rows @ self.a.to(rows.dtype).t()
            y.addmm_(inner, self.b.to(rows.dtype).t(), alpha=self.scale)
        return y, inner

    def back(
        self, dy: torch.Tensor, rows: torch.Tensor, inner: torch.Tensor, *, deeper: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
        """Gradients of rows (M, I), unless nobody asks `deeper`, and of A and B."""
        d_inner = dy @ self.b.to(dy.dtype)
        dx = None
        if deeper:
            dx = dy @ self.weight
            dx.addmm_(d_inner, self.a.to(dy.dtype), alpha=self.scale)
        da = (d_inner.t() @ rows).to(self.a.dtype) * self.scale
        db = (dy.t() @ inner).to(self.b.dtype) * self.scale
        return dx, da, db


def _rows(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.reshape(-1, x.shape[-1]).to(dtype)


class _LoraStep(torch.autograd.Function):
    """y = x W' + s (x A') B' for x (..., I)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        rows = _rows(x, weight.dtype)
        y, inner = _Adapted(weight, a, b, scale).ahead(rows)
        ctx.save_for_backward(rows, weight, a, b, inner)
        ctx.scale, ctx.shape, ctx.dtype = scale, x.shape, x.dtype
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, a, b, inner = ctx.saved_tensors
        step, dy = _Adapted(weight, a, b, ctx.scale), _rows(grads[0], weight.dtype)
        dx, da, db = step.back(dy, rows, inner, deeper=ctx.needs_input_grad[0])
        if dx is not None:
            dx = dx.view(ctx.shape).to(ctx.dtype)
        return dx, None, da, db, None


class _GatedStep(torch.autograd.Function):
    """The same for x = silu(gate) * up, gate and up (..., I)."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: torch.Tensor,
        up: torch.Tensor,
        weight: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        y, inner = _Adapted(weight, a, b, scale).ahead(_rows(silu(gate).mul_(up), weight.dtype))
        ctx.save_for_backward(gate, up, weight, a, b, inner)
        ctx.scale = scale
        return y.view(*gate.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gate, up, weight, a, b, inner = ctx.saved_tensors
        step, dy = _Adapted(weight, a, b, ctx.scale), _rows(grads[0], weight.dtype)
        act = silu(gate)
        dx, da, db = step.back(dy, _rows(act * up, weight.dtype), inner, deeper=True)
        assert dx is not None
        d_product = dx.view(gate.shape).to(gate.dtype)
        d_up = act.mul_(d_product)
        d_gate = torch.ops.aten.silu_backward(d_product.mul_(up), gate)
        return d_gate, d_up, None, da, db, None
