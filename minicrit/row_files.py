"""Files of rows by their names: which of a folder are read, and of which split they are."""

import logging
import re
from pathlib import Path

#: Endings of the names of files of rows that are not to be used.
ASIDE = (".rejected", ".removed")
#: Splits by names of files whose rows name none; a file of another name is of training rows.
NAMED_SPLITS = {
    **dict.fromkeys(("validation", "valid", "val", "dev", "holdout"), "validation"),
    **dict.fromkeys(("test", "eval", "suite"), "test"), "calibration": "calibration",
}  # fmt: skip
_NAMES = {*NAMED_SPLITS, "train", "training"}
_BETWEEN = re.compile(r"[-_. ]")
_OF_ROWS = tuple(f"{ending}{zipped}" for ending in (".jsonl", ".ndjson", ".csv", ".tsv")
                 for zipped in ("", ".gz"))  # fmt: skip
_log = logging.getLogger(__name__)


def stem_of(path: Path) -> str:
    """The name of a file of rows without its endings."""
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def split_of(stem: str) -> str:
    """The split that a file is named after: by its first word, as `test-public`, else by its last.

    So the rows of `desk_test` are none to train on, but those of `train-test-2025` are.
    """
    return NAMED_SPLITS.get(split_word(stem), "train")


def split_word(stem: str) -> str:
    """The word of a file's name that says its split; `train` if there is none."""
    words = _BETWEEN.split(stem.lower())
    return next((word for word in (words[0], words[-1]) if word in _NAMES), "train")


def example_files(path: str | Path) -> list[Path]:
    """The .jsonl and .jsonl.gz files of a folder, sorted by name, without rows set aside.

    Other files of rows, and those in folders below it, are passed over, which is said. ValueError
    if there is none, or one both plain and zipped.
    """
    folder = Path(path)
    rows = [file for file in sorted(folder.rglob("*")) if file.name.lower().endswith(_OF_ROWS)
            and not _is_aside(file.relative_to(folder))]  # fmt: skip
    files = [file for file in rows if file.parent == folder
             and file.name.endswith((".jsonl", ".jsonl.gz"))]  # fmt: skip
    if others := sorted({*rows}.difference(files)):
        below = folder / others[0].relative_to(folder).parts[0]
        _log.warning("%s: %s files of rows are passed over, such as %s; read are *.jsonl and "
                     "*.jsonl.gz of the folder itself: move or rename them, or make import FROM=%s "
                     "(a .tsv is saved as .csv first)",
                     path, len(others), others[0], below)  # fmt: skip
    if not files:
        got = "a file; name its folder" if folder.is_file() else "none; check the path"
        raise ValueError(f"{path}: expected a folder of .jsonl or .jsonl.gz files, got {got}")
    plain = {f for f in files if f.suffix != ".gz"}
    if twice := [f for f in files if f.with_suffix("") in plain]:
        raise ValueError(f"{twice[0]}: expected it plain or zipped, got both; remove one of them")
    return files


def _is_aside(file: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.parts)
    return hidden or f".{stem_of(file)}".endswith(ASIDE)
