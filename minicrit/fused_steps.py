"""Steps of a layer that autograd takes whole: the values of peft and transformers, less walked.

A walk over a full-size activation costs, on a CPU, much of what a matrix product does. Each step
here accumulates in place and keeps what its backward pass cannot do without.

Shapes: M rows, I inputs, O outputs, R rank, B batch, T tokens, D head size; of the head S scored
tokens, W width, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from minicrit.thin import product

Gradients = tuple[torch.Tensor | None, ...]


class Adapted(NamedTuple):
    """A frozen linear layer and its adapter: W (O, I), A (R, I), B (O, R), and s."""

    weight: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    scale: float


def lora(x: torch.Tensor, layers: Sequence[Adapted]) -> tuple[torch.Tensor, ...]:
    """Outputs x W' + s (x A') B' (..., O) of each of the layers that read the same x (..., I)."""
    scales, tensors = _taken_apart(layers)
    return cast("tuple[torch.Tensor, ...]", _LoraStep.apply(x, scales, *tensors))  # type: ignore[no-untyped-call]


def gated_lora(gate: torch.Tensor, up: torch.Tensor, layer: Adapted) -> torch.Tensor:
    """The same of one layer that reads silu(gate) * up, both (..., I)."""
    scales, tensors = _taken_apart([layer])
    return cast("torch.Tensor", _GatedStep.apply(gate, up, scales, *tensors))  # type: ignore[no-untyped-call]


