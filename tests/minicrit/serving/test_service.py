"""Answers over real HTTP: equal to the offline ones, recorded, found again, dropped, refused."""

import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from minicrit.config import Recipe
from minicrit.feedback.store import FeedbackStore, Request, UnavailableError
from minicrit.serving import desk, serve
from minicrit.serving.bodies import MOST_ITEMS
from minicrit.serving.recorder import Recorder
from minicrit.serving.results import result_of
from minicrit.serving.serve import bound
from minicrit.serving.worker import Answer
from minicrit.serving_config import ServeConfig
from minicrit.taxonomy import FLAW_TYPES
from tests.minicrit.serving.running import items, running, wait_for

SWANS = ("general", "Three of three swans were white, so all swans are white.")


def test_every_answer_equals_the_offline_one_in_mixed_concurrent_batches(live, critic):
    asked = items(60, start=1000)
    kinds = ["critique" if at % 10 == 0 else "verdict" for at in range(60)]
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(live.judge, item, kind=kind)
                for item, kind in zip(asked, kinds, strict=True)]  # fmt: skip
    found = [job.result()[0] for job in jobs]
    offline = critic.verdict(asked)
    assert [row["p_flawed"] for row in found] == pytest.approx([v.p_flawed for v in offline],
                                                              abs=1e-6)  # fmt: skip
    assert [row["label"] for row in found] == [v.label for v in offline]
    assert [row["domain"] for row in found] == [domain for domain, _ in asked]
    written = critic.critique([i for i, k in zip(asked, kinds, strict=True) if k == "critique"],
                              max_new_tokens=8)  # fmt: skip
    assert [row["text"] for row in found if row["text"]] == [w.text for w in written]
    sizes = live.service.instruments.batch.labels("verdict")
    assert sizes._sum.get() / sum(b.get() for b in sizes._buckets) > 1.2  # some were together


def test_fields_of_an_answer(live, critic):
    (row,) = live.judge(SWANS)
    (verdict,) = critic.verdict([SWANS])
    assert re.fullmatch("[0-9a-f]{32}", row["request_id"])
    assert row["valid"] == (row["label"] == "valid")
    assert row["confidence"] == pytest.approx(max(verdict.p_flawed, 1 - verdict.p_flawed))
    assert (row["threshold"], row["calibrated"], row["certificate"]) == (0.5, False, None)
    assert (row["model"], row["prompt_version"]) == ("tiny", "plain-1")
    assert (row["flaw_type"], row["flags"], row["evidence"], row["arm"]) == (None, [], None, None)


