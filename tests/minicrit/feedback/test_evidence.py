"""What counts in an experiment: one number for each draw of an arm."""

import random

import pytest

from minicrit.config import Recipe
from minicrit.feedback.ab import ab
from minicrit.feedback.entries import AUDIT_SHARE, Request, chance_of
from minicrit.feedback.evidence import gathered
from minicrit.feedback.experiment import CONTROL, TREATMENT
from minicrit.feedback.store import FeedbackStore
from tests.minicrit.feedback.test_experiment import audited, made, report, result

#: Ways to write one rationale that differ in case alone.
WRITINGS = ("Text {}.", "text {}.", "TEXT {}.", "Text {}. ")


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "store.db") as store:
        yield store


def fill(store, names, arms):
    """Each group of requests in one arm and of one decision; an outcome of each as well."""
    requests, decisions = [], []
    for number, (arm, right) in enumerate(arms):
        for writing in WRITINGS:
            name, text = names.pop(), writing.format(number)
            requests.append(Request(request_id=name, domain="general", rationale=text, arm=arm,
                                    result=result("valid"), experiment="e"))  # fmt: skip
            decisions.append((name, right))
    store.add_requests(requests)
    for name, right in decisions:
        store.add_decision(name, "agree" if right else "disagree", "ann")
        store.add_outcome(name, float(right))


def test_all_writings_of_a_rationale_are_one_draw(tmp_path, store):
    """Three rationales, four writings each, of which two are the same but for a blank."""
    arms = [(CONTROL, True), (TREATMENT, True), (TREATMENT, False)]
    fill(store, audited(12), arms)
    experiment = made(tmp_path, metrics=("agreement", "false_positives", "outcome"))
    found = gathered(experiment, store)
    assert {name: len(one.psi) for name, one in found.items()} == {
        "agreement": 3, "false_positives": 2, "outcome": 3, "drawn": 3,
    }  # fmt: skip
    assert found["agreement"].arms() == {CONTROL: {"n": 1, "mean": 1.0},
                                         TREATMENT: {"n": 2, "mean": 0.5}}  # fmt: skip


def test_draws_that_are_fair_are_no_mismatch_however_often_a_rationale_is_written(tmp_path, store):
    """40 of 60 draws are of the treatment, as one experiment in a hundred has it or worse.

    Of 180 units, as three of the writings are, 120 would be: one in a hundred thousand.
    """
    names = [name for n in range(3000) if chance_of(name := f"r{n}") < AUDIT_SHARE]
    arms = [(TREATMENT if n < 40 else CONTROL, True) for n in range(60)]
    random.Random(0).shuffle(arms)
    fill(store, names, arms)
    state = made(tmp_path).state(store)
    assert state["metrics"]["agreement"]["n"] == 60
    assert state["mismatch_p"] > 0.01
    assert state["rule"] is None


def test_outcomes_beyond_the_limits_are_said(tmp_path, monkeypatch, capsys):
    """The treatment gains 2 and loses nothing; between 0 and 1, as it is unless set, it is 1."""
    monkeypatch.chdir(tmp_path)
    experiment = made(tmp_path, metrics=("outcome",), primary="outcome")
    experiment.write()
    with FeedbackStore(tmp_path / "store.db") as store:
        report(store, [CONTROL, TREATMENT] * 3, {CONTROL: -1.0, TREATMENT: 1.0})
        assert experiment.state(store)["metrics"]["outcome"]["beyond"] == 3
    recipe = Recipe()
    recipe.ab.store, recipe.ab.experiment = tmp_path / "store.db", experiment.path
    ab(recipe)
    told = "3 of 6 outcomes lie beyond the limits, 0 to 1, and count as these"
    assert told in capsys.readouterr().out
    assert told in recipe.ab.out.with_suffix(".html").read_text()
