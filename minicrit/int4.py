"""4-bit weights in groups: w ~ scale q + offset, q in 0..15, two values a byte.

A group is GROUP neighbours of a row (inputs of one output), with a float16 scale and offset of its
own: 5 bits a weight. Kept on disk; a CPU computes with the int8 rows made from it at load, as
unpacking nibbles on the fly is slower than float32. So 4 bits save disk, not time.

Embeddings, which suffer most, get 6 bits: w ~ scale (q - 31), q in 0..62, groups of WIDE_GROUP.

Shapes: O outputs, I inputs, G = I / GROUP groups a row.
"""

from typing import NamedTuple

import torch
from torch import Tensor

GROUP = 32
TOP = 15
WIDE_GROUP = 64
WIDE_TOP = 31
#: Shares of a group's range that are tried. Cutting off an extreme can make the rest finer.
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8)


class Groups(NamedTuple):
    """codes (O, I / 2) uint8, scales (O, G) and offsets (O, G) float16."""

    codes: Tensor
    scales: Tensor
    offsets: Tensor


def fits(weight: Tensor, group: int = GROUP) -> bool:
    """Whether the rows divide into groups."""
    return weight.shape[1] % group == 0


def quantize_groups(weight: Tensor) -> Groups:
    """Codes of weight (O, I), of the clip share with the least squared error in each group."""
    groups = _grouped(weight.detach().float(), GROUP)
    low, high = groups.amin(dim=2, keepdim=True), groups.amax(dim=2, keepdim=True)
    middle, span = (high + low) / 2, high - low
    best = _rounded(groups, low, span / TOP)
    for clip in CLIPS[1:]:
        tried = _rounded(groups, middle - clip * span / 2, clip * span / TOP)
        better = tried[0] < best[0]
        best = tuple(torch.where(better, new, old) for new, old in zip(tried, best, strict=True))
    _, codes, scales, offsets = best
    flat = codes.flatten(1).to(torch.uint8)
    return Groups(pack_nibbles(flat), scales.squeeze(2).half(), offsets.squeeze(2).half())


def dequantize_groups(groups: Groups) -> Tensor:
    """(O, I) float32."""
    codes = _grouped(unpack_nibbles(groups.codes).float(), GROUP)
    wide = codes * groups.scales.float()[..., None] + groups.offsets.float()[..., None]
    return wide.flatten(1)


def quantize_wide(weight: Tensor) -> tuple[Tensor, Tensor]:
    """6-bit codes (V, I * 3 / 4) uint8 and scales (V, I / WIDE_GROUP) float16 of weight (V, I)."""
    groups = _grouped(weight.detach().float(), WIDE_GROUP)
    scales = (groups.abs().amax(dim=2) / WIDE_TOP).half()
    steps = torch.where(scales > 0, scales, torch.ones_like(scales)).float()[..., None]
    codes = torch.round(groups / steps).clamp_(-WIDE_TOP, WIDE_TOP) + WIDE_TOP
    return pack_sixes(codes.flatten(1).to(torch.uint8)), scales


def dequantize_wide(codes: Tensor, scales: Tensor) -> Tensor:
    """(V, I) float32."""
    return (_grouped(wide_codes(codes), WIDE_GROUP) * scales.float()[..., None]).flatten(1)


def wide_codes(codes: Tensor) -> Tensor:
    """The 6-bit values as int8 around zero: (V, I * 3 / 4) uint8 -> (V, I) int8."""
    return unpack_sixes(codes).to(torch.int8) - WIDE_TOP


def pack_sixes(values: Tensor) -> Tensor:
    """Values 0..63 (..., 4n) -> bytes (..., 3n): three values, each with 2 bits of the fourth."""
    four = _grouped(values, 4)
    last = four[..., 3:] >> torch.tensor([0, 2, 4], dtype=torch.uint8) & 3
    return (four[..., :3] | last << 6).flatten(-2)


def unpack_sixes(packed: Tensor) -> Tensor:
    """Bytes (..., 3n) -> values 0..63 (..., 4n)."""
    three = _grouped(packed, 3)
    bits = (three >> 6) << torch.tensor([0, 2, 4], dtype=torch.uint8)
    last = bits.sum(dim=-1, keepdim=True, dtype=torch.uint8)
    return torch.cat((three & 63, last), dim=-1).flatten(-2)


def pack_nibbles(values: Tensor) -> Tensor:
    """Values 0..15 (..., 2n) -> bytes (..., n); the first of two in the low half."""
    return values[..., 0::2] | (values[..., 1::2] << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """Bytes (..., n) -> values 0..15 (..., 2n)."""
    return torch.stack((packed & TOP, packed >> 4), dim=-1).flatten(-2)


def _grouped(values: Tensor, size: int) -> Tensor:
    """(..., n * size) -> (..., n, size)."""
    return values.reshape(*values.shape[:-1], -1, size)


def _rounded(groups: Tensor, low: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    """(squared error, codes, scale, offset), with the scale and offset that float16 can hold."""
    scale, low = scale.half().float(), low.half().float()
    step = torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = torch.round((groups - low) / step).clamp_(0, TOP)
    error = (codes * scale + low - groups).square_().sum(dim=2, keepdim=True)
    return error, codes, scale, low
