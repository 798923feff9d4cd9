"""One training: what it is made from, what decides its outcome, whether it is done already."""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from minicrit import limits
from minicrit.base import Base, places_of, prepare_base
from minicrit.config import Recipe
from minicrit.destinations import require_writable
from minicrit.files import (
    check_replaceable,
    open_alone,
    recover_folder,
    sha256_file,
    sha256_json,
)
from minicrit.goal import Goal, goal_of
from minicrit.jsonl import shown
from minicrit.lora import ADAPTERS
from minicrit.manifest import check_outputs, read_manifest, require
from minicrit.precision import SETTLED, settled_training
from minicrit.processes import leads, refuse_devices, refuse_nodes
from minicrit.prompts import CRITIQUE_VERSION, PROMPT_VERSION
from minicrit.training_config import DPOConfig, KTOConfig, LoraConfig, RSFConfig, SFTConfig
from minicrit.whole import refuse_contradictions

log = logging.getLogger(__name__)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Settings = SFTConfig | DPOConfig | RSFConfig | KTOConfig
#: Settings that change where and how a run is watched, not what comes out.
_NOT_PART = {"out", "start", "pairs", "thumbs", "data", "log_folder", "save_every", "samples",
             "devices", "nodes", "strategy"}  # fmt: skip
_NOT_PART_OF = {
    "dpo": {"rounds", "alarm_chosen", "alarm_kl", "alarm_margin", "alarm_length"},
    # How critiques came about stands in the file of those chosen, which counts by its hash.
    "rsf": {"rounds", "control", "rationales", "scouted", "drawn", "temperatures",
            "max_new_tokens", "rows", "dtype", "keep", "keep_scope", "least_score", "labels"},
}  # fmt: skip
#: Settings that do nothing at these values: an adapter from before they existed stays up to date.
_OFF = {"best": None, "patience": 0, "steady": 0.0}


