"""Durable files: hashes derived by hand, and what a crash or an exception leaves behind."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minicrit import files

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, "abc"

CRASH = """
import os, sys
from minicrit import files
rename = os.rename
def crash(old, new):
    rename(old, new)
    if str(new).endswith(".old"):
        os._exit(9)
os.rename = crash
with files.atomic_folder(sys.argv[1]) as folder:
    (folder / "a").write_text("new")
    if sys.argv[2] == "inside":
        os._exit(9)
"""


def crash(target: Path, when: str) -> None:
    done = subprocess.run([sys.executable, "-c", CRASH, target, when], check=False)
    assert done.returncode == 9


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_hash_of_a_file_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert files.sha256_file(tmp_path / "f") == ABC


def test_hash_of_json_ignores_key_order_and_is_of_the_compact_text() -> None:
    expected = hashlib.sha256('{"a":1,"b":["\u00e9"]}'.encode()).hexdigest()
    assert files.sha256_json({"b": ["\u00e9"], "a": 1}) == expected


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1, 2}, Path("x"), {"a": 1, 2: 3}])
def test_what_is_not_json_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"expected JSON values, got .*; turn it into"):
        files.sha256_json(bad)


def test_hash_of_a_folder_counts_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "f").write_bytes(b"abc")
    assert files.folder_hashes(tmp_path) == {"sub/f": ABC}
    before = files.sha256_folder(tmp_path)
    assert before == files.sha256_json({"sub/f": ABC})
    (tmp_path / "sub" / "f").rename(tmp_path / "sub" / "g")
    assert files.sha256_folder(tmp_path) != before


@pytest.mark.parametrize(
    "name", [".hidden", ".git/config", "run.log", "logs/x.txt", "train.rejected.jsonl"]
)
def test_hash_of_a_folder_ignores_by_products(tmp_path: Path, name: str) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    before = files.sha256_folder(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    assert files.sha256_folder(tmp_path) == before


def test_hash_of_a_folder_notes_links_to_folders_without_following(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list(files.folder_hashes(tmp_path)) == ["loop"]


def test_hash_of_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder, got none; check"):
        files.sha256_folder(tmp_path / "missing")


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "f"
    files.write_atomic(target, "\u00e9")
    files.write_atomic(target, b"abc")
    assert target.read_bytes() == b"abc"
    assert names(target.parent) == ["f"]


def test_an_exception_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_text("old")

    def interrupted() -> None:
        with files.atomic_file(target) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    files.write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_new_files_have_the_usual_rights(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    files.write_atomic(tmp_path / "f", "")
    with files.atomic_folder(tmp_path / "out") as folder:
        for name in ("weights", "script"):
            (folder / name).write_text("")
        (folder / "weights").chmod(0o600)  # as safetensors are saved
        (folder / "script").chmod(0o700)
    usual = (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "f").stat().st_mode == usual
    assert (tmp_path / "out/weights").stat().st_mode == usual
    assert (tmp_path / "out/script").stat().st_mode == usual | 0o100


def test_write_json_is_sorted_indented_and_ends_with_a_newline(tmp_path: Path) -> None:
    files.write_json(tmp_path / "f", {"b": [1], "a": "\u00e9"})
    text = (tmp_path / "f").read_text(encoding="utf-8")
    assert text == '{\n  "a": "\u00e9",\n  "b": [\n    1\n  ]\n}\n'
    with pytest.raises(ValueError, match="finite"):
        files.write_json(tmp_path / "f", {"a": float("nan")})
    assert (tmp_path / "f").read_text(encoding="utf-8") == text


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for name in ("a", "b"):
        with files.atomic_folder(target) as folder:
            (folder / name).write_text(name)
            (folder / "manifest.json").write_text("{}")
            assert folder.parent == tmp_path
    assert names(target) == ["b", "manifest.json"]
    assert names(tmp_path) == ["out"]


def test_an_exception_keeps_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    for name in ("a", "manifest.json"):
        (target / name).write_text("old")

    def failing() -> None:
        with files.atomic_folder(target) as folder:
            (folder / "a").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert (target / "a").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with (
        pytest.raises(ValueError, match="expected a folder or nothing, got a file"),
        files.atomic_folder(tmp_path / "out"),
    ):
        pass


def refused_folders(home: Path) -> list[tuple[Path, list[Path], str]]:
    """Targets, what is read for them, and what is said of them; `home` is worked in."""
    made, notes = home / "made", home / "notes"
    for folder in (made / "deeper", notes):
        folder.mkdir(parents=True)
        (folder / "kept.txt").write_text("kept")
    (made / "manifest.json").write_text("{}")
    (home / "manifest.json").write_text("{}")
    (home / "link").symlink_to(made)
    return [
        (notes, [], r"holds other things \(no manifest.json\)"),
        (home, [], "got the working directory or one above it"),
        (home.parent, [], "got the working directory or one above it"),
        (made, [made], "is or holds"),
        (made, [home / "link" / "deeper"], "is or holds"),
        (home / "link", [made / "deeper" / ".." / "deeper"], "is or holds"),
    ]


def test_a_folder_that_no_stage_made_or_that_is_still_needed_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    for target, read, said in refused_folders(home):
        with pytest.raises(ValueError, match=said):
            files.check_replaceable(target, *read)
        if not read:  # nothing is begun either
            with pytest.raises(ValueError, match=said), files.atomic_folder(target):
                pass
    assert (home / "notes" / "kept.txt").read_text() == "kept"
    (home / "empty").mkdir()
    for name in ("empty", "new", "made"):  # made by a stage, and of nothing that is read
        files.check_replaceable(home / name, home / "notes")
    files.check_replaceable(home / "notes", mark="kept.txt")
    files.check_replaceable(home / "made" / "inside", home / "made")


def test_what_somebody_put_into_a_folder_that_a_stage_made_is_not_lost(tmp_path: Path) -> None:
    """Its manifest lists what is made again; logs, refused lines and a calibration may go."""
    made = tmp_path / "made"
    made.mkdir()
    (made / "manifest.json").write_text('{"outputs": {"train.jsonl": "00"}}')
    for name in ("train.jsonl", "calibration.json", "x.log", "train.rejected.jsonl", ".hidden"):
        (made / name).write_text("{}")
    files.check_replaceable(made)
    (made / "manifest.json").write_text("[" * 100_000)  # what reads it says that it is damaged
    files.check_replaceable(made)
    (made / "manifest.json").write_text('{"outputs": {"train.jsonl": "00"}}')
    (made / "own").mkdir()
    (made / "own" / "desk.jsonl").write_text("{}")
    (made / "notes.txt").write_text("kept")
    with pytest.raises(ValueError, match=r"somebody put notes.txt and 1 more; move what is to"):
        files.check_replaceable(made)
    with pytest.raises(ValueError, match="somebody put notes"), files.atomic_folder(made):
        pass
    assert (made / "notes.txt").read_text() == "kept"


@pytest.mark.parametrize("when", ["inside", "between"])
def test_after_a_crash_the_old_folder_is_back(tmp_path: Path, when: str) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "a").write_text("old")
    (target / "manifest.json").write_text("{}")
    crash(target, when)
    assert len(names(tmp_path)) == 2  # what the crash left beside or instead of it
    files.recover_folder(target)
    assert (target / "a").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_the_next_writer_cleans_up_after_a_crash(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    crash(target, "between")
    with files.atomic_folder(target) as folder:
        (folder / "b").write_text("newer")
    assert names(target) == ["b"]
    assert names(tmp_path) == ["out"]


def test_what_others_are_writing_is_left_alone(tmp_path: Path) -> None:
    host = "0" * 8 if files._HOST != "0" * 8 else "1" * 8
    others = [
        f".out.{files._HOST}-{os.getppid()}-00000000.tmp",  # alive
        f".out.{host}-1-00000000.tmp",  # another machine, just now
        f".out.more.{files._HOST}-999999999-00000000.tmp",  # of a folder named out.more
        ".out.mine.tmp",  # not of this scheme
    ]
    for name in others:
        (tmp_path / name).mkdir()
    files.recover_folder(tmp_path / "out")
    assert names(tmp_path) == sorted(others)


def test_what_a_killed_writer_of_a_file_left_goes_with_the_next(tmp_path: Path) -> None:
    host = files._HOST
    (tmp_path / f".f.{host}-999999999-00000000.tmp").write_text("half")
    (tmp_path / f".f.{host}-{os.getpid()}-00000000.tmp").write_text("of one with our number")
    kept = [f".f.{host}-{os.getppid()}-00000000.tmp", f".f.json.{host}-999999999-00000000.tmp"]
    for name in kept:
        (tmp_path / name).write_text("alive, or of another file")
    with files.atomic_file(tmp_path / "f") as outer:
        outer.write(b"outer")
        files.write_atomic(tmp_path / "f", "inner")  # another thread, say
    assert (tmp_path / "f").read_text() == "outer"
    assert names(tmp_path) == sorted(["f", *kept])


FULL = """
import resource, sys
from pathlib import Path
from minicrit import files
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    if sys.argv[2] == "file":
        files.write_atomic(sys.argv[1], b"x" * 5000)
    else:
        with files.atomic_folder(sys.argv[1]) as folder:
            files.write_atomic(folder / "rows.jsonl", b"x" * 5000)
except OSError as error:
    print(error.errno, error.filename)
"""


@pytest.mark.parametrize(("kind", "named"), [("file", "new"), ("folder", "new/rows.jsonl")])
def test_a_full_disk_is_said_of_what_was_to_be_written(
    tmp_path: Path, kind: str, named: str
) -> None:
    """The system names no file, and the hidden one would be gone; 27 is EFBIG."""
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / "new", kind],
                          check=True, capture_output=True, text=True)  # fmt: skip
    assert done.stdout == f"27 {tmp_path}/{named}\n"
    assert names(tmp_path) == []
