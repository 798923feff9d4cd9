"""Quantization: a smaller and faster critic, released only if its verdicts stay.

    minicrit quantize --config cpu --quantize.bits 8

On a GPU bitsandbytes (int8, nf4); on a CPU the layers of `int8`, from 8-bit or 4-bit files. On a
CPU 4 bits save disk, not time and not memory: both run as int8.
"""

# mypy: disable-error-code="no-untyped-call"
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from minicrit import attention
from minicrit.base import Base, load_model, load_tokenizer, prepare_base
from minicrit.config import Recipe
from minicrit.files import atomic_folder, sha256_file, write_json
from minicrit.manifest import check_outputs, read_manifest, require, write_manifest
from minicrit.prompts import PROMPT_VERSION
from minicrit.quantize_compare import Sizes, compare_critics, whole_groups
from minicrit.quantize_report import write_table
from minicrit.quantized import BITSANDBYTES, SCHEME, load_quantized, save_tensors
from minicrit.records import read_examples
from minicrit.shrinking import shrink_4, shrink_8

__all__ = ["load_quantized", "quantize"]

log = logging.getLogger(__name__)

ADAPTER = "adapter_model.safetensors"
#: Most verdicts that may flip, as a share.
MOST_FLIPS = {8: 0.005, 4: 0.015}
SCHEMES = {8: "int8 rows, int8 tokens, smoothed",
           4: "int4 groups of 32 with int8 adapter, 6-bit embedding; run as int8"}  # fmt: skip


def quantize(recipe: Recipe) -> dict[str, Any]:
    """Shrinks a critic, compares it with the float one, and writes folder and table.

    Returns:
        The report. Its `status` is `released` or `not released`; the folder is written either way.

    Raises:
        ValueError: if the critic's base, prompt or files are not the recorded ones.
    """
    settings = recipe.quantize
    if settings.bits not in MOST_FLIPS:
        raise ValueError(f"expected quantize.bits 8 or 4, got {settings.bits}; choose one")
    base, facts = _source(recipe)
    examples = whole_groups(read_examples(settings.data).examples, settings.limit)
    with atomic_folder(settings.out) as box:
        adapted = PeftModel.from_pretrained(load_model(base), settings.model).eval()
        num_parameters = sum(p.numel() for n, p in adapted.named_parameters() if "lora_" not in n)
        scheme = _shrink(adapted, load_tokenizer(base), settings.bits, box)
        del adapted
        write_json(box / SCHEME, {"bits": settings.bits, "scheme": scheme})
        facts |= {"bits": settings.bits, "scheme": scheme}
        _sign(box, recipe, facts)  # the comparison loads the folder as everybody will
        sizes = Sizes.of(box, num_parameters, [*base.folder.glob("*.safetensors"),
                                               settings.model / ADAPTER])  # fmt: skip
        report = {**facts, **compare_critics(recipe, box, sizes, examples)}
        report |= gate(report["flips"], settings.bits)
        kept = ("status", "reason", "flips")
        _sign(box, recipe, {**facts, **{name: report[name] for name in kept}})
        write_table(settings.report, report)  # before the folder: whoever finds that has this, too
    log.info("%s: %s (%s)", settings.out, report["status"], report["reason"])
    return report


def gate(flips: dict[str, Any], bits: int) -> dict[str, str]:
    """Status and reason, from the share of flipped verdicts."""
    most = MOST_FLIPS[bits]
    text = f"{flips['count']} of {flips['n']} verdicts flipped, at most {most:.1%} may"
    return {"status": "released" if flips["value"] <= most else "not released", "reason": text}


def _source(recipe: Recipe) -> tuple[Base, dict[str, Any]]:
    """The base of the critic, and what its manifest hands on; refuses what does not fit."""
    folder = recipe.quantize.model
    record = read_manifest(folder)
    if not (folder / ADAPTER).is_file():
        raise ValueError(f"{folder}: expected an adapter folder with {ADAPTER}, got none; train "
                         "it with minicrit sft")  # fmt: skip
    if faults := check_outputs(folder):
        raise ValueError(f"{folder}: expected the files of its manifest, got {faults[0]}; restore "
                         "the folder or make it again")  # fmt: skip
    given = record["facts"]
    base = prepare_base(given["base_model"], recipe.base.folder, given.get("base_revision"))
    require(record, base=base.identity, prompt_version=PROMPT_VERSION)
    names = ("base", "base_model", "base_revision", "prompt_version")
    facts = {name: given[name] for name in names if name in given}
    return base, {**facts, "adapter": sha256_file(folder / ADAPTER)}


def _shrink(adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, bits: int, box: Path) -> str:
    """Writes the shrunk model to `box`; returns the scheme. `adapted` is used up."""
    if torch.cuda.is_available():
        return shrink_bitsandbytes(adapted, tokenizer, bits, box, device="cuda")
    model: PreTrainedModel = adapted.get_base_model()  # type: ignore[assignment]
    tensors = (shrink_8 if bits == 8 else shrink_4)(adapted, tokenizer)  # noqa: PLR2004
    save_tensors(box, tensors, model, tokenizer)
    return SCHEMES[bits]


def shrink_bitsandbytes(
    adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, bits: int, box: Path, *, device: str
) -> str:
    """The same by bitsandbytes, from the merged float32 model."""
    if bits == 8:  # noqa: PLR2004
        scheme, options = "int8", BitsAndBytesConfig(load_in_8bit=True)
    else:
        compute = torch.bfloat16
        scheme, options = "nf4", BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute,
            bnb_4bit_use_double_quant=True,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        adapted.merge_and_unload().save_pretrained(scratch)
        small = AutoModelForCausalLM.from_pretrained(
            scratch, quantization_config=options, dtype=torch.bfloat16, device_map={"": device},
            attn_implementation=attention.NAME, use_safetensors=True,
        )  # fmt: skip
    small.save_pretrained(box)
    tokenizer.save_pretrained(box)
    return f"{BITSANDBYTES} {scheme}"


def _sign(box: Path, recipe: Recipe, facts: dict[str, Any]) -> None:
    settings = recipe.quantize
    inputs = {"critic": settings.model, "data": settings.data}
    asked = {"bits": settings.bits, "limit": settings.limit, "seed": recipe.seed}
    write_manifest(box, stage="quantize", inputs=inputs, settings=asked, facts=facts)
