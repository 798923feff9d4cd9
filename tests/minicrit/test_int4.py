"""Nibbles, six-bit values and groups."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minicrit import int4


def test_every_byte_survives_unpacking_and_packing() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    values = int4.unpack_nibbles(every)
    assert values[2 * 0xA3 : 2 * 0xA3 + 2].tolist() == [3, 10]
    assert torch.equal(int4.pack_nibbles(values), every)


@given(st.lists(st.integers(0, 63), min_size=4, max_size=40).filter(lambda v: len(v) % 4 == 0))
def test_six_bits_survive_packing(values: list[int]) -> None:
    given = torch.tensor([values], dtype=torch.uint8)
    packed = int4.pack_sixes(given)
    assert packed.shape[1] * 4 == given.shape[1] * 3
    assert torch.equal(int4.unpack_sixes(packed), given)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_groups_are_no_worse_than_plain_rounding(seed: int) -> None:
    """Plain rounding errs by half a step at most; the clip search may only lower squares."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 64, generator=generator)
    wide = int4.dequantize_groups(int4.quantize_groups(weight))
    group = weight.reshape(6, 2, 32)
    step = (group.amax(2) - group.amin(2)) / int4.TOP
    squares = (wide - weight).reshape(6, 2, 32).square().sum(2)
    assert (squares <= 32 * (step / 2 * 1.01 + 2e-3) ** 2).all()


def test_a_grid_of_sixteen_values_is_met_exactly() -> None:
    """Weights that come from a 4-bit file keep their values."""
    codes = torch.randint(0, 16, (4, 32), generator=torch.Generator().manual_seed(0))
    codes[:, :2] = torch.tensor([0, 15])
    weight = codes * 0.125 - 1.0
    assert torch.equal(int4.dequantize_groups(int4.quantize_groups(weight)), weight)


def test_clipping_gives_up_an_outlier_that_costs_more_than_it_is_worth() -> None:
    """In 31 spread values and one a bit outside, a smaller range has the smaller error."""
    weight = torch.linspace(-1, 1, 32)[None].clone()
    weight[0, 31] = 1.3
    groups = int4.quantize_groups(weight)
    unclipped = (weight.max() - weight.min()) / int4.TOP
    assert groups.scales.item() < unclipped.item()


def test_wide_rows_err_by_half_a_step() -> None:
    weight = torch.randn(5, 128, generator=torch.Generator().manual_seed(1))
    weight[0, :64] = 0
    codes, scales = int4.quantize_wide(weight)
    assert codes.shape == (5, 96)
    wide = int4.dequantize_wide(codes, scales)
    steps = scales.float().repeat_interleave(64, 1)
    assert ((wide - weight).abs() <= steps * 0.51 + 2e-3 * weight.abs()).all()
    assert (wide[0, :64] == 0).all()
