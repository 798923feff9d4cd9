import json
import random
import threading
from dataclasses import replace

import pytest

from minicrit.cli import main
from minicrit.config import Recipe
from minicrit.feedback.ab import ab
from minicrit.feedback.entries import AUDIT_SHARE, Request, chance_of, group_of
from minicrit.feedback.experiment import CONTROL, TREATMENT, Experiment
from minicrit.feedback.store import FeedbackStore


def made(path, **more):
    return Experiment(**{
        "path": path / "experiment.yaml", "name": "e", "control": "old", "treatment": "new",
        "salt": "s", "share": 0.5, "shadow": False, "metrics": ("agreement", "false_positives"),
        "primary": "agreement", "alpha": 0.05, "least": 0.03, "margin": 0.1, "most": 4000,
        "outcome_low": 0.0, "outcome_high": 1.0, **more,
    })  # fmt: skip


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "store.db") as store:
        yield store


def report(store, arms, outcomes):
    """A request for each arm, and the outcome that it has there."""
    store.add_requests([
        Request(request_id=f"o{n}", domain="general", rationale=f"T {n}", result=result("valid"),
                experiment="e", arm=arm) for n, arm in enumerate(arms)
    ])  # fmt: skip
    for n, arm in enumerate(arms):
        store.add_outcome(f"o{n}", outcomes[arm])


def result(label):
    return {"label": label, "p_flawed": 0.8 if label == "flawed" else 0.2, "threshold": 0.5}


def audited(number, start=0):
    return [name for n in range(start, start + 8 * number)
            if chance_of(name := f"r{n}") < AUDIT_SHARE][:number]  # fmt: skip


def fill(store, experiment, names, right, *, true="valid", seed=0):
    """Requests and one decision each; `right` says how often each arm's critic is."""
    draw, requests, decisions = random.Random(seed), [], []
    other = {"valid": "flawed", "flawed": "valid"}[true]
    for name in names:
        unit = group_of("general", f"Text {name}.")
        arm = experiment.arm_of(unit)
        said = {a: true if draw.random() < right[a] else other for a in (CONTROL, TREATMENT)}
        shadow = result(said[TREATMENT]) if experiment.shadow else None
        requests.append(Request(request_id=name, domain="general", rationale=f"Text {name}.",
                                result=result(said[arm]), experiment="e", arm=arm, shadow=shadow
                                ))  # fmt: skip
        decisions.append((name, "agree" if said[arm] == true else "disagree"))
    store.add_requests(requests)
    for name, decision in decisions:
        store.add_decision(name, decision, "ann")


def test_arms_depend_on_salt_and_unit_alone_and_are_as_frequent_as_set(tmp_path):
    experiment = made(tmp_path, share=0.2)
    units = [f"u{n}" for n in range(5000)]
    arms = [experiment.arm_of(unit) for unit in units]
    assert arms == [made(tmp_path, share=0.2).arm_of(unit) for unit in units]
    assert abs(arms.count(TREATMENT) / 5000 - 0.2) < 0.02
    other = [replace(experiment, salt="t").arm_of(unit) for unit in units]
    both = sum(a == b == TREATMENT for a, b in zip(arms, other, strict=True)) / 5000
    assert abs(both - 0.04) < 0.012  # salts draw independently
    assert set(map(replace(experiment, shadow=True).arm_of, units)) == {CONTROL}


def test_a_file_is_written_once_and_read_as_it_was(tmp_path):
    experiment = made(tmp_path, shadow=True, share=0.25)
    experiment.write()
    assert Experiment.load(experiment.path) == experiment
    with pytest.raises(ValueError, match="expected no experiment there, got one"):
        experiment.write()