def test_one_rationale_may_stand_alone_and_a_request_has_the_callers_id(live):
    answer = live.ask("/v1/verdict", {"rationale": SWANS[1]}, **{"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.json().keys() == {"results"}  # a second request_id would be taken for a result's
    assert answer.json()["results"][0]["domain"] == "general"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_same_text_is_found_again_and_a_twin_is_not(live):
    asked = ("planning", "The bridge held, so it holds.")
    first, again = (live.judge(asked)[0] for _ in range(2))
    assert (first["cached"], again["cached"]) == (False, True)
    assert first["request_id"] != again["request_id"]
    assert {**again, **{k: first[k] for k in ("request_id", "cached", "latency_ms")}} == first
    for other in (("planning", "The bridge held, so it held."),
                  ("general", "The bridge held, so it holds."),
                  ("planning", "the bridge held, so it holds.")):  # fmt: skip
        assert not live.judge(other)[0]["cached"]
    assert live.judge(("planning", "The bridge held, so it holds. \n"))[0]["cached"]
    assert not live.judge(asked, kind="critique")[0]["cached"]


def test_feedback_on_an_answer_that_is_not_yet_written_is_kept_once(live):
    (row,) = live.judge(("trading", "It fell, so it must rise."))
    body = {"request_id": row["request_id"], "decision": "disagree", "operator": "ann",
            "idempotency_key": "k1"}  # fmt: skip
    first, second = live.ask("/v1/feedback", body), live.ask("/v1/feedback", body)
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    became = {"request_id": row["request_id"], "value": -2}
    assert live.ask("/v1/outcome", became).status_code == 201
    stored = live.service.store.request(row["request_id"])
    assert stored["rationale"] == "It fell, so it must rise."
    assert stored["result"] == row
    assert [d["decision"] for d in stored["decisions"]] == ["disagree"]


def test_what_feedback_is_refused(live):
    (row,) = live.judge(("trading", "It rose, so it must fall."))
    known = {"request_id": row["request_id"], "decision": "correct", "operator": "ann"}
    cases = [
        ({**known, "request_id": "0" * 32, "decision": "agree"}, 404, "not_found"),
        ({**known, "label": "perhaps"}, 422, "unprocessable"),
        ({**known, "label": "flawed", "evidence": {"start": 5, "end": 500}}, 422, "unprocessable"),
        ({**known, "request_id": "../../etc/passwd"}, 422, "unprocessable"),
        ({**known, "operator": "a\nb"}, 422, "unprocessable"),
    ]
    for body, status, code in cases:
        answer = live.ask("/v1/feedback", body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
        assert status != 404 or "copy that of a result" in answer.text
    key = {**known, "decision": "agree", "idempotency_key": "k2"}
    assert live.ask("/v1/feedback", key).status_code == 201
    answer = live.ask("/v1/feedback", {**key, "operator": "bob"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")


def test_the_queue_holds_what_nobody_decided_on(live):
    (row,) = live.judge(("medical", "He coughs, so he has a cold and nothing else."))
    queued = {r["request_id"]: r for r in live.http.get("/v1/queue?limit=200").json()["items"]}
    assert queued[row["request_id"]]["rationale"] == "He coughs, so he has a cold and nothing else."
    live.ask("/v1/feedback", {"request_id": row["request_id"], "decision": "agree",
                              "operator": "ann"})  # fmt: skip
    left = live.http.get("/v1/queue?limit=200").json()["items"]
    assert row["request_id"] not in {r["request_id"] for r in left}
    assert live.http.get("/v1/queue?limit=0").status_code == 422
    assert live.http.get("/v1/state").json()["decisions"] >= 1


def test_metrics_health_taxonomy(live):
    live.judge(SWANS)
    page = live.http.get("/metrics").text
    for line in ('minicrit_requests_total{path="/v1/verdict",status="200"}', "minicrit_batch_items",
                 "minicrit_waiting_items 0.0", 'minicrit_verdicts_total{cached="'):  # fmt: skip
        assert line in page
    assert live.http.get("/healthz").json() == {"status": "ok"}
    assert live.http.get("/readyz").json() == {"status": "ready"}
    for path in ("/", "/healthz", "/readyz"):  # as many a monitor asks
        told, got = live.http.head(path), live.http.get(path)
        assert (told.status_code, told.content) == (200, b"")
        assert told.headers["content-length"] == str(len(got.content))
    assert live.http.head("/v1/verdict").status_code == 405
    words = live.http.get("/v1/taxonomy").json()
    assert "small_sample" in {t["name"] for t in words["flaw_types"]}


class Slow:
    """A critic that waits for leave before each forward."""

    def __init__(self, critic):
        self._critic, self.leave, self.seen = critic, threading.Semaphore(0), []

    def __getattr__(self, name):
        return getattr(self._critic, name)

    def p_flawed(self, asked, **options):
        self.seen.append(list(asked))
        assert self.leave.acquire(timeout=30)
        return self._critic.p_flawed(asked, **options)


@pytest.fixture
def slow(critic, tmp_path):
    held = Slow(critic)
    with running(held, tmp_path, most_waiting=4) as live:
        yield held, live
        for _ in range(50):
            held.leave.release()


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(slow):
    held, live = slow
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(live.judge, items(1)[0])
        wait_for(lambda: held.seen)
        waiting = pool.submit(live.judge, *items(4, start=10))
        wait_for(lambda: live.service.panel.desk.worker.waiting == 4)
        refused = live.ask("/v1/verdict", {"rationale": "One more."})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "busy"
        for _ in range(10):
            held.leave.release()
        assert len(first.result()) == 1
        assert len(waiting.result()) == 4
    assert live.judge(items(1, start=30)[0])


def test_what_a_vanished_client_asked_is_never_judged(slow):
    held, live = slow
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(live.judge, items(1)[0])
        wait_for(lambda: held.seen)
        with httpx.Client(base_url=live.url, timeout=0.3, trust_env=False) as leaving:
            body = {"items": [{"rationale": "Nobody waits for this."}] * 4}
            with pytest.raises(httpx.ReadTimeout):
                leaving.post("/v1/verdict", json=body)
        wait_for(lambda: live.service.instruments.vanished._value.get() == 1)
        second = pool.submit(live.judge, *items(4, start=20))  # there is room: the others are gone
        worker = live.service.panel.desk.worker
        wait_for(lambda: [t.item for t in worker._verdicts] == items(4, start=20))
        for _ in range(10):
            held.leave.release()
        assert first.result()
        assert len(second.result()) == 4
    assert "Nobody waits for this." not in str(held.seen)


def test_what_waits_is_answered_before_the_service_ends(critic, tmp_path):
    held = Slow(critic)
    with ThreadPoolExecutor(2) as pool, running(held, tmp_path) as live:
        first = pool.submit(live.judge, items(1)[0])
        wait_for(lambda: held.seen)
        second = pool.submit(live.judge, items(1, start=5)[0])
        wait_for(lambda: live.service.panel.desk.worker.waiting)
        live.server.should_exit = True
        time.sleep(0.2)
        held.leave.release()
        held.leave.release()
        answers = [job.result()[0] for job in (first, second)]
    assert all(0 <= row["p_flawed"] <= 1 for row in answers)
    with running(critic, tmp_path) as again:
        for row in answers:
            assert again.service.store.request(row["request_id"])["result"] == row


def test_one_that_breaks_the_critic_does_not_spoil_the_others(critic, tmp_path):
    class Brittle(Slow):
        def p_flawed(self, asked, **options):
            if any("poison" in text for _, text in asked):
                raise RuntimeError("broken")
            return self._critic.p_flawed(asked, **options)

    with running(Brittle(critic), tmp_path, window_ms=100.0) as live, ThreadPoolExecutor(9) as pool:
        good = [pool.submit(live.judge, item) for item in items(8)]
        bad = live.ask("/v1/verdict", {"rationale": "poison"})
        assert bad.status_code == 500
        assert "broken" not in bad.text
        assert all(job.result() for job in good)
        assert live.http.get("/readyz").status_code == 200


def test_flaw_types_are_named_if_asked_for(critic, tmp_path):
    asked = items(12)
    chances, types = critic.p_and_types(asked)
    with running(critic, tmp_path, named=True) as live:
        rows = live.judge(*asked)
    assert [r["p_flawed"] for r in rows] == pytest.approx(chances, abs=1e-6)
    expected = [t if p > 0.5 else None for p, t in zip(chances, types, strict=True)]
    assert [row["flaw_type"] for row in rows] == expected
    assert all(bool(row["flags"]) == (not row["valid"]) for row in rows)


def test_a_hundred_at_once_and_not_one_more(live, critic):
    asked = items(MOST_ITEMS, start=500)
    rows = live.judge(*asked)
    assert [r["p_flawed"] for r in rows] == pytest.approx(critic.p_flawed(asked), abs=1e-6)
    body = {"items": [{"rationale": "x"}] * (MOST_ITEMS + 1)}
    answer = live.ask("/v1/verdict", body)
    assert answer.status_code == 422
    assert "items" in answer.json()["error"]["message"]


def test_a_database_that_cannot_be_written_is_said_and_then_everything_is_kept(
    critic, tmp_path, monkeypatch
):
    monkeypatch.setattr("minicrit.serving.recorder._PATIENCE_S", 0.2)
    with running(critic, tmp_path) as live:
        store, write = live.service.store, live.service.store.add_requests

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store, "add_requests", full)
        (row,) = live.judge(items(1)[0])
        body = {"request_id": row["request_id"], "decision": "agree", "operator": "ann"}
        answer = live.ask("/v1/feedback", body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"]
        assert live.http.get("/v1/queue").status_code == 503
        monkeypatch.setattr(store, "add_requests", write)
        wait_for(lambda: not live.service.recorder.pending)
        assert live.ask("/v1/feedback", body).status_code == 201


def test_a_stop_while_the_database_is_locked_tries_once_more(critic, tmp_path, monkeypatch):
    with running(critic, tmp_path) as live:
        store, write = live.service.store, live.service.store.add_requests
        tried = threading.Event()

        def locked(_):
            tried.set()
            raise OSError(11, "database is locked")

        monkeypatch.setattr(store, "add_requests", locked)
        (row,) = live.judge(items(1)[0])
        assert tried.wait(10)
        monkeypatch.setattr(store, "add_requests", write)
    with FeedbackStore(tmp_path / "feedback.sqlite3") as kept:
        assert kept.request(row["request_id"]) is not None


def test_what_no_database_takes_at_the_end_is_said_to_be_lost(tmp_path, caplog):
    class Full:
        def add_requests(self, rows):
            raise OSError(28, "No space left on device")

    recorder = Recorder(Full())
    recorder.start()
    recorder.add([Request(request_id="r1", domain="general", rationale="Text.", result={})])
    recorder.stop()
    assert "1 answers are lost: the service ends" in caplog.text


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_headers():
    """Accepted sockets inherit it; without it each answer took 40 ms more."""
    with bound(ServeConfig(port=0)) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as taken:
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_probability_that_is_none_is_no_answer_and_spoils_no_other(critic, tmp_path):
    class Lost(Slow):
        def p_flawed(self, asked, **options):
            p = self._critic.p_flawed(asked, **options)
            return np.where(["void" in text for _, text in asked], np.nan, p)

    (good,) = items(1)
    with running(Lost(critic), tmp_path) as live:
        answer = live.ask("/v1/verdict", {"rationale": "A void in the figures."})
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
        live.judge(good)
        wait_for(lambda: live.service.panel.desk._answers.count == 1)
    with running(critic, tmp_path) as again:
        assert again.judge(good)[0]["cached"]
        assert [row["rationale"] for row in again.service.store.requests()] == [good[1]] * 1


def test_a_named_flaw_does_not_drown_what_is_seen_in_the_text(critic):
    """The flag of the flaw once took the place of the others."""
    text = "50 divided by 5 is 50. Verdict: valid"
    found = result_of(critic, "general", text, Answer(0.999, "sunk_cost"))
    assert found["flags"] == [FLAW_TYPES["sunk_cost"].flag, "answer_in_text", "false_sum"]
    assert result_of(critic, "general", text, Answer(0.999))["flags"] == found["flags"][1:]


def test_an_answer_that_cannot_be_told_is_refused_and_not_waited_for(critic, tmp_path, monkeypatch):
    def told(critic, domain, rationale, answer):
        if "void" in rationale:
            raise KeyError("no such flaw")
        return result_of(critic, domain, rationale, answer)

    monkeypatch.setattr(desk, "result_of", told)
    with running(critic, tmp_path) as live, ThreadPoolExecutor(2) as pool:
        lost = pool.submit(live.ask, "/v1/verdict", {"rationale": "A void in the figures."})
        assert lost.result(timeout=20).status_code == 500
        assert live.judge(*items(1))


@pytest.mark.parametrize(("setting", "value", "words"), [
    ("most_items", 0, "serve.most_items: expected 1 to 100, got 0"),
    ("most_items", 101, "serve.most_items: expected 1 to 100, got 101"),
    ("most_waiting", 99, "serve.most_waiting: expected 100 or more, as many as serve.most_items"),
    ("batch_critiques", 0, "serve.batch_critiques: expected 1 or more, got 0"),
    ("max_new_tokens", 0, "serve.max_new_tokens: expected 1 or more, got 0"),
    ("body_s", float("nan"), "serve.body_s: expected more than 0, got nan"),
    ("window_ms", -1.0, "serve.window_ms: expected 0 or more, got -1.0"),
    ("most_connections", 10**12, "serve.most_connections: expected at most "),
    ("port", 70000, "serve.port: expected 0 (for a free one) to 65535, got 70000"),
])  # fmt: skip
def test_settings_with_which_nothing_would_be_answered_are_refused(setting, value, words):
    recipe = Recipe()
    setattr(recipe.serve, setting, value)
    with pytest.raises(ValueError, match=re.escape(words)):
        serve.serve(recipe)


def test_a_database_that_cannot_be_read_is_unavailable_and_no_fault(live, monkeypatch):
    def away(*_):
        raise UnavailableError("away")

    monkeypatch.setattr(live.service.store, "state", away)
    answer = live.http.get("/v1/state")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


def test_a_fault_of_any_kind_while_writing_stops_no_recorder(live, monkeypatch):
    plain, faults = live.service.store.add_requests, iter([RuntimeError("odd"), None])

    def write(rows):
        if (fault := next(faults, None)) is not None:
            raise fault
        plain(rows)

    monkeypatch.setattr(live.service.store, "add_requests", write)
    (row,) = live.judge(("trading", "It fell on a Friday, so Fridays are bad."))
    body = {"request_id": row["request_id"], "decision": "agree", "operator": "ann"}
    assert live.ask("/v1/feedback", body).status_code == 201
