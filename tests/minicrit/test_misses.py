"""Every item has one outcome: the order of precedence, and what a sample says of the rest."""

import math

import pytest

from minicrit.misses import KINDS, Bars, Explanation, Fact, counted, of_the_rest, outcome, poor
from minicrit.records import Example

BARS = Bars(confident=0.9, overlap=0.3, reasons=0.25)
FINE = Explanation("Verdict: flawed", evidence="it", overlap=0.8, verbatim=True, reasons=0.6)
SOUND = Explanation("Verdict: valid", reasons=0.6)


def example(label="flawed", flaw_type="small_sample", number=0) -> Example:
    known = {"flaw_type": flaw_type, "evidence": "it"} if label == "flawed" else {}
    return Example(id=f"{label}{number}", domain="trading", rationale="So it is.", label=label,
                   group="g", source="s", split="validation", **known)  # fmt: skip


def fact(p, label="flawed", **known) -> Fact:
    return Fact(example(label), p, 0.5, **{"said_type": "small_sample", **known})


@pytest.mark.parametrize(("found", "kind", "why"), [
    (fact(math.nan, unread="too long"), "harness", "too long"),
    (fact(0.6), "right", ""),
    (fact(0.6, explanation=FINE), "right", ""),
    (fact(0.2, "valid", explanation=SOUND), "right", ""),
    (fact(0.4), "false_negative", ""),
    (fact(0.6, "valid"), "false_positive", ""),
    # a text that cannot be read excuses no wrong verdict
    (fact(0.4, explanation=Explanation("", broken="cut off")), "false_negative", ""),
    (fact(0.6, said_type="sunk_cost"), "wrong_flaw_type", "calls it sunk_cost"),
    (fact(0.6, said_type="sunk_cost", explanation=Explanation("", broken="cut off")),
     "wrong_flaw_type", "calls it sunk_cost"),
    (fact(0.6, said_type=None), "harness", "names no flaw type"),
    (fact(0.6, explanation=Explanation("", broken="cut off")), "harness", "cut off"),
    (fact(0.6, explanation=Explanation("", overlap=0.0)), "poor_explanation", "no evidence"),
    # sure of the opposite: the label goes only if a trusted opinion is against it, too
    (fact(0.02), "false_negative", ""),
    (fact(0.02, opinion="valid"), "false_negative", ""),
    (fact(0.02, opinion="valid", trusted=True), "label", "critic and judge say valid"),
    (fact(0.02, opinion="flawed", trusted=True), "false_negative", ""),
    (fact(0.02, opinion=None, trusted=True), "false_negative", ""),
    (fact(0.2, opinion="valid", trusted=True), "false_negative", ""),  # not sure enough
    (fact(0.95, "valid", opinion="flawed", trusted=True), "label", "critic and judge say flawed"),
    # an opinion changes nothing where the verdict agrees with the label
    (fact(0.99, opinion="valid", trusted=True), "right", ""),
])  # fmt: skip
def test_what_applies_first(found, kind, why):
    assert outcome(found, BARS) == (kind, (why,) if why else ())


def test_a_flaw_without_a_known_type_needs_no_name():
    assert outcome(Fact(example(flaw_type=None), 0.9, 0.5), BARS) == ("right", ())


@pytest.mark.parametrize(("found", "why"), [
    (FINE, ()),
    (Explanation("", evidence="x", overlap=0.29, verbatim=False),
     ("evidence does not stand in the text",)),
    (Explanation("", evidence="x", overlap=0.29, verbatim=True), ("evidence is elsewhere",)),
    (Explanation("", evidence="x", overlap=0.3, verbatim=True, reasons=0.25), ()),
    (Explanation("", reasons=0.24, stray=(6.0, 2.5)),
     ("other reasons than the reference", "figures from nowhere: 6, 2.5")),
    (Explanation("", miscounted=("2 times 3 is 5",)), ("false sums: 2 times 3 is 5",)),
])  # fmt: skip
def test_what_is_wrong_with_an_explanation(found, why):
    assert poor(found, BARS) == why


def test_counts_add_up():
    found = counted(["right"] * 7 + ["label", "harness", "false_positive"], 10)
    assert list(found) == ["right", *KINDS]
    assert sum(row["count"] for row in found.values()) == 10
    assert (found["right"]["value"], found["poor_explanation"]["count"]) == (0.7, 0)
    with pytest.raises(AssertionError, match="one outcome"):
        counted(["right", "something else"], 2)


def test_what_the_read_ones_say_of_the_rest():
    """20 right ones, 10 of them read, 3 of those badly explained: 6 of 20, exactly 3 to 11.

    Hypergeometric: of K=11 in 20, P(at most 3 of 10) = 0.035; of K=12, 0.0099.
    """
    read = [fact(0.9, explanation=FINE)] * 6 + [fact(0.2, "valid", explanation=SOUND)] * 4
    facts = [*read, *[fact(0.9)] * 10, fact(0.1), fact(0.9, said_type="sunk_cost")]
    kinds = ["poor_explanation"] * 3 + ["right"] * 17 + ["false_negative", "wrong_flaw_type"]
    found = of_the_rest(facts, kinds)
    assert (found["items"], found["read"]) == (20, 10)
    poorly = found["poor_explanation"]
    assert poorly["all"] == {"items": 20, "read": 10, "seen": 3, "value": 6.0, "low": 3,
                             "high": 11}  # fmt: skip
    assert (poorly["valid"]["seen"], poorly["valid"]["read"]) == (0, 4)
    assert (poorly["flawed"]["seen"], poorly["flawed"]["read"]) == (3, 6)
    assert found["harness"]["all"]["seen"] == 0
    assert of_the_rest(facts[10:], kinds[10:])["poor_explanation"]["all"]["value"] is None
