"""Base models: the embedded one, a tiny one for tests, a Hugging Face id, a local folder.

Every base ends up as a local folder in Hugging Face form (safetensors, tokenizer), so that it has
one identity, the hash of its files. Remote code is never run.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from minicrit import attention
from minicrit.computable import require_computable
from minicrit.embedded import build_embedded, build_tiny
from minicrit.encoding import name_special
from minicrit.files import CALIBRATION, atomic_folder, sha256_file, sha256_json
from minicrit.hub import EMBEDDED, HUB_FILES, TINY, UnfitError, fetched
from minicrit.jsonl import shown
from minicrit.manifest import check_outputs, read_manifest, write_manifest
from minicrit.pins import pin, wanted
from minicrit.reader import places

log = logging.getLogger(__name__)


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
            build = build_embedded if model == EMBEDDED else build_tiny
            with atomic_folder(target) as box:
                facts = {**build(box), "identity": identity_of(box)}
                write_manifest(box, stage="base", inputs={}, settings={}, facts=facts)
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
