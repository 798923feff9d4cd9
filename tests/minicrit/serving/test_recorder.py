"""A database that does not take what was answered."""

import sqlite3
import time
from contextlib import closing

from tests.minicrit.serving.running import items, running, wait_for


def test_a_database_that_cannot_be_written_is_not_ready_and_is_said_once(critic, tmp_path, caplog):
    """It was ready until 4,096 answers waited, with a traceback in the log each second."""
    with running(critic, tmp_path) as live:
        live.service.store._patience = 0.05
        ready = lambda: live.http.get("/readyz").status_code  # noqa: E731
        with closing(sqlite3.connect(tmp_path / "feedback.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            (row,) = live.judge(items(1)[0])  # who asks is answered all the same
            wait_for(lambda: ready() == 503)
            time.sleep(2.5)  # two tries more
            assert (ready(), live.http.get("/healthz").status_code) == (503, 200)
            other.execute("ROLLBACK")
        wait_for(lambda: ready() == 200)
        assert live.service.store.request(row["request_id"]) is not None
    assert caplog.text.count("1 answers could not be written: ") == 1
    assert caplog.text.count("answers are written again") == 1
    assert "Traceback" not in caplog.text


def test_feedback_may_be_given_to_another_service_of_the_database(critic, tmp_path):
    """Until the first one had written its answer, some 50 ms, the other one knew of none."""
    with running(critic, tmp_path) as first, running(critic, tmp_path) as other:
        for number, (path, more) in enumerate([
            ("/v1/feedback", {"decision": "agree", "operator": "ann"}),
            ("/v1/outcome", {"value": 1.5}),
        ]):  # fmt: skip
            (row,) = first.judge(items(1, start=number)[0])
            given = other.ask(path, {"request_id": row["request_id"], **more})
            assert given.status_code == 201, given.text
        assert other.ask("/v1/outcome", {"request_id": "0" * 32, "value": 1}).status_code == 404
