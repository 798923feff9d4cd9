import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from minicrit.feedback.entries import AUDIT_SHARE, Request, chance_of
from minicrit.feedback.store import (
    ConflictError,
    FeedbackStore,
    UnavailableError,
    UnknownRequestError,
)
from tests.minicrit.feedback.asked import FLAWED, TEXT, VALID, ask

CHILD = Path(__file__).with_name("writing_child.py")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "new" / "store.db", patience=0.3) as store:
        yield store


def test_what_was_written_is_read_again(store):
    ask(store, experiment="e", arm="new", shadow=VALID, critic="c", at=12.5)
    span = {"start": 4, "end": 17}
    number = store.add_decision("r1", "correct", "ann", flaw_type="small_sample", evidence=span,
                                critique="Three trades.", note="n", at=13)  # fmt: skip
    assert store.add_outcome("r1", -2, "lost", at=14) == 1
    path = store.path
    store.close()
    with FeedbackStore(path) as again:
        (request,), (decision,), (outcome,) = (
            list(rows) for rows in (again.requests(), again.decisions(), again.outcomes())
        )
        found = again.request("r1")
    assert request["rationale"] == TEXT
    assert (request["experiment"], request["arm"], request["at"]) == ("e", "new", 12.5)
    assert request["critic"] == "c"
    assert (request["result"], request["shadow"]) == (FLAWED, VALID)
    assert request["certainty"] == pytest.approx(2.1972, abs=1e-4)  # ln 9 - ln 1
    assert decision == {
        "id": number, "request_id": "r1", "at": 13.0, "decision": "correct", "operator": "ann",
        "label": "flawed", "flaw_type": "small_sample", "evidence": span,
        "critique": "Three trades.", "note": "n", "idempotency_key": None,
    }  # fmt: skip
    assert outcome == {"id": 1, "request_id": "r1", "at": 14.0, "value": -2.0, "note": "lost"}
    assert found == {**request, "decisions": [decision]}


@pytest.mark.parametrize(("result", "decision", "more", "label"), [
    (FLAWED, "agree", {}, "flawed"), (VALID, "agree", {}, "valid"),
    (FLAWED, "disagree", {}, "valid"), (VALID, "disagree", {}, "flawed"),
    (VALID, "disagree", {"label": "flawed", "flaw_type": "other"}, "flawed"),
    (FLAWED, "correct", {"critique": "c"}, "flawed"),
    (FLAWED, "correct", {"label": "valid"}, "valid"),
])  # fmt: skip
def test_a_decision_says_a_label(store, result, decision, more, label):
    ask(store, result=result)
    store.add_decision("r1", decision, "ann", **more)
    assert [row["label"] for row in store.decisions()] == [label]


@pytest.mark.parametrize(("decision", "more", "words"), [
    ("perhaps", {}, "expected decision of agree, disagree, correct"),
    ("agree", {"label": "valid"}, "expected label flawed with `agree`"),
    ("disagree", {"label": "flawed"}, "expected label valid with `disagree`"),
    ("disagree", {"flaw_type": "other"}, "no flaw_type and no evidence where the label is valid"),
    ("correct", {"note": "n"}, "expected label, flaw_type, evidence or critique"),
    ("correct", {"flaw_type": "bad"}, "expected flaw_type of small_sample"),
    ("correct", {"critique": " "}, "expected critique with something in it"),
    ("agree", {"note": "\x1b[2J"}, "note: text with no control characters"),
    ("agree", {"note": "\ud800"}, "note: whole characters"),
    ("agree", {"operator": "a\nb"}, "expected operator in one line"),
    ("agree", {"operator": "x" * 201}, "expected operator of at most 200"),
    ("agree", {"idempotency_key": ""}, "expected idempotency_key with something"),
    ("correct", {"evidence": {"start": 3, "end": 3}}, "expected evidence with 0 <= start < end"),
    ("correct", {"evidence": {"start": 0, "end": 99}}, "end <= 47"),
    ("correct", {"evidence": {"start": True, "end": 9}}, "expected evidence"),
    ("correct", {"evidence": {"start": 0}}, "expected evidence"),
    ("agree", {"at": float("nan")}, "expected at as a finite number"),
])  # fmt: skip
def test_a_decision_that_makes_no_sense_is_refused(store, decision, more, words):
    ask(store)
    with pytest.raises(ValueError, match=words):
        store.add_decision("r1", decision, **{"operator": "ann", **more})
    assert list(store.decisions()) == []


@pytest.mark.parametrize(("more", "words"), [
    ({"result": {**FLAWED, "label": "bad"}}, "expected result.label of valid, flawed"),
    ({"result": {**FLAWED, "p_flawed": 1.5}}, "expected result.p_flawed from 0 to 1"),
    ({"result": {**FLAWED, "p_flawed": float("nan")}}, "result.p_flawed as a finite number"),
    ({"result": {**FLAWED, "threshold": 10**400}}, "result.threshold as a finite number"),
    ({"result": {**FLAWED, "more": float("inf")}}, "expected JSON values"),
    ({"shadow": {}}, "expected shadow.label"),
    ({"arm": "new"}, "expected experiment and arm together"),
    ({"request_id": "../\n"}, "expected request_id in one line"),
])  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused(store, more, words):
    with pytest.raises(ValueError, match=words):
        ask(store, **more)
    assert list(store.requests()) == []


