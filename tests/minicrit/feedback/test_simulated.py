"""Simulated experiments end as real ones do that get the same rationales."""

import math
from pathlib import Path

import numpy as np
import pytest

from minicrit.feedback.entries import AUDIT_SHARE, Request, chance_of
from minicrit.feedback.experiment import CONTROL, RULES, TREATMENT, Experiment
from minicrit.feedback.sequential import confidence_sequence
from minicrit.feedback.simulated import Assumed, counted_share, draw, ended, gains, seen, units
from minicrit.feedback.store import FeedbackStore

BOTH = ("agreement", "false_positives")


def made(**more):
    return Experiment(**{
        "path": Path("experiment.yaml"), "name": "e", "control": "old", "treatment": "new",
        "salt": "s", "share": 0.5, "shadow": False, "metrics": BOTH, "primary": "agreement",
        "alpha": 0.2, "least": 0.03, "margin": 0.5, "most": 120, "outcome_low": 0.0,
        "outcome_high": 1.0, **more,
    })  # fmt: skip


def replay(store, experiment, arrived, row, first, last):
    """The rationales from first to last as the service and the operators would write them."""
    names = {True: [], False: []}  # by whether a request's id is drawn for the audit
    for n in range(12 * arrived.counts["agreement"].shape[1]):
        names[chance_of(f"r{n}") < AUDIT_SHARE].append(f"r{n}")
    for n in range(first, last):
        audit = bool(arrived.counts["agreement"][row, n])
        true = "valid" if arrived.counts["false_positives"][row, n] else "flawed"
        wrong = {"valid": "flawed", "flawed": "valid"}[true]
        said = [{"label": true if does[row, n] else wrong, "p_flawed": 0.5, "threshold": 0.5}
                for does in arrived.does["agreement"]]  # fmt: skip
        treated = arrived.treated is not None and bool(arrived.treated[row, n])
        store.add_requests([Request(
            request_id=names[audit][n], domain="general", rationale=f"Text {n}.",
            result=said[treated], experiment="e", arm=TREATMENT if treated else CONTROL,
            shadow=said[1] if experiment.shadow else None)])  # fmt: skip
        if audit:
            agrees = said[treated]["label"] == true
            store.add_decision(names[True][n], "agree" if agrees else "disagree", "ann")
        if "outcome" in arrived.does:
            low, high = experiment.outcome_low, experiment.outcome_high
            store.add_outcome(names[audit][n], high if arrived.does["outcome"][treated][row, n]
                              else low)  # fmt: skip


def test_rules_of_arrays_are_those_of_numbers_in_their_order():
    """Harm before success, success, a margin not kept, futility, nothing, the maximum."""
    it = made(least=0.1, margin=0.1, most=4000)
    agreement = {"low": np.array([0.1, 0.1, 0.1, -0.2, -0.2, -0.2]), "n": np.arange(3995, 4001),
                 "high": np.array([0.5, 0.5, 0.5, 0.05, 0.5, 0.5])}  # fmt: skip
    passed = {"low": np.array([-0.3, -0.09, -0.1, -0.5, -0.5, -0.5]), "n": np.arange(6),
              "high": np.array([-0.01, 0.2, 0.2, 0.2, 0.2, 0.2])}  # fmt: skip
    metrics = {"agreement": agreement, "false_positives": passed}
    expected = ["harm", "success", None, "futility", None, "maximum"]
    assert [None if n < 0 else RULES[n] for n in it.rules(metrics)] == expected
    for n, rule in enumerate(expected):
        one = {name: {key: value[n] for key, value in metric.items()}
               for name, metric in metrics.items()}  # fmt: skip
        assert it._rule(one, 1.0) == rule
        assert it._rule(one, 0.001) == "mismatch"


@pytest.mark.parametrize(("more", "gain", "rule"), [
    ({}, 0.4, "success"),
    ({"shadow": True}, 0.4, "success"),
    ({"least": 0.0}, -0.4, "harm"),
    ({}, -0.4, "futility"),  # a gain of `least` is ruled out before any gain is
    ({"share": 0.3, "most": 40}, 0.0, "maximum"),
    ({"shadow": True, "least": 0.4}, 0.0, "futility"),
    ({"primary": "false_positives", "most": 80}, 0.4, "success"),
    ({"metrics": ("agreement", "outcome"), "primary": "outcome", "outcome_low": -10.0,
      "outcome_high": 10.0, "margin": 1.0}, 0.45, "success"),
])  # fmt: skip
def test_a_simulated_experiment_ends_with_the_decision_that_ends_a_real_one(
    tmp_path, more, gain, rule
):
    """From store to rule: nothing before that decision, its rule with it."""
    experiment = made(**more)
    arrived = draw(experiment, Assumed(0.5, 0.4, 0.5), gain, np.random.default_rng(1), 1)
    (place,), (n,) = ended(experiment, arrived)
    assert RULES[place] == rule
    counted = np.cumsum(arrived.counts[experiment.primary][0])
    at = int(np.argmax(counted >= n))
    with FeedbackStore(tmp_path / "store.db") as store:
        replay(store, experiment, arrived, 0, 0, at)
        assert experiment.state(store)["rule"] is None
        replay(store, experiment, arrived, 0, at, at + 1)
        state = experiment.state(store)
        assert (state["rule"], state["metrics"][experiment.primary]["n"]) == (rule, n)


