"""8-bit layers for CPUs: int8 weights, int8 activations, sums in int32.

A weight row and an activation row (one token) have one scale each, x ~ a xq / L and w ~ s wq:

    y[t, o] = a[t] s[o] / L  sum_i xq[t, i] wq[o, i],   a[t] = max_i |x[t, i]|,  L = 127

The sum is exact, so what a token gets does not depend on its neighbours in a packed batch. One
scale for the whole batch, as `quantized.linear_dynamic` takes, would make a verdict depend on what
else is judged at that moment, and it lets one large activation coarsen all others.

Each row is divided by its maximum before FBGEMM's linear with fixed activation scale 1/L: on a CPU
with AVX512-VNNI 2-3.5 times as fast as float32 for 200 tokens and more, 8 times for the head.

A few inputs of a layer are always large and would set the scale of every token. They are divided by
factors that the weights are multiplied by (SmoothQuant, arXiv 2211.10438, eq. 4 with alpha 1/2).

Shapes: T tokens, I inputs, O outputs, V vocabulary.
"""

import warnings
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

FULL = 127
#: CPUs without VNNI add pairs of 8-bit products in 16 bits, which 7-bit activations cannot overrun.
REDUCED = 63
_ENGINE = "x86"
_TINY = 1e-30


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest int8 rows and their scales: weight (O, I) -> (O, I) int8, (O,) float32.

    Symmetric: a row spans [-127, 127] and its largest element is met; |error| <= scale / 2.
    """
    wide = weight.detach().float()
    scales = wide.abs().amax(dim=1) / FULL
    scales = torch.where(scales > 0, scales, torch.ones_like(scales))
    return torch.round(wide / scales[:, None]).to(torch.int8), scales


def dequantize_rows(rows: Tensor, scales: Tensor) -> Tensor:
    """(O, I) float32."""
    return rows.float() * scales[:, None]


@cache
def activation_levels() -> int:
    """L: 127 where the CPU's kernel does not saturate, else 63; found by trying the worst case."""
    if _ENGINE not in torch.backends.quantized.supported_engines:
        return FULL
    rows = torch.full((16, 64), FULL, dtype=torch.int8)
    packed = _pack(rows, torch.ones(16))
    got = _packed_linear(torch.ones(1, 64), packed, FULL)
    return FULL if torch.allclose(got, torch.full_like(got, 64.0 * FULL), rtol=1e-3) else REDUCED


class Int8Linear(nn.Module):
    """A linear layer from int8 rows; takes and gives float32."""

    rows: Tensor | None
    scales: Tensor
    bias: Tensor | None
    inverse: Tensor | None

    def __init__(
        self,
        rows: Tensor,
        scales: Tensor,
        bias: Tensor | None = None,
        smoothing: Tensor | None = None,
    ) -> None:
        """Packs the weights for this CPU.

        Args:
            rows: (O, I) int8, of the weight times `smoothing`.
            scales: (O,).
            bias: (O,).
            smoothing: (I,) what each input is divided by.
        """
        super().__init__()
        self.out_features, self.in_features = rows.shape
        self.levels = activation_levels()
        packable = _ENGINE in torch.backends.quantized.supported_engines
        self.packed = _pack(rows, scales) if packable else None
        self.register_buffer("rows", None if packable else rows, persistent=False)
        self.register_buffer("scales", scales, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        inverse = None if smoothing is None else smoothing.reciprocal()
        self.register_buffer("inverse", inverse, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        if self.inverse is not None:
            x = x * self.inverse
        peaks = x.abs().amax(dim=-1, keepdim=True).clamp_min_(_TINY)
        if self.packed is None:
            y = self._plain(x / peaks)
        else:
            y = _packed_linear(x / peaks, self.packed, self.levels)
        y = y.mul_(peaks)
        return y if self.bias is None else y.add_(self.bias)

    def _plain(self, x: Tensor) -> Tensor:
        """The same where FBGEMM is missing: integers in float32, correct but not fast."""
        assert self.rows is not None
        return linear(torch.round(x * self.levels), self.rows.float()) * (self.scales / self.levels)

    def extra_repr(self) -> str:
        """Shapes, for print(model)."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class Int8Embedding(nn.Module):
    """An embedding that keeps int8 rows and widens only those that are looked up."""

    rows: Tensor
    scales: Tensor

    def __init__(self, rows: Tensor, scales: Tensor) -> None:
        """Rows (V, I) int8, scales (V,)."""
        super().__init__()
        self.num_embeddings, self.embedding_dim = rows.shape
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("scales", scales, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) -> (..., I) float32."""
        return self.rows[ids].float() * self.scales[ids][..., None]


def _pack(rows: Tensor, scales: Tensor) -> torch.ScriptObject:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = _ENGINE
    try:
        with warnings.catch_warnings():
            # The quantized tensor types are on their way out; where they are gone, `_plain` serves.
            warnings.simplefilter("ignore", UserWarning)
            zeros = torch.zeros(len(scales), dtype=torch.long)
            weight = torch._make_per_channel_quantized_tensor(rows, scales.double(), zeros, 0)
            packed: torch.ScriptObject = torch.ops.quantized.linear_prepack(weight, None)
            return packed
    finally:
        torch.backends.quantized.engine = before


def _packed_linear(x: Tensor, packed: torch.ScriptObject, levels: int) -> Tensor:
    """Rows of x within [-1, 1], rounded to multiples of 1 / levels on the way in."""
    run = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    return run(x.contiguous(), 1.0 / levels, levels + 1, packed)  # type: ignore[no-any-return]
