"""What is exported: a critic with an adapter, or one that was exported as a merged folder.

An adapter is merged into the float base whose hash its manifest names, in float32. A base or critic
that is quantized is refused: merging into rounded weights rounds twice, and what comes out is no
longer the critic that was measured.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicrit import manifest
from minicrit.base import Base, prepare_base
from minicrit.calibrated import read_calibration
from minicrit.critic import Critic
from minicrit.files import CALIBRATION
from minicrit.lora import WEIGHTS

#: What the manifest of a critic hands on to whatever is made of it.
HANDED_ON = ("base", "base_model", "base_revision", "prompt_version", "critique_version", "adapter")
_ROOM = 1.1  # of what is to be written, for what stands beside the weights


@dataclass(frozen=True)
class Source:
    """A critic that may be exported.

    Attributes:
        folder: where it lies. record: its manifest. critic: as it was loaded.
        base: where its base lies; the same folder if it is whole.
        facts: what is handed on, see `HANDED_ON`.
        merged: whether it is whole already, so that there is nothing to merge.
    """

    folder: Path
    base: Path
    record: dict[str, Any]
    critic: Critic
    facts: dict[str, Any]
    merged: bool

    @property
    def trained_on(self) -> dict[str, str]:
        """Hash of every file that it was trained or selected on, by name."""
        if self.record["stage"] == "export":  # its input is the critic
            return dict(self.record["facts"].get("trained_on", {}))
        return manifest.trained_on(self.record)


def open_source(folder: Path, bases: Path) -> Source:
    """Loads the critic in a folder.

    Args:
        folder: an adapter, a critic of all weights, or an export of format hf.
        bases: where bases are kept.

    Raises:
        ValueError: if it is neither, or its base is quantized, or its files are not the recorded
            ones.
    """
    record = manifest.read_manifest(folder)
    merged = record["stage"] == "export" or "whole" in record["facts"]
    if not merged and not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder}: expected a critic with an adapter ({WEIGHTS}) or an export "
                         f"of format hf, got the stage {record['stage']}; export the float critic "
                         "that it was made from")  # fmt: skip
    lies = folder
    if not merged:
        given = record["facts"]
        base = prepare_base(str(given["base_model"]), bases, given.get("base_revision"),
                            recorded=True)  # fmt: skip
        refuse_quantized(base)
        lies = base.folder
    critic = Critic.load(folder, base_folder=bases)
    facts = {name: record["facts"].get(name) for name in HANDED_ON}
    facts["adapter"] = critic.adapter
    return Source(folder, lies, record, critic, facts, merged)


def refuse_quantized(base: Base) -> None:
    """Raises a ValueError if a base says that its weights are quantized."""
    config = json.loads((base.folder / "config.json").read_text(encoding="utf-8"))
    if config.get("quantization_config"):
        raise ValueError(f"{base.folder}: expected a float base to merge into, got one that is "
                         "quantized; use the float model that it was made from")  # fmt: skip


def carry_calibration(source: Source, box: Path) -> dict[str, Any] | None:
    """Copies calibration and manifest, byte for byte; what it was fitted to, or None."""
    path = source.folder / CALIBRATION
    if not path.is_file():
        return None
    fitted = manifest.read_manifest(path)["facts"]
    fits = {name: fitted[name] for name in ("base", "adapter", "whole", "export") if name in fitted}
    read_calibration(source.folder, **fits)
    for name in (CALIBRATION, f"{CALIBRATION}.manifest.json"):
        shutil.copyfile(source.folder / name, box / name)
    return fits


def check_room(out: Path, needed: int) -> None:
    """Refuses before anything is written what would not fit on the disk.

    Args:
        out: folder of the export, which need not be there.
        needed: bytes of the weights that will lie there at the same time.
    """
    there = next(p for p in [out.absolute(), *out.absolute().parents] if p.is_dir())
    free, wanted = shutil.disk_usage(there).free, round(_ROOM * needed)
    if free < wanted:
        raise ValueError(f"export.out: expected {wanted / 1e9:.1f} GB free at {out}, got "
                         f"{free / 1e9:.1f} GB; make room or export to another disk")  # fmt: skip


def plain_config(path: Path) -> None:
    """Takes out of a config what names code or a place on the machine that wrote it."""
    if path.is_file():
        told = json.loads(path.read_text(encoding="utf-8"))
        left = {k: v for k, v in told.items() if k not in _PLACES}
        path.write_text(json.dumps(left, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


_PLACES = ("auto_map", "_name_or_path", "_model_name_or_path", "name_or_path", "is_local",
           "local_files_only", "_commit_hash")  # fmt: skip