def test_feedback_on_what_was_not_asked_is_refused(store):
    with pytest.raises(UnknownRequestError, match="one that was answered here, got nobody; copy"):
        store.add_decision("nobody", "agree", "ann")
    with pytest.raises(UnknownRequestError):
        store.add_outcome("nobody", 1.0)
    assert list(store.outcomes()) == []
    assert store.request("nobody") is None


def test_all_requests_of_a_batch_or_none(store):
    def made(name):
        return Request(request_id=name, domain="trading", rationale=TEXT, result=VALID)

    store.add_requests([made("a"), made("b")])
    with pytest.raises(ConflictError, match="request_id: expected a new one, got b"):
        store.add_requests([made("c"), made("b")])
    assert [row["request_id"] for row in store.requests()] == ["a", "b"]


def test_the_same_key_twice_is_one_decision(store):
    ask(store)
    first = store.add_decision("r1", "agree", "ann", note="n", idempotency_key="k")
    assert store.add_decision("r1", "agree", "ann", note="n", idempotency_key="k") == first
    with pytest.raises(ConflictError, match="got another operator; use a new key"):
        store.add_decision("r1", "agree", "bob", note="n", idempotency_key="k")
    assert store.add_decision("r1", "agree", "ann") == first + 1
    assert len(list(store.decisions())) == 2


@pytest.mark.parametrize("statement", [
    "UPDATE requests SET domain = 'x'", "DELETE FROM requests",
    "UPDATE decisions SET label = 'valid'", "DELETE FROM decisions",
    "UPDATE outcomes SET value = 1", "DELETE FROM outcomes",
    "INSERT OR REPLACE INTO outcomes (id, request_id, at, value) VALUES (1, 'r1', 0, 9)",
    "REPLACE INTO decisions (id, request_id, at, decision, operator, label) "
    "VALUES (1, 'r1', 0, 'agree', 'x', 'valid')",
    "REPLACE INTO requests SELECT seq, request_id, at, 'x', rationale, result, experiment, arm, "
    "shadow, unit, answered, shadowed, certainty, chance, critic FROM requests",
])  # fmt: skip
def test_nothing_is_ever_changed_even_by_another_program(store, statement):
    ask(store)
    store.add_decision("r1", "agree", "ann")
    store.add_outcome("r1", 2)
    other = sqlite3.connect(store.path)
    before = list(other.iterdump())
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute(statement)
    assert list(other.iterdump()) == before
    other.close()


def test_the_file_is_durable_private_and_ours_alone(store, tmp_path):
    with store._connection() as connection:
        pragmas = {name: connection.execute(f"PRAGMA {name}").fetchone()[0]
                   for name in ("journal_mode", "synchronous", "foreign_keys")}  # fmt: skip
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert {f"{os.stat(f).st_mode & 0o777:o}" for f in store.path.parent.iterdir()} == {"600"}
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all\n" * 50)
    with pytest.raises(ValueError, match=r"notes.txt: expected a feedback database, got file is"):
        FeedbackStore(text)
    assert text.read_text().startswith("not a database")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(ValueError, match="another program's database"):
        FeedbackStore(tmp_path / "other.db")
    with sqlite3.connect(store.path) as newer:
        newer.execute("PRAGMA user_version = 9")
    with pytest.raises(ValueError, match="of version 4 at most, got version 9; use the newer"):
        FeedbackStore(store.path)


def test_a_locked_file_is_said_and_nothing_is_acknowledged(store):
    ask(store)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=r"database is locked; .* try again"):
        store.add_decision("r1", "agree", "ann")
    assert 0.25 < time.monotonic() - began < 3
    other.execute("COMMIT")
    other.close()
    assert list(store.decisions()) == []
    assert store.add_decision("r1", "agree", "ann") == 1


def test_a_store_that_was_moved_away_takes_nothing_more(store):
    ask(store)
    store.path.rename(store.path.with_name("away.db"))
    with pytest.raises(UnavailableError, match="expected the database that was opened"):
        store.add_decision("r1", "agree", "ann")


def test_a_closed_store_and_a_bad_place_say_so(store, tmp_path):
    store.close()
    with pytest.raises(UnavailableError, match="got a closed one"):
        ask(store)
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="mend the path"):
        FeedbackStore(tmp_path / "file" / "store.db")


def child(path, name, *more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, str(CHILD), str(path), name, *more],
                            stdout=subprocess.PIPE, text=True, env=environment)  # fmt: skip


def kept(path):
    with FeedbackStore(path) as store:
        return {(row["id"], row["idempotency_key"]) for row in store.decisions()}


