"""Small bases of random weights, of any kind."""

from transformers import AutoModelForCausalLM

from minicrit.base import Base

SIZE = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}  # fmt: skip


def folder_of(config, path) -> Base:
    """A base of random weights."""
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return Base(path, "random")
