"""Durable files: content hashes, atomic files and atomic folders.

A file or folder that exists under its own name is complete. Work in progress lies beside it under
a hidden name (`.<name>.<host>-<pid>-<random>.tmp`), so that a reader never meets half of it.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: What a write into an open file fails with: then the system names none.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
#: Seconds after which unfinished work of another machine counts as abandoned.
_ABANDONED_AFTER = 86_400.0
#: Written while reading or running, never part of what a folder *is*.
_BY_PRODUCTS = (".log", ".rejected.jsonl")
#: Fitted to a finished folder, with a manifest of its own; what the folder is stays the same.
CALIBRATION = "calibration.json"
FITTED = (CALIBRATION, f"{CALIBRATION}.manifest.json")
#: By this file a folder is known as what a stage has made, which may be made again.
_MADE = "manifest.json"
_LOG_FOLDERS = frozenset({"logs", "lightning_logs", "__pycache__"})
#: What says whose a hidden file is: machine, process, and which of its works.
_TAG = re.compile(r"([0-9a-f]{8})-(\d+)-[0-9a-f]{8}")
#: Unfinished work of this very process: another that had its number may have left some, too.
_OURS: set[str] = set()


def to_json(obj: object, *, indent: int | None = None) -> str:
    """Canonical JSON: sorted keys, UTF-8 kept; ValueError for NaN and for what is not JSON."""
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        return json.dumps(
            obj,
            sort_keys=True,
            ensure_ascii=False,
            allow_nan=False,
            indent=indent,
            separators=separators,
        )
    except (TypeError, ValueError) as error:
        message = f"expected JSON values, got {error}; turn it into finite numbers, text and lists"
        raise ValueError(message) from error


def sha256_json(obj: object) -> str:
    """Hash of the canonical JSON of `obj`; the order of keys does not matter."""
    return hashlib.sha256(to_json(obj).encode()).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Hash of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hashes(path: str | Path) -> dict[str, str]:
    """Relative name -> hash of every file below `path`, without hidden files, logs, calibration.

    A link to a file counts by content, a link to a folder by where it points (not followed).
    """
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"{root}: expected a folder, got none; check the path")
    return {name: _hash_of(root / name) for name in sorted(_files(root))}


def _hash_of(path: Path) -> str:
    if path.is_dir():
        return hashlib.sha256(f"link:{os.readlink(path)}".encode()).hexdigest()
    return sha256_file(path)


def _files(root: Path) -> Iterator[str]:
    """The relative names of what a folder is: files, and links to folders."""
    for parent, folders, files in os.walk(root):
        here = Path(parent)
        folders[:] = [f for f in folders if not f.startswith(".") and f not in _LOG_FOLDERS]
        yield from ((here / f).relative_to(root).as_posix() for f in folders
                    if (here / f).is_symlink())  # fmt: skip
        for file in files:
            if here == root and file in FITTED:
                continue
            if not file.startswith(".") and not file.endswith(_BY_PRODUCTS):
                yield (here / file).relative_to(root).as_posix()


def sha256_folder(path: str | Path) -> str:
    """Hash over the names and contents below `path`; hidden files and logs do not count."""
    return sha256_json(folder_hashes(path))


def sha256_path(path: Path) -> str:
    """Hash of a file's bytes, or of a folder (`sha256_folder`)."""
    return sha256_folder(path) if path.is_dir() else sha256_file(path)


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a whole file at once: afterwards `path` holds the old bytes or the new ones."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def write_json(path: str | Path, obj: object) -> None:
    """Write `obj` readably (sorted, indented by 2, newline at the end) and atomically."""
    write_atomic(path, to_json(obj, indent=2) + "\n")


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends without an exception.

    What earlier crashes left of it is removed first.

    Raises:
        OSError: which names `path` where the disk is full.
    """
    target = Path(os.path.realpath(path))  # a link stays a link; what it points to is replaced
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in _abandoned(target, "tmp"):
        left.unlink(missing_ok=True)
    temporary = _beside(target, "tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = os.fspath(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
        _OURS.discard(temporary.name)
    _fsync_folder(target.parent)


def open_alone(path: Path) -> BinaryIO:
    """A file to read and append to, which no other process has open in this way.

    The lock goes with the file's closing or the process's end, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ValueError(f"{path}: expected to be the only run that writes it, got another; "
                         "wait for it or stop it") from error  # fmt: skip
    file.seek(0)
    return file


