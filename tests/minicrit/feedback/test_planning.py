"""Before an experiment: what it would find, and how often it would cry wolf."""

import json

import pytest

from minicrit.config import Recipe
from minicrit.feedback.ab import ab
from minicrit.feedback.entries import AUDIT_SHARE


def test_a_plan_says_what_would_be_found_and_how_often_it_would_cry_wolf(tmp_path, capsys):
    recipe = Recipe()
    settings = recipe.ab
    settings.out, settings.plan, settings.simulate, settings.most = tmp_path / "ab", True, 200, 300
    found = ab(recipe)
    assert json.loads((tmp_path / "ab-plan.json").read_text())["plan"] == found["plan"]
    assert "| +0.120 |" in (said := capsys.readouterr().out)
    assert "rationales for them" in said
    powers = [row["power"] for row in found["plan"]["rows"]]
    assert powers == sorted(powers)
    assert powers[-1] > 0.3
    alarms = {name: rate["value"] for name, rate in found["false_alarms"]["false_alarms"].items()}
    assert alarms["betting"] < 0.09  # a true 5 % passes this once in 200 such tests
    assert alarms["z"] > 0.2
    settings.shadow, settings.simulate = True, 0
    assert all(shadow["power"] >= row["power"] for shadow, row in zip(
        ab(recipe)["plan"]["rows"], found["plan"]["rows"], strict=True))  # fmt: skip
    settings.simulate = -3
    with pytest.raises(ValueError, match=r"ab.simulate: expected 0 or more, got -3"):
        ab(recipe)
    settings.simulate, settings.rate = 0, 1.0
    with pytest.raises(ValueError, match=r"ab.rate: expected more than 0"):
        ab(recipe)
    settings.rate, settings.least = 0.9, 0.2
    with pytest.raises(ValueError, match=r"ab.least: expected a gain that a rate of 0.9 leaves"):
        ab(recipe)


@pytest.mark.parametrize(("primary", "counted", "asked", "share"), [
    ("agreement", "decisions", "rationales for them", AUDIT_SHARE),
    ("false_positives", "valid rationales decided on", "valid rationales for them", AUDIT_SHARE),
    ("outcome", "outcomes", "rationales for them", 1.0),
])  # fmt: skip
def test_a_plan_counts_what_its_metric_is_over(tmp_path, capsys, primary, counted, asked, share):
    """Any rationale may have an outcome; decisions count in the audit alone."""
    recipe = Recipe()
    settings = recipe.ab
    settings.out, settings.plan, settings.most = tmp_path / "ab", True, 200
    settings.metrics, settings.primary, settings.least = [primary], primary, 0.035
    row = ab(recipe)["plan"]["rows"][-1]
    assert row["rationales"] == round(row["decisions"] / share)
    assert f"| {counted} (median) | {asked} |" in capsys.readouterr().out


def test_a_gain_in_outcomes_is_planned_in_their_own_units(tmp_path, capsys):
    """Ten times the range and ten times the gain are the same experiment."""
    recipe = Recipe()
    settings = recipe.ab
    settings.out, settings.plan, settings.most = tmp_path / "ab", True, 100
    settings.metrics, settings.primary, settings.least = ["outcome"], "outcome", 0.03
    small = ab(recipe)["plan"]["rows"]
    capsys.readouterr()
    settings.outcome_low, settings.outcome_high, settings.least = -4.0, 6.0, 0.3
    large = ab(recipe)["plan"]["rows"]
    assert [row.pop("gain") for row in large] == [0.3, 0.6, 1.2]
    assert [row.pop("gain") for row in small] == [0.03, 0.06, 0.12]
    assert large == small
    assert "# Plan: outcome at 0.85 of the way from -4 to 6, " in capsys.readouterr().out


def test_the_design_that_is_asked_for_cries_wolf(tmp_path, capsys):
    """In shadow critics that never differ cannot; at a rate of 0.85 they differ on 30 % at most."""
    recipe = Recipe()
    settings = recipe.ab
    settings.out, settings.simulate, settings.most = tmp_path / "ab", 100, 200
    assert not ab(recipe)["false_alarms"]["shadow"]
    assert "at a rate of 0.85, 50 % treatment, looked" in capsys.readouterr().out
    settings.shadow, settings.discordance = True, 0.0
    alarms = ab(recipe)["false_alarms"]["false_alarms"]
    assert {rate["value"] for rate in alarms.values()} == {0.0}
    settings.discordance = 0.3
    found = ab(recipe)["false_alarms"]
    assert found["shadow"]
    assert found["false_alarms"]["z"]["value"] > 0.1
    assert "0.85, shadow with critics that differ on 30 %, looked" in capsys.readouterr().out
    settings.discordance = 0.5
    with pytest.raises(ValueError, match=r"ab.discordance: expected 0 to 0.3, as two critics at a"):
        ab(recipe)