def by_all_means(experiment, arrived, row):
    """The same end by the bounds over all means, looked at one after the other."""
    told, n = {}, {}
    for name in experiment.metrics:
        counts, width = arrived.counts[name][row], experiment.width(name)
        treated = None if arrived.treated is None else arrived.treated[row, counts]
        psi, bound = seen(tuple(does[row, counts] for does in arrived.does[name]), treated,
                          experiment.share)  # fmt: skip
        found = confidence_sequence(width * psi, width * bound,
                                    experiment.alpha / len(experiment.metrics))  # fmt: skip
        told[name], n[name] = (found.low, found.high), np.cumsum(counts)
    for t in range(arrived.counts[experiment.primary].shape[1]):
        metrics = {}
        for name, (low, high) in told.items():
            known, width = n[name][t], experiment.width(name)
            sides = (low[known - 1], high[known - 1]) if known else (-width, width)
            low_t, high_t = (float(experiment.told(name, np.array(side))) for side in sides)
            metrics[name] = {"low": low_t, "high": high_t, "n": int(known)}
        if (rule := experiment._rule(metrics, 1.0)) is not None:
            return rule, metrics[experiment.primary]["n"]
    raise AssertionError("it never ends")


@pytest.mark.parametrize("more", [
    {},
    {"shadow": True, "margin": 0.2},
    {"share": 0.3},
    {"primary": "false_positives", "most": 60},
    {"metrics": (*BOTH, "outcome"), "most": 40, "outcome_low": -3.0, "outcome_high": 4.0},
])  # fmt: skip
def test_what_is_tried_changes_no_end(more):
    experiment = made(**more)
    ends = set()
    for gain in (-0.3, 0.0, 0.3):
        arrived = draw(experiment, Assumed(0.6, 0.3, 0.5), gain, np.random.default_rng(2), 8)
        rules, n = ended(experiment, arrived)
        found = [(RULES[place], count) for place, count in zip(rules, n, strict=True)]
        assert found == [by_all_means(experiment, arrived, row) for row in range(8)]
        ends |= {rule for rule, _ in found}
    assert len(ends) > 1


@pytest.mark.parametrize(("more", "share", "gain", "expected"), [
    ({}, 0.5, 0.06, (0.0, 0.12, 0.0)),
    ({}, 0.5, 0.12, (0.09, 0.15, 0.0)),  # flawed ones have room for half of 0.15 in all
    ({}, 1.0, 0.06, (0.06, 0.06, 0.0)),
    ({"metrics": ("agreement",)}, 0.5, 0.06, (0.06, 0.06, 0.0)),
    ({"primary": "false_positives"}, 0.25, 0.06, (0.06, -0.02, 0.0)),
    ({"primary": "outcome", "metrics": (*BOTH, "outcome")}, 0.5, 0.1, (0.0, 0.0, 0.1)),
])  # fmt: skip
def test_only_the_primary_metric_gains_where_there_is_room(more, share, gain, expected):
    """Over all, valid x share + flawed x (1 - share) is agreement's gain, or stays 0."""
    found = gains(made(**more), Assumed(0.85, 0.15, share), gain)
    assert tuple(found.values()) == pytest.approx(expected)
    assert list(found) == ["valid", "flawed", "outcome"]


@pytest.mark.parametrize("shadow", [False, True])
def test_what_is_drawn_has_the_rates_that_were_assumed(shadow):
    """Agreement 0.8 -> 0.9, by 0.8 -> 0.9667 on the 60 % flawed ones."""
    experiment = made(shadow=shadow, most=400)
    arrived = draw(experiment, Assumed(0.8, 0.2, 0.4), 0.1, np.random.default_rng(3), 300)
    control, treatment = arrived.does["agreement"]
    valid = arrived.counts["false_positives"]
    assert arrived.counts["agreement"].all()
    slack = 4 * 0.5 / math.sqrt(300 * 400 * 0.4)
    means = [valid.mean(), control[valid].mean(), control[~valid].mean(), treatment[valid].mean(),
             treatment[~valid].mean(), treatment.mean()]  # fmt: skip
    assert means == pytest.approx([0.4, 0.8, 0.8, 0.8, 0.8 + 0.1 / 0.6, 0.9], abs=slack)
    apart = (control != treatment)[valid].mean()
    assert apart == pytest.approx(0.2 if shadow else 2 * 0.8 * 0.2, abs=slack)


def test_enough_rationales_are_drawn_for_what_the_primary_metric_counts():
    """Half of them valid: (100 + 6 sqrt(100 / 2) + 20) / 0.5 = 324.9."""
    valid = made(primary="false_positives", most=100)
    assert units(made(most=100), 0.5) == 100
    assert units(valid, 0.5) == 325
    arrived = draw(valid, Assumed(0.8, 0.2, 0.5), 0.0, np.random.default_rng(4), 500)
    assert arrived.counts["false_positives"].sum(axis=1).min() >= 100
    with_outcomes = made(metrics=(*BOTH, "outcome"), most=100)
    assert units(with_outcomes, 0.5) == math.ceil((120 + 6 * math.sqrt(80)) / 0.2)
    assert [counted_share(one, 0.5) for one in (with_outcomes, valid)] == [AUDIT_SHARE, 0.1]


def test_before_anything_valid_came_nothing_is_known_of_it():
    """One experiment without valid rationales: no margin is kept, so there is no success."""
    experiment = made(most=60, shadow=True)
    arrived = draw(experiment, Assumed(0.3, 0.7, 1e-12), 0.7, np.random.default_rng(5), 4)
    assert not arrived.counts["false_positives"].any()
    rules, n = ended(experiment, arrived)
    assert {RULES[place] for place in rules} == {"maximum"}
    assert n.tolist() == [60] * 4
    alone = made(most=60, shadow=True, metrics=("agreement",))
    assert {RULES[place] for place in ended(alone, arrived)[0]} == {"success"}
