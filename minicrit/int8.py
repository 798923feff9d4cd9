"""8-bit layers for CPUs: int8 weights, int8 activations, sums in int32.

A weight row and an activation row (one token) have one scale each, x ~ a xq / L and w ~ s wq:

    y[t, o] = a[t] s[o] / L  sum_i xq[t, i] wq[o, i],   a[t] = max_i |x[t, i]|,  L = 127

The sum is exact, so what a token gets does not depend on its neighbours in a packed batch. One
scale for the whole batch, as `quantized.linear_dynamic` takes, would make a verdict depend on what
else is judged at that moment, and it lets one large activation coarsen all others.

Each row is divided by its maximum before FBGEMM's linear with fixed activation scale 1/L: on a CPU
with AVX512-VNNI 2-3.5 times as fast as float32 for 200 tokens and more, 8 times for the head.

Layers that read the same input, as queries, keys and values do, run as one: the input is rounded
once, and one wide product is faster than three narrow ones.

Where that is too coarse, `fine`: two rows a token, the second what rounding the first has left. The
head takes it, for few tokens; down projections would lose speed by it and gain little.

A few inputs of a layer are always large and would set the scale of every token. They are divided by
factors that the weights are multiplied by (SmoothQuant, arXiv 2211.10438, eq. 4 with alpha 1/2).

Shapes: T tokens, I inputs, O outputs, V vocabulary.
"""

import warnings
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

FULL = 127
#: CPUs without VNNI add pairs of 8-bit products in 16 bits, which 7-bit activations cannot overrun.
REDUCED = 63
#: Neighbours in a row of an embedding that share a scale.
EMBEDDING_GROUP = 32
_ENGINE = "x86"
_TINY = 1e-30
#: Layers of one module that read the same input, by the names that transformers gives them.
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


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


def quantize_embedding(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (V, I) int8 and scales (V, G) float16 of an embedding (V, I), by groups of a row.

    A row looked up is not summed over, so nothing asks for one scale a row, which a single large
    element would coarsen. Groups of EMBEDDING_GROUP where they fit (one a row else): those of GGUF,
    so what comes from 8-bit blocks there is kept to the bit.
    """
    wide = weight.detach().float()
    size = EMBEDDING_GROUP if wide.shape[1] % EMBEDDING_GROUP == 0 else wide.shape[1]
    groups = wide.unflatten(1, (-1, size))
    scales = (groups.abs().amax(dim=2) / FULL).half()
    scales = torch.where(scales > 0, scales, torch.ones_like(scales))
    codes = torch.round(groups / scales.float()[..., None]).clamp_(-FULL, FULL)
    return codes.flatten(1).to(torch.int8), scales


def dequantize_embedding(rows: Tensor, scales: Tensor) -> Tensor:
    """(..., I) int8 and (..., G) -> (..., I) float32."""
    groups: Tensor = rows.unflatten(-1, (scales.shape[-1], -1))
    return (groups * scales.float()[..., None]).flatten(-2)


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
        *,
        fine: bool = False,
    ) -> None:
        """Packs the weights for this CPU.

        Args:
            rows: (O, I) int8, of the weight times `smoothing`.
            scales: (O,).
            bias: (O,).
            smoothing: (I,) what each input is divided by.
            fine: round the inputs to 1 / (2 L^2) of their largest in place of 1 / (2 L): what the
                first rounding leaves is rounded in a row of its own, of the same product.
        """
        super().__init__()
        self.fine = fine
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
        y = (self._finely if self.fine else self._product)(x / peaks).mul_(peaks)
        return y if self.bias is None else y.add_(self.bias)

    def _finely(self, x: Tensor) -> Tensor:
        """The product with rows within [-1, 1], each as the sum of two that are rounded."""
        coarse = torch.round(x * self.levels) / self.levels
        rest = (x - coarse) * (2 * self.levels)
        first: Tensor
        first, second = self._product(torch.stack((coarse, rest)))
        return first.add_(second, alpha=0.5 / self.levels)

    def _product(self, x: Tensor) -> Tensor:
        if self.packed is None:
            return self._plain(x)
        return _packed_linear(x, self.packed, self.levels)

    def _plain(self, x: Tensor) -> Tensor:
        """The same where FBGEMM is missing: integers in float32, correct but not fast."""
        assert self.rows is not None
        return linear(torch.round(x * self.levels), self.rows.float()) * (self.scales / self.levels)

    def extra_repr(self) -> str:
        """Shapes, for print(model)."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class Rows(NamedTuple):
    """What an Int8Linear is made from, see there."""

    rows: Tensor
    scales: Tensor
    bias: Tensor | None = None
    smoothing: Tensor | None = None


class Joined:
    """Layers that read the same input, computed in one product.

    The outputs are kept from the first layer that is asked until the last, for this very input
    tensor; another input is computed for itself, so what comes out never depends on the order.
    """

    def __init__(self, layers: Sequence[Rows]) -> None:
        """The layers have the same smoothing, and all or none of them a bias."""
        biases = [layer.bias for layer in layers if layer.bias is not None]
        self.whole = Int8Linear(torch.cat([layer.rows for layer in layers]),
                                torch.cat([layer.scales for layer in layers]),
                                torch.cat(biases) if biases else None,
                                layers[0].smoothing)  # fmt: skip
        self.widths = [len(layer.scales) for layer in layers]
        self._last: tuple[Tensor, tuple[Tensor, ...]] | None = None

    def part(self, x: Tensor, place: int) -> Tensor:
        """Output of one layer: (..., I) -> (..., O of it)."""
        last = self._last
        if last is None or last[0] is not x:
            last = x, self.whole(x).split(self.widths, dim=-1)
            self._last = last
        if place == len(self.widths) - 1:
            self._last = None  # frees the input
        return last[1][place]


class JoinedPart(nn.Module):
    """One of the layers that `Joined` computes."""

    def __init__(self, joined: Joined, place: int) -> None:
        super().__init__()
        self.joined, self.place = joined, place
        self.whole = joined.whole  # so that it moves with the model
        self.in_features, self.out_features = joined.whole.in_features, joined.widths[place]

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        return self.joined.part(x, self.place)


def joinable(layers: Sequence[Rows]) -> bool:
    """Whether they may be joined: the same smoothing, and all or none with a bias."""
    first = layers[0]
    if any((layer.bias is None) != (first.bias is None) for layer in layers):
        return False
    factors = [layer.smoothing for layer in layers]
    if any(factor is None for factor in factors):
        return all(factor is None for factor in factors)
    return all(torch.equal(f, factors[0]) for f in factors)  # type: ignore[arg-type]


def siblings(name: str) -> list[str]:
    """The names of the layers that read the same input as this one, itself among them."""
    parent, _, last = name.rpartition(".")
    family = next((names for names in SIBLINGS if last in names), (last,))
    return [f"{parent}.{one}" if parent else one for one in family]


class Int8Embedding(nn.Module):
    """An embedding that keeps 8-bit codes and widens only the rows that are looked up."""

    rows: Tensor
    scales: Tensor

    def __init__(self, rows: Tensor, scales: Tensor) -> None:
        """Rows (V, I) int8, scales (V, G), see `quantize_embedding`."""
        super().__init__()
        self.num_embeddings, self.embedding_dim = rows.shape
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("scales", scales, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) -> (..., I) float32."""
        return dequantize_embedding(self.rows[ids], self.scales[ids])


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
