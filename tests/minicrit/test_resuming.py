"""Passes: killed at any moment, the same in the end, and nothing done twice."""

import pytest

from minicrit.resuming import in_passes


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


def run(path, work, rows=range(7)):
    return in_passes(path, list(rows), 3, work, unit="row", about="squares")


def test_a_killed_run_goes_on_with_the_pass_it_was_in(tmp_path):
    whole = run(tmp_path / "whole.jsonl", Work())
    assert [number for number, _ in whole] == [0, 1, 4, 9, 16, 25, 36]
    path = tmp_path / "part.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(path, Work(dies_in=2))
    later = Work()
    assert run(path, later) == whole
    assert later.passes == [[6]]
    again = Work()
    assert run(path, again) == whole
    assert again.passes == []


@pytest.mark.parametrize("cut", [1, 9, -1])
def test_a_line_that_a_kill_cut_off_is_made_again(tmp_path, cut):
    path = tmp_path / "part.jsonl"
    whole = run(path, Work())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:cut])
    later = Work()
    assert run(path, later) == whole
    assert later.passes == [[3, 4, 5], [6]]


@pytest.mark.parametrize("line", [b'{"made": 3}\n', b'{"made": [1]}\n', b"[]\n", b"{}\n"])
def test_a_line_that_is_none_of_ours_is_made_again(tmp_path, line):
    path = tmp_path / "part.jsonl"
    whole = run(path, Work())
    path.write_bytes(line + path.read_bytes())
    later = Work()
    assert run(path, later) == whole
    assert len(later.passes) == 3


def test_nothing_to_do_is_nothing_done(tmp_path):
    work = Work()
    assert run(tmp_path / "x.jsonl", work, []) == []
    assert work.passes == []
