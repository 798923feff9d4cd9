"""Passes: killed at any moment, the same in the end, and nothing done twice."""

import pytest

from minicrit.kept import Kept, in_passes, remove_kept


class Work:
    """Squares numbers, and dies in a given pass."""

    def __init__(self, dies_in: int = -1) -> None:
        self.passes: list[list[int]] = []
        self.dies_in = dies_in

    def __call__(self, rows):
        if len(self.passes) == self.dies_in:
            raise KeyboardInterrupt
        self.passes.append(list(rows))
        return [[row * row, "\u00e9"] for row in rows]


def run(out, work, rows=range(7), key="k"):
    return in_passes(out, "squares", [key], list(rows), 3, work, unit="row")


def file_of(out):
    (path,) = out.parent.glob(f"{out.name}.*.squares.jsonl")
    return path


def test_a_killed_run_goes_on_with_the_pass_it_was_in(tmp_path):
    whole = run(tmp_path / "whole", Work())
    assert [number for number, _ in whole] == [0, 1, 4, 9, 16, 25, 36]
    out = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        run(out, Work(dies_in=2))
    later = Work()
    assert run(out, later) == whole
    assert later.passes == [[6]]
    again = Work()
    assert run(out, again) == whole
    assert again.passes == []


@pytest.mark.parametrize("cut", [1, 9, -1])
def test_a_line_that_a_kill_cut_off_is_made_again(tmp_path, cut):
    out = tmp_path / "part"
    whole = run(out, Work())
    path = file_of(out)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:cut])
    later = Work()
    assert run(out, later) == whole
    assert later.passes == [[3, 4, 5], [6]]


@pytest.mark.parametrize("line", [b'{"made": 3}\n', b'{"made": [1]}\n', b"[]\n", b"{}\n"])
def test_a_line_that_is_none_of_ours_is_made_again(tmp_path, line):
    out = tmp_path / "part"
    whole = run(out, Work())
    path = file_of(out)
    path.write_bytes(line + path.read_bytes())
    later = Work()
    assert run(out, later) == whole
    assert len(later.passes) == 3


def test_one_run_at_a_time_writes_the_lines(tmp_path):
    out = tmp_path / "part"

    def slow(rows):
        with pytest.raises(ValueError, match=r"squares.jsonl: expected to be the only run"):
            run(out, Work())
        return Work()(rows)

    whole = run(out, slow)
    assert len(file_of(out).read_bytes().splitlines()) == 3
    assert run(out, Work()) == whole


def test_what_cannot_be_read_is_let_go(tmp_path):
    """The lock of a run that failed on entering is free for the next one."""
    out = tmp_path / "part"
    whole = run(out, Work())

    def breaks(row):
        raise KeyError(row)

    kept = Kept(out, "squares", ["k"], [breaks])
    with pytest.raises(KeyError) as _caught, kept:  # whose frames hold what it opened
        pass
    assert run(out, Work()) == whole


def test_nothing_to_do_is_nothing_done(tmp_path):
    work = Work()
    assert run(tmp_path / "x", work, []) == []
    assert work.passes == []


def test_what_decides_the_lines_tells_their_files_apart_until_they_are_removed(tmp_path):
    out, beside = tmp_path / "part", tmp_path / "party"
    for one, key in ((out, "a"), (out, "b"), (beside, "a")):
        work = Work()
        run(one, work, key=key)
        assert len(work.passes) == 3
    (tmp_path / "part.items.jsonl").write_text("a result")
    assert len(list(tmp_path.iterdir())) == 4
    remove_kept(out)
    assert sorted(path.name.split(".")[0] for path in tmp_path.iterdir()) == ["part", "party"]
    assert (tmp_path / "part.items.jsonl").exists()
