"""The stage `export`: a critic as a folder that others can run.

    minicrit export --config cpu --export.format gguf --export.model checkpoints/cpu/sft

Every format begins with the merged folder, which is read again and has to say what the critic says.
"""

import logging
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minicrit.base import licence_of, prepare_base
from minicrit.config import Recipe
from minicrit.export import ollama, vllm
from minicrit.export.card import figures_of, read_benchmark, write_card
from minicrit.export.gguf_file import check_config, write_gguf
from minicrit.export.merged import BYTES, write_merged
from minicrit.export.source import Source, carry_calibration, check_room, open_source
from minicrit.export.vocabulary import NAMES
from minicrit.export_config import ExportConfig
from minicrit.files import atomic_folder, check_replaceable
from minicrit.manifest import write_manifest
from minicrit.settings import meant

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_PRE = re.compile(r"[a-z0-9][a-z0-9._-]*")
#: Bits of a weight with its share of the scale.
BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q5_1": 6, "q5_0": 5.5, "q4_1": 5,
        "q4_0": 4.5}  # fmt: skip
_log = logging.getLogger(__name__)
Make = Callable[[Source, ExportConfig, Path, str], dict[str, Any]]


def export(recipe: Recipe) -> dict[str, Any]:
    """Writes the folder and returns its manifest.

    Raises:
        ValueError: if the critic, its base or its tokenizer cannot be exported in this format, if
            the disk is too full, or if what was written does not say what the critic says.
    """
    settings = recipe.export
    check_replaceable(settings.out, settings.model)
    if settings.benchmark:
        read_benchmark(settings.benchmark)  # a broken one is said now, not after the loading
    name = _name(settings)
    _check_pre_tokenizer(settings.pre_tokenizer)
    source = open_source(settings.model, recipe.base.folder)
    check_replaceable(settings.out, source.base)
    _check_context(source, settings)
    critic = source.critic
    measured = figures_of(settings.benchmark, source.facts["adapter"], critic.identity)
    parameters = critic.causal_lm.num_parameters()
    check_room(settings.out, _needed(settings, parameters))
    with atomic_folder(settings.out) as box:
        made = MAKERS[settings.format](source, settings, box, name)
        exact = made["weights"] == "f32"
        facts: dict[str, Any] = {
            **source.facts,
            "format": settings.format,
            "name": name,
            "exact": exact,
            "parameters": parameters,
            "context": settings.context,
            "licence": settings.licence or _licence(source, recipe),
            "trained_on": source.trained_on,
            **made,
            **_calibration(source, settings.format, box, exact),
        }
        write_card(box, facts, measured)
        record = _sign(box, recipe, facts)
    sys.stdout.write(_summary(settings, facts))
    return record


def _hf(source: Source, settings: ExportConfig, box: Path, _name: str) -> dict[str, Any]:
    return write_merged(source, box, settings.dtype)


def _gguf(source: Source, settings: ExportConfig, box: Path, name: str) -> dict[str, Any]:
    config = source.critic.causal_lm.config.to_dict()
    check_config(config, str(source.facts["base_model"]))
    file = f"{name}-{settings.weights}.gguf"
    with tempfile.TemporaryDirectory(dir=box, prefix=".merged") as scratch:
        merged = write_merged(source, Path(scratch), "float32")
        made = write_gguf(Path(scratch), box / file, weights=settings.weights, name=name,
                          pre=settings.pre_tokenizer)  # fmt: skip
    return {**merged, **made, "file": file}


def _ollama(source: Source, settings: ExportConfig, box: Path, name: str) -> dict[str, Any]:
    end = str(source.critic.tokenizer.eos_token)
    made = _gguf(source, settings, box, name)
    text = ollama.modelfile(made["file"], end=end, context=settings.context)
    (box / "Modelfile").write_text(text, encoding="utf-8")
    return made


