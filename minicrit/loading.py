"""From a folder to a critic: adapters, quantized and exported critics, routers, bases."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel

from minicrit import manifest
from minicrit.base import Base, load_model, load_tokenizer, prepare_base
from minicrit.calibrated import Calibration, read_calibration
from minicrit.critic import Critic
from minicrit.files import CALIBRATION
from minicrit.fused import fuse
from minicrit.hub import EMBEDDED, TINY
from minicrit.lora import ADAPTERS, open_lora
from minicrit.members import checked_adapter
from minicrit.prompts import PROMPT_VERSION
from minicrit.quantized import RELEASED, load_quantized, on_cpu_alone


def load_critic(path: str | Path, base_folder: Path, *, calibrated: bool = True) -> Critic:
    """See `Critic.load`."""
    folder = Path(path)
    if missing := what_is_missing(path):
        raise ValueError(missing)
    if str(path) in (EMBEDDED, TINY) or not (folder / "manifest.json").is_file():
        return _from_base(prepare_base(str(path), base_folder), str(path))
    record = manifest.read_manifest(folder)
    if record["stage"] not in (*ADAPTERS, "quantize", "export", "router", "base"):
        raise ValueError(f"{folder}: expected the folder of a critic, got what the stage "
                         f"{record['stage']} made; name an adapter (make sft)")  # fmt: skip
    if faults := manifest.check_outputs(folder):
        raise ValueError(f"{folder}: expected the files of its manifest, got {faults[0]}; "
                         "restore the folder or make it again")  # fmt: skip
    if record["stage"] == "base":
        return _from_base(Base(folder, record["facts"]["identity"]), str(path))
    manifest.require(record, prompt_version=PROMPT_VERSION)
    kind = "whole" if "whole" in record["facts"] else record["stage"]
    if kind in _WITHOUT_BASE:
        return _WITHOUT_BASE[kind](folder, record, calibrated)
    if kind == "router":
        from minicrit.router_folder import load_router

        return load_router(folder, record, base_folder, calibrated=calibrated)
    return _from_adapter(folder, record, base_folder, calibrated)


def what_is_missing(path: str | Path) -> str:
    """Why nothing can be loaded from there, if that is plain without the network; else empty.

    A name of at most two parts, `gpt2` or `owner/model`, may be a model of the hub.
    """
    folder = Path(path)
    if str(path) in (EMBEDDED, TINY) or (folder / "manifest.json").is_file():
        return ""
    if folder.is_dir():
        return "" if (folder / "config.json").is_file() else (
            f"{folder}: expected the folder of a critic or of a model, got neither manifest.json "
            "nor config.json; name one that holds them, like checkpoints/RUN/sft")  # fmt: skip
    local = str(path).count("/") > 1 or str(path).startswith(("/", ".", "checkpoints/"))
    return "" if not local else (
        f"{folder}: expected the folder of a critic, got none; name one that is there, like "
        "checkpoints/RUN/sft (make sft makes it), or a base, like embedded")  # fmt: skip


def _from_base(base: Base, name: str) -> Critic:
    return Critic(load_model(base), load_tokenizer(base), name=name, identity=base.identity)


def _from_adapter(
    folder: Path, record: dict[str, Any], base_folder: Path, calibrated: bool
) -> Critic:
    facts = record["facts"]
    base = prepare_base(facts["base_model"], base_folder, facts.get("base_revision"),
                        recorded=True)  # fmt: skip
    found = checked_adapter(folder, record, base, calibrated=calibrated)
    model = open_lora(load_model(base), folder)
    fuse(model)
    critic = Critic(
        model, load_tokenizer(base), name=str(folder),
        identity=f"{base.identity}+{found.sha256}", adapter=found.sha256,
        calibration=found.calibration,
    )  # fmt: skip
    critic.fitted_to |= {"base": base.identity, "adapter": found.sha256}
    _prove(critic, model)
    return critic


def _from_quantized(folder: Path, record: dict[str, Any], calibrated: bool) -> Critic:
    outputs = sorted(record["outputs"].items())
    identity = hashlib.sha256(repr(outputs).encode()).hexdigest()
    fitted_to = {"quantized": identity}
    calibration = _calibration(folder, fitted_to) if calibrated else None
    model, tokenizer = load_quantized(folder)
    facts = record["facts"]
    critic = Critic(
        model, tokenizer, name=str(folder), identity=identity, adapter=facts.get("adapter"),
        calibration=calibration, device="cpu" if on_cpu_alone(model) else None,
    )  # fmt: skip
    critic.fitted_to |= fitted_to
    critic.bits, critic.released = facts.get("bits", 8), facts.get("status") == RELEASED
    critic.release = str(facts.get("reason", "not compared with the float critic"))
    return critic


def _from_export(folder: Path, record: dict[str, Any], calibrated: bool) -> Critic:
    facts = record["facts"]
    if facts["format"] != "hf":
        raise ValueError(f"{folder}: expected an export of format hf, got {facts['format']}; "
                         "serve it and ask the server, openai:http://HOST:PORT")  # fmt: skip
    fitted_to = {"export": facts["merged"]}
    carried = facts["calibrated_as"] if _as_carried(folder, facts["merged"]) else None
    calibration = _calibration(folder, carried or fitted_to) if calibrated else None
    found = Base(folder, facts["merged"])
    return _from_model(found, fitted_to, calibration, adapter=facts["adapter"])


def _from_whole(folder: Path, record: dict[str, Any], calibrated: bool) -> Critic:
    found = Base(folder, record["facts"]["whole"])
    fitted_to = {"whole": found.identity}
    return _from_model(found, fitted_to, _calibration(folder, fitted_to) if calibrated else None)


def _from_model(
    found: Base, fitted_to: dict[str, str], calibration: Calibration | None,
    adapter: str | None = None,
) -> Critic:  # fmt: skip
    critic = Critic(
        load_model(found), load_tokenizer(found), name=str(found.folder), identity=found.identity,
        adapter=adapter, calibration=calibration,
    )  # fmt: skip
    critic.fitted_to |= fitted_to
    return critic


_WITHOUT_BASE = {"quantize": _from_quantized, "export": _from_export, "whole": _from_whole}


def _prove(critic: Critic, model: PeftModel) -> None:
    """Refuses an adapter that changes nothing, as it was not applied, or that has no answer."""
    item = [("general", "Three of three swans were white, so all swans are white.")]
    with_adapter = critic.log_odds(item)
    if not np.isfinite(with_adapter).all():
        raise ValueError(f"{critic.name}: expected an adapter whose log-odds are numbers, got "
                         f"{with_adapter[0]}; its weights are broken, train it again")  # fmt: skip
    with model.disable_adapter():
        without = critic.log_odds(item)
    if np.array_equal(with_adapter, without):
        raise ValueError(f"{critic.name}: expected an adapter that changes the answer of its "
                         "base, got none; train it or load the base itself")  # fmt: skip


def _calibration(folder: Path, fitted_to: dict[str, str]) -> Calibration | None:
    return read_calibration(folder, prompt_version=PROMPT_VERSION, **fitted_to)


def _as_carried(folder: Path, merged: str) -> bool:
    """Whether the calibration of an export came with it: if fitted anew, it names these weights."""
    path = folder / CALIBRATION
    return path.is_file() and manifest.read_manifest(path)["facts"].get("export") != merged