@contextmanager
def folder_alone(folder: Path) -> Iterator[None]:
    """Waits for its turn: of two that read a file and write it anew, the later drops the other's.

    The folder is locked, as the file itself is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def check_replaceable(path: str | Path, *read: Path, mark: str = _MADE) -> None:
    """Refuses what `atomic_folder` would destroy; for who works long before the folder is written.

    Args:
        path: the folder that is to be written.
        read: what is read for it: the folder may neither be such a thing nor hold it.
        mark: a file by which a folder that may go is known.

    Raises:
        ValueError: if there is a file, a folder with other things in it, one that is read, or one
            that is worked in.
    """
    target, what = Path(os.path.realpath(path)), "expected a folder that a stage made, or none"
    if target.exists() and not target.is_dir():
        raise ValueError(f"{path}: expected a folder or nothing, got a file; move it away")
    if Path.cwd().resolve().is_relative_to(target):
        raise ValueError(f"{path}: {what}, got the working directory or one above it; name "
                         "another")  # fmt: skip
    for source in read:
        if Path(os.path.realpath(source)).is_relative_to(target):
            raise ValueError(f"{path}: {what}, got one that is or holds {source}, which is read "
                             "for it; name another")  # fmt: skip
    if target.is_dir() and not (target / mark).is_file() and any(target.iterdir()):
        raise ValueError(f"{path}: {what}, got one that holds other things (no {mark}); name "
                         "another, or move it away")  # fmt: skip
    if target.is_dir() and mark == _MADE and (others := _not_made(target)):
        raise ValueError(f"{path}: {what}, got one in which somebody put {others[0]}"
                         + (f" and {len(others) - 1} more" if others[1:] else "")
                         + "; move what is to stay, or name another folder")  # fmt: skip


def _not_made(folder: Path) -> list[str]:
    """Files in a folder that a stage made and its manifest does not list, by name."""
    try:
        listed = json.loads((folder / _MADE).read_bytes())["outputs"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []  # damaged, or no manifest of ours: what reads it says so
    return sorted(set(_files(folder)) - set(listed) - {_MADE})


@contextmanager
def atomic_folder(path: str | Path, *, mark: str = _MADE) -> Iterator[Path]:
    """An empty folder that takes the place of `path` when the block ends without an exception.

    Leftovers of earlier crashes are dealt with first, see `recover_folder`. What may be replaced
    says `check_replaceable`. Its files are to be read by whom the umask lets. An OSError about a
    file in it names the one that it would have become.
    """
    target = Path(os.path.realpath(path))
    recover_folder(target)
    check_replaceable(path, mark=mark)
    temporary = _beside(target, "tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _open_up(temporary)
        _fsync_tree(temporary)
        _swap(temporary, target)
    except OSError as error:
        if isinstance(error.filename, str):  # what is told is not there any more
            error.filename = error.filename.replace(str(temporary), str(path))
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _OURS.discard(temporary.name)


def recover_folder(path: str | Path) -> None:
    """Undo what a crash left of `atomic_folder(path)`: old or new stays, nothing in between.

    Work of a process that is still alive is not touched.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        return
    for old in _abandoned(target, "old"):
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:  # the crash came between moving the old one away and moving the new one in
            os.rename(old, target)
    for temporary in _abandoned(target, "tmp"):
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, target: Path) -> None:
    """Put `new` where `target` is; two renames, as folders cannot be replaced in one."""
    if not target.exists():
        os.rename(new, target)
        _fsync_folder(target.parent)
        return
    old = _beside(target, "old")
    os.rename(target, old)
    try:
        os.rename(new, target)
    except BaseException:
        os.rename(old, target)
        raise
    _fsync_folder(target.parent)
    shutil.rmtree(old)
    _OURS.discard(old.name)


def _beside(target: Path, ending: str) -> Path:
    """A fresh hidden sibling of `target` that says whose it is."""
    name = f".{target.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.{ending}"
    _OURS.add(name)
    return target.with_name(name)


def _abandoned(target: Path, ending: str) -> list[Path]:
    """Hidden siblings of `target` whose writer is gone."""
    start, end = f".{target.name}.", f".{ending}"
    names = (e.name for e in os.scandir(target.parent))
    own = (n for n in names if n.startswith(start) and n.endswith(end))
    tags = {target.with_name(n): n[len(start) : -len(end)] for n in own}
    return [path for path, tag in tags.items() if _is_gone(path, tag)]


def _is_gone(path: Path, tag: str) -> bool:
    whose = _TAG.fullmatch(tag)
    if not whose or path.name in _OURS:
        return False  # of a longer name that begins with ours, or of another thread
    host, process = whose[1], int(whose[2])
    if host != _HOST:  # its processes cannot be seen from here
        return time.time() - path.stat().st_ctime > _ABANDONED_AFTER
    if process == os.getpid():  # in a container a restart often has the same number
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # alive, of another user
        return False
    return False


def _open_up(folder: Path) -> None:
    """Gives files the rights that the umask, as the folder itself shows it, leaves to all.

    Weights come from safetensors for their owner alone: a service of another user could read all
    but them.
    """
    usual = folder.stat().st_mode & 0o666
    for parent, _, files in os.walk(folder):
        for path in (Path(parent) / name for name in files):
            if not path.is_symlink() and (mode := path.stat().st_mode) | usual != mode:
                path.chmod(mode | usual)


def _fsync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for path in (Path(parent) / name for name in files):
            if not path.is_symlink():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        _fsync_folder(Path(parent))


def _fsync_folder(folder: Path) -> None:
    """Make a rename durable; some network file systems refuse to sync a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