def acknowledged(text):
    whole = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {(int(number), key) for number, key in whole}


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path):
    """Two processes of three threads each; both are killed at random moments, again and again."""
    path, draw = tmp_path / "store.db", random.Random(4)
    said, turn = set(), 0
    while turn < 4 or (len(said) <= 20 and turn < 12):  # a busy machine writes little in between
        writers = [child(path, f"{turn}{name}") for name in "ab"]
        for writer in writers:
            writer.stdout.readline()  # under load from here on
        time.sleep(draw.uniform(0.02, 0.25))
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        new = set().union(*(acknowledged(writer.communicate()[0]) for writer in writers))
        assert [writer.returncode for writer in writers] == [-signal.SIGKILL] * 2
        said |= new
        assert said <= kept(path)
        turn += 1
        assert len(kept(path)) - len(said) <= 6 * turn  # committed, not yet said
    assert len(said) > 20
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()


def test_a_full_disk_is_said_and_loses_nothing(tmp_path):
    """A process whose files may not grow beyond 400 kB."""
    path = tmp_path / "store.db"
    out, _ = child(path, "full", "400000").communicate(timeout=60)
    *lines, last = out.splitlines()
    assert last.startswith(f"refused {path}: expected a database that can be written, got ")
    assert len(lines) > 5
    assert {(int(n), key) for n, key in map(str.split, lines)} == kept(path)


def test_many_threads_write_and_read_at_once(store):
    failed = []

    def work(name):
        try:
            for n in range(10):
                ask(store, f"{name}-{n}")
                store.add_decision(f"{name}-{n}", "agree", name, idempotency_key=f"{name}-{n}")
                assert store.request(f"{name}-{n}")["decisions"][0]["operator"] == name
                store.queue(5)
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [row["id"] for row in store.decisions()] == list(range(1, 61))
    assert len(store._idle) <= 6


def test_the_queue_takes_turns_between_the_least_certain_and_the_drawn(store):
    names = [f"q{n}" for n in range(40)]
    for n, name in enumerate(names):
        said = {"label": "flawed", "p_flawed": 0.99 - n * 0.012, "threshold": 0.5}
        ask(store, name, said, f"Text {n}.")
    drawn = sorted((n for n in names if chance_of(n) < AUDIT_SHARE), key=chance_of)
    doubtful = [name for name in reversed(names) if name not in drawn]
    assert 3 < len(drawn) < 14
    seen = []
    while queue := store.queue(3):
        assert [row["request_id"] for row in store.queue(1)] == [queue[0]["request_id"]]
        seen.append(queue[0]["request_id"])
        store.add_decision(seen[-1], "agree", "ann")
    assert seen[:6] == [doubtful[0], drawn[0], doubtful[1], drawn[1], doubtful[2], drawn[2]]
    assert sorted(seen) == sorted(names)
    assert [name for name in seen if name in drawn] == drawn
    assert [name for name in seen if name not in drawn] == doubtful
    with pytest.raises(ValueError, match="expected limit from 1 to 10000, got 0"):
        store.queue(0)


def test_a_rationale_stands_in_the_queue_once_for_each_answer_and_arm(store):
    other = {**VALID, "p_flawed": 0.4}
    for name, result, more in [
        ("a", FLAWED, {}), ("b", FLAWED, {"text": f"{TEXT}  "}), ("c", other, {}),
        ("d", FLAWED, {"experiment": "e", "arm": "new"}), ("e", FLAWED, {}), ("f", other, {}),
    ]:  # fmt: skip
        ask(store, name, result, **more)

    def queued():
        return {row["request_id"] for row in store.queue(9)}

    assert queued() == {"d", "e", "f"}
    store.add_decision("a", "agree", "ann")  # of e the first asking
    assert queued() == {"d", "f"}
    ask(store, "g")
    assert queued() == {"d", "f"}
    store.add_decision("f", "disagree", "ann")
    store.add_decision("d", "agree", "ann")
    assert queued() == set()


def test_the_queue_takes_turns_by_rationales_however_many_decisions_they_get(store):
    for n in range(60):
        ask(store, f"q{n}", FLAWED, f"Text {n}.")
    seen = []
    for _ in range(10):
        (row,) = store.queue(1)
        seen.append(row["audit"])
        for operator in ("ann", "bob"):
            store.add_decision(row["request_id"], "agree", operator)
    assert seen == [False, True] * 5


def test_all_requests_of_a_rationale_are_drawn_for_the_audit_or_none(store):
    for n in range(300):
        ask(store, f"r{n}", FLAWED, f"Text {n % 30}.")
    drawn = {}
    for row in store.requests():
        drawn.setdefault(row["rationale"], set()).add(row["audit"])
    assert drawn == {f"Text {n}.": {chance_of(f"r{n}") < AUDIT_SHARE} for n in range(30)}
    assert store.audited() == sum(chance_of(f"r{n}") < AUDIT_SHARE for n in range(30))


def test_the_audit_is_a_fair_draw_by_the_id_alone():
    chances = sorted(chance_of(f"request {n}") for n in range(4000))
    gap = max(abs(c - (n + 0.5) / 4000) for n, c in enumerate(chances))
    assert gap < 1.63 / 4000**0.5  # Kolmogorov-Smirnov at 1 %
    assert chance_of("a") == chance_of("a") != chance_of("b")
