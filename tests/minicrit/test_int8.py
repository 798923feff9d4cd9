"""The int8 layers against float, within the bound that rounding allows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear

from minicrit import int8
from minicrit.int8 import (
    FULL,
    REDUCED,
    Int8Embedding,
    Int8Linear,
    Joined,
    JoinedPart,
    Rows,
    activation_levels,
    dequantize_embedding,
    dequantize_rows,
    joinable,
    quantize_embedding,
    quantize_rows,
)


def test_rows_by_hand() -> None:
    """Largest 2 -> scale 2 / 127; 1 -> 63.5, which rounds to the even 64; a row of zeros stays."""
    rows, scales = quantize_rows(torch.tensor([[2.0, -1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert rows.tolist() == [[127, -64, 0], [0, 0, 0]]
    assert scales.tolist() == pytest.approx([2 / 127, 1.0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(1e-3, 1e3), st.booleans())
def test_linear_is_within_the_rounding_bound(
    seed: int, tokens: int, size: float, smoothed: bool
) -> None:
    """|y - y'| <= sum |w| a / 2L + sum |x'| s / 2, and sums in int32 add nothing to that."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(24, 64, generator=generator)
    bias = torch.randn(24, generator=generator)
    x = size * torch.randn(tokens, 64, generator=generator)
    factors = torch.exp2(torch.randint(-3, 4, (64,), generator=generator).float())
    smoothing = factors if smoothed else torch.ones(64)
    rows, scales = quantize_rows(weight * smoothing)
    got = Int8Linear(rows, scales, bias, smoothing if smoothed else None)(x)

    inner, exact = (
        x / smoothing,
        torch.nn.functional.linear(x.double(), weight.double(), bias.double()),
    )
    half = inner.abs().amax(1, keepdim=True) / (2 * activation_levels())
    bound = (
        half * (weight * smoothing).abs().sum(1) + (inner.abs() + half).sum(1)[:, None] * scales / 2
    )
    assert ((got - exact).abs() <= bound * 1.001 + 1e-4 * size).all()


def test_packed_and_plain_agree() -> None:
    """The path for machines without FBGEMM gives the same integers."""
    torch.manual_seed(0)
    rows, scales = quantize_rows(torch.randn(48, 96))
    layer, x = Int8Linear(rows, scales), torch.randn(7, 96)
    fast = layer(x)
    layer.packed, layer.rows = None, rows
    torch.testing.assert_close(layer(x), fast, rtol=1e-5, atol=1e-5)


def test_a_token_does_not_depend_on_its_neighbours() -> None:
    """Alone, among others, and beside one that is a thousand times as large: the same bits."""
    torch.manual_seed(0)
    layer = Int8Linear(*quantize_rows(torch.randn(32, 64)))
    x = torch.randn(1, 50, 64)
    x[0, 3] *= 1000
    together = layer(x)
    assert torch.equal(together[:, 10], layer(x[:, 10]))
    assert torch.equal(together[:, :3], layer(x[:, :3]))


def test_zero_tokens_and_zero_input() -> None:
    layer = Int8Linear(*quantize_rows(torch.randn(8, 16)), bias=torch.arange(8.0))
    assert layer(torch.zeros(2, 16)).tolist() == [list(range(8))] * 2
    assert layer(torch.empty(0, 16)).shape == (0, 8)


@pytest.mark.parametrize("packed", [True, False])
def test_fine_inputs_are_rounded_a_hundred_times_finer(packed: bool) -> None:
    torch.manual_seed(0)
    rows, scales = quantize_rows(torch.randn(24, 64))
    x = torch.randn(2, 5, 64)
    exact = linear(x, dequantize_rows(rows, scales))
    errors = []
    for fine in (False, True):
        layer = Int8Linear(rows, scales, fine=fine)
        if not packed:
            layer.packed, layer.rows = None, rows
        got = layer(x)
        assert got.shape == (2, 5, 24)
        errors.append((got - exact).abs().max())
        assert torch.equal(layer(x[0, :1]), got[0, :1])  # whoever else is there
    assert errors[1] < errors[0] / 50
    assert Int8Linear(rows, scales, fine=True)(torch.empty(0, 64)).shape == (0, 24)


