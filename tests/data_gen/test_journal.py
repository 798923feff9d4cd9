"""The journal of what was asked: damage, odd characters, threads and other runs."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from data_gen.backends.protocol import Answer, Usage
from data_gen.journal import Journal


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
    path.write_bytes(b"rubbish\n" + whole)
    with pytest.raises(ValueError, match=r"journal.jsonl:1: expected a line of a journal"):
        Journal(path)


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
