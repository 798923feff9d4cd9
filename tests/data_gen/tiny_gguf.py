"""A language model for llama.cpp, made on the spot: two layers of noise over bytes, half a MB."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from minicrit import attention

WIDTH, HEADS, LAYERS, INNER, CONTEXT, VOCABULARY = 64, 4, 2, 128, 8192, 259
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def served(path: Path) -> Any:
    """A llama.cpp server in this process, until it is deleted; see its `listening_address`."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel, settings.warmup, settings.verbosity = (
        2 * CONTEXT,
        2,
        False,
        0,
    )
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    # Keys and values in half precision would move log-odds by a thousandth.
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    return xllamacpp.Server(settings)


def write_tiny_gguf(path: Path, *, seed: int = 0) -> Path:
    """A Llama with random weights and a vocabulary of single bytes."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    words = _add_vocabulary(writer)
    for name, shape in _tensors(words).items():
        writer.add_tensor(name, _noise(name, shape, seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter) -> int:
    special = [b"<unk>", b"<s>", b"</s>"]
    tokens = [*special, *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([*kinds, *[gguf.TokenType.BYTE] * 256])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


def _tensors(words: int) -> dict[str, tuple[int, ...]]:
    found = {"token_embd.weight": (words, WIDTH), "output_norm.weight": (WIDTH,),
             "output.weight": (words, WIDTH)}  # fmt: skip
    for layer in range(LAYERS):
        square = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (WIDTH, WIDTH))
        own = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), **square, "ffn_gate": (INNER, WIDTH),
               "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}  # fmt: skip
        found |= {f"blk.{layer}.{name}.weight": shape for name, shape in own.items()}
    return found


def tiny_llama(*, seed: int = 0) -> LlamaForCausalLM:
    """The same model for transformers, whose rotary embedding pairs a head's halves.

    llama.cpp pairs neighbours, so rows of queries and keys stand in another order.
    """
    shapes = _tensors(VOCABULARY)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=INNER,
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
        rms_norm_eps=1e-5, max_position_embeddings=CONTEXT, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM._from_config(config, attn_implementation=attention.NAME)
    weights = {name: torch.from_numpy(_noise(name, shape, seed)) for name, shape in shapes.items()}
    for layer in range(LAYERS):
        for side in "qk":
            name = f"blk.{layer}.attn_{side}.weight"
            pairs = weights[name].view(HEADS, WIDTH // HEADS // 2, 2, WIDTH)
            weights[name] = pairs.transpose(1, 2).reshape(WIDTH, WIDTH)
    model.load_state_dict({_as_named_there(name): w for name, w in weights.items()})
    return model.eval()


def _as_named_there(name: str) -> str:
    own = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    if not name.startswith("blk."):
        return own[name.removesuffix(".weight")] + ".weight"
    _, layer, part, _ = name.split(".")
    kind, _, side = part.partition("_")
    inner = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "attn_output": "self_attn.o_proj"}.get(part)  # fmt: skip
    group = "self_attn" if kind == "attn" else "mlp"
    return f"model.layers.{layer}.{inner or f'{group}.{side}_proj'}.weight"


def _noise(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    generator = np.random.default_rng(sum(name.encode()) + seed)
    return (generator.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