@pytest.mark.parametrize(("old", "new", "words"), [
    ("share: 0.5", "share: 1.5", "ab.share: expected more than 0 and less than 1, got 1.5"),
    ("share: 0.5", "share: half", r"yaml:5: share: expected float, got 'half'"),
    ("share: 0.5", "shares: 0.5", r"yaml:5: expected a setting of .*, got shares; remove it"),
    ("share: 0.5\n", "", "expected a value for share, got none"),
    ("alpha: 0.05", "alpha: 0", "ab.alpha: expected more than 0"),
    ('primary: "agreement"', "primary: outcome", "ab.primary: expected one of agreement"),
    ('"false_positives"', '"agreement"', "ab.metrics: expected some of"),
    ("least: 0.03", "least: 3.0", "ab.least: expected 0 to 1, 3 % as 0.03, got 3.0"),
    ("margin: 0.1", "margin: 5", "ab.margin: expected 0 to 1, 3 % as 0.03, got 5"),
    ("most: 4000", "most: 0", "ab.most: expected 1 or more"),
    ("outcome_high: 1.0", "outcome_high: 0.0", "ab.outcome_high: expected more than 0.0"),
    ("shadow: false", "shadow: 0", "shadow: expected bool"),
])  # fmt: skip
def test_an_experiment_that_makes_no_sense_is_refused(tmp_path, old, new, words):
    experiment = made(tmp_path)
    experiment.write()
    text = experiment.path.read_text()
    assert old in text
    experiment.path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=words):
        Experiment.load(experiment.path)


def test_nothing_yet(tmp_path, store):
    state = made(tmp_path).decide(store)
    assert (state["rule"], state["ended"], state["mismatch_p"]) == (None, None, 1.0)
    assert state["metrics"]["agreement"] == {
        "gain": None, "low": -1.0, "high": 1.0, "p": 1.0, "n": 0, "series": [], "beyond": 0,
        "arms": {arm: {"n": 0, "mean": None} for arm in (CONTROL, TREATMENT)},
    }  # fmt: skip


def test_what_counts_is_the_first_decision_on_a_rationale_of_the_audit(tmp_path, store):
    experiment = made(tmp_path)
    a, b, c = audited(3)
    outside = next(f"r{n}" for n in range(99) if chance_of(f"r{n}") >= AUDIT_SHARE)
    for name, text in ((a, "One."), (b, "One. "), (c, "Two."), (outside, "Three.")):
        store.add_request(name, "general", text, result("flawed"), experiment="e", arm=CONTROL)
    store.add_request("old", "general", "Four.", result("flawed"))
    for name, decision, operator in (
        (c, "disagree", "ann"),
        (a, "agree", "ann"),
        (a, "disagree", "bob"),
        (b, "disagree", "ann"),
        (outside, "agree", "ann"),
        ("old", "agree", "ann"),
    ):
        store.add_decision(name, decision, operator)
    metrics = experiment.state(store)["metrics"]
    assert metrics["agreement"]["arms"][CONTROL] == {"n": 2, "mean": 0.5}
    assert metrics["false_positives"]["arms"][CONTROL] == {"n": 1, "mean": 0.0}
    assert metrics["agreement"]["n"] == 2


def test_success_is_written_down_once_with_its_evidence(tmp_path, store):
    experiment = made(tmp_path)
    fill(store, experiment, audited(260), {CONTROL: 0.5, TREATMENT: 0.97})
    state = experiment.decide(store)
    assert state["rule"] == "success"
    assert state["metrics"]["agreement"]["low"] > 0
    assert state["metrics"]["agreement"]["low"] < 0.47 < state["metrics"]["agreement"]["high"]
    before = experiment.log.read_bytes()
    assert experiment.decide(store)["ended"]["reason"] == "success"
    assert experiment.log.read_bytes() == before
    (row,) = experiment.entries()
    assert row["evidence"]["metrics"]["agreement"]["low"] > 0
    assert row["evidence"]["alpha_each"] == 0.025
    assert experiment.assigned("any") == (None, CONTROL)


def test_harm_ends_it_and_everything_goes_to_control(tmp_path, store):
    experiment = made(tmp_path)
    treated = next(f"u{n}" for n in range(99) if experiment.arm_of(f"u{n}") == TREATMENT)
    assert experiment.assigned(treated) == ("e", TREATMENT)
    fill(store, experiment, audited(180), {CONTROL: 0.97, TREATMENT: 0.5})
    assert experiment.decide(store)["rule"] == "harm"
    assert experiment.arm_of(treated) == CONTROL
    assert "false_positives" in experiment.entries()[0]["evidence"]["metrics"]


