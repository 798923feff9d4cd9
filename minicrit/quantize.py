"""Quantization: a smaller and faster critic, released only if its verdicts stay.

    minicrit quantize --config cpu --quantize.bits 8

On a GPU bitsandbytes (int8, nf4); on a CPU the layers of `int8`, from 8-bit or 4-bit files. On a
CPU 4 bits save disk, not time and not memory: both run as int8. 16 bits are the adapter merged into
bfloat16: half the size, and faster than float32 where the processor multiplies it (the table shows
what this one does).
"""

# mypy: disable-error-code="no-untyped-call"
import logging
import tempfile
from dataclasses import replace
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
from minicrit.calibrate import SPLIT as CALIBRATED_ON
from minicrit.calibrate import firewalled, fit, write_calibration
from minicrit.calibrated import calibration_of
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.files import (
    CALIBRATION,
    atomic_folder,
    check_replaceable,
    sha256_file,
    sha256_json,
    write_json,
)
from minicrit.judging import remove_partial
from minicrit.lora import open_lora
from minicrit.manifest import (
    carry_calibration,
    check_outputs,
    read_manifest,
    require,
    write_manifest,
)
from minicrit.measure_config import CalibrateConfig
from minicrit.paired import check_margin
from minicrit.prompts import PROMPT_VERSION
from minicrit.quantize_compare import (
    Sizes,
    compare_critics,
    float_work,
    load_float,
)
from minicrit.quantize_gate import MOST_FLIPS, gate
from minicrit.quantize_report import write_table
from minicrit.quantized import BITSANDBYTES, RELEASED, SCHEME, save_tensors
from minicrit.records import Example, read_examples
from minicrit.selection import limited
from minicrit.shrinking import merged, shrink_4, shrink_8, shrink_16

log = logging.getLogger(__name__)

ADAPTER = "adapter_model.safetensors"
SHRINK = {16: shrink_16, 8: shrink_8, 4: shrink_4}
SCHEMES = {16: "bfloat16, adapter merged", 8: "int8 rows, int8 tokens, smoothed",
           4: "int4 groups of 32 with int8 adapter, 6-bit embedding; run as int8"}  # fmt: skip


def quantize(recipe: Recipe) -> dict[str, Any]:
    """Shrinks a critic, calibrates it, compares it with the float one, writes folder and table.

    Returns:
        The report. Its `status` is `released` or `not released`; the folder is written either way,
        and `Critic.released` says which.

    Raises:
        ValueError: if the critic's base, prompt or files are not the recorded ones, or if the
            calibration items are of another split or too few.
    """
    settings = recipe.quantize
    if settings.bits not in MOST_FLIPS:
        raise ValueError(f"quantize.bits: expected 16, 8 or 4, got {settings.bits}; choose one")
    check_margin("quantize.margin", settings.margin)
    check_replaceable(settings.out, settings.model)
    base, facts = _source(recipe)
    check_replaceable(settings.out, base.folder)
    examples = _items(recipe)
    with atomic_folder(settings.out) as box:
        adapted = _float_model(settings.model, base)
        num_parameters = sum(p.numel() for n, p in adapted.named_parameters() if "lora_" not in n)
        scheme = _shrink(adapted, load_tokenizer(base), settings.bits, box)
        del adapted
        write_json(box / SCHEME, {"bits": settings.bits, "scheme": scheme})
        facts |= {"bits": settings.bits, "scheme": scheme}
        _sign(box, recipe, facts)  # the comparison loads the folder as everybody will
        weights = {base.folder, settings.model}  # once, if all of them were trained
        sizes = Sizes.of(box, num_parameters, [p for f in weights for p in f.glob("*.safetensors")])
        critics = _critics(recipe, box)
        report = {**facts, **compare_critics(recipe, critics, sizes, examples)}
        gaps = {name: row["difference"] for name, row in report["metrics"].items()}
        report |= gate(report["flips"], gaps, settings.margin)
        report["calibrated"] = settings.calibration is not None
        kept = ("status", "basis", "reason", "flips")
        _sign(box, recipe, {**facts, **{name: report[name] for name in kept}})
        carry_calibration(settings.out, box)
        write_table(settings.report, report)  # before the folder: whoever finds that has this, too
    remove_partial(settings.report.with_name(f".{settings.report.name}"))
    (log.info if report["status"] == RELEASED else log.warning)(
        "%s: %s (%s)", settings.out, report["status"], report["reason"]
    )
    return report


def _items(recipe: Recipe) -> list[Example]:
    """What both critics are asked; nothing that either has learnt or a threshold from."""
    settings = recipe.quantize
    examples = read_examples(settings.data).examples
    seen = {e.split for e in examples} & {"train", CALIBRATED_ON}
    if seen:
        raise ValueError(f"{settings.data}: expected items that nothing was fitted to, got rows of "
                         f"split {', '.join(sorted(map(str, seen)))}; take test rows")  # fmt: skip
    return limited(examples, settings.limit, recipe.seed) if settings.limit else examples


