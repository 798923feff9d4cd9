"""The exact cache: what is the same question, what never is, and how it stays small."""

import os
import random
import sqlite3
import stat
import subprocess
import sys
import time

import pytest

from minicrit.serving import answers as answering
from minicrit.serving.answers import Answers, key_of, normalised
from tests.minicrit.serving.running import items


class Known:
    """What a key needs of a critic."""

    def __init__(self, **other):
        self.identity, self.prompt_version, self.threshold = "base+adapter+c", "plain-1", 0.5
        self.name = "checkpoints/mine"
        self.__dict__.update(other)


def key(text="It held.", domain="general", decoding="verdict", **critic):
    return key_of(Known(**critic), domain, normalised(text), decoding)


@pytest.fixture
def answers(tmp_path):
    found = Answers(tmp_path / "a.sqlite3", 100)
    yield found
    found.close()


def test_what_is_normalised_and_nothing_else():
    assert normalised("Cafe\u0301 \n\t") == "Caf\u00e9"
    for text in ("  It held.", "IT HELD.", "It  held.", "It held", "It held .", "\ufb01t"):
        assert normalised(text) == text
    assert key("Cafe\u0301") == key("Caf\u00e9 ")


def test_every_part_of_a_question_counts():
    same = key()
    others = [key("It held!"), key("it held."), key("It  held."), key(domain="trading"),
              key(decoding="greedy-160"), key(identity="base+adapter+d"), key(threshold=0.51),
              key(threshold=0.5000000000000001), key(prompt_version="plain-2"),
              key(name="checkpoints/yours")]  # fmt: skip
    assert len({same, *others}) == len(others) + 1


def test_what_an_older_guard_or_taxonomy_answered_is_stale(monkeypatch):
    now = key()
    monkeypatch.setattr(answering, "GUARD", "an older one")
    older = key()
    monkeypatch.setattr(answering, "RULES", "other sums")
    counted_otherwise = key()
    monkeypatch.setattr(answering, "_WORDS", [["small_sample", "other_flag", "low"]])
    assert len({now, older, counted_otherwise, key()}) == 4


def test_parts_do_not_run_into_each_other():
    assert key("b\nc", domain="a") != key("c", domain="a\nb")
    assert key('b", "c') != key("b", decoding='c", "verdict')


def near_misses(count):
    """Rationales with one letter, word or sign changed, none of them one of the originals."""
    dice = random.Random(7)
    texts = [text for _, text in items(500)]
    known = set(texts)
    while count:
        text = dice.choice(texts)
        at = dice.randrange(len(text))
        words = text.split(" ")
        place = dice.randrange(len(words))
        changed = dice.choice((
            text[:at] + dice.choice("abcdefghijklmnopqrstuvwxyz .,0123456789") + text[at + 1 :],
            text[:at] + text[at + 1 :],
            text[:at] + text[at].swapcase() + text[at + 1 :],
            " ".join([*words[:place], dice.choice(("not", "some", "all", "never")),
                      *words[place + 1 :]]),
            " ".join(words[:place] + words[place + 1 :]),
        ))  # fmt: skip
        if normalised(changed) not in known:
            count -= 1
            yield changed


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_near_misses_hit_nothing(tmp_path, count):
    cache = Answers(tmp_path / "a.sqlite3", 10_000)
    cache.put((key(text), {"label": text}) for _, text in items(500))
    cache.flush()
    start = time.process_time()
    wrong = sum(cache.get(key(text)) is not None for text in near_misses(count))
    spent = time.process_time() - start
    assert wrong == 0
    assert all(cache.get(key(text)) == {"label": text} for _, text in items(500))
    assert spent < 60
    cache.close()


def test_an_answer_is_there_before_and_after_it_is_written(answers):
    answers.put([(key(), {"label": "valid"})])
    assert answers.get(key()) == {"label": "valid"}
    assert answers.count == 0
    answers.flush()
    assert answers.count == 1
    assert answers.get(key()) == {"label": "valid"}
    assert answers.get(key("other")) is None


def test_the_longest_unused_go_first(tmp_path):
    cache = Answers(tmp_path / "a.sqlite3", 100)
    for at in range(101):
        cache.put([(key(str(at)), {"n": at})])
        cache.get(key("0"))  # from memory: not yet a use of the file
        cache.flush()
        assert cache.get(key("0")) == {"n": 0}
    assert cache.count <= 100
    assert cache.get(key("0")) == {"n": 0}
    assert cache.get(key("1")) is None
    assert cache.get(key("100")) == {"n": 100}
    cache.close()


