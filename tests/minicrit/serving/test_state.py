"""What the operators' page asks again and again: how the critic stands."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from minicrit.serving import service
from tests.minicrit.serving.running import running


def test_what_took_long_to_count_is_told_for_a_while(critic, tmp_path, monkeypatch):
    """Of a hundred thousand decisions it takes seconds of a core, of which verdicts want some."""
    now = 7.0  # what a busy machine takes in between does not matter
    clock = SimpleNamespace(monotonic=lambda: now, thread_time=time.thread_time)
    monkeypatch.setattr(service, "time", clock)
    with running(critic, tmp_path) as live:
        store, counted = live.service.store, []
        state = store.state

        def slow(*told):
            counted.append(told)
            end = time.thread_time() + 0.15
            while time.thread_time() < end:
                pass
            return state(*told)

        def asked():
            (row,) = live.judge(("trading", f"It rose {len(counted)} times, so it will."))
            body = {"request_id": row["request_id"], "decision": "agree", "operator": "ann"}
            assert live.ask("/v1/feedback", body).status_code == 201
            return live.http.get("/v1/state").json()["decisions"]

        assert [asked(), asked()] == [1, 2]  # what is quick is always that of now
        monkeypatch.setattr(store, "state", slow)
        assert asked() == 3
        now += 1.4
        assert asked() == 3
        assert len(counted) == 1
        now += 1000.0  # but not for ever
        assert asked() == 5


def test_pages_that_wait_for_a_count_do_not_keep_feedback_from_the_disk(
    critic, tmp_path, monkeypatch
):
    """They held all threads of the pool, and a decision waited as long as they did."""
    pages = min(32, (os.cpu_count() or 1) + 4) + 1  # one more than it has threads
    with running(critic, tmp_path) as live, ThreadPoolExecutor(pages + 1) as callers:
        (row,) = live.judge(("trading", "It rose, so it will."))
        asked, let_go = threading.Semaphore(0), threading.Event()
        state, count = live.service.state, live.service.store.state

        async def coming():
            asked.release()
            return await state()

        monkeypatch.setattr(live.service, "state", coming)
        monkeypatch.setattr(
            live.service.store, "state", lambda *told: (let_go.wait(120), count(*told))[1]
        )
        try:
            told = [callers.submit(live.http.get, "/v1/state", timeout=120) for _ in range(pages)]
            for _ in told:
                assert asked.acquire(timeout=60)
            body = {"request_id": row["request_id"], "decision": "agree", "operator": "ann"}
            given = callers.submit(live.ask, "/v1/feedback", body)
            assert given.result(timeout=20).status_code == 201
        finally:
            let_go.set()
        assert {one.result(timeout=60).status_code for one in told} == {200}