def test_futility_and_the_maximum(tmp_path, store):
    fill(store, made(tmp_path), audited(150), {CONTROL: 0.9, TREATMENT: 0.9}, true="flawed")
    assert made(tmp_path, least=0.7).state(store)["rule"] == "futility"
    assert made(tmp_path).state(store)["rule"] is None
    assert made(tmp_path, most=150).state(store)["rule"] == "maximum"
    assert made(tmp_path, most=151).state(store)["rule"] is None


def test_arms_that_something_filters_are_no_experiment(tmp_path, store):
    experiment = made(tmp_path)
    names = [n for n in audited(300)
             if experiment.arm_of(group_of("general", f"Text {n}.")) == CONTROL
             or int(n[1:]) % 4 == 0]  # fmt: skip
    fill(store, experiment, names, {CONTROL: 0.6, TREATMENT: 0.95})
    state = experiment.decide(store)
    assert state["rule"] == "mismatch"
    assert state["mismatch_p"] < 0.001


@pytest.mark.parametrize(("num_treated", "rule"), [(100, "mismatch"), (290, "success")])
def test_outcomes_that_something_filters_are_no_experiment(tmp_path, store, num_treated, rule):
    """Where only what passed has an outcome, the arms differ in what they are counted on."""
    experiment = made(tmp_path, metrics=("outcome",), primary="outcome")
    arms = [CONTROL] * 300 + [TREATMENT] * num_treated
    random.Random(0).shuffle(arms)
    report(store, arms, {TREATMENT: 1.0, CONTROL: 0.2})
    state = experiment.state(store)
    assert state["rule"] == rule
    assert (state["mismatch_p"] <= 0.001) == (rule == "mismatch")


def test_in_shadow_both_are_compared_on_the_same_rationales(tmp_path, store):
    experiment = made(tmp_path, shadow=True)
    fill(store, experiment, audited(120), {CONTROL: 0.6, TREATMENT: 0.95})
    state = experiment.decide(store)
    assert state["rule"] == "success"
    arms = state["metrics"]["agreement"]["arms"]
    assert arms[CONTROL]["n"] == arms[TREATMENT]["n"] == 120
    gain = arms[TREATMENT]["mean"] - arms[CONTROL]["mean"]
    assert state["metrics"]["agreement"]["gain"] == pytest.approx(gain, abs=1e-5)


def test_outcomes_count_once_within_their_limits(tmp_path, store):
    experiment = made(tmp_path, metrics=("outcome",), primary="outcome", outcome_low=-10.0,
                      outcome_high=10.0)  # fmt: skip
    for n, (arm, values) in enumerate([(CONTROL, (5, -10)), (TREATMENT, (400,)), (CONTROL, (0,))]):
        store.add_request(f"o{n}", "general", f"T {n}", result("valid"), experiment="e", arm=arm)
        for value in values:
            store.add_outcome(f"o{n}", value)
    arms = experiment.state(store)["metrics"]["outcome"]["arms"]
    assert arms == {CONTROL: {"n": 2, "mean": 2.5}, TREATMENT: {"n": 1, "mean": 10.0}}


def test_outcomes_are_told_and_ruled_in_their_own_units(tmp_path, store):
    """On -10 to 10 the first 5 lies at 0.75; at even odds its psi is (0.75 - 0.5) / 0.5 = 0.5."""
    experiment = made(tmp_path, metrics=("outcome",), primary="outcome", least=2.0,
                      outcome_low=-10.0, outcome_high=10.0)  # fmt: skip
    state = experiment.state(store)
    found = state["metrics"]["outcome"]
    assert (state["rule"], found["low"], found["high"]) == (None, -20.0, 20.0)
    store.add_request("o", "general", "T", result("valid"), experiment="e", arm=TREATMENT)
    store.add_outcome("o", 5)
    state = experiment.state(store)
    found = state["metrics"]["outcome"]
    assert (state["rule"], found["gain"], found["series"][0][:2]) == (None, 10.0, [1, 10.0])
    assert (found["low"], found["high"]) == (-20.0, 20.0)


