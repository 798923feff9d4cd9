"""Where a stage writes, looked at before it works: not after hours, nor by a temporary name."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

from minicrit.config import Recipe
from minicrit.files import CALIBRATION

#: The section that is a stage's own, where it does not bear the stage's name.
_OWN = {"import": "imports", "feedback-pairs": "feedback", "qualify": "judge"}
#: Settings of it that say where something is written.
_NAMES = ("out", "report", "router", "parts")
#: Stages that write nothing if their result is there and up to date; who trains asks then.
_TRAINED = ("sft", "dpo", "rsf", "kto")


def destinations(stage: str, recipe: Recipe) -> Iterator[tuple[str, Path]]:
    """What a stage writes, each with the setting that names it."""
    if stage == "data":
        yield "data.folder", recipe.data.folder
    elif stage == "calibrate":
        yield "calibrate.model", recipe.calibrate.model / CALIBRATION
    own = _OWN.get(stage, stage.replace("-", "_"))
    section = getattr(recipe, own, None)
    for name in _NAMES:
        if (path := getattr(section, name, None)) is not None:
            yield f"{own}.{name}", path


def check_destinations(stage: str, recipe: Recipe) -> None:
    """Refuses what could not be written in the end, unless it may be finished.

    Raises:
        ValueError: with the setting and its path.
    """
    for setting, path in destinations(stage, recipe):
        if stage not in _TRAINED or not (path / "manifest.json").is_file():
            require_writable(setting, path)


def require_writable(setting: str, path: Path) -> None:
    """Refuses a path at which nothing could be put.

    Raises:
        ValueError: with the setting that names it.
    """
    if why := _why_not(path):
        raise ValueError(f"{setting}: expected a path that can be written to, got {path} "
                         f"({why}); name another, or change its permissions")  # fmt: skip


def _why_not(path: Path) -> str:
    """Why nothing can be made beside a path, whose folders need not be there yet; empty if it can.

    It is tried, as permissions say little to root, or of what is mounted read-only.
    """
    target = Path(os.path.realpath(path))
    there = next((folder for folder in target.parents if os.path.exists(folder)), target)
    if not there.is_dir():
        return f"{there} is no folder"
    try:
        with TemporaryFile(dir=there):
            return ""
    except OSError as error:
        return f"nothing can be made in {there}: {error.strerror}"
