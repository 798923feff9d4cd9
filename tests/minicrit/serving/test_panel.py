"""Two critics in one service: who answers what, what is recorded, and what if one fails."""

import numpy as np
import pytest

from minicrit.feedback.entries import group_of
from minicrit.feedback.experiment import Experiment
from minicrit.serving import serve
from tests.minicrit.serving.running import items, running


class Other:
    """A critic that says the opposite."""

    def __init__(self, critic):
        self._critic, self.identity, self.name = critic, "other", "other"
        self.broken = False

    def __getattr__(self, name):
        return getattr(self._critic, name)

    def p_flawed(self, asked, **options):
        if self.broken:
            raise RuntimeError("broken")
        return 1 - self._critic.p_flawed(asked, **options)


def test_a_critic_that_was_not_released_is_served_only_if_asked_for(critic, tmp_path, monkeypatch):
    monkeypatch.setattr(critic, "released", False)
    monkeypatch.setattr(critic, "release", "9 of 40 verdicts flipped")
    with (
        pytest.raises(ValueError, match=r"not: 9 of 40 verdicts flipped; .* serve\.unreleased"),
        running(critic, tmp_path),
    ):
        pass
    with running(critic, tmp_path, unreleased=True) as live:
        assert len(live.judge(*items(2))) == 2


def test_critiques_that_leave_no_room_for_a_prompt_are_not_promised(critic, tmp_path):
    with (
        pytest.raises(ValueError, match=r"serve\.max_new_tokens: expected at most .*, got 9999;"),
        running(critic, tmp_path, max_new_tokens=9999),
    ):
        pass


@pytest.fixture
def other(critic, monkeypatch):
    found = Other(critic)
    monkeypatch.setattr(serve.Critic, "load", lambda *_, **__: found)
    return found


def experiment(folder, **settings):
    given = {"name": "e1", "control": "tiny", "treatment": "other", "salt": "s", "share": 0.5,
             "shadow": False, "metrics": ("agreement",), "primary": "agreement", "alpha": 0.05,
             "least": 0.02, "margin": 0.02, "most": 1000, "outcome_low": -1.0,
             "outcome_high": 1.0, **settings}  # fmt: skip
    found = Experiment(path=folder / "e.yaml", **given)
    found.write()
    return found


def test_each_rationale_is_answered_by_the_critic_it_was_drawn_for(critic, other, tmp_path):
    drawn = experiment(tmp_path)
    asked = items(30)
    with running(critic, tmp_path, experiment=tmp_path / "e.yaml") as live:
        rows = live.judge(*asked)
        again = live.judge(*asked)
        texts = [text for _, text in asked[:9]] + ["\u00e9\u4e2d" * 4000]
        refused = live.ask("/v1/verdict", {"items": [{"rationale": text} for text in texts]})
        for row in rows:
            live.service.recorder.settle(row["request_id"])
            live.service.store.add_decision(row["request_id"], "agree", "ann")
        state = live.http.get("/v1/state").json()
        live.service.recorder.settle_all()
        stored = live.service.store.request(rows[0]["request_id"])
    arms = [drawn.drawn(group_of(*item)) for item in asked]
    p = critic.p_flawed(asked)
    expected = np.where(np.array(arms) == "control", p, 1 - p)
    assert {"control", "treatment"} == set(arms)
    assert refused.json()["error"]["message"].startswith("items[9].rationale: expected")
    assert [row["arm"] for row in rows] == [row["arm"] for row in again] == arms
    assert {row["experiment"] for row in rows} == {"e1"}
    assert [row["p_flawed"] for row in rows] == pytest.approx(expected, abs=1e-6)
    assert [row["p_flawed"] for row in again] == [row["p_flawed"] for row in rows]
    assert (stored["experiment"], stored["arm"]) == ("e1", arms[0])
    assert [trial["name"] for trial in state["trial"]] == ["e1"]
    assert (state["decided"], state["agreement"]["n"]) == (30, arms.count("control"))