@pytest.mark.parametrize(("low", "rule"), [(-9.0, "success"), (-11.0, None)])
def test_the_margin_is_a_share_of_what_a_metric_can_differ_by(tmp_path, low, rule):
    it = made(tmp_path, metrics=("agreement", "outcome"), outcome_low=-50.0, outcome_high=50.0)
    sure = {"agreement": {"low": 0.01, "high": 0.2, "n": 9}, "outcome": {"low": low, "high": 9.0}}
    assert it._rule(sure, 1.0) == rule


def test_a_gain_in_outcomes_is_futile_by_its_own_units(tmp_path, store):
    """Control 0 and treatment 1.5 on -10 to 10: a gain of 0.5 is not ruled out, one of 9 is."""
    asked = {"metrics": ("outcome",), "primary": "outcome", "outcome_low": -10.0,
             "outcome_high": 10.0}  # fmt: skip
    arms = [CONTROL, TREATMENT] * 60
    report(store, arms, {TREATMENT: 1.5, CONTROL: 0.0})
    found = made(tmp_path, **asked, least=0.5).state(store)["metrics"]["outcome"]
    assert found["low"] < 1.5 < found["high"]
    assert found["high"] < 9
    assert made(tmp_path, **asked, least=0.5).state(store)["rule"] is None
    assert made(tmp_path, **asked, least=9.0).state(store)["rule"] == "futility"


def test_a_gain_that_no_outcome_leaves_room_for_is_refused(tmp_path):
    asked = {"metrics": ("outcome",), "primary": "outcome", "outcome_high": 0.5}
    with pytest.raises(ValueError, match=r"least: expected 0 to 0\.5, in its own units, got 0\.6"):
        made(tmp_path, **asked, least=0.6)


def test_what_began_is_not_changed(tmp_path, store):
    experiment = made(tmp_path)
    fill(store, experiment, audited(180), {CONTROL: 0.97, TREATMENT: 0.5})
    experiment.decide(store)
    with pytest.raises(ValueError, match=r"log.jsonl:1: expected the log of .* put the settings"):
        replace(experiment, alpha=0.2).decide(store)


def test_many_deciders_write_one_end(tmp_path, store):
    experiment = made(tmp_path)
    fill(store, experiment, audited(180), {CONTROL: 0.97, TREATMENT: 0.5})
    said = []

    def work():
        try:
            said.append(experiment.decide(store)["ended"]["reason"])
        except ValueError as error:  # another one writes at this moment
            said.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(experiment.entries()) == 1
    assert "harm" in said


