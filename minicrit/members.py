"""LoRA adapters in memory on one base, each under a key, exchanged while the process runs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

from peft import LoraConfig as PeftLoraConfig
from peft import PeftConfig, PeftModel
from safetensors import safe_open

from minicrit import manifest
from minicrit.base import Base, load_model
from minicrit.calibrated import Calibration, read_calibration
from minicrit.files import sha256_file
from minicrit.fused import fuse
from minicrit.lanes import Lanes, lay_lanes
from minicrit.lora import WEIGHTS, open_lora, refuse_foreign, require_applied
from minicrit.prompts import PROMPT_VERSION

#: Weights of an adapter that lanes compute: of any linear layer but the head.
_PLAIN = re.compile(r"\.(?!lm_head\.)\w+\.lora_[AB]\.weight$")


@dataclass(frozen=True)
class Checked:
    """An adapter's folder whose files are the recorded ones and fit the base."""

    folder: Path
    sha256: str
    calibration: Calibration | None


@dataclass(frozen=True)
class Member:
    """An adapter in memory: what it was loaded from, and peft's name for it."""

    name: str
    folder: Path
    sha256: str
    calibration: Calibration | None


def checked_adapter(
    folder: Path, record: dict[str, Any], base: Base, *, calibrated: bool = True
) -> Checked:
    """What a finished adapter's folder holds.

    Raises:
        ValueError: if it belongs to another base or prompt, if its files have changed, if it is no
            plain LoRA, or if its calibration is that of another critic.
    """
    if faults := manifest.check_outputs(folder):
        raise ValueError(f"{folder}: expected the files of its manifest, got {faults[0]}; "
                         "restore the folder or make it again")  # fmt: skip
    manifest.require(record, base=base.identity, prompt_version=PROMPT_VERSION)
    refuse_foreign(folder)
    sha256 = sha256_file(folder / WEIGHTS)
    fitted_to = {"base": base.identity, "adapter": sha256, "prompt_version": PROMPT_VERSION}
    found = read_calibration(folder, **fitted_to) if calibrated else None
    return Checked(folder, sha256, found)


class Members:
    """The adapters, the model that holds them, and the lanes by which they are told apart."""

    def __init__(self, base: Base) -> None:
        """Without adapters; the base is loaded with the first."""
        self.base = base
        self.lanes = Lanes()
        self.lanes.known = self._names = set[str]()
        self.by_key: dict[str, Member] = {}
        self._model: PeftModel | None = None
        self._numbers = count()

    @property
    def model(self) -> PeftModel:
        """The base with all adapters."""
        assert self._model is not None, "no adapter yet"
        return self._model

    def put(
        self,
        key: str,
        folder: Path,
        *,
        calibrated: bool = True,
        prove: Callable[[str], None] | None = None,
    ) -> Member:
        """Loads an adapter; it takes the place of the key's old one only when it is proved sound.

        Args:
            key: what it is asked for by.
            folder: of a finished adapter.
            calibrated: read its calibration, if there is one.
            prove: raises ValueError for the adapter of this (peft) name if it is not to be used.

        Raises:
            ValueError: as `checked_adapter`, or from `prove`; then all is as it was.
        """
        try:
            record = manifest.read_manifest(folder)
            found = checked_adapter(folder, record, self.base, calibrated=calibrated)
            _refuse_more_than_lora(folder)
        except ValueError as error:
            raise ValueError(f"adapter for {key}: {folder}: {error}") from error
        member = Member(f"{key}_{next(self._numbers)}", folder, found.sha256, found.calibration)
        with self.lanes.over(()):  # no forward meanwhile
            self._load(member)
        try:
            require_applied(self.model, folder, member.name)
            if prove:
                prove(member.name)
        except ValueError:
            self._forget(member)
            raise
        old = self.by_key.get(key)
        self.by_key[key] = member
        if old:
            self._forget(old)
        return member

    def drop(self, key: str) -> None:
        """Takes an adapter out of memory."""
        self._forget(self.by_key.pop(key))

    def _load(self, member: Member) -> None:
        """Into the layers; nothing but lanes will choose it."""
        if self._model is None:
            self._model = open_lora(load_model(self.base), member.folder, member.name)
            fuse(self._model)
        else:
            active = self._model.active_adapter
            self._model.load_adapter(str(member.folder), member.name)
            self._model.set_adapter(active)
        self._model.requires_grad_(False)
        lay_lanes(self._model, self.lanes)
        self._names.add(member.name)

    def _forget(self, member: Member) -> None:
        # Peft may take another adapter for the active one; without runs nobody else is asked.
        with self.lanes.over(()):
            self.model.delete_adapter(member.name)
            self._names.discard(member.name)


def _refuse_more_than_lora(folder: Path) -> None:
    """Refuses, before it is in memory, what lanes would leave out or cannot compute.

    Biases, whole modules and DoRA would be left out; layers that are no plain linear ones
    (embeddings) and the head would be in the way of every later exchange.
    """
    told = cast("PeftLoraConfig", PeftConfig.from_pretrained(str(folder)))
    held = {"bias": told.bias != "none", "lora_bias": told.lora_bias, "use_dora": told.use_dora,
            "modules_to_save": bool(told.modules_to_save)}  # fmt: skip
    more = [name for name, found in held.items() if found]
    if more:
        raise ValueError(f"{folder}: expected an adapter of LoRA alone, got {', '.join(more)}; "
                         "serve it by itself")  # fmt: skip
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        other = sorted(key for key in file.keys() if not _PLAIN.search(key))  # noqa: SIM118
    if other:
        raise ValueError(f"{folder}: expected an adapter of plain linear layers, got {other[0]}; "
                         "serve it by itself")  # fmt: skip
