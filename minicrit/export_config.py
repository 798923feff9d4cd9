"""Settings of the stage that takes a critic out of the house, see `config`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Form = Literal["hf", "gguf", "ollama", "vllm"]
Dtype = Literal["float32", "bfloat16", "float16"]
Weights = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]


@dataclass
class ExportConfig:
    """The export.

    Attributes:
        model: the critic: an adapter, one of all weights, or an export of format hf to go on from.
        format: `hf` (a merged folder for transformers), `gguf` (one file for llama.cpp), `ollama`
            (the same and a Modelfile) or `vllm` (merged folder, adapter, and what serves them).
        dtype: of the merged weights of hf and vllm. The merging is done in float32; only float32
            is the critic that the calibration was fitted to: a rounded hf folder gets none.
        weights: of gguf and ollama: f32, f16, bf16, or blocks of 32 with 8, 5 or 4 bits.
        pre_tokenizer: what llama.cpp calls the way in which the tokenizer parts a text before it
            merges (tokenizer.ggml.pre); null: told by the tokenizer, refused if it is unknown.
        name: of the model where it is served, and of the GGUF; null for `minicrit-`
            and that of the folder.
        licence: of the weights, for the card; null for what the base says of itself.
        context: tokens of a prompt and its critique where it is served; no more than the base has.
        benchmark: a benchmark's report (.json) about this critic, whose figures go into the card;
            null for none.
        out: folder of the export.
    """

    model: Path = Path("checkpoints/cpu/sft")
    format: Form = "hf"
    dtype: Dtype = "float32"
    weights: Weights = "f16"
    pre_tokenizer: str | None = None
    name: str | None = None
    licence: str | None = None
    context: int = 4096
    benchmark: Path | None = None
    out: Path = Path("checkpoints/cpu/export/sft-hf")