def test_what_cannot_be_written_is_dropped_and_does_not_stay_in_the_way(answers):
    answers.put([(key("a"), {"p": float("nan")})])
    answers.flush()
    answers.put([(key("b"), {"p": 0.5})])
    answers.flush()
    assert (answers.get(key("a")), answers.get(key("b")), answers.count) == (None, {"p": 0.5}, 1)


def test_only_the_owner_can_read_what_was_found_in_texts(tmp_path):
    before = os.umask(0o022)
    try:
        cache = Answers(tmp_path / "a.sqlite3", 100)
        cache.put([(key(), {"evidence": {"text": "the patient's name"}})])
        cache.flush()
        found = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
        cache.close()
    finally:
        os.umask(before)
    assert found == {f"a.sqlite3{end}": 0o600 for end in ("", "-wal", "-shm")}


def test_processes_share_it(answers, tmp_path):
    code = """
import sys
from pathlib import Path
from minicrit.serving import answers as answering
from minicrit.serving.answers import Answers
cache = Answers(Path(sys.argv[1]), 100)
cache.put([(bytes(32), {"n": 3})])
cache.close()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.sqlite3")], check=True)
    assert answers.get(bytes(32)) == {"n": 3}


def test_another_process_that_closes_it_takes_no_answer_away(answers, tmp_path):
    code = (
        "import sys; from pathlib import Path; from minicrit.serving.answers import Answers\n"
        "Answers(Path(sys.argv[1]), 100).close()"
    )
    for n in range(3):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.sqlite3")], check=True)
        answers.put([(key(str(n)), {"n": n})])
        answers.flush()
        assert (tmp_path / "a.sqlite3-wal").exists()
    assert [answers.get(key(str(n))) for n in range(3)] == [{"n": 0}, {"n": 1}, {"n": 2}]
    with sqlite3.connect(tmp_path / "a.sqlite3") as other:
        assert other.execute("SELECT count(*) FROM answers").fetchone() == (3,)


def test_an_answer_to_another_question_is_none(answers, tmp_path):
    answers.put([(key("a"), {"n": 1}), (key("b"), {"n": 2})])
    answers.flush()
    with sqlite3.connect(tmp_path / "a.sqlite3") as other:
        rows = dict(other.execute("SELECT key, answer FROM answers"))
        other.execute("UPDATE answers SET answer = ? WHERE key = ?", (rows[key("b")], key("a")))
    assert (answers.get(key("a")), answers.get(key("b"))) == (None, {"n": 2})


def test_a_file_in_use_is_not_to_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "_BUSY_S", 0.1)
    with sqlite3.connect(tmp_path / "a.sqlite3") as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ValueError, match=r"a.sqlite3: expected to open .* locked; mend"):
            Answers(tmp_path / "a.sqlite3", 10)


def test_a_damaged_answer_is_none_and_a_foreign_file_is_refused(answers, tmp_path):
    answers.put([(key(), {"n": 1})])
    answers.flush()
    for damaged in ('{"n": ', "[" * 100_000):
        with sqlite3.connect(tmp_path / "a.sqlite3") as other:
            other.execute("UPDATE answers SET answer = ?", (damaged,))
        assert answers.get(key()) is None
    (tmp_path / "b.sqlite3").write_bytes(b"no database " * 500)
    with pytest.raises(ValueError, match=r"b.sqlite3: expected a file of answers, got .*; move"):
        Answers(tmp_path / "b.sqlite3", 10)


def test_a_file_that_cannot_be_written_is_said_once_until_it_can(tmp_path, caplog, monkeypatch):
    """A full disk was said with every batch, to a log that may lie on it."""
    monkeypatch.setattr(answering, "_BUSY_S", 0.01)
    kept = Answers(tmp_path / "answers.db", 10)
    with sqlite3.connect(tmp_path / "answers.db", isolation_level=None) as other:
        for told in (1, 2):
            other.execute("BEGIN IMMEDIATE")
            for n in range(3):
                kept.put([(b"%d" % n, {"n": n})])
                kept.flush()
            other.execute("ROLLBACK")
            assert caplog.text.count("1 answers were not kept: ") == told
            kept.put([(b"good", {})])
            kept.flush()
    assert kept.count == 1
    kept.close()
    other.close()