def _critics(recipe: Recipe, box: Path) -> tuple[Critic, Critic]:
    """The float critic, merged, and the small one, each with a calibration of its own if asked."""
    settings = recipe.quantize
    if settings.calibration is None:
        return (load_float(settings.model, recipe.base.folder),
                Critic.load(box, calibrated=False))  # fmt: skip
    asked, seed, alike = _asked(recipe, settings.calibration)
    asked = replace(asked, model=box)
    record = read_manifest(settings.model)
    work = settings.report.with_name(f".{settings.report.name}")
    apart, digest = firewalled(asked.data, record), sha256_file(asked.data)  # as now read
    found, small, rows = fit(asked, seed, record, lambda: Critic.load(box, calibrated=False), work)
    facts = {**small.fitted_to, "firewalled": apart}
    write_calibration(asked, seed, found, rows, facts, {"data": asked.data}, digest)
    floating = load_float(settings.model, recipe.base.folder, calibrated=alike)
    if not alike:
        found, _, _ = fit(asked, seed, record, lambda: floating, float_work(settings.report))
        floating.calibrate(calibration_of(found, sha256_json(found)))
    return floating, Critic.load(box)


def _asked(recipe: Recipe, data: Path) -> tuple[CalibrateConfig, int, bool]:
    """How both are calibrated: settings, seed, and whether the float critic is so already.

    As that was, if on these items: another limit on false positives or fewer items give another
    threshold, and flips that rounding has not made. Else both anew.
    """
    path = recipe.quantize.model / CALIBRATION
    if path.is_file():
        record = read_manifest(path)
        told = _BEFORE | record["settings"]
        if record["inputs"]["data"]["sha256"] == sha256_file(data):
            kept = {name: told[name] for name in _ALIKE}
            return replace(recipe.calibrate, data=data, **kept), told["seed"], True
    asked = replace(recipe.calibrate, data=data, limit=recipe.quantize.calibration_limit)
    return asked, recipe.seed, False


#: Settings that decide what a calibration finds.
_ALIKE = ("limit", "alpha", "delta", "each_domain", "temperature_share", "shift", "sums",
          "domain_items", "max_risk")  # fmt: skip
#: What a calibration did that was made before these settings were there.
_BEFORE = {"shift": False, "sums": False}


def _source(recipe: Recipe) -> tuple[Base, dict[str, Any]]:
    """The base of the critic, itself if it is whole, and what its manifest hands on."""
    folder = recipe.quantize.model
    record = read_manifest(folder)
    whole = record["facts"].get("whole") if record["stage"] != "export" else None
    if not whole and not (folder / ADAPTER).is_file():
        raise ValueError(f"{folder}: expected an adapter folder with {ADAPTER}, got none; train "
                         "it with minicrit sft")  # fmt: skip
    if faults := check_outputs(folder):
        raise ValueError(f"{folder}: expected the files of its manifest, got {faults[0]}; restore "
                         "the folder or make it again")  # fmt: skip
    given = record["facts"]
    names = ("base", "base_model", "base_revision", "prompt_version")
    facts = {name: given[name] for name in names if name in given}
    if whole:
        require(record, prompt_version=PROMPT_VERSION)
        return Base(folder, whole), facts
    base = prepare_base(given["base_model"], recipe.base.folder, given.get("base_revision"),
                        recorded=True)  # fmt: skip
    require(record, base=base.identity, prompt_version=PROMPT_VERSION)
    return base, {**facts, "adapter": sha256_file(folder / ADAPTER)}


def _float_model(folder: Path, base: Base) -> PreTrainedModel | PeftModel:
    """The critic in float32; what it is loaded from is its base, or the critic itself."""
    model = load_model(base)
    return model if base.folder == folder else open_lora(model, folder)


def _shrink(
    adapted: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, bits: int, box: Path
) -> str:
    """Writes the shrunk model to `box`; returns the scheme. `adapted` is used up."""
    if torch.cuda.is_available() and bits < 16:  # noqa: PLR2004
        return shrink_bitsandbytes(adapted, tokenizer, bits, box, device="cuda")
    model = adapted.get_base_model() if isinstance(adapted, PeftModel) else adapted
    tensors = SHRINK[bits](adapted, tokenizer)
    save_tensors(box, tensors, model, tokenizer)  # type: ignore[arg-type]
    return SCHEMES[bits]


def shrink_bitsandbytes(
    adapted: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, bits: int, box: Path,
    *, device: str,
) -> str:  # fmt: skip
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
        merged(adapted).save_pretrained(scratch)
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
    asked = {"bits": settings.bits, "limit": settings.limit, "margin": settings.margin,
             "draws": settings.draws, "seed": recipe.seed}  # fmt: skip
    write_manifest(box, stage="quantize", inputs=inputs, settings=asked, facts=facts)
