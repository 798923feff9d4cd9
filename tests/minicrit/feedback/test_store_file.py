"""The store's file: older versions brought up to date, and processes that share it."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from minicrit.feedback.entries import AUDIT_SHARE, chance_of, unit_of
from minicrit.feedback.store import FeedbackStore
from tests.minicrit.feedback.asked import FLAWED, ask


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "new" / "store.db", patience=0.3) as store:
        yield store


def test_a_file_of_the_first_version_is_brought_up_to_date(store):
    for n in range(40):
        ask(store, f"r{n}", FLAWED, f"Text {n % 4}.")
    rows = [(name, chance_of(name)) for name in (row["request_id"] for row in store.requests())]
    path = store.path
    store.close()
    with sqlite3.connect(path) as older:  # as the first version had it: each request its own draw
        older.execute("DROP TRIGGER requests_no_update")
        older.executemany("UPDATE requests SET chance = ?2 WHERE request_id = ?1", rows)
        older.execute("CREATE TRIGGER requests_no_update BEFORE UPDATE ON requests "
                      "BEGIN SELECT RAISE(ABORT, 'requests is append-only'); END")  # fmt: skip
        older.execute("DROP INDEX requests_by_unit")
        older.execute("ALTER TABLE requests DROP COLUMN critic")
        older.execute("PRAGMA user_version = 1")
    with FeedbackStore(path) as again:
        found = {row["request_id"]: row["audit"] for row in again.requests()}
        assert found == {f"r{n}": chance_of(f"r{n % 4}") < AUDIT_SHARE for n in range(40)}
        with again._connection() as connection, pytest.raises(sqlite3.IntegrityError):
            connection.execute("UPDATE requests SET chance = 0")
    FeedbackStore(path).close()


def test_in_a_file_of_the_second_version_nobody_knows_the_critic(store):
    ask(store)
    path = store.path
    store.close()
    with sqlite3.connect(path) as older:
        older.execute("ALTER TABLE requests DROP COLUMN critic")
        older.execute("PRAGMA user_version = 2")
    with FeedbackStore(path) as again:
        ask(again, "r2", critic="c")
        assert [row["critic"] for row in again.requests()] == [None, "c"]


def test_what_the_third_version_took_for_one_rationale_is_told_apart(store):
    """In it 5 Gb were 5 GB; the second text gets the draw of its own first request."""
    for name, text in (("r1", "5 Gb"), ("r2", "5 GB"), ("r3", "5 GB")):
        ask(store, name, text=text)
    path = store.path
    store.close()
    with sqlite3.connect(path) as older:
        older.execute("DROP TRIGGER requests_no_update")
        older.execute("UPDATE requests SET unit = 'one', chance = ?", (chance_of("r1"),))
        older.execute("CREATE TRIGGER requests_no_update BEFORE UPDATE ON requests "
                      "BEGIN SELECT RAISE(ABORT, 'requests is append-only'); END")  # fmt: skip
        older.execute("PRAGMA user_version = 3")
    with FeedbackStore(path) as again, again._connection() as connection:
        found = [tuple(row) for row in connection.execute("SELECT unit, chance FROM requests")]
        assert found == [
            (unit_of("trading", text), chance_of(first))
            for text, first in (("5 Gb", "r1"), ("5 GB", "r2"), ("5 GB", "r2"))
        ]
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("UPDATE requests SET chance = 0")


def test_another_process_that_closes_the_file_takes_nothing_that_was_acknowledged(store):
    """With two connections here, as two callers at once open them; then kill -9, as it were.

    SQLite's locks are the process's: whoever opens and closes the file beside it would drop them,
    the other process would believe to be the last one, and remove the log under this one.
    """
    ask(store)
    with store._connection(), store._connection():
        pass
    code = (
        "import sys; from pathlib import Path; from minicrit.feedback.store import "
        "FeedbackStore\nwith FeedbackStore(Path(sys.argv[1])) as s: print(len(list(s.requests())))"
    )
    seen = subprocess.run([sys.executable, "-c", code, str(store.path)], check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert seen.stdout == "1\n"
    log = Path(f"{store.path}-wal")
    assert log.exists()
    store.add_decision("r1", "agree", "ann")
    copies = [Path(shutil.copy(file, store.path.parent.parent)) for file in (store.path, log)]
    with FeedbackStore(copies[0]) as after:
        assert len(list(after.decisions())) == 1


def test_processes_that_make_a_file_together_all_find_it(tmp_path):
    code = """
import sys
from pathlib import Path
from minicrit.feedback.store import FeedbackStore
from minicrit.serving.answers import Answers
for n in range(25):
    sys.stdin.readline()
    FeedbackStore(Path(sys.argv[1]) / f"{n}.db").close()
    Answers(Path(sys.argv[1]) / f"{n}.answers", 10).close()
    print(n, flush=True)
"""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    try:
        for n in range(25):
            for worker in workers:
                worker.stdin.write("\n")
                worker.stdin.flush()
            assert [worker.stdout.readline() for worker in workers] == [f"{n}\n"] * 3
        assert [worker.wait(30) for worker in workers] == [0] * 3
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
