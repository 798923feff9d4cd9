"""A critic writes in the type that its machine multiplies."""

import pytest
import torch

from minicrit.base import load_model
from minicrit.precision import settled
from minicrit.sampling import Manner
from minicrit.trainee import precise


@pytest.fixture
def processor(monkeypatch):
    """Makes this machine one without a GPU whose processor has these instructions."""

    def has(**instructions):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)

    return has


@pytest.mark.parametrize(("instructions", "dtype"), [
    ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),
    ({"avx512_bf16": True}, "bfloat16"),
    ({"avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
    ({"neon": True, "bf16": True}, "bfloat16"),
    ({}, "float32"),
])  # fmt: skip
def test_without_instructions_for_it_nothing_is_written_in_bfloat16(processor, instructions, dtype):
    processor(**instructions)
    assert settled("auto") == dtype
    assert Manner().dtype == dtype


def test_a_gpu_that_only_emulates_it_gets_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    for native, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported",
                            lambda including_emulation=True, native=native:
                            native or including_emulation)  # fmt: skip
        assert settled("auto") == dtype


def test_without_a_library_that_uses_them_instructions_are_no_use(processor, monkeypatch):
    processor(neon=True, bf16=True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert settled("auto") == "float32"


def test_what_is_named_is_taken_at_its_word(processor):
    processor()
    assert Manner(dtype="bfloat16").dtype == settled("bfloat16") == "bfloat16"
    processor(avx512_bf16=True)
    assert Manner(dtype="float32").dtype == settled("float32") == "float32"


def test_a_torch_that_cannot_tell_is_on_the_safe_side(processor, monkeypatch):
    processor(avx512_bf16=True)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert settled("auto") == "float32"


@pytest.mark.parametrize(("precision", "base", "weights", "computed"), [
    ("32-true", torch.bfloat16, torch.bfloat16, torch.bfloat16),
    ("64-true", torch.bfloat16, torch.float64, torch.float64),
    ("bf16-mixed", torch.bfloat16, torch.bfloat16, torch.bfloat16),
    ("bf16-mixed", torch.float32, torch.float32, torch.bfloat16),
])  # fmt: skip
def test_a_reference_is_read_as_will_be_trained_and_leaves_the_base_alone(
    tiny, precision, base, weights, computed
):
    """A base of 16 bits stays one: of the kinds of -true, training converts for 64 bits alone."""
    model = load_model(tiny, base)
    with precise(model, precision), torch.inference_mode():
        assert torch.is_autocast_enabled("cpu") == (precision == "bf16-mixed")
        assert model(torch.tensor([[5, 6, 7]])).logits.dtype == computed
    assert {p.dtype for p in model.parameters()} == {weights}
