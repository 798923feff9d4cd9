"""One GGUF from a merged folder: Llama and Qwen2, in floats or in blocks of 32 with 8 to 4 bits.

Written by the package `gguf`, tensor by tensor, so that no second copy of the model is in memory.

Shapes: a head of D rows; H heads; I inputs.
"""

# mypy: disable-error-code="no-untyped-call"
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from tqdm import tqdm
from transformers import AutoTokenizer

from minicrit.export.vocabulary import Vocabulary

Array = npt.NDArray[Any]
ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}
_KIND = gguf.GGMLQuantizationType
_FILE = gguf.LlamaFileType
#: By our names: the type of the tensors, and what the file is called by it.
TYPES = {
    "f32": (_KIND.F32, _FILE.ALL_F32),
    "f16": (_KIND.F16, _FILE.MOSTLY_F16),
    "bf16": (_KIND.BF16, _FILE.MOSTLY_BF16),
    "q8_0": (_KIND.Q8_0, _FILE.MOSTLY_Q8_0),
    "q5_1": (_KIND.Q5_1, _FILE.MOSTLY_Q5_1),
    "q5_0": (_KIND.Q5_0, _FILE.MOSTLY_Q5_0),
    "q4_1": (_KIND.Q4_1, _FILE.MOSTLY_Q4_1),
    "q4_0": (_KIND.Q4_0, _FILE.MOSTLY_Q4_0),
}
_BLOCK = 32  # weights that share a scale


def write_gguf(
    folder: Path, target: Path, *, weights: str, name: str, pre: str | None = None
) -> dict[str, Any]:
    """Writes the model of a folder as one file, and returns what there is to say of it.

    Args:
        folder: config, safetensors and tokenizer of a merged model.
        target: the file; it must not be there yet.
        weights: a key of `TYPES`; vectors (norms, biases) stay in float32.
        name: of the model.
        pre: name of the pre-tokenizer, see `Vocabulary.of`.

    Raises:
        ValueError: if architecture, rope or tokenizer are none that is known to come out right.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    check_config(config, str(folder / "config.json"))
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    words = Vocabulary.of(tokenizer, int(config["vocab_size"]), where=str(folder), pre=pre)
    kind, file_type = TYPES[weights]
    architecture = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[architecture])
    _describe(writer, config, name)
    writer.add_file_type(file_type)
    words.add_to(writer)
    names = gguf.get_tensor_name_map(architecture, int(config["num_hidden_layers"]))
    tensors = list(_shapes(folder, config))
    for label, shape in tensors:
        _announce(writer, _named(names, label), shape, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    bar = tqdm(_weights(folder, [label for label, _ in tensors]), total=len(tensors),
               unit="tensor", desc=target.name)  # fmt: skip
    for label, tensor in bar:
        writer.write_tensor_data(packed(arranged(label, tensor, config), kind))
    writer.close()
    return {"weights": weights, "pre_tokenizer": words.pre, "tensors": len(tensors),
            "architecture": config["model_type"], "bytes": target.stat().st_size}  # fmt: skip


def check_config(config: dict[str, Any], where: str) -> None:
    """Refuses what would load in llama.cpp and come out wrong.

    Raises:
        ValueError: it says what.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise ValueError(f"{where}: expected model_type {' or '.join(ARCHITECTURES)}, got {kind}; "
                         "serve the hf folder with vLLM")  # fmt: skip
    rope = _rope(config)
    wrong = {
        "rope_type": rope.get("rope_type", rope.get("type", "default")) != "default",
        "use_sliding_window": bool(config.get("use_sliding_window")),
        "mlp_bias": bool(config.get("mlp_bias")),
        "hidden_act": config.get("hidden_act") != "silu",
        "quantization_config": "quantization_config" in config,
    }
    if found := [name for name, bad in wrong.items() if bad]:
        raise ValueError(f"{where}: expected plain rotary embeddings, full attention, SiLU, float "
                         f"weights, got another {found[0]}; serve the hf folder")  # fmt: skip


def arranged(label: str, tensor: Array, config: dict[str, Any]) -> Array:
    """A tensor as llama.cpp wants it.

    Llama's rotary embedding turns pairs of rows of queries and keys: transformers pairs row i of a
    head with row i + D/2, llama.cpp row 2i with row 2i + 1. So rows (H, 2, D/2) become (H, D/2, 2).
    Qwen2's pairs are the same in both.
    """
    layer = label.split(".")[-2]
    if config["model_type"] != "llama" or layer not in ("q_proj", "k_proj"):
        return tensor
    count = "num_attention_heads" if layer == "q_proj" else "num_key_value_heads"
    heads = int(config.get(count) or config["num_attention_heads"])
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(tensor.shape))


def packed(tensor: Array, kind: gguf.GGMLQuantizationType) -> Array:
    """A float32 tensor in a type; vectors stay float32."""
    return tensor if tensor.ndim == 1 else gguf.quants.quantize(tensor, kind)


def _describe(writer: gguf.GGUFWriter, config: dict[str, Any], name: str) -> None:
    heads = int(config["num_attention_heads"])
    width = int(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_name(name)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(_rope(config).get("rope_theta", 10_000.0)))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Settings of the rotary embedding, under their old names and new."""
    told = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = {"rope_theta": config["rope_theta"]} if "rope_theta" in config else {}
    return {**theta, **told}


def _named(names: gguf.TensorNameMap, label: str) -> str:
    found = names.get_name(label, try_suffixes=(".weight", ".bias"))
    if found is None:
        raise ValueError(f"{label}: expected a tensor that this architecture has in llama.cpp, got "
                         "another; serve the hf folder with vLLM")  # fmt: skip
    return found


def _announce(
    writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], kind: gguf.GGMLQuantizationType
) -> None:
    whole = len(shape) == 1 or kind == _KIND.F32
    if not whole and kind not in (_KIND.F16, _KIND.BF16) and shape[-1] % _BLOCK:
        raise ValueError(f"{name}: expected rows of a multiple of {_BLOCK} weights, got "
                         f"{shape[-1]}; set export.weights to f16")  # fmt: skip
    if whole or kind == _KIND.F16:
        dtype = np.dtype(np.float32 if whole else np.float16)
        writer.add_tensor_info(name, shape, dtype, int(np.prod(shape)) * dtype.itemsize)
        return
    there = gguf.quants.quant_shape_to_byte_shape(shape, kind)
    writer.add_tensor_info(name, there, np.dtype(np.uint8), int(np.prod(there)), raw_dtype=kind)


def _shapes(folder: Path, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, without the output where it is the embedding: llama.cpp takes that."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for label in sorted(file.keys()):
                if not (label == "lm_head.weight" and config.get("tie_word_embeddings")):
                    yield label, tuple(file.get_slice(label).get_shape())


def _weights(folder: Path, wanted: list[str]) -> Iterator[tuple[str, Array]]:
    """The same tensors in the same order, one at a time, in float32."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for label in sorted(set(file.keys()) & set(wanted)):
                yield label, file.get_tensor(label).to(torch.float32).numpy()
