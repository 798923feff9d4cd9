import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicrit.feedback.opinions import (
    LEAST_SHARED,
    agreement_among,
    can_weigh,
    cases_of,
    dawid_skene,
    majority,
    met,
)


def test_cases_hold_the_last_word_of_every_operator():
    rows = [
        {"unit": "b", "operator": "ann", "label": "valid"},
        {"unit": "a", "operator": "ann", "label": "flawed"},
        {"unit": "b", "operator": "bob", "label": "valid"},
        {"unit": "b", "operator": "ann", "label": "flawed"},
    ]
    first, second = cases_of(rows)
    assert (first.unit, first.votes, first.share) == ("b", {"ann": True, "bob": False}, 0.5)
    assert len(first.decisions) == 3
    assert (second.unit, second.share) == ("a", 1.0)


def test_majority_by_hand():
    votes = [{"a": True, "b": True, "c": False}, {"a": True, "b": False}, {"a": False}]
    assert majority(votes).tolist() == [1.0, 0.5, 0.0]


def test_one_step_of_dawid_and_skene_by_hand():
    """One operator, one flawed vote: p stays where prior and likelihood put it.

    p = 1: prior (1 + 1) / (1 + 2) = 2/3; right on flawed (1 + 2) / (1 + 3) = 3/4, on valid 2/3.
    Odds 2 x (3/4) / (1/3) = 9/2, p = 9/11. The fixed point solves the same with p in place of 1.
    """
    p, rates = dawid_skene([{"a": True}])
    assert p[0] < 1
    prior = (p[0] + 1) / 3
    on_flawed, on_valid = (p[0] + 2) / (p[0] + 3), 2 / (1 - p[0] + 3)
    odds = prior / (1 - prior) * on_flawed / (1 - on_valid)
    assert p[0] == pytest.approx(odds / (1 + odds), abs=1e-6)
    assert rates["a"] == pytest.approx((on_valid, on_flawed), abs=1e-6)


def simulated(accuracies, n=400, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    votes = [{name: bool(t if rng.random() < right else not t)
              for name, right in accuracies.items()} for t in truth]  # fmt: skip
    return truth, votes


def test_weighing_finds_the_careless_and_beats_the_majority():
    accuracies = {"ann": 0.95, "bob": 0.93, "cid": 0.52, "dan": 0.5, "eve": 0.51}
    truth, votes = simulated(accuracies)
    assert can_weigh(votes)
    p, rates = dawid_skene(votes)
    weighed = np.mean((p > 0.5) == truth)
    assert weighed > np.mean((majority(votes) > 0.5) == truth) + 0.04
    assert weighed >= 0.94
    for name, right in accuracies.items():
        assert np.mean(rates[name]) == pytest.approx(right, abs=0.08)


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_names_and_order_do_not_matter(seed):
    _, votes = simulated({"a": 0.9, "b": 0.7, "c": 0.6}, n=30, seed=seed)
    order = np.random.default_rng(seed).permutation(30)
    p, _ = dawid_skene(votes)
    renamed = [{{"a": "z", "b": "y", "c": "x"}[k]: v for k, v in votes[i].items()} for i in order]
    assert dawid_skene(renamed)[0] == pytest.approx(p[order], abs=1e-5)


def test_swapping_the_labels_swaps_the_answer():
    _, votes = simulated({"a": 0.9, "b": 0.8, "c": 0.7}, n=60)
    p, _ = dawid_skene(votes)
    other, _ = dawid_skene([{k: not v for k, v in one.items()} for one in votes])
    assert other == pytest.approx(1 - p, abs=1e-5)


def test_agreement_among_operators():
    """ann and bob: 12 shared, 9 equal; ann says flawed 6 times, bob 7 times."""
    pairs = [(True, True)] * 5 + [(False, False)] * 4 + [(True, False)] + [(False, True)] * 2
    votes = [{"ann": a, "bob": b} for a, b in pairs] + [{"cid": True}]
    found = agreement_among(votes)
    a, b = 6 / 12, 7 / 12
    expected = a * b + (1 - a) * (1 - b)
    kappa = pytest.approx((9 / 12 - expected) / (1 - expected), abs=1e-6)
    assert found["kappa"] == {"ann / bob": {"kappa": kappa, "n": 12}}
    assert found["pairwise"] == 0.75
    assert (found["rationales"], found["decided_by_several"]) == (13, 12)
    assert found["operators"] == {"ann": 12, "bob": 12, "cid": 1}
    assert agreement_among([{"ann": True}])["alpha"] is None


def test_a_record_is_held_against_the_others_alone():
    votes = [{"a": True, "b": False}, {"a": True}, {"a": False, "b": False}, {"a": True, "b": True}]
    assert met(votes) == {"a": (2, 3), "b": (2, 3)}
    split = [{"a": True, "b": True, "c": False}, {"a": True, "b": False, "c": False, "d": False}]
    assert met(split) == {"a": (0, 1), "b": (1, 1), "c": (1, 2), "d": (1, 1)}
    assert not can_weigh(votes)


def test_operators_who_share_nothing_are_not_held_against_each_other():
    """Of 2,000 operators that would be two million pairs, each over all rationales."""
    asked = []

    class Votes(dict[str, bool]):
        def __getitem__(self, name):
            asked.append(name)
            return super().__getitem__(name)

        def __contains__(self, name):
            asked.append(name)
            return super().__contains__(name)

    votes = [Votes({f"op {n}": True, f"op {n + 1}": False}) for n in range(0, 100, 2)]
    votes += [Votes({"op 0": True, "op 1": n > 4}) for n in range(LEAST_SHARED - 1)]
    found = agreement_among(votes)["kappa"]
    assert list(found) == ["op 0 / op 1"]
    assert found["op 0 / op 1"]["n"] == LEAST_SHARED
    assert len(asked) == 2 * len(votes)