@pytest.fixture
def saturating(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without VNNI: unsigned bytes times signed ones, two products in 16 bits."""

    def product(x: Tensor, packed: tuple[Tensor, Tensor], levels: int) -> Tensor:
        rows, zero = packed[0].float(), levels + 1
        products = (torch.round(x * levels) + zero)[..., None, :] * rows
        pairs = products.unflatten(-1, (-1, 2)).sum(-1).clamp(-(2**15), 2**15 - 1)
        return (pairs.sum(-1) - zero * rows.sum(-1)) * packed[1] / levels

    monkeypatch.setattr(int8, "_pack", lambda rows, scales: (rows, scales))
    monkeypatch.setattr(int8, "_packed_linear", product)
    monkeypatch.setattr(int8, "activation_levels", activation_levels.__wrapped__)
    monkeypatch.setattr(int8, "_ENGINE", torch.backends.quantized.supported_engines[0])


@pytest.mark.usefixtures("saturating")
@pytest.mark.parametrize("fine", [False, True])
def test_where_sums_of_two_products_saturate_inputs_have_7_bits(fine: bool) -> None:
    torch.manual_seed(0)
    rows, scales = torch.full((16, 64), FULL, dtype=torch.int8), torch.rand(16) + 0.5
    x = torch.rand(5, 64)  # all of one sign, as the weights are
    layer = Int8Linear(rows, scales, fine=fine)
    assert layer.levels == REDUCED
    got = layer(x)
    layer.packed, layer.rows = None, rows
    torch.testing.assert_close(got, layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("width", "groups"), [(4, 1), (64, 2)])
def test_embedding_widens_the_rows_looked_up(width: int, groups: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(10, width)
    weight[:, 0] *= 50
    weight[4, width // 2 :] = 0
    rows, scales = quantize_embedding(weight)
    assert scales.shape == (10, groups)
    ids = torch.tensor([[3, 4], [9, 0]])
    got = Int8Embedding(rows, scales)(ids)
    assert got.shape == (2, 2, width)
    assert torch.equal(got, dequantize_embedding(rows, scales)[ids])
    parts = weight.reshape(10, groups, -1)
    steps = (parts.abs().amax(2, keepdim=True) / FULL).expand(parts.shape).reshape(10, width)
    assert ((got - weight[ids]).abs() <= 0.51 * steps[ids] + 1e-7).all()


def test_an_embedding_from_blocks_of_8_bits_is_kept_to_the_bit() -> None:
    torch.manual_seed(0)
    codes = torch.randint(-127, 128, (6, 3, 32))
    codes[..., 0] = 127  # each block meets its largest
    scales = (torch.rand(6, 3) / 50).half()
    weight = (codes * scales.float()[..., None]).flatten(1)
    assert torch.equal(dequantize_embedding(*quantize_embedding(weight)), weight)


def joined_and_alone(widths: tuple[int, ...]) -> tuple[list[JoinedPart], list[Int8Linear]]:
    torch.manual_seed(0)
    smoothing = torch.rand(64) + 0.5
    layers = [Rows(*quantize_rows(torch.randn(o, 64)), torch.randn(o), smoothing) for o in widths]
    joined = Joined(layers)
    return [JoinedPart(joined, n) for n in range(len(widths))], [Int8Linear(*one) for one in layers]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 1, 0), (0, 0, 0)])
def test_joined_layers_give_the_same_bits_in_any_order(order: tuple[int, ...]) -> None:
    parts, alone = joined_and_alone((24, 8, 40))
    for x in torch.randn(3, 1, 50, 64):
        for place in order:
            assert torch.equal(parts[place](x), alone[place](x))


def test_joined_layers_never_answer_for_another_input() -> None:
    """The first layer of one input, then the second of another: an equal shape is not enough."""
    parts, alone = joined_and_alone((24, 8))
    first, second = torch.randn(2, 1, 5, 64)
    parts[0](first)
    assert torch.equal(parts[1](second), alone[1](second))
    assert parts[0].joined._last is None  # and no input is kept alive


def test_only_what_is_divided_alike_is_joined() -> None:
    rows, scales = quantize_rows(torch.randn(8, 16))
    ones, twos = torch.ones(16), 2 * torch.ones(16)
    bias = torch.zeros(8)
    assert joinable([Rows(rows, scales), Rows(rows, scales)])
    assert joinable([Rows(rows, scales, bias, ones), Rows(rows, scales, bias, ones.clone())])
    assert not joinable([Rows(rows, scales, None, ones), Rows(rows, scales, None, twos)])
    assert not joinable([Rows(rows, scales, None, ones), Rows(rows, scales)])
    assert not joinable([Rows(rows, scales, bias), Rows(rows, scales)])
