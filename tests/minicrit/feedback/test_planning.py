"""Before an experiment: what it would find, and how often it would cry wolf."""

import json

import pytest

from minicrit.config import Recipe
from minicrit.feedback.ab import ab, made
from minicrit.feedback.ab_page import metric_rows, plan_markdown
from minicrit.feedback.entries import AUDIT_SHARE
from minicrit.feedback.experiment import RULES
from minicrit.feedback.planning import RUNS, plan
from minicrit.feedback.simulated import Assumed
from minicrit.feedback_config import ABConfig
from minicrit.statistics import wilson


def test_a_plan_says_what_would_be_found_and_how_often_it_would_cry_wolf(tmp_path, capsys):
    recipe = Recipe()
    settings = recipe.ab
    settings.out, settings.plan, settings.simulate, settings.most = tmp_path / "ab", True, 200, 300
    found = ab(recipe)
    assert json.loads((tmp_path / "ab-plan.json").read_text())["plan"] == found["plan"]
    assert "| +0.120 |" in (said := capsys.readouterr().out)
    assert "rationales for them" in said
    rows = found["plan"]["rows"]
    assert [row["gain"] for row in rows] == [0.0, 0.03, 0.06, 0.12]
    assert [row["others"]["false_positives"] for row in rows] == [0.0, 0.0, 0.0, 0.09]
    for row in rows:
        assert sum(row[rule]["value"] for rule in RULES[1:]) == pytest.approx(1)
    powers = [row["success"]["value"] for row in rows]
    assert powers == sorted(powers)
    assert powers[-1] > 0.2
    assert "A true gain of +0.030, +0.060" in said
    assert "what helps: ab.shadow, or a larger ab.most, or an ab.margin that allows more." in said
    alarms = {name: rate["value"] for name, rate in found["false_alarms"]["false_alarms"].items()}
    assert alarms["betting"] < 0.09  # a true 5 % passes this once in 200 such tests
    assert alarms["z"] > 0.2
    settings.shadow, settings.simulate = True, 0
    shadow = ab(recipe)["plan"]["rows"]
    assert all(two["success"]["value"] >= one["success"]["value"]
               for one, two in zip(rows[1:], shadow[1:], strict=True))  # fmt: skip
    assert "what helps: a larger ab.most, or an ab.margin" in capsys.readouterr().out
    settings.simulate = -3
    with pytest.raises(ValueError, match=r"ab.simulate: expected 0 or more, got -3"):
        ab(recipe)
    settings.simulate, settings.rate = 0, 1.0
    with pytest.raises(ValueError, match=r"ab.rate: expected more than 0"):
        ab(recipe)
    settings.rate, settings.valid_share = 0.85, 0.0
    with pytest.raises(ValueError, match=r"ab.valid_share: expected more than 0 and at most 1"):
        ab(recipe)
    settings.rate, settings.least, settings.valid_share = 0.9, 0.2, 0.5
    with pytest.raises(ValueError, match=r"ab.least: expected a gain that a rate of 0.9 leaves"):
        ab(recipe)


def test_small_outcomes_have_the_decimals_that_tell_them_apart():
    """Returns of at most a percent: with three decimals gains of 0.0005 and 0.001 were one."""
    it = made(ABConfig(name="e", treatment="new", metrics=["outcome"], primary="outcome",
                       outcome_low=-0.01, outcome_high=0.01, least=0.0005))  # fmt: skip
    rate = {"value": 0.1, "low": 0.0, "high": 0.2}
    rows = [{"gain": gain, "others": {}, **dict.fromkeys(RULES, rate), "decisions": None,
             "rationales": None} for gain in (0.0, 0.0005, 0.001)]  # fmt: skip
    found = {**vars(Assumed(0.5, 0.1, 0.5)), "most": 9, "runs": 9, "rows": rows}
    said = plan_markdown(found, it)
    assert all(f"| {gain} | 0.100" in said for gain in ("+0.00000", "+0.00050", "+0.00100"))
    assert "A true gain of +0.00050, +0.00100 will" in said
    one = {"arms": {arm: {"n": 9, "mean": 0.0004} for arm in ("control", "treatment")},
           "gain": 0.0004, "low": -0.0001, "high": 0.0009, "p": 0.5, "n": 18}  # fmt: skip
    report = {"metrics": {"outcome": one},
              "settings": {"outcome_low": -0.01, "outcome_high": 0.01}}  # fmt: skip
    assert metric_rows(report)[1][0][1:5] == (
        "0.00040 (n=9)", "0.00040 (n=9)", "0.00040", "[-0.00010, 0.00090]")  # fmt: skip


def planned(*, gain=None, rate=0.85, **more):
    """The plan's row of a gain, or all of them."""
    settings = ABConfig(name="e", treatment="new", **more)
    rows = plan(made(settings), Assumed(rate, 0.15, settings.valid_share), 3)["rows"]
    return rows if gain is None else next(row for row in rows if row["gain"] == gain)


@pytest.mark.parametrize("shadow", [False, True])
@pytest.mark.parametrize("metrics", [["agreement"], ["agreement", "false_positives"]])
def test_where_nothing_gains_success_and_harm_are_errors(shadow, metrics):
    """At most alpha together; a true 5 % passes a lower end above it once in 40 such tests."""
    row = planned(gain=0.0, metrics=metrics, shadow=shadow, most=400, margin=1.0)
    wrong = round(RUNS * (row["success"]["value"] + row["harm"]["value"]))
    assert wilson(wrong, RUNS).low <= 0.05


@pytest.mark.parametrize("shadow", [False, True])
def test_a_metric_that_stays_as_it_is_must_be_known_for_a_success(shadow):
    """Its bound needs numbers of valid rationales; a margin that is nothing is never kept."""
    more = {"shadow": shadow, "most": 500, "gain": 0.12, "least": 0.06}
    wide, narrow, none = (planned(**more, margin=margin) for margin in (1.0, 0.1, 0.0))
    assert wide["success"]["value"] > 0.8
    assert wide["decisions"] <= narrow["decisions"]
    assert none["success"]["value"] < narrow["success"]["value"] <= wide["success"]["value"]
    few = planned(**more, margin=0.1, valid_share=0.1)
    assert few["others"]["false_positives"] == 0
    assert few["success"]["value"] < 0.2 < narrow["success"]["value"]


@pytest.mark.parametrize(("primary", "counted", "share"), [
    ("agreement", "decisions", AUDIT_SHARE),
    ("false_positives", "valid rationales decided on", AUDIT_SHARE / 4),
    ("outcome", "outcomes", 1.0),
])  # fmt: skip
def test_a_plan_counts_what_its_metric_is_over(tmp_path, capsys, primary, counted, share):
    """Any rationale may have an outcome; decisions are the audit's, here a quarter valid."""
    recipe = Recipe()
    settings = recipe.ab
    settings.out, settings.plan, settings.most = tmp_path / "ab", True, 200
    settings.metrics, settings.primary, settings.least = [primary], primary, 0.035
    settings.valid_share = 0.25
    row = ab(recipe)["plan"]["rows"][-1]
    assert row["rationales"] == round(row["decisions"] / share)
    assert f"| {counted} (median) | rationales for them |" in capsys.readouterr().out


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
    assert [row.pop("gain") for row in large] == [0.0, 0.3, 0.6, 1.2]
    assert [row.pop("gain") for row in small] == [0.0, 0.03, 0.06, 0.12]
    assert large == small
    said = capsys.readouterr().out
    assert "# Plan: outcome at 0.85 of the way from -4 to 6, " in said
    assert "what helps: a larger ab.most.\n" in said  # no shadow, no other metric


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
