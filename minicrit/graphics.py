"""What computes: GPU, driver, whether torch can use it, in which precision, the 4-bit kernels."""

import shutil
import subprocess

import torch

from minicrit.findings import Finding, fail, ok, warn
from minicrit.precision import multiplies_bfloat16
from minicrit.processes import device_kind

_QUERY = ("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
#: Oldest driver of each CUDA, by its major number.
DRIVERS = {12: 525, 13: 580}
#: Largest share by which a 4-bit product may differ from the exact one, by its norm.
_TOLERANCE = 0.25


def gpus() -> list[str] | None:
    """`name, driver, memory` of each GPU that the driver knows; None if it does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    done = subprocess.run([tool, *_QUERY], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip().splitlines() if done.returncode == 0 else None


def check_cuda(dtype: str = "float32") -> Finding:
    """Whether torch sees the GPUs that the driver sees, if a base of that type needs one at all."""
    return judge_cuda(gpus(), torch.version.cuda, available=torch.cuda.is_available(), dtype=dtype)


def judge_cuda(
    found: list[str] | None, cuda: str | None, *, available: bool, dtype: str = "float32"
) -> Finding:
    """What to make of the driver's GPUs, the CUDA of torch, and whether torch can use it."""
    if not found:
        if available:
            return ok("cuda", f"CUDA {cuda}, without nvidia-smi")
        return _without_gpu(dtype, answers=found is not None)
    said = f"{len(found)} x {found[0]}, torch for CUDA {cuda}"
    if cuda is None:
        return fail("cuda", f"{len(found)} x {found[0]}, but torch is a CPU build",
                    "on aarch64 torch >= 2.11 has CUDA; remove .venv, make setup")  # fmt: skip
    if not available:
        least = DRIVERS.get(int(cuda.partition(".")[0]), 0)
        return fail("cuda", f"{said}, which cannot use it",
                    f"it needs driver {least} or later; or take an older CUDA: remove .venv, then "
                    "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cu129 make "
                    "setup")  # fmt: skip
    return ok("cuda", said)


def _without_gpu(dtype: str, *, answers: bool) -> Finding:
    """A base of `nf4` is not trained without one; `bfloat16` is of a recipe for such machines."""
    if dtype != "float32":
        say = fail if dtype == "nf4" else warn
        return say("cuda", f"no GPU can be used, for which the recipe is (base.dtype {dtype})",
                   "take a machine with one, or the recipe cpu")  # fmt: skip
    if not answers:  # on a machine without a GPU, too, where its tools are installed
        return warn("cuda", "nvidia-smi fails, no GPU can be used", "if there is one, its "
                    "driver is down: restart it, or leave the machine out")  # fmt: skip
    return ok("cuda", "no GPU; recipes cpu and tiny are for that")


def check_precision() -> Finding:
    """What `auto` means on this machine, for training and for critics that write."""
    where = "the GPU" if torch.cuda.is_available() else "the processor"
    if multiplies_bfloat16():
        return ok("precision", f"{where} multiplies bfloat16: auto is bf16-mixed and bfloat16")
    return ok("precision", f"{where} does not multiply bfloat16: auto is 32-true and float32; what "
              "asks for bfloat16 by name is many times slower")  # fmt: skip


def check_bitsandbytes() -> Finding:
    """A tiny product with 4-bit weights, on the GPU if there is one."""
    try:
        import bitsandbytes as bnb

        device = device_kind()
        generator = torch.Generator().manual_seed(0)
        x, w = (torch.randn(64, 64, generator=generator).to(device) for _ in range(2))
        packed, state = bnb.functional.quantize_4bit(w, quant_type="nf4")
        y = x @ bnb.functional.dequantize_4bit(packed, state).t()
        error = float((y - x @ w.t()).norm() / (x @ w.t()).norm())
    except (ImportError, RuntimeError, OSError, AttributeError, NotImplementedError) as problem:
        return warn("bitsandbytes", f"{type(problem).__name__}: {problem}",
                    "base.dtype nf4 will not work: make setup, or float32 or bfloat16")  # fmt: skip
    if not error < _TOLERANCE:
        return fail("bitsandbytes", f"4-bit products are off by {error:.0%}", "do not use nf4")
    return ok("bitsandbytes", f"4-bit on {device}, error {error:.1%}")