def turned(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding (arXiv 2104.09864) of heads (B, T, H, D); (B or 1, T, D) angles."""
    return cast("torch.Tensor", _Turn.apply(heads, cos, sin))  # type: ignore[no-untyped-call]


def normed(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm (arXiv 1910.07467) of x (..., I) with a frozen weight (I,)."""
    return cast("torch.Tensor", _NormStep.apply(x, weight, eps))  # type: ignore[no-untyped-call]


def frozen_head(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int
) -> torch.Tensor:
    """Log-probabilities (S,) of targets (S,) after states (S, W), by a frozen head (V, W).

    Of `chunk` tokens the logits exist at the same time.
    """
    return cast("torch.Tensor", _FrozenHead.apply(hidden, weight, targets, chunk))  # type: ignore[no-untyped-call]


def compute_dtype(x: torch.Tensor) -> torch.dtype:
    """In which x is multiplied now: its own, or that of autocast."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _taken_apart(layers: Sequence[Adapted]) -> tuple[tuple[float, ...], list[torch.Tensor]]:
    """Scales and tensors, which is how autograd must be told."""
    tensors = [t for layer in layers for t in (layer.weight, layer.a, layer.b)]
    return tuple(layer.scale for layer in layers), tensors


def _put_together(scales: Sequence[float], tensors: Sequence[torch.Tensor]) -> list[Adapted]:
    three = [tensors[at : at + 3] for at in range(0, len(tensors), 3)]
    return [Adapted(w, a, b, s) for (w, a, b), s in zip(three, scales, strict=True)]


def _rows(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.reshape(-1, x.shape[-1]).to(dtype)


def _inward(layers: Sequence[Adapted], dtype: torch.dtype) -> torch.Tensor:
    """A of all layers, one below the other (sum of R, I)."""
    return torch.cat([layer.a for layer in layers]).to(dtype)


def _ahead(
    layers: Sequence[Adapted], rows: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Of rows x (M, I) the outputs (M, O) of each layer, and x A' of all (M, sum of R)."""
    with torch.autocast(rows.device.type, enabled=False):
        inner = rows @ _inward(layers, rows.dtype).t()
        parts = inner.split([len(layer.a) for layer in layers], dim=1)
        ys = []
        for layer, part in zip(layers, parts, strict=True):
            y = product(rows, layer.weight)
            ys.append(y.addmm_(part, layer.b.to(rows.dtype).t(), alpha=layer.scale))
    return ys, inner


def _back(
    layers: Sequence[Adapted],
    dys: Sequence[torch.Tensor],
    rows: torch.Tensor,
    inner: torch.Tensor,
    *,
    deeper: bool,
) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
    """Gradients of rows (M, I), unless nobody asks `deeper`, and of A and B of each layer."""
    ranks = [len(layer.a) for layer in layers]
    pairs = list(zip(layers, dys, strict=True))
    d_inner = torch.cat([(dy @ layer.b.to(dy.dtype)).mul_(layer.scale) for layer, dy in pairs], 1)
    dx = None
    if deeper:
        dx = dys[0] @ layers[0].weight
        for layer, dy in pairs[1:]:
            dx.addmm_(dy, layer.weight)
        dx.addmm_(d_inner, _inward(layers, rows.dtype))
    das = (d_inner.t() @ rows).split(ranks)
    # (x A')' dy and not its transpose: the product with the longer rows is the faster one.
    dbs = [(part.t() @ dy).t() * layer.scale
           for part, (layer, dy) in zip(inner.split(ranks, dim=1), pairs, strict=True)]  # fmt: skip
    return dx, [grad.to(layer.a.dtype) for layer, *both in zip(layers, das, dbs, strict=True)
                for grad in both]  # fmt: skip


class _LoraStep(torch.autograd.Function):
    """See `lora`."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scales: tuple[float, ...], *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        rows = _rows(x, tensors[0].dtype)
        ys, inner = _ahead(_put_together(scales, tensors), rows)
        ctx.save_for_backward(rows, inner, *tensors)
        ctx.scales, ctx.shape, ctx.dtype = scales, x.shape, x.dtype
        return tuple(y.view(*x.shape[:-1], y.shape[-1]) for y in ys)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Gradients:
        rows, inner, *tensors = ctx.saved_tensors
        dys = [_rows(grad, rows.dtype) for grad in grads]
        layers = _put_together(ctx.scales, tensors)
        dx, own = _back(layers, dys, rows, inner, deeper=ctx.needs_input_grad[0])
        if dx is not None:
            dx = dx.view(ctx.shape).to(ctx.dtype)
        return dx, None, *_beside_weights(own)


class _GatedStep(torch.autograd.Function):
    """See `gated_lora`. Keeps gate and up, and multiplies again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: torch.Tensor,
        up: torch.Tensor,
        scales: tuple[float, ...],
        *tensors: torch.Tensor,
    ) -> torch.Tensor:
        rows = _rows(silu(gate).mul_(up), tensors[0].dtype)
        (y,), inner = _ahead(_put_together(scales, tensors), rows)
        ctx.save_for_backward(gate, up, inner, *tensors)
        ctx.scales = scales
        return y.view(*gate.shape[:-1], y.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Gradients:
        gate, up, inner, *tensors = ctx.saved_tensors
        layers, act = _put_together(ctx.scales, tensors), silu(gate)
        dy, rows = _rows(grads[0], inner.dtype), _rows(act * up, inner.dtype)
        dx, own = _back(layers, [dy], rows, inner, deeper=True)
        assert dx is not None
        d_product = dx.view(gate.shape).to(gate.dtype)
        d_up = act.mul_(d_product)
        d_gate = torch.ops.aten.silu_backward(d_product.mul_(up), gate)
        return d_gate, d_up, None, *_beside_weights(own)


def _beside_weights(own: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
    """Gradients of A and B of each layer behind none for its W."""
    return [grad for at in range(0, len(own), 2) for grad in (None, *own[at : at + 2])]


class _Turn(torch.autograd.Function):
    """See `turned`."""

    @staticmethod
    def forward(
        ctx: Any, heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(heads, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Gradients:
        cos, sin = ctx.saved_tensors
        half = sin.shape[-1] // 2
        # The transpose: each half is turned by the sine that went into the other one.
        swapped = torch.cat((sin[..., half:], sin[..., :half]), dim=-1)
        return _turn(grads[0], cos, -swapped), None, None


def _turn(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Heads times cosine, plus their halves, swapped and the first negated, times sine."""
    half = heads.shape[-1] // 2
    cos, sin = cos[:, :, None], sin[:, :, None]
    new = heads * cos
    new[..., :half].addcmul_(heads[..., half:], sin[..., :half], value=-1)
    new[..., half:].addcmul_(heads[..., :half], sin[..., half:])
    return new


class _NormStep(torch.autograd.Function):
    """See `normed`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        scale = _along(x, x).div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Gradients:
        x, weight, scale = ctx.saved_tensors
        dx = grads[0] * weight
        lost = _along(dx, x).mul_(scale.square()).div_(-x.shape[-1])
        return dx.addcmul_(x, lost).mul_(scale), None, None


def _along(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Inner products of rows (..., I): (..., 1), never in the low precision of autocast."""
    with torch.autocast(x.device.type, enabled=False):
        products: torch.Tensor = torch.linalg.vecdot(x, y)
    return products.unsqueeze(-1)


class _FrozenHead(torch.autograd.Function):
    """See `frozen_head`; keeps (S, W) and never (S, V).

    d log p(t) / d h = W[t] - sum over v of p(v) W[v] does not depend on the loss. So it is computed
    beside the logits, a piece at a time, as fused losses do (arXiv 2410.10989), and the backward
    pass only scales it.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int
    ) -> torch.Tensor:
        dtype = compute_dtype(hidden)
        weight, rows = weight.to(dtype), hidden.to(dtype)
        logprobs, slopes = [], []
        with torch.autocast(hidden.device.type, enabled=False):
            for some, ids in zip(rows.split(chunk), targets.split(chunk), strict=True):
                logits = product(some, weight)
                parts = logits if dtype == torch.float64 else logits.float()
                at = ids.unsqueeze(-1)
                own, top = parts.gather(-1, at), parts.amax(-1, keepdim=True)
                whole = parts.sub_(top).exp_().sum(-1, keepdim=True)
                logprobs.append((own - top - whole.log()).squeeze(-1))
                if ctx.needs_input_grad[0]:
                    # Before it is rounded: of a token that is all but sure little is left.
                    parts.scatter_add_(-1, at, -whole)
                    slopes.append((parts.to(dtype) @ weight) / -whole)
        if slopes:
            ctx.save_for_backward(torch.cat(slopes).to(hidden.dtype))
        return torch.cat(logprobs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Gradients:
        (slopes,) = ctx.saved_tensors
        return slopes * grads[0].unsqueeze(-1).to(slopes.dtype), None, None, None
