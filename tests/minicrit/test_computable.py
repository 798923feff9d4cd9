"""What packed attention and the readout cannot compute is refused by its config."""

import pytest
import torch
from transformers import (
    CodeGenConfig,
    CohereConfig,
    DiffLlamaConfig,
    DogeConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    GraniteConfig,
    HrmTextConfig,
    JetMoeConfig,
    LlamaConfig,
    MistralConfig,
    NemotronConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    StableLmConfig,
    T5Config,
)

from minicrit.base import load_model
from minicrit.computable import require_computable
from minicrit.logprobs import scored_logprobs, token_logprobs
from minicrit.packing import Tree, pack
from minicrit.readout import scored
from tests.minicrit.random_base import SIZE, folder_of


@pytest.mark.parametrize(("config", "message"), [
    (GraniteConfig(**SIZE, logits_scaling=8), "granite with logits_scaling 8"),
    (CohereConfig(**SIZE), "cohere with logit_scale 0.0625"),
    (Gemma2Config(**SIZE, head_dim=8), "gemma2 with attn_logit_softcapping 50.0, final_logit_soft"),
    (Gemma3TextConfig(**SIZE, head_dim=8), "gemma3_text with layer_types sliding_attention"),
    (MistralConfig(**SIZE, sliding_window=512), "mistral with sliding_window 512"),
])  # fmt: skip
def test_what_packed_code_cannot_compute_is_refused_by_name(tmp_path, config, message):
    base = folder_of(config, tmp_path)
    with pytest.raises(ValueError, match=rf"expected a base of full attention .*, got {message}"):
        load_model(base)
    assert load_model(base, packed=False).config.model_type == config.model_type


@pytest.mark.parametrize(("config", "lacking"), [
    (CodeGenConfig(), "codegen without such attention"),
    (StableLmConfig(), "stablelm without such attention"),
    (NemotronConfig(), "nemotron without such attention"),
    (DogeConfig(), "doge without such attention"),
    (DiffLlamaConfig(), "diffllama without such attention"),
    (HrmTextConfig(), "hrm_text without such attention"),
    (GPTNeoConfig(), "gpt_neo without such attention"),
    (GPTJConfig(), "gptj without such attention"),
    (FalconConfig(), "falcon without such attention"),
    (T5Config(), "t5 without such attention"),
    (GPT2Config(), "gpt2 without `model`"), (GPTNeoXConfig(), "gpt_neox without `model`"),
])  # fmt: skip
def test_a_kind_of_model_that_is_not_packed_is_refused(config, lacking):
    with pytest.raises(ValueError, match=rf"^here: expected a base whose .*, got {lacking}; choo"):
        require_computable("here", config)


def test_without_replaceable_attention_texts_would_see_one_another(tmp_path):
    """So nothing but its name tells that it must be refused: there was no error."""
    size = {"vocab_size": 64, "n_embd": 16, "n_layer": 1, "n_head": 4, "rotary_dim": 4}
    base = folder_of(CodeGenConfig(**size, n_positions=64), tmp_path)
    with pytest.raises(ValueError, match="got codegen without such attention"):
        load_model(base)
    assert load_model(base, packed=False).config.model_type == "codegen"


@pytest.mark.parametrize("config", [
    LlamaConfig(), Qwen2Config(), Qwen3Config(), SmolLM3Config(),
    MistralConfig(sliding_window=None),
    Gemma3Config(text_config={"layer_types": ["full_attention"] * 26, "sliding_window": None}),
])  # fmt: skip
def test_the_bases_that_are_recommended_are_packed(config):
    assert require_computable("here", config.get_text_config()) is None


@pytest.mark.parametrize("config", [
    Qwen2Config(**SIZE, sliding_window=512, use_sliding_window=False),
    MistralConfig(**SIZE, sliding_window=4096), GraniteConfig(**SIZE),
    JetMoeConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, num_key_value_heads=2,
                 kv_channels=8, intermediate_size=32, pad_token_id=0),  # its heads must be in a row
])  # fmt: skip
def test_full_attention_with_plain_logits_is_packed_as_it_is_whole(tmp_path, config):
    base = folder_of(config, tmp_path)
    ids = torch.arange(1, 9)
    batch = pack([Tree(tuple(ids[:4].tolist()), (scored(ids[4:].tolist()),))])
    whole = load_model(base, packed=False)(ids[None]).logits[0]
    found = scored_logprobs(load_model(base), batch)
    torch.testing.assert_close(found, token_logprobs(whole[3:-1], ids[4:]))
