"""A language model for llama.cpp, made on the spot: two layers of noise over bytes, half a MB."""

from pathlib import Path

import gguf
import numpy as np

WIDTH, HEADS, LAYERS, INNER, CONTEXT = 64, 4, 2, 128, 8192
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def write_tiny_gguf(path: Path) -> Path:
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
        writer.add_tensor(name, _noise(name, shape))
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


def _noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    generator = np.random.default_rng(sum(name.encode()))
    return (generator.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
