"""Folders of quantized critics: how they are laid out, and back to a model.

`weights.safetensors` (tensors of `shrinking`), `quantize.json` (the scheme), and config, generation
config and tokenizer as transformers writes them. Nothing is unpickled. Layers of 16 bits are
ordinary ones in bfloat16.
"""

# mypy: disable-error-code="import-untyped,no-untyped-call"
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from accelerate import init_empty_weights
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from minicrit import attention, int4
from minicrit.int8 import (
    Int8Embedding,
    Int8Linear,
    Joined,
    JoinedPart,
    Rows,
    dequantize_embedding,
    dequantize_rows,
    joinable,
    quantize_rows,
    siblings,
)
from minicrit.manifest import check_outputs
from minicrit.processes import device_kind
from minicrit.shrinking import Tensors, smoothing

WEIGHTS = "weights.safetensors"
SCHEME = "quantize.json"
BITSANDBYTES = "bitsandbytes"
#: The status of a critic that was shown to be as good as the float one.
RELEASED = "released"
_GENERATION = "generation_config.json"


def save_tensors(
    box: Path, tensors: Tensors, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Writes all but the scheme and the manifest."""
    save_file(tensors, box / WEIGHTS, metadata={"format": "pt"})
    model.config.save_pretrained(box)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(box)
    tokenizer.save_pretrained(box)


def load_quantized(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in evaluation mode and its tokenizer.

    Raises:
        ValueError: if files are missing or not those that the manifest recorded.
    """
    folder = Path(folder)
    if faults := check_outputs(folder):
        raise ValueError(f"{folder}: expected the files of its manifest, got {faults[0]}; restore "
                         "the folder or make it again")  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    scheme = json.loads((folder / SCHEME).read_text(encoding="utf-8"))["scheme"]
    if scheme.startswith(BITSANDBYTES):
        # What is moved afterwards leaves the scales of its int8 weights behind.
        where = torch.cuda.current_device() if device_kind() == "cuda" else "cpu"
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation=attention.NAME, trust_remote_code=False,
            use_safetensors=True, device_map={"": where},
        )  # fmt: skip
        return loaded.eval(), tokenizer
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model = build_model(config, load_file(folder / WEIGHTS))
    if (folder / _GENERATION).exists():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model, tokenizer


def on_cpu_alone(model: PreTrainedModel) -> bool:
    """Whether it has layers of `int8`, whose packed weights no other device takes."""
    return any(isinstance(module, Int8Embedding | Int8Linear | JoinedPart)
               for module in model.modules())  # fmt: skip


def build_model(config: AutoConfig, tensors: Tensors) -> PreTrainedModel:
    """A model of small layers; the weights of the skeleton are never in memory."""
    left = dict(tensors)
    wide = {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    # Buffers are computed, not loaded (rotary frequencies), so they must be real.
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            config, attn_implementation=attention.NAME,
            dtype=torch.bfloat16 if wide else torch.float32,
        )  # fmt: skip
    if not wide:
        _fill(model, left)
    unknown = model.load_state_dict(left, strict=False, assign=True).unexpected_keys
    if wide:
        model.tie_weights()
    absent = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if unknown or absent:
        raise ValueError(f"expected the weights of a {type(model).__name__}, got unknown {unknown} "
                         f"and no {absent}; make the folder again")  # fmt: skip
    return model.requires_grad_(False).eval()  # type: ignore[no-any-return]


def _fill(model: PreTrainedModel, left: Tensors) -> None:
    """Puts small layers in the place of those that were shrunk, and takes out their tensors."""
    linear: dict[str, Rows] = {}
    output = model.get_output_embeddings()
    # It reads few tokens, whose difference is the verdict.
    head = next((name for name, module in model.named_modules() if module is output), None)
    for name, module in list(model.named_modules()):
        parts = _take(left, name) if isinstance(module, nn.Linear | nn.Embedding) else {}
        if parts and isinstance(module, nn.Embedding):
            model.set_submodule(name, Int8Embedding(*_embedding_rows(parts)))
        elif parts:
            linear[name] = _rows(parts)
    for names in _sets(linear):
        layers = [linear[name] for name in names]
        joined = Joined(layers) if len(layers) > 1 else None
        for place, name in enumerate(names):
            fine = name == head
            layer = JoinedPart(joined, place) if joined else Int8Linear(*layers[place], fine=fine)
            model.set_submodule(name, layer)
    if model.config.tie_word_embeddings:
        table = model.get_input_embeddings()
        assert isinstance(table, Int8Embedding)
        rows = quantize_rows(dequantize_embedding(table.rows, table.scales))
        model.set_output_embeddings(Int8Linear(*rows, fine=True))


def _sets(layers: Mapping[str, Rows]) -> Iterator[list[str]]:
    """The names of the layers, together those that can be computed in one product."""
    left = dict.fromkeys(layers)
    while left:
        name = next(iter(left))
        names = siblings(name)
        whole = all(one in left for one in names) and joinable([layers[one] for one in names])
        yield names if whole else [name]
        for one in names if whole else [name]:
            del left[one]


def _take(tensors: Tensors, name: str) -> Tensors:
    """Takes out the parts of a layer, if it was shrunk."""
    if not any(f"{name}.{part}" in tensors for part in ("rows", "codes", "wide", "base.rows")):
        return {}
    keys = [key for key in tensors if key.startswith(f"{name}.")]
    return {key.removeprefix(f"{name}."): tensors.pop(key) for key in keys}


def _embedding_rows(parts: Tensors) -> tuple[Tensor, Tensor]:
    """Codes and scales by groups, as `Int8Embedding` takes them; 6-bit codes fit as they are."""
    if "rows" in parts:
        scales = parts["scales"]
        return parts["rows"], scales if scales.dim() > 1 else scales[:, None]  # once one a row
    return int4.wide_codes(parts["wide"]), parts["scales"]


def _rows(parts: Tensors) -> Rows:
    """8 bits as they are; 4 bits are widened, joined with the adapter, and become 8."""
    smooth = smoothing(parts["smoothing"]) if "smoothing" in parts else None
    if "rows" in parts:
        return Rows(parts["rows"], parts["scales"], parts.get("bias"), smooth)
    weight = _widened(parts)
    rows, scales = quantize_rows(weight if smooth is None else weight * smooth)
    return Rows(rows, scales, parts.get("bias"), smooth)


def _widened(parts: Tensors) -> Tensor:
    if "codes" in parts:
        groups = int4.Groups(parts["codes"], parts["scales"], parts["offsets"])
        weight = int4.dequantize_groups(groups)
    else:
        weight = dequantize_rows(parts["base.rows"], parts["base.scales"])
    if "left.rows" in parts:
        left = dequantize_rows(parts["left.rows"], parts["left.scales"])
        weight += left.t() @ dequantize_rows(parts["right.rows"], parts["right.scales"])
    return weight
