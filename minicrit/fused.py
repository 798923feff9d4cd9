"""Fused training steps of a model with LoRA: what peft and transformers compute, less walked.

Given to a model by `fuse`, piece by piece, each where `fused_steps` is the whole story, else the
piece's own forward:

- a LoRA layer: product, scaling and sum in place, keeping x and x A' alone;
- layers that read the same input (query, key and value; gate and up): one pass of the narrow
  products, one buffer for the gradient of the input;
- a gated MLP, down(silu(gate) * up): both factors are kept and not their product as well;
- rotary positions and the norm: fewer walks.
"""

from typing import Any, NamedTuple, cast

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn
from transformers.activations import SiLUActivation

from minicrit.attention import NAME, packed_attention
from minicrit.fused_steps import Adapted, compute_dtype, gated_lora, lora, normed, turned

#: MLPs whose forward is down_proj(act_fn(gate_proj(x)) * up_proj(x)) and nothing else.
_GATED = frozenset({"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "SmolLM3MLP", "OlmoMLP"})
#: Attention that projects, turns query and key over the whole head, and attends; nothing else.
_TURNED = frozenset({"LlamaAttention"})
#: Norms whose forward is weight * x / rms(x) in float32.
_NORMS = frozenset({"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"})


class Gated(NamedTuple):
    """Input silu(gate) * up (..., I) of a layer, by its factors."""

    gate: torch.Tensor
    up: torch.Tensor


def fuse(model: nn.Module) -> int:
    """Gives every piece that has one its fused forward; returns how many LoRA layers do."""
    modules = list(model.modules())
    layers = [m for m in modules if type(m) is LoraLinear]
    for layer in layers:
        layer.forward = _Fused(layer)  # type: ignore[method-assign]
    for module in modules:
        kind, given = type(module).__name__, cast("Any", module)
        if kind in _GATED and isinstance(given.act_fn, nn.SiLU | SiLUActivation):
            module.forward = _FusedGate(module)
        elif kind in _TURNED:
            module.forward = _FusedAttention(module)
        elif kind in _NORMS:
            module.forward = _FusedNorm(module)
    return len(layers)


def unfuse(model: nn.Module) -> None:
    """Gives every module its own forward again."""
    for module in model.modules():
        own = vars(module).get("forward")
        if isinstance(own, _Fused | _FusedGate | _FusedAttention | _FusedNorm):
            del module.forward


class _Fused:
    """Forward of one layer."""

    def __init__(self, layer: LoraLinear) -> None:
        self.layer = layer
        self.low: torch.Tensor | None = None  # the frozen weight in the autocast precision

    def __call__(self, x: torch.Tensor | Gated, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not self.plain:  # then nobody gives it factors
            return LoraLinear.forward(self.layer, cast("torch.Tensor", x), *args, **kwargs)
        if isinstance(x, Gated):
            return gated_lora(*x, self.adapted(x.gate))
        return lora(x, [self.adapted(x)])[0]

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

    def adapted(self, x: torch.Tensor) -> Adapted:
        """Its weights, the frozen one in the precision in which x is computed."""
        layer = self.layer
        name = layer.active_adapters[0]
        a, b = (cast("torch.Tensor", one[name].weight) for one in (layer.lora_A, layer.lora_B))
        return Adapted(self._weight(compute_dtype(x)), a, b, float(layer.scaling[name]))

    def _weight(self, dtype: torch.dtype) -> torch.Tensor:
        weight = cast("torch.Tensor", self.layer.base_layer.weight)
        if weight.dtype == dtype:
            return weight
        if self.low is None or self.low.dtype != dtype or self.low.device != weight.device:
            # A copy born in inference mode could not be used for training afterwards.
            with torch.inference_mode(mode=False), torch.no_grad():
                self.low = weight.detach().to(dtype)
        return self.low


def _siblings(x: torch.Tensor, *layers: nn.Module) -> tuple[torch.Tensor, ...]:
    """Outputs of layers that read the same x; in one step, if all of them can."""
    fused = [_plain(layer) for layer in layers]
    if None in fused:
        return tuple(layer(x) for layer in layers)
    return lora(x, [one.adapted(x) for one in fused if one])


def _plain(layer: nn.Module) -> _Fused | None:
    """Its fused forward, unless that is of no use now.

    A layer that somebody else has given another forward (`lanes`) is left to them.
    """
    own = vars(layer).get("forward")
    return own if isinstance(own, _Fused) and own.plain else None


class _FusedGate:
    """Forward of a gated MLP: its last layer gets both factors where it can take them."""

    def __init__(self, mlp: nn.Module) -> None:
        self.mlp = mlp

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        mlp: Any = self.mlp
        if not _plain(mlp.down_proj):
            return cast("torch.Tensor", type(mlp).forward(mlp, x))
        factors = Gated(*_siblings(x, mlp.gate_proj, mlp.up_proj))
        return cast("torch.Tensor", mlp.down_proj(factors))


class _FusedAttention:
    """Forward of attention over a packed batch."""

    def __init__(self, attention: nn.Module) -> None:
        self.attention = attention

    def __call__(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: object = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        own: Any = self.attention
        projections = (own.q_proj, own.k_proj, own.v_proj)
        packed = own.config._attn_implementation == NAME and past_key_values is None
        if not packed or not all(_plain(layer) for layer in projections):
            return cast("Any", type(own)).forward(  # type: ignore[no-any-return]
                own, hidden_states, position_embeddings, attention_mask, past_key_values, **kwargs
            )
        q, k, v = (y.unflatten(-1, (-1, own.head_dim))
                   for y in _siblings(hidden_states, *projections))  # fmt: skip
        cos, sin = position_embeddings
        q, k = turned(q, cos, sin), turned(k, cos, sin)
        dropout = own.attention_dropout if own.training else 0.0
        out, weights = packed_attention(
            own, q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attention_mask,
            dropout=dropout, scaling=own.scaling, **kwargs,
        )  # fmt: skip
        return own.o_proj(out.flatten(2)), weights


class _FusedNorm:
    """Forward of a norm that is not trained, in float32 or better."""

    def __init__(self, norm: nn.Module) -> None:
        self.norm = norm

    def __call__(self, hidden_states: torch.Tensor) -> torch.Tensor:
        norm: Any = self.norm
        exact = hidden_states.dtype == norm.weight.dtype in (torch.float32, torch.float64)
        if not exact or norm.weight.requires_grad:
            return cast("torch.Tensor", type(norm).forward(norm, hidden_states))
        return normed(hidden_states, norm.weight, norm.variance_epsilon)