def _vllm(source: Source, settings: ExportConfig, box: Path, name: str) -> dict[str, Any]:
    rank, base = None, str(source.facts["base_model"])
    if not source.merged:
        rank = vllm.lora_rank(source.folder)
        vllm.copy_adapter(source.folder, box / "adapters" / name, base)
    (box / "model").mkdir()
    made = write_merged(source, box / "model", settings.dtype)
    script = vllm.serve_script(name, base=base, rank=rank, context=settings.context,
                               dtype=settings.dtype)  # fmt: skip
    (box / "serve.sh").write_text(script, encoding="utf-8")
    (box / "serve.sh").chmod(0o755)
    return {**made, "lora_rank": rank}


MAKERS: dict[str, Make] = {"hf": _hf, "gguf": _gguf, "ollama": _ollama, "vllm": _vllm}


def _name(settings: ExportConfig) -> str:
    """A name that may stand in file names, scripts and addresses."""
    name = f"minicrit-{settings.model.resolve().name}" if settings.name is None else settings.name
    if not _NAME.fullmatch(name):
        raise ValueError(f"export.name: expected letters, digits, dots, dashes, got {name!r}; name "
                         "it otherwise")  # fmt: skip
    return name


def _check_pre_tokenizer(pre: str | None) -> None:
    """Refuses what can be no name of llama.cpp's: no llama.cpp would load the file.

    So it is with a name that it does not have; but a newer one may have it, so that is only said.
    """
    if pre is not None and not _PRE.fullmatch(pre):
        raise ValueError("export.pre_tokenizer: expected a name as llama.cpp has them, small "
                         f"letters, digits, dots, dashes, got {pre!r}; write it as there, or leave "
                         "it out for what the tokenizer tells")  # fmt: skip
    if pre is not None and pre not in NAMES:
        _log.warning("export.pre_tokenizer: expected a name that llama.cpp had in November 2026, "
                     "got %s, with which it loads no file unless it has learnt it since; %s",
                     pre, meant(pre, NAMES, otherwise="look it up there"))  # fmt: skip


def _check_context(source: Source, settings: ExportConfig) -> None:
    """Refuses more tokens than the base has places for: a server would not start, or go astray."""
    most = source.critic.causal_lm.config.max_position_embeddings
    if not 1 <= settings.context <= most:
        raise ValueError(f"export.context: expected 1 to {most} tokens, as the base has, got "
                         f"{settings.context}; set it")  # fmt: skip


def _needed(settings: ExportConfig, parameters: int) -> int:
    """Bytes of weights that lie on the disk at the same time."""
    if settings.format in ("gguf", "ollama"):
        return round(parameters * (4 + BITS[settings.weights] / 8))
    return parameters * BYTES[settings.dtype]


def _licence(source: Source, recipe: Recipe) -> str | None:
    """What the base says of itself, if it was made here; an export hands on what it was told."""
    facts = source.facts
    if source.merged:
        handed: str | None = source.record["facts"].get("licence")
        return handed
    base = prepare_base(str(facts["base_model"]), recipe.base.folder, facts["base_revision"],
                        recorded=True)  # fmt: skip
    return licence_of(base)


def _calibration(source: Source, form: str, box: Path, exact: bool) -> dict[str, Any]:
    """Carries the calibration to what it holds for, or to what is served and says that it is not.

    A folder of rounded weights that a critic is loaded from gets none: it can be fitted anew.
    """
    there = source.critic.calibration is not None
    if form == "hf" and not exact:
        return {"calibrated_as": None, "calibration_left": there}
    return {"calibrated_as": carry_calibration(source, box)}


def _sign(box: Path, recipe: Recipe, facts: dict[str, Any]) -> dict[str, Any]:
    settings = recipe.export
    names = ("format", "dtype", "weights", "pre_tokenizer", "name", "licence", "context")
    asked = {name: getattr(settings, name) for name in names}
    return write_manifest(box, stage="export", inputs={"critic": settings.model}, settings=asked,
                          facts=facts)  # fmt: skip


def _summary(settings: ExportConfig, facts: dict[str, Any]) -> str:
    size = sum(p.stat().st_size for p in settings.out.rglob("*") if p.is_file())
    said = "carried along" if facts["calibrated_as"] else "none"
    return (f"written: {settings.out} ({facts['format']}, {facts['weights']}, {size / 1e6:.1f} "
            f"MB); p of the merged folder at most {facts['moved']:.6f} from the critic's; "
            f"calibration: {said}\n")  # fmt: skip
