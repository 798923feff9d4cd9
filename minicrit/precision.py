"""In which type critics are trained and write: bfloat16 is faster only where it is multiplied."""

from collections.abc import Mapping
from typing import Literal, cast

import torch

from minicrit.processes import take_gpu

#: Of the weights while a critic writes; `auto` is settled by the machine.
Written = Literal["auto", "bfloat16", "float32"]
#: Of the forward pass in training, as Lightning names them; `auto` is settled by the machine too.
Trained = Literal["auto", "32-true", "bf16-mixed", "64-true"]
#: What that may settle on.
SETTLED: tuple[Trained, ...] = ("bf16-mixed", "32-true")
#: Instructions that multiply bfloat16, as `torch.cpu.get_capabilities` names them. Without one of
#: them it is done in software: on an AVX2 processor at an eighth of float32's speed, and a training
#: step takes fifteen times as long.
_CPU = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def settled(dtype: Written) -> Literal["bfloat16", "float32"]:
    """The type itself: `auto` is bfloat16 where this machine multiplies it, else float32."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if multiplies_bfloat16() else "float32"


def settled_training(precision: Trained) -> Trained:
    """The precision itself: `auto` is bf16-mixed where this machine multiplies it, else 32-true."""
    if precision != "auto":
        return precision
    return SETTLED[0] if multiplies_bfloat16() else SETTLED[1]


def multiplies_bfloat16() -> bool:
    """Whether the device that critics run on, the GPU if there is one, multiplies bfloat16."""
    if torch.cuda.is_available():
        take_gpu()  # else each process of several would open the first GPU to ask it
        return cast("bool", torch.cuda.is_bf16_supported(including_emulation=False))
    # Not every torch that will do can tell; then float32 is the safe side.
    found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    # It is oneDNN that makes use of them.
    return torch.backends.mkldnn.is_available() and any(found.get(name) for name in _CPU)
