"""The load test itself, short: a killed service loses no acknowledged feedback."""

import json

import pytest

from tests.load.trial import failed, main


@pytest.mark.parametrize(("fault", "is_one"), [
    ({}, False), ({"wrong": 1}, True), ({"lost_feedback": 1}, True), ({"exit_status": 1}, True),
    ({"statuses": {"500": 1}}, True), ({"verdicts": 0}, True),
    ({"statuses": {"0": 3, "429": 9, "503": 1}}, False),
])  # fmt: skip
def test_a_trial_in_which_nothing_but_faults_came_back_has_failed(fault, is_one):
    fine = {"wrong": 0, "lost_feedback": 0, "statuses": {"200": 9}, "exit_status": 0, "verdicts": 9}
    assert failed({**fine, **fault}) is is_one


@pytest.mark.slow
def test_a_killed_service_gives_no_wrong_answer_and_loses_no_feedback(tiny_folder, tiny, capsys):
    argv = ["--clients", "8", "--seconds", "10", "--bases", str(tiny_folder), "--kill"]
    assert main(argv) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["feedback"] > 0
    assert (row["lost_feedback"], row["wrong"], row["exit_status"]) == (0, 0, 0)
    assert row["statuses"].get("500") is None
