"""The journal of what was asked: damage, odd characters, threads and other runs."""

import errno
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from data_gen.backends.protocol import Answer, Usage
from data_gen.journal import Journal, Past


def test_a_broken_last_line_is_cut_off_and_damage_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    answer = Answer("{}", "end", Usage(1, 2))
    with Journal(path) as journal:
        assert journal.reserve("k", 0.5, None)
        journal.settle("k", answer, 0.1, 2.5)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "sent", "key": "l", "res')
    with Journal(path) as journal:
        assert journal.answers == {"k": answer}
        assert (journal.spent, journal.reserved) == (0.1, 0)
    assert path.read_bytes() == whole
    for damaged in (b"rubbish", b"[" * 100_000):
        path.write_bytes(whole + damaged + b"\n")
        with pytest.raises(ValueError, match=r"journal.jsonl:3: expected a line of a journal"):
            Journal(path)
        with pytest.raises(ValueError, match=r"journal.jsonl:3: expected a line of a journal"):
            Past.read(path)


@pytest.mark.parametrize("odd", ["\0", "\r\n", "\x1b[2J", "\u2028", "\ud800", "\N{GRINNING FACE}"])
def test_odd_characters_of_a_server_damage_no_journal(odd, tmp_path):
    path = tmp_path / "journal.jsonl"
    answer = Answer(f"a{odd}b", "end")
    with Journal(path) as journal:
        assert journal.reserve("k", 0.5, None)
        journal.release("k", odd)
        assert journal.reserve("k", 0.5, None)
        journal.settle("k", answer, 0.1, 1.0)
    with Journal(path) as journal:
        assert journal.answers == {"k": answer}
        assert journal.counts == {"sent": 2, "failed": 1, "answer": 1}


@contextmanager
def room_for(size):
    """No file can grow beyond this size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [100, 20_000])  # within a buffer, and more than one
def test_nothing_is_written_behind_what_a_full_disk_leaves_of_a_line(tmp_path, size):
    path, long = tmp_path / "journal.jsonl", Answer("x" * size, "end", Usage(1, 2))
    with Journal(path) as journal:
        assert journal.reserve("k", 1.0, None)
        assert journal.reserve("l", 1.0, None)
        with room_for(path.stat().st_size + size // 2), pytest.raises(OSError, match="large"):
            journal.settle("k", long, 0.1, 1.0)
        assert "k" not in journal.answers
        with room_for(path.stat().st_size), pytest.raises(OSError, match="large"):
            journal.settle("k", long, 0.1, 1.0)
        journal.settle("l", Answer("{}", "end"), 0.2, 1.0)
        known = (journal.answers, journal.spent, journal.reserved)
    with Journal(path) as journal:
        assert (journal.answers, journal.spent, journal.reserved) == known
        assert (list(journal.answers), journal.spent, journal.reserved) == (["l"], 0.2, 1.0)


def test_what_was_not_synced_does_not_count_twice(tmp_path, monkeypatch):
    def broken(_):
        raise OSError(errno.EIO, "broken")

    with Journal(tmp_path / "j") as journal:
        assert journal.reserve("k", 1.0, None)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(OSError, match="broken"):
                journal.settle("k", Answer("{}", "end"), 0.1, 1.0)
        journal.settle("k", Answer("{}", "end"), 0.1, 1.0)
    with Journal(tmp_path / "j") as journal:
        assert (journal.spent, journal.counts) == (0.1, {"sent": 1, "answer": 1})


def test_a_line_that_is_taken_in_parts_is_whole(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, some: write(file, some[:7]))
    with Journal(tmp_path / "j") as journal:
        assert journal.reserve("k", 1.0, None)
    with Journal(tmp_path / "j") as journal:
        assert journal.reserved == 1.0


def test_what_is_committed_can_be_told_while_others_send(tmp_path):
    with Journal(tmp_path / "j") as journal, ThreadPoolExecutor(1) as pool:
        journal.intend("b", {str(n): 0.001 for n in range(50_000)})
        sending = pool.submit(lambda: [journal.reserve(f"k{n}", 1.0, None) for n in range(50)])
        while not sending.done():
            assert 49 < journal.committed < 101
        assert all(sending.result())


def test_one_run_at_a_time(tmp_path):
    with Journal(tmp_path / "j"), pytest.raises(ValueError, match="the only run"):
        Journal(tmp_path / "j")
