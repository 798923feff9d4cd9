import random

import pytest

from minicrit.feedback.entries import AUDIT_SHARE, Request, chance_of
from minicrit.feedback.standing import settled
from minicrit.feedback.store import FeedbackStore
from minicrit.statistics import wilson

AUDITED = [name for n in range(400) if chance_of(name := f"r{n}") < AUDIT_SHARE]
OTHERS = [name for n in range(400) if chance_of(name := f"r{n}") >= AUDIT_SHARE]


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "store.db") as store:
        yield store


def result(label):
    return {"label": label, "p_flawed": 0.7 if label == "flawed" else 0.3, "threshold": 0.5}


def ask(store, name, label="flawed", text=None, shadow=None, **more):
    store.add_request(name, "general", text or f"Text of {name}.", result(label),
                      shadow=shadow and result(shadow), **more)  # fmt: skip


def shown(good, n):
    if n == 0:
        return {"value": None, "low": None, "high": None, "n": 0}
    found = wilson(good, n)
    return {"value": pytest.approx(found.value, abs=1e-6), "n": n,
            "low": pytest.approx(found.low, abs=1e-6),
            "high": pytest.approx(found.high, abs=1e-6)}  # fmt: skip


def test_nothing_yet(store):
    nothing = shown(0, 0)
    state = store.state()
    assert (state["requests"], state["decisions"], state["shadow"]) == (0, 0, None)
    assert nothing.items() <= state["agreement"].items()
    assert nothing.items() <= state["fpr"].items()
    assert state["experiments"] == []


def test_agreement_is_over_all_and_false_positives_over_the_audit(store):
    for name in (*AUDITED[:4], *OTHERS[:3]):
        ask(store, name)
    ask(store, AUDITED[4], "valid")
    for name in (*AUDITED[:2], *OTHERS[:3]):
        store.add_decision(name, "disagree", "ann")  # flagged, yet valid
    store.add_decision(AUDITED[2], "agree", "ann")
    store.add_decision(AUDITED[4], "agree", "ann")
    state = store.state()
    assert (state["requests"], state["decisions"], state["decided"]) == (8, 7, 7)
    assert shown(2, 7).items() <= state["agreement"].items()
    assert state["agreement"]["audit"] == shown(2, 4)
    assert shown(2, 3).items() <= state["fpr"].items()
    assert state["audit"] == {"share": 0.2, "rationales": 5, "decided": 4}


def test_the_majority_of_the_last_words_decides_and_a_rationale_counts_once(store):
    a, b, c = AUDITED[:3]
    ask(store, a)
    for operator, decision in [("ann", "agree"), ("bob", "disagree"), ("cid", "agree"),
                               ("ann", "disagree")]:  # fmt: skip
        store.add_decision(a, decision, operator)
    ask(store, b, text=f"  Text  of {a}. ")  # the same rationale, another time
    store.add_decision(b, "disagree", "dan")
    ask(store, c)
    store.add_decision(c, "agree", "ann")
    store.add_decision(c, "disagree", "bob")
    (one,) = settled(store.judged())
    assert (one.answered, one.flawed) == (True, False)
    assert shown(1, 1).items() <= store.state()["fpr"].items()
    assert shown(0, 1).items() <= store.state()["agreement"].items()


def test_the_second_critic_is_held_against_the_first(store):
    a, b, c, d = AUDITED[:4]
    for name, heard, shadow, right in [
        (a, "flawed", "valid", "valid"), (b, "flawed", "valid", "valid"),
        (c, "valid", "flawed", "valid"), (d, "valid", "valid", "valid"),
    ]:  # fmt: skip
        ask(store, name, heard, shadow=shadow)
        store.add_decision(name, "agree" if heard == right else "disagree", "ann")
    ask(store, "e", "flawed", shadow="flawed")
    ask(store, "f", "flawed")
    found = store.state()["shadow"]
    assert found == {
        "requests": 5, "flips": shown(3, 5), "agreement": shown(2, 4),
        "shadow_agreement": shown(3, 4), "only_heard_right": 1, "only_shadow_right": 2,
    }  # fmt: skip


def test_arms_are_told_apart_by_the_audit(store):
    for n, name in enumerate(AUDITED[:6]):
        ask(store, name, experiment="e", arm="new" if n % 2 else "old")
        store.add_decision(name, "disagree" if n == 0 else "agree", "ann")
    ask(store, OTHERS[0], experiment="e", arm="new")
    store.add_decision(OTHERS[0], "disagree", "ann")
    (found,) = store.state()["experiments"]
    assert found["name"] == "e"
    assert found["arms"]["old"] == {"requests": 3, "agreement": shown(2, 3), "fpr": shown(1, 1)}
    assert found["arms"]["new"]["requests"] == 4
    assert found["arms"]["new"]["agreement"] == shown(3, 3)