@dataclass(frozen=True)
class Run:
    """One training: its recipe, which stage, its settings, and the files it depends on."""

    recipe: Recipe
    stage: str
    settings: Settings
    base: Base
    files: dict[str, Path]

    @property
    def work(self) -> Path:
        """Where checkpoints and what else a restart needs lie until the run is finished."""
        return self.settings.out.with_name(self.settings.out.name + ".work")

    @property
    def log_names(self) -> tuple[str, str]:
        """Run and stage, the two folders of its TensorBoard log.

        Raises:
            ValueError: if they would not be folders inside of the log folder.
        """
        out = Path(os.path.abspath(self.settings.out))
        for name in (out.parent.name, out.name):
            if not _PLAIN.fullmatch(name):
                raise ValueError(
                    f"{self.stage}.out: expected RUN/{self.stage} of plain names (letters, digits, "
                    f". _ -), got {shown(repr(name))}; rename it"
                )
        return out.parent.name, out.name

    @property
    def goal(self) -> Goal | None:
        """What the adapter that is kept is the best by; None for the last one.

        Raises:
            ValueError: if it is none that this stage is validated by.
        """
        return goal_of(self.stage, self.settings)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Of the files that are there, by name, as they first were: they may change meanwhile."""
        return {n: sha256_file(path) for n, path in self.files.items() if path.is_file()}

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the outcome: settings, base, data, prompt."""
        versions = [PROMPT_VERSION, CRITIQUE_VERSION]
        return sha256_json([self.relevant, self.base.identity, self.hashes, *versions])

    @property
    def relevant(self) -> dict[str, Any]:
        """The settings that decide the outcome."""
        aside = _NOT_PART | _NOT_PART_OF.get(self.stage, set())
        own = {k: v for k, v in vars(self.settings).items()
               if k not in aside and not (k in _OFF and v == _OFF[k])}  # fmt: skip
        return {
            "seed": self.recipe.seed,
            "lora": vars(self.recipe.lora) if self.recipe.lora.rank else {"rank": 0},
            self.stage: own,
            "max_tokens": self.recipe.data.max_tokens,
            "truncate": self.recipe.data.truncate,
            "dtype": self.recipe.base.dtype,
        }

    @property
    def finished(self) -> bool:
        """Whether the adapter is there, made from the same.

        Then nothing else is: what a kill after the last step has left beside it goes.
        """
        out, _ = self.settings.out, self.hashes  # of what is read next
        recover_folder(out)
        if not (out / "manifest.json").is_file():
            return False
        if read_manifest(out)["facts"].get("fingerprint") not in self._accepted():
            return False
        log.info("%s is up to date", out)
        with suppress(ValueError), self.alone():  # its lock, too; who holds it clears up by itself
            shutil.rmtree(self.work, ignore_errors=True)
        return True

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else trains this run in the block; the first of its processes sees to it.

        Raises:
            ValueError: if somebody else does, its result could not be written, or nothing has
                started it on all of its machines. What is finished needs neither.
        """
        refuse_nodes(self.stage, self.settings.nodes)
        require_writable(f"{self.stage}.out", self.settings.out)
        # Beside the folder, which goes before the lock does: some disks keep what is open.
        lock = self.work.with_name(f".{self.work.name}.lock")
        with ExitStack() as held:
            if leads():
                # Some shared disks know no locks; what cannot be written is said by who needs it.
                with suppress(OSError):
                    held.enter_context(_locked(lock))
                    held.callback(lock.unlink, missing_ok=True)
            yield

    def _accepted(self) -> list[str]:
        """Its fingerprint; of an automatic precision, that of the other machines as well."""
        told = getattr(self.recipe, self.stage).precision
        choices = SETTLED if told == "auto" else (self.settings.precision,)
        return [replace(self, settings=replace(self.settings, precision=one)).fingerprint
                for one in choices]  # fmt: skip


def _locked(lock: Path) -> BinaryIO:
    """The file of a lock that is held; one that its last holder removed meanwhile is none."""
    while True:
        file = open_alone(lock)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        file.close()


def run_of(recipe: Recipe, stage: str, settings: Settings, lessons: Path) -> Run:
    """The training of a stage on a file of lessons.

    Raises:
        ValueError: if settings, base, start or goal are none that it can be done with, or the
            folder of the result holds anything else.
    """
    refuse_out_of_range(recipe, stage)
    refuse_contradictions(recipe, stage, settings)
    base = prepare_base(recipe.base.model, recipe.base.folder, recipe.base.revision)
    if recipe.data.max_tokens > (places := places_of(base)):
        raise ValueError(f"data.max_tokens: expected at most {places}, as many places as "
                         f"{base.folder} has, got {recipe.data.max_tokens}; lower it, or choose a "
                         "base that reads more")  # fmt: skip
    files = {"train": lessons, "validation": recipe.data.folder / "validation.jsonl"}
    if settings.start:
        _check_start(f"{stage}.start", settings.start, base, recipe.lora)
        files["start"] = settings.start / "adapter_model.safetensors"
    settings = replace(settings, precision=settled_training(settings.precision))
    check_replaceable(settings.out, base.folder, *([settings.start] if settings.start else []))
    run = Run(recipe, stage, settings, base, files)
    _ = run.goal, run.log_names  # refused now, not after the first validation
    return run


def refuse_out_of_range(recipe: Recipe, stage: str) -> None:
    """Refuses numbers with which a stage would teach nothing, or the contrary, and not say so.

    And devices that it could not be trained on.

    Raises:
        ValueError: with the setting to change.
    """
    settings = getattr(recipe, stage)
    limits.require(stage, settings)
    limits.require("lora", recipe.lora)
    refuse_devices(stage, settings.devices)
    if not getattr(settings, "good_weight", 1.0) + getattr(settings, "bad_weight", 1.0):
        raise ValueError(f"{stage}.good_weight: expected it or {stage}.bad_weight to be more than "
                         "0, got 0 for both; raise one")  # fmt: skip
    flips = getattr(settings, "flips", 0.0)
    if not 0 <= flips < 0.5:  # noqa: PLR2004 - of a half, a pair says nothing
        raise ValueError(f"{stage}.flips: expected a share from 0 to under 0.5, got {flips}; 0 is "
                         "to trust all pairs")  # fmt: skip


def _check_start(name: str, folder: Path, base: Base, lora: LoraConfig) -> None:
    """Refuses an adapter of another base, another scale, or whose files have changed."""
    if not (folder / "manifest.json").is_file():
        raise ValueError(f"{name}: expected the folder of a trained adapter, got {folder}; "
                         "train it first")  # fmt: skip
    record = read_manifest(folder)
    if record["stage"] not in ADAPTERS:
        raise ValueError(f"{name}: expected an adapter ({', '.join(ADAPTERS)}), got {folder}, "
                         f"made by {record['stage']}; give the adapter it was made of")  # fmt: skip
    if not record["settings"]["lora"]["rank"]:
        raise ValueError(f"{name}: expected an adapter, got {folder}, a critic of all weights; "
                         "take its folder as base.model and train an adapter on it")  # fmt: skip
    require(record, base=base.identity, prompt_version=PROMPT_VERSION)
    if faults := check_outputs(folder):
        raise ValueError(f"{folder}: expected the files of its manifest, got {faults[0]}; restore "
                         "the folder")  # fmt: skip
    before = record["settings"]["lora"]
    if before["alpha"] / before["rank"] != lora.alpha / lora.rank:
        raise ValueError(
            f"{folder}: expected lora.alpha / lora.rank as it was trained with, got "
            f"{lora.alpha} / {lora.rank}; set {before['alpha']} / {before['rank']}"
        )
