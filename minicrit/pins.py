"""Which commit of a Hugging Face id is meant: the one that the recipe names, or the first one seen.

A name on the hub is a moving target. Whoever names no `base.revision` gets what is newest once; the
commit is written to `revisions.json` in the folder of bases, and from then on it is that one, for
every stage and every critic that is loaded, until a recipe names another. A critic that was made on
another commit is loaded with that one, and changes nothing for others.
"""

import logging
import re
from pathlib import Path

from minicrit.files import folder_alone, write_json
from minicrit.jsonl import parse_object, shown

log = logging.getLogger(__name__)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = "revisions.json"


def wanted(model: str, folder: Path, revision: str | None) -> str | None:
    """The commit to take; None where the newest is to be found out.

    Raises:
        ValueError: if `revision` is a branch or a tag, which may move.
    """
    if revision is None:
        return _read(folder).get(model)
    if not _COMMIT.fullmatch(revision):
        raise ValueError(f"base.revision: expected a commit (40 hex digits), got "
                         f"{shown(repr(revision))}; branches and tags move, take the commit that "
                         f"the page of {model} shows, or leave it out")  # fmt: skip
    return revision


def pin(model: str, folder: Path, snapshot: Path, asked: str | None, *, binds: bool = True) -> str:
    """Writes down which commit a downloaded snapshot is, and returns it.

    Args:
        model: the Hugging Face id.
        folder: of the bases.
        snapshot: its folder in the hub's cache, which is named by the commit.
        asked: the commit that the recipe or a critic's manifest names.
        binds: whether it is the one that is meant from now on.

    Raises:
        ValueError: if it is another one than was asked for, or none.
    """
    commit = snapshot.name
    if not _COMMIT.fullmatch(commit) or commit != (asked or commit):
        raise ValueError(f"base {model!r}: expected the commit {asked or 'of a snapshot'}, got "
                         f"{shown(commit)}; remove {snapshot} and fetch it again")  # fmt: skip
    if binds and _read(folder).get(model) != commit:
        with folder_alone(folder):
            write_json(folder / _NAME, {**_read(folder), model: commit})
        if asked is None:
            log.warning(
                "%s: expected base.revision, got none; the newest commit, %s, is taken and kept in "
                "%s; name it in the recipe", model, commit, folder / _NAME,
            )  # fmt: skip
    return commit


def _read(folder: Path) -> dict[str, str]:
    path = folder / _NAME
    if not path.is_file():
        return {}
    try:
        known = parse_object(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: expected commits by model: {error}; restore it") from error
    wrong = [name for name, commit in known.items() if not _COMMIT.fullmatch(str(commit))]
    if wrong:
        raise ValueError(f"{path}: expected a commit (40 hex digits) of {shown(wrong[0])}, got "
                         f"{shown(repr(known[wrong[0]]))}; restore it")  # fmt: skip
    return known
