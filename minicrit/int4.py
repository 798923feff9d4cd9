"""4-bit weights in groups: w ~ scale q + offset, q in 0..15, two values a byte.

A group is GROUP neighbours of a row (inputs of one output), with a float16 scale and offset of its
own: 5 bits a weight. Kept on disk; a CPU computes with the int8 rows made from it at load, as
unpacking nibbles on the fly is slower than float32. So 4 bits save disk, not time.

Shapes: O outputs, I inputs, G = I / GROUP groups a row.
"""

from typing import NamedTuple

import torch
from torch import Tensor

GROUP = 32
TOP = 15
#: Shares of a group's range that are tried. Cutting off an extreme can make the rest finer.
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8)


class Groups(NamedTuple):
    """codes (O, I / 2) uint8, scales (O, G) and offsets (O, G) float16."""

    codes: Tensor
    scales: Tensor
    offsets: Tensor


def fits(weight: Tensor) -> bool:
    """Whether the rows divide into groups."""
    return weight.ndim == 2 and weight.shape[1] % GROUP == 0


def quantize_groups(weight: Tensor) -> Groups:
    """Codes of weight (O, I), of the clip share with the least squared error in each group."""
    groups = weight.detach().float().unflatten(1, (-1, GROUP))
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
    codes = unpack_nibbles(groups.codes).float().unflatten(1, (-1, GROUP))
    wide = codes * groups.scales.float()[..., None] + groups.offsets.float()[..., None]
    return wide.flatten(1)


def pack_nibbles(values: Tensor) -> Tensor:
    """Values 0..15 (..., 2n) -> bytes (..., n); the first of two in the low half."""
    return values[..., 0::2] | (values[..., 1::2] << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """Bytes (..., n) -> values 0..15 (..., 2n)."""
    return torch.stack((packed & TOP, packed >> 4), dim=-1).flatten(-2)


def _rounded(groups: Tensor, low: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    """(squared error, codes, scale, offset), with the scale and offset that float16 can hold."""
    scale, low = scale.half().float(), low.half().float()
    step = torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = torch.round((groups - low) / step).clamp_(0, TOP)
    error = (codes * scale + low - groups).square_().sum(dim=2, keepdim=True)
    return error, codes, scale, low