def test_the_command_begins_and_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = Recipe()
    with pytest.raises(ValueError, match=r"begin one with make ab NAME=... MODEL_2=..."):
        ab(recipe)
    recipe.ab.name, recipe.ab.treatment, recipe.ab.salt = "e", "new", "s"
    told = ["ab", "--ab.name", "e", "--ab.treatment", "new", "--ab.salt", "s"]
    assert main(told) == 1  # the recipe's own control is not there
    assert "ab.control: checkpoints/cpu/sft: expected the folder of a critic, got none" in (
        capsys.readouterr().err)  # fmt: skip
    assert not (tmp_path / "feedback").exists()
    assert main([*told, "--ab.control", "old"]) == 0
    assert capsys.readouterr().out.startswith("begun: feedback/experiment.yaml; serve")
    assert not (tmp_path / "reports").exists()  # there is nothing to tell yet
    with pytest.raises(ValueError, match="expected a feedback database, got none"):
        ab(recipe)
    experiment = Experiment.load(tmp_path / "feedback/experiment.yaml")
    assert [row["event"] for row in experiment.entries()] == ["begun"]
    with FeedbackStore(tmp_path / "feedback/store.db") as store:
        fill(store, experiment, audited(180), {CONTROL: 0.97, TREATMENT: 0.5})
    assert main(["ab"]) == 0
    out = capsys.readouterr().out
    assert "It is over; stopped: a metric is worse. Everything goes to control." in out
    page = (tmp_path / "reports/ab.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "that the arms are as frequent as they were drawn: p=" in page  # not: equally
    report = json.loads((tmp_path / "reports/ab.json").read_text())
    assert report["ended"]["reason"] == "harm"
    assert [row["event"] for row in report["log"]] == ["begun", "stopped"]
    assert report["inputs"].keys() == {"feedback/experiment.yaml"}
    recipe.ab.name = "other"
    with pytest.raises(ValueError, match=r"expected e, which feedback/experiment.yaml holds, got"):
        ab(recipe)


def test_a_name_is_used_once_in_a_store_and_settings_that_hold_are_not_passed_over(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    recipe = Recipe()
    recipe.ab.name, recipe.ab.control, recipe.ab.treatment = "e", "old", "new"
    with FeedbackStore(tmp_path / "feedback/store.db") as store:
        ask = {"domain": "general", "rationale": "T.", "result": result("valid")}
        store.add_request("r1", **ask, experiment="e", arm=TREATMENT)
    with pytest.raises(ValueError, match=r"ab.name: expected a new name, got e, under which"):
        ab(recipe)
    recipe.ab.name = "f"
    ab(recipe)
    recipe.ab.treatment = "newer"
    with pytest.raises(ValueError, match=r"ab.treatment: expected new, which .* holds, got newer"):
        ab(recipe)
    recipe.ab.treatment, recipe.ab.most = "new", 10
    with pytest.raises(ValueError, match=r"ab.most: expected 4000, which .* holds, got 10; give"):
        ab(recipe)


def test_a_report_says_the_settings_of_the_experiment(tmp_path, monkeypatch):
    """What is left at its default is not what it was begun with."""
    monkeypatch.chdir(tmp_path)
    recipe = Recipe()
    recipe.ab.experiment = made(tmp_path, most=7).path
    made(tmp_path, most=7).write()
    with FeedbackStore(recipe.ab.store):
        told = ab(recipe)["settings"]
    assert (told["name"], told["most"], told["salt"]) == ("e", 7, "s")
    assert told["metrics"] == ["agreement", "false_positives"]


def test_a_log_without_its_experiment_stops_a_new_one_before_it_begins(tmp_path):
    made(tmp_path).write()
    (tmp_path / "experiment.yaml").unlink()
    with pytest.raises(ValueError, match=r"experiment.log.jsonl: expected no log of an older"):
        made(tmp_path).write()
    assert not (tmp_path / "experiment.yaml").exists()


def test_a_request_at_the_very_end_is_in_the_experiment_or_not(tmp_path, monkeypatch):
    """Never in it with the arm of afterwards: control for what was drawn to the treatment."""
    experiment = made(tmp_path)
    treated = next(f"u{n}" for n in range(99) if experiment.drawn(f"u{n}") == TREATMENT)
    looks = iter([None, {"event": "stopped"}, {"event": "stopped"}])
    monkeypatch.setattr(Experiment, "ended", lambda _: next(looks))
    assert experiment.assigned(treated) == ("e", TREATMENT)
    assert experiment.assigned(treated) == (None, CONTROL)


def test_a_log_that_was_torn_goes_on_behind_the_last_whole_line(tmp_path, store):
    experiment = made(tmp_path)
    experiment.write()
    with experiment.log.open("ab") as file:
        file.write(b'{"event": "stop')
    assert experiment.ended() is None
    fill(store, experiment, audited(180), {CONTROL: 0.97, TREATMENT: 0.5})
    assert experiment.decide(store)["ended"]["reason"] == "harm"
    assert [row["event"] for row in experiment.entries()] == ["begun", "stopped"]


def test_a_damaged_log_is_said_with_its_line(tmp_path):
    experiment = made(tmp_path)
    experiment.write()
    with experiment.log.open("ab") as file:
        file.write(b"{oops}\n")
    with pytest.raises(ValueError, match=r"experiment.log.jsonl:2: expected JSON, got"):
        experiment.ended()
