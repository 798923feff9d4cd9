"""Critics of bitsandbytes. On the CPU, which it also supports; on a GPU only the device differs."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from minicrit.base import load_model, load_tokenizer
from minicrit.critic import Critic
from minicrit.manifest import write_manifest
from minicrit.prompts import PROMPT_VERSION
from minicrit.quantize import shrink_bitsandbytes
from minicrit.quantized import load_quantized


@pytest.mark.parametrize(("bits", "most"), [(8, 0.1), (4, 0.5)])
def test_it_saves_and_loads_with_the_adapter(tiny, tmp_path, bits, most):
    """What rounding changes is a part of what the adapter does: it cannot have been left out."""
    pytest.importorskip("bitsandbytes")
    tokenizer = load_tokenizer(tiny)
    ids = tokenizer("Buy now, as it is cheap.", return_tensors="pt")["input_ids"]

    def answer(model) -> torch.Tensor:
        with torch.inference_mode():
            return model(input_ids=ids).logits.float().flatten()

    lora = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(0)
    adapted = get_peft_model(load_model(tiny), lora).eval()
    bare = answer(adapted)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    full = answer(adapted)
    scheme = shrink_bitsandbytes(adapted, tokenizer, bits, tmp_path, device="cpu")
    (tmp_path / "quantize.json").write_text(json.dumps({"scheme": scheme}))
    facts = {"prompt_version": PROMPT_VERSION, "bits": bits}
    write_manifest(tmp_path, stage="quantize", inputs={}, settings={}, facts=facts)
    small = answer(Critic.load(tmp_path).causal_lm)
    assert (small - full).norm() < most * (full - bare).norm()


def test_it_is_loaded_onto_the_gpu_of_this_process(tiny, tmp_path, monkeypatch):
    """Layers of 8 bits that were moved there afterwards would leave their scales behind."""
    load_tokenizer(tiny).save_pretrained(tmp_path)
    (tmp_path / "quantize.json").write_text(json.dumps({"scheme": "bitsandbytes int8"}))
    write_manifest(tmp_path, stage="quantize", inputs={}, settings={}, facts={})
    places = []

    def load(*_, device_map, **__):
        places.append(device_map)
        raise InterruptedError

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    for gpu in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        with pytest.raises(InterruptedError):
            load_quantized(tmp_path)
    assert places == [{"": 1}, {"": "cpu"}]
