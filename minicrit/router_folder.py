"""A router's folder: which adapters, where they lie, and the detector; the weights stay theirs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minicrit.adapters_config import AdaptersConfig
from minicrit.base import Base, load_tokenizer, prepare_base
from minicrit.calibrated import read_calibration
from minicrit.detector import Detector, identity_of
from minicrit.files import atomic_folder, sha256_file, write_json
from minicrit.jsonl import parse_object, shown
from minicrit.lora import WEIGHTS
from minicrit.manifest import carry_calibration, read_manifest, require, write_manifest
from minicrit.members import Members
from minicrit.prompts import PROMPT_VERSION
from minicrit.router import FALLBACK, Router

FILE = "router.json"
FORM = 1
_AGAIN = "make the router again (make adapters)"


def write_router(
    settings: AdaptersConfig, adapters: Mapping[str, Path], detector: Detector
) -> Path:
    """Writes the folder of a router.

    Args:
        settings: of the stage.
        adapters: folder of each domain's adapter.
        detector: of domains.
    """
    every = {FALLBACK: settings.start, **adapters}
    facts = read_manifest(settings.start)["facts"]
    base = {name: facts.get(name) for name in ("base", "base_model", "base_revision")}
    for folder in every.values():
        require(read_manifest(folder), base=base["base"], prompt_version=PROMPT_VERSION)
    with atomic_folder(settings.router) as box:
        detector.save(box)
        rows = {key: {"path": Path(os.path.relpath(folder, settings.router)).as_posix(),
                      "sha256": sha256_file(folder / WEIGHTS)}
                for key, folder in every.items()}  # fmt: skip
        write_json(box / FILE, {"form": FORM, "adapters": rows, "bar": settings.bar})
        inputs = {key: folder / WEIGHTS for key, folder in every.items()}
        inputs["train"] = settings.data / "train.jsonl"
        write_manifest(
            box, stage="router", inputs=inputs, settings={"bar": settings.bar},
            facts={**base, "prompt_version": PROMPT_VERSION},
        )  # fmt: skip
        carry_calibration(settings.router, box)
    return settings.router


def load_router(
    folder: Path, record: dict[str, Any], base_folder: Path, *, calibrated: bool = True
) -> Router:
    """The router of a folder whose files are the recorded ones.

    Raises:
        ValueError: if an adapter is not the one that it was made with, is of another base, or
            changes nothing; it says which.
    """
    facts = record["facts"]
    base = prepare_base(facts["base_model"], base_folder, facts.get("base_revision"),
                        recorded=True)  # fmt: skip
    require(record, base=base.identity)
    told = _told(folder)
    router = _fallback(folder, told, base, calibrated)
    for domain, path in told["adapters"].items():
        if domain != FALLBACK:
            router.swap(domain, path, calibrated=calibrated)
    if calibrated:
        own = {"prompt_version": PROMPT_VERSION, "router": router.fitted_to["router"]}
        if found := read_calibration(folder, **own):
            router.adopt(found)
    return router


def _fallback(folder: Path, told: dict[str, Any], base: Base, calibrated: bool) -> Router:
    """The router with its general adapter alone."""
    members = Members(base)
    members.put(FALLBACK, told["adapters"][FALLBACK], calibrated=calibrated)
    return Router(
        members, load_tokenizer(base), name=str(folder), detector=Detector.load(folder),
        detector_identity=identity_of(folder), bar=told["bar"],
    )  # fmt: skip


def _told(folder: Path) -> dict[str, Any]:
    """What `router.json` says, with the folder of each adapter in place of its row."""
    path = folder / FILE
    told = parse_object(path.read_bytes())
    rows = told.get("adapters")
    if told.get("form") != FORM or not isinstance(rows, dict) or FALLBACK not in rows:
        raise ValueError(f"{path}: expected a router of form {FORM} with {FALLBACK}, got "
                         f"{shown(repr(told.get('form')))}; {_AGAIN}")  # fmt: skip
    found = {}
    for key, row in rows.items():
        home = Path(os.path.normpath(folder / row["path"]))
        weights = home / WEIGHTS
        if not weights.is_file():
            raise ValueError(f"{path}: expected the adapter for {key} in {home}, got none; put it "
                             f"there or {_AGAIN}")  # fmt: skip
        if sha256_file(weights) != row["sha256"]:
            raise ValueError(f"{path}: expected the adapter for {key} that it was made with, got "
                             f"another in {home}; {_AGAIN}")  # fmt: skip
        found[key] = home
    return {"adapters": found, "bar": float(told["bar"])}