def test_working_through_the_queue_leaves_the_audit_unbiased(store):
    """900 requests; the less certain, the more often wrong; operators reach 300 of them.

    True agreement 0.75. The critic is wrong on half of the less certain 450 and right on the rest.
    """
    draw = random.Random(1)
    wrong = {}
    requests = []
    for n in range(900):
        name, doubtful = f"r{n}", n % 2 == 0
        wrong[name] = doubtful and n % 4 == 0
        p = draw.uniform(0.5, 0.6) if doubtful else draw.uniform(0.9, 0.99)
        requests.append(Request(request_id=name, domain="general", rationale=f"Text {n}.",
                                result={"label": "flawed", "p_flawed": p, "threshold": 0.5}
                                ))  # fmt: skip
    store.add_requests(requests)
    for _ in range(30):
        for row in store.queue(10):
            name = row["request_id"]
            store.add_decision(name, "disagree" if wrong[name] else "agree", "ann")
    state = store.state()
    assert state["agreement"]["high"] < 0.75  # over all decisions: far off
    audit = state["agreement"]["audit"]
    assert audit["n"] == 150
    assert audit["low"] < 0.75 < audit["high"]
    assert abs(audit["value"] - 0.75) < 0.1


def test_what_is_asked_often_does_not_count_more_in_the_audit(store):
    """200 rationales asked once, the critic wrong on all; 200 asked 15 times, right on all.

    A rationale counts once, so the agreement is one half; with a draw of each request it came to
    0.2 x 200 wrong and 0.96 x 200 right, 0.83.
    """
    requests = []
    for n in range(400):
        for again in range(15 if n % 2 else 1):
            requests.append(Request(request_id=f"r{n}-{again}", domain="general",
                                    rationale=f"Text {n}.", result=result("flawed")))  # fmt: skip
    store.add_requests(requests)
    for row in list(store.requests()):
        if row["audit"]:
            n = int(row["rationale"][5:-1])
            store.add_decision(row["request_id"], "agree" if n % 2 else "disagree", "ann")
    state = store.state()
    audit = state["agreement"]["audit"]
    assert audit["low"] < 0.5 < audit["high"]
    assert 50 < audit["n"] < 110
    assert state["audit"] == {"share": AUDIT_SHARE, "rationales": audit["n"], "decided": audit["n"]}


def test_a_rationale_counts_once_in_and_out_of_an_experiment(store):
    a, b = AUDITED[:2]
    ask(store, a, text="Twice.")
    ask(store, b, text="Twice.", experiment="e", arm="new")
    store.add_decision(a, "agree", "ann")
    store.add_decision(b, "agree", "bob")
    state = store.state()
    assert shown(1, 1).items() <= state["agreement"].items()
    assert state["decided"] == 1
    assert state["experiments"][0]["arms"]["new"]["agreement"] == shown(1, 1)


def test_the_second_critic_is_compared_where_the_first_ones_doubts_have_no_say(store):
    """The queue shows the doubtful cases of the critic that is heard; they would make it worse."""
    ask(store, OTHERS[0], "flawed", shadow="valid")
    store.add_decision(OTHERS[0], "disagree", "ann")
    found = store.state()["shadow"]
    assert found["flips"] == shown(1, 1)
    assert (found["agreement"]["n"], found["only_shadow_right"]) == (0, 0)


def test_the_second_critic_is_held_against_rationales_decided_on_before_it_came_too(store):
    a, b = AUDITED[:2]
    ask(store, a, text="Twice.")
    ask(store, b, text="Twice.", shadow="valid", experiment="e", arm="control")
    for name in (a, b):
        store.add_decision(name, "disagree", "ann")
    assert store.state(experiment="e")["shadow"]["only_shadow_right"] == 1


def test_what_another_critic_said_is_not_laid_to_the_one_that_is_heard(store):
    """The one before it flagged two sound texts, the one on trial one, it itself passes three."""
    said = ["old"] * 2 + ["trial"] + ["new"] * 3
    for name, critic in zip(AUDITED, said, strict=False):
        arm = {"experiment": "e", "arm": "treatment"} if critic == "trial" else {}
        ask(store, name, "valid" if critic == "new" else "flawed", critic=critic, **arm)
        store.add_decision(name, "agree" if critic == "new" else "disagree", "ann")
    for critic, right in (("new", 3), ("old", 0), ("trial", 0), (None, 0)):
        state, n = store.state(critic), said.count(critic)
        assert shown(right, n).items() <= state["agreement"].items()
        assert state["agreement"]["audit"] == shown(right, n)
        assert shown(n - right, n).items() <= state["fpr"].items()
        assert state["decided"] == 6


def test_a_rationale_waits_again_for_another_critic_that_says_the_same(store):
    """Else only those on which the two differ would count for the second."""
    for name, critic in zip(AUDITED, ("old", "new", "new"), strict=False):
        ask(store, name, text="Twice.", critic=critic)
    store.add_decision(AUDITED[0], "agree", "ann")
    assert [row["request_id"] for row in store.queue(9)] == [AUDITED[2]]


def test_the_second_critic_of_one_experiment_is_not_that_of_another(store):
    for name, experiment, shadow in zip(
        AUDITED, "aab", ("flawed", "flawed", "valid"), strict=False
    ):
        ask(store, name, "valid", shadow=shadow, experiment=experiment, arm="control")
        store.add_decision(name, "agree", "ann")
    first, second = (store.state(experiment=name)["shadow"] for name in "ab")
    assert (first["flips"], first["only_heard_right"]) == (shown(2, 2), 2)
    assert (second["flips"], second["only_heard_right"]) == (shown(0, 1), 0)
    assert store.state()["shadow"] is None
