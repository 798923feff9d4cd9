"""What the manifests and reports below some folders say, against what lies there now.

A file that differs from what its manifest recorded is a fault, and so is an input that has changed
since: the artefact was not made from what is there. An input that is not there cannot be checked;
it is counted. A released adapter outlives its data, so other data are no fault of it; nor are they
of what another machine made.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minicrit.files import sha256_path
from minicrit.jsonl import parse_object, shown
from minicrit.manifest import check_outputs, read_manifest

_ENDING = "manifest.json"
_RELEASED = "released"
_SOURCES = "import"  # the stage whose rows of all splits pass the stage `data` before any use


@dataclass
class Lineage:
    """What was found.

    Attributes:
        faults: what is wrong, with a remedy. absent: inputs that are not there to be checked.
        records: manifests and reports that were read. files: files and inputs that were hashed.
        listed: files that manifests vouch for, but for sources of other files.
        inputs_are_here: whether an input that is another one here is a fault.
    """

    faults: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    records: int = 0
    files: int = 0
    listed: list[Path] = field(default_factory=list)
    inputs_are_here: bool = True


def trace(folders: Iterable[Path], *, inputs_are_here: bool = True) -> Lineage:
    """Checks every manifest and every report below the folders.

    Args:
        folders: where they lie.
        inputs_are_here: see `Lineage`.
    """
    found, hashes = Lineage(inputs_are_here=inputs_are_here), dict[Path, str]()
    for folder in folders:
        for path in _records(folder):
            if path.name.endswith(_ENDING):
                _manifest(path, found, hashes)
            else:
                _report(path, found, hashes)
    return found


def _records(folder: Path) -> Iterator[Path]:
    """Manifests and other JSON files, but for work in progress, which is hidden or named so."""
    for path in sorted(folder.rglob("*.json")):
        parts = path.relative_to(folder).parts
        if not any(part.startswith(".") or part.endswith(".work") for part in parts):
            yield path


def _manifest(path: Path, found: Lineage, hashes: dict[Path, str]) -> None:
    alone = path.name != _ENDING
    target = path.with_name(path.name.removesuffix(f".{_ENDING}")) if alone else path.parent
    found.records += 1
    try:
        record = read_manifest(target)
        wrong = check_outputs(target)
    except ValueError as error:
        found.faults.append(str(error))
        return
    again = f"put the file back, or make the stage {shown(record['stage'])} again"
    found.faults += [f"{fault}; {again}" for fault in wrong]
    found.files += len(record["outputs"])
    listed = [target] if alone else [target / name for name in record["outputs"]]
    if record["stage"] != _SOURCES:
        found.listed += [path for path in listed if path.is_file()]
    inputs = {
        name: (given.get("path"), given.get("sha256"))
        for name, given in record["inputs"].items() if isinstance(given, dict)
    }  # fmt: skip
    _inputs(target, inputs, found, hashes)


def _report(path: Path, found: Lineage, hashes: dict[Path, str]) -> None:
    """A report says of itself by which code and from what it was made; other JSON does not."""
    try:
        report: Mapping[str, Any] = parse_object(path.read_bytes())
    except ValueError:
        return
    inputs = report.get("inputs")
    if "code" in report and isinstance(inputs, dict):
        found.records += 1
        _inputs(path, {name: (name, digest) for name, digest in inputs.items()}, found, hashes)


def _inputs(
    made: Path,
    inputs: Mapping[str, tuple[object, object]],
    found: Lineage,
    hashes: dict[Path, str],
) -> None:
    for name, (given, recorded) in inputs.items():
        path = Path(str(given))
        if not path.exists():
            found.absent.append(f"{made}: {name} ({path})")
            continue
        if path not in hashes:
            hashes[path] = sha256_path(path)
            found.files += 1
        if hashes[path] == recorded:
            continue
        if _RELEASED in made.parts or not found.inputs_are_here:
            found.absent.append(f"{made}: {name} as it was (another {path} is here)")
        else:
            found.faults.append(
                f"{made}: expected to be made from {path} as it is, got another one "
                f"(sha256 {shown(str(recorded), 12)}, now {hashes[path][:12]}); make it again"
            )
