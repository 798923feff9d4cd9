"""Manifests: what a stage was made from, so that a mismatch is refused when it is loaded.

`<folder>/manifest.json` or `<file>.manifest.json` is written last: its presence says that the
stage is complete. It holds no times, so two runs of the same thing give the same bytes.
"""

import platform
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from minicrit.files import (
    CALIBRATION,
    FITTED,
    folder_hashes,
    sha256_file,
    sha256_json,
    sha256_path,
    to_json,
    write_json,
)
from minicrit.jsonl import parse_object, shown

_ROOMS = ("minicrit", "data_gen", "models", "callbacks")
_LIBRARIES = ("torch", "transformers", "peft")
_MAPPINGS = ("inputs", "settings", "facts", "outputs", "versions")
_NAME = "manifest.json"


def provenance(seed: int, settings: Any, inputs: Mapping[str, str]) -> dict[str, Any]:
    """What a report says of where it came from.

    Args:
        seed: of its draws.
        settings: of its stage, a dataclass.
        inputs: hash of each file, by path.
    """
    told = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(settings).items()}
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "code": code_version(),
        "seed": seed,
        "settings": told,
        "inputs": dict(inputs),
    }


@cache
def code_version() -> str:
    """`<package version>+<12 hex digits over the sources>` of the code that runs."""
    root = Path(__file__).parent.parent
    sources = sorted(
        path
        for room in _ROOMS
        for path in (root / room).rglob("*")
        if path.suffix in (".py", ".yaml") and path.is_file()
    )
    hashes = {path.relative_to(root).as_posix(): sha256_file(path) for path in sources}
    return f"{_version('minicrit') or '0'}+{sha256_json(hashes)[:12]}"


def write_manifest(
    target: Path,
    *,
    stage: str,
    inputs: Mapping[str, Path],
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    hashes: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Describe a finished folder or file, and return the description as it is read back.

    Args:
        target: the stage's output.
        stage: which stage made it.
        inputs: files and folders it was made from, by the name the stage knows them by.
        settings: what was asked for (recipe, seed, ...); JSON values.
        facts: what is true of it (prompt version, base identity, counts, metrics); JSON values.
        hashes: of inputs as they were when they were read, by name; of others, as they are now.
    """
    known = hashes or {}
    manifest = {
        "stage": stage,
        "inputs": {n: _input(n, Path(path), known.get(n)) for n, path in inputs.items()},
        "settings": dict(settings),
        "facts": dict(facts),
        "outputs": _outputs(target),
        "code": code_version(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in _LIBRARIES},
        },
    }
    write_json(_path(target), manifest)
    return parse_object(to_json(manifest).encode())


def read_manifest(target: Path) -> dict[str, Any]:
    """The manifest of a folder or file; ValueError if it is missing or not one of ours."""
    path = _path(target)
    if not Path(target).exists() and not path.is_file():
        raise ValueError(f"{target}: expected what a stage has made, got nothing; check the path, "
                         "or run that stage")  # fmt: skip
    if not path.is_file():
        remedy = "the stage did not finish: run it again"
        raise ValueError(f"{path}: expected a manifest, got none; {remedy}")
    remedy = "make the stage again"
    try:
        manifest = parse_object(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: expected a manifest: {error}; {remedy}") from error
    for key in ("stage", "code", *_MAPPINGS):
        if not isinstance(manifest.get(key), dict if key in _MAPPINGS else str):
            got = shown(repr(manifest.get(key)))
            raise ValueError(f"{path}: expected a manifest with {key}, got {got}; {remedy}")
    return manifest


def carry_calibration(old: Path, box: Path) -> None:
    """Takes the calibration of a folder along into what replaces it, if that is of the same bytes.

    Args:
        old: the folder as it is, if it is there.
        box: what it will be, with its manifest; a calibration that lies there stays.
    """
    if (box / CALIBRATION).exists() or not (old / _NAME).is_file():
        return
    if read_manifest(old)["outputs"] == read_manifest(box)["outputs"]:
        for name in FITTED:
            if (old / name).is_file():
                shutil.copy2(old / name, box / name)


def check_outputs(target: Path) -> list[str]:
    """Where the files differ from what the manifest recorded; empty if nowhere."""
    recorded = cast(dict[str, str], read_manifest(target)["outputs"])
    present = _outputs(target) if target.exists() else {}
    return [
        f"{target}: {name}: expected {_short(recorded.get(name))}, got {_short(present.get(name))}"
        for name in sorted(recorded.keys() | present.keys())
        if recorded.get(name) != present.get(name)
    ]


def require(manifest: Mapping[str, Any], **expected: object) -> None:
    """Refuse a manifest whose entries differ from `expected`; ValueError names each of them.

    A name is looked up among the manifest's own entries (`stage`, `code`, ...), then its facts,
    then its settings.
    """
    entries = {**manifest.get("settings", {}), **manifest.get("facts", {}), **manifest}
    wrong = [
        f"{name}: expected {_value(value)}, got "
        + (_value(entries[name]) if name in entries else "nothing")
        + f"; use what was made with this {name}, or make the stage again"
        for name, value in expected.items()
        if name not in entries or to_json(entries[name]) != to_json(value)
    ]
    if wrong:
        raise ValueError("\n".join(wrong))


def trained_on(record: Mapping[str, Any]) -> dict[str, str]:
    """Hash of every file that the critic of a manifest was trained or selected on, by name."""
    inputs = {name: given["sha256"] for name, given in record["inputs"].items()}
    return {**inputs, **record["facts"].get("trained_on", {})}


def inherited(parents: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """`trained_on` of what a critic is made from, each file once, for its own manifest.

    Args:
        parents: their manifests, by what each is to the critic; the names of files begin so.
    """
    found: dict[str, str] = {}
    for parent, record in parents.items():
        found |= {f"{parent}.{name}": digest for name, digest in trained_on(record).items()
                  if digest not in found.values()}  # fmt: skip
    return found


def _path(target: Path) -> Path:
    return target / _NAME if target.is_dir() else target.with_name(f"{target.name}.{_NAME}")


def _outputs(target: Path) -> dict[str, str]:
    if target.is_dir():
        return {name: value for name, value in folder_hashes(target).items() if name != _NAME}
    if not target.is_file():
        raise ValueError(f"{target}: expected a file or folder, got none; run the stage first")
    return {target.name: sha256_file(target)}


def _input(name: str, path: Path, digest: str | None) -> dict[str, str]:
    if digest is None and not path.exists():
        raise ValueError(f"{path}: expected the input {name}, got none; check the path")
    given, here = path.absolute(), Path.cwd()
    inside = given.is_relative_to(here)
    return {
        "path": (given.relative_to(here) if inside else path).as_posix(),
        "sha256": digest or sha256_path(path),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _short(digest: str | None) -> str:
    return "no file" if digest is None else f"sha256 {shown(str(digest), 12)}"


def _value(value: object) -> str:
    return shown(to_json(value), 200)
