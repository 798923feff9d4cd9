"""The load test itself, short: a killed service loses no acknowledged feedback."""

import json

import pytest

from tests.load.trial import main


@pytest.mark.slow
def test_a_killed_service_gives_no_wrong_answer_and_loses_no_feedback(tiny_folder, tiny, capsys):
    argv = ["--clients", "8", "--seconds", "10", "--bases", str(tiny_folder), "--kill"]
    assert main(argv) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["feedback"] > 0
    assert (row["lost_feedback"], row["wrong"], row["exit_status"]) == (0, 0, 0)
    assert row["statuses"].get("500") is None