def test_in_shadow_mode_the_other_is_recorded_and_never_heard(critic, other, tmp_path):
    experiment(tmp_path, shadow=True)
    asked = items(4)
    with running(critic, tmp_path, experiment=tmp_path / "e.yaml") as live:
        rows = live.judge(*asked)
        other.broken = True
        (alone,) = live.judge(*items(1, start=50))
        live.service.recorder.settle_all()
        stored = [live.service.store.request(row["request_id"]) for row in [*rows, alone]]
        state = live.http.get("/v1/state").json()
    p = critic.p_flawed(asked)
    assert state["shadow"]["requests"] == 4
    assert [row["p_flawed"] for row in rows] == pytest.approx(p, abs=1e-6)
    assert [s["shadow"]["p_flawed"] for s in stored[:4]] == pytest.approx(1 - p, abs=1e-6)
    assert stored[4]["shadow"] is None
    assert alone["arm"] == "control"


def test_outcomes_alone_end_an_experiment_about_them(critic, other, tmp_path, monkeypatch):
    monkeypatch.setattr("minicrit.serving.panel._LOOK_EVERY_S", 0.0)
    experiment(tmp_path, metrics=("outcome",), primary="outcome", most=6)
    with running(critic, tmp_path, experiment=tmp_path / "e.yaml") as live:
        for row in live.judge(*items(30)):
            body = {"request_id": row["request_id"], "value": 0.1}
            assert live.ask("/v1/outcome", body).status_code == 201
        (trial,) = live.http.get("/v1/state").json()["trial"]
        ended = live.service.panel.experiment.ended()
    assert ended is not None
    assert trial["ended"]["reason"] == ended["reason"]


def test_a_log_that_becomes_unusable_leaves_everybody_to_control(critic, other, tmp_path, caplog):
    log = experiment(tmp_path).log
    with running(critic, tmp_path, experiment=tmp_path / "e.yaml") as live:
        log.unlink()
        log.with_suffix("").with_suffix(".yaml").unlink()
        experiment(tmp_path, name="e2")  # as `make ab` writes it for another experiment
        rows = live.judge(*items(8))
        live.judge(*items(4), kind="critique")
        (trial,) = live.http.get("/v1/state").json()["trial"]
        said = [r for r in caplog.records if "experiment e1 is left" in r.getMessage()]
        log.write_text("no JSON\n")
        (damaged,) = live.judge(*items(1))
        log.unlink()
        log.mkdir()  # as good as none
        assert live.judge(*items(1))[0]["experiment"] == "e1"
    assert {(row["experiment"], row["arm"]) for row in [*rows, damaged]} == {(None, None)}
    assert [row["p_flawed"] for row in rows] == pytest.approx(critic.p_flawed(items(8)), abs=1e-6)
    assert (trial["name"], "metrics" in trial) == ("e1", False)
    assert "expected the log of" in trial["error"]
    assert len(said) == 1


def test_an_experiment_about_another_critic_is_refused(critic, other, tmp_path):
    experiment(tmp_path, control="checkpoints/else")
    with (
        pytest.raises(ValueError, match=r"serve.model: expected checkpoints/else, the control of"),
        running(critic, tmp_path, experiment=tmp_path / "e.yaml"),
    ):
        pass


def test_a_critic_that_was_trained_anew_meanwhile_does_not_go_on(critic, other, tmp_path):
    """Its answers would count as those of the one before it, whose arm it has."""
    found = experiment(tmp_path)
    for _ in range(2):  # the same ones do
        with running(critic, tmp_path, experiment=found.path):
            pass
    other.identity = "of other weights"
    with (
        pytest.raises(ValueError, match=r"e.yaml: expected the critics that it was first served "
                      "with, got another treatment; put"),  # nobody was answered yet
        running(critic, tmp_path, experiment=found.path),
    ):  # fmt: skip
        pass
    found._append("stopped", "maximum", {})
    with running(critic, tmp_path, experiment=found.path):  # as everything goes to control
        pass
    assert [row["event"] for row in found.entries()] == ["begun", "served", "stopped"]


def test_a_log_of_other_settings_is_refused_at_the_start(critic, other, tmp_path):
    found = experiment(tmp_path)
    found.path.write_text(found.path.read_text().replace("share: 0.5", "share: 0.4"))
    with (
        pytest.raises(ValueError, match=r"e.log.jsonl:1: expected the log of .*/e.yaml as it is"),
        running(critic, tmp_path, experiment=tmp_path / "e.yaml"),
    ):
        pass
