"""Which bases packed attention and the verdict readout compute rightly, told by their config."""

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig

from minicrit.reader import LONGEST

#: By these logits are more than `lm_head` of the last state, or attention is capped, of which
#: packed attention and the readout know nothing. None and 1 change nothing.
_SCALES = ("attn_logit_softcapping", "final_logit_softcapping", "logits_scaling", "logit_scale")
#: Their classes say that attention may be replaced, but their layers pass on nothing of a packed
#: batch; (doge) weigh tokens by their values through the mask, which packed attention ignores; or
#: (diffllama, hrm_text) attend twice under one number, so that while a text is written the second
#: takes the place of what is held of the first.
_DEAF = ("diffllama", "doge", "hrm_text", "nemotron")


def require_computable(where: str, config: PretrainedConfig) -> None:
    """Refuses what packed attention or the readout would compute wrongly, without an error.

    Args:
        where: the base, for the message.
        config: of its language model.

    Raises:
        ValueError: with what is in the way.
    """
    found = {
        name: value for name in _SCALES if (value := getattr(config, name, None)) not in (None, 1)
    }
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
    if others := sorted({*kinds} - {"full_attention", "attention"}):
        found["layer_types"] = others[0]
    window = getattr(config, "sliding_window", None)
    if window and window < LONGEST and getattr(config, "use_sliding_window", True):
        found["sliding_window"] = window
    if found:
        got = ", ".join(f"{name} {value}" for name, value in found.items())
        raise ValueError(f"{where}: expected a base of full attention whose logits are lm_head of "
                         f"the last state, got {config.model_type} with {got}; choose a Llama, "
                         "Qwen2 or Mistral base")  # fmt: skip
    if lacking := _lacking(config):
        raise ValueError(f"{where}: expected a base whose attention can be replaced, with `model` "
                         f"and `lm_head`, got {config.model_type} without {lacking}; choose a "
                         "Llama, Qwen2 or Mistral base")  # fmt: skip


def _lacking(config: PretrainedConfig) -> str:
    """What packed code needs and the class of a language model lacks; empty if nothing.

    Without attention that is looked up by name, packed texts would see one another. No class whose
    body is `model` has another head than `lm_head`.
    """
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if not getattr(kind, "_supports_attention_backend", False) or config.model_type in _DEAF:
        return "such attention"
    return "" if getattr(kind, "base_model_prefix", "") == "model" else "`model`"
