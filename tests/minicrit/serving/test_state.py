"""What the operators' page asks again and again: how the critic stands."""

import time
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
