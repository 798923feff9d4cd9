"""What the report on errors says of all items together, by hand."""

import math

from minicrit.error_facts import Analysis, report_of
from minicrit.misses import Bars, Fact, outcome
from minicrit.neighbours import Neighbour
from minicrit.records import Example

BARS = Bars(confident=0.9, overlap=0.3, reasons=0.25)


def fact(number: int, p: float, flaw_type: str | None, said: str | None = None,
         mechanism: str = "product") -> Fact:  # fmt: skip
    known = {"flaw_type": flaw_type, "evidence": "it"} if flaw_type else {}
    example = Example(
        id=str(number), domain="trading", rationale="So it is.", group=str(number),
        label="flawed" if flaw_type else "valid", source=f"composer/trading/f/{mechanism}",
        split="validation", **known,
    )  # fmt: skip
    judged = {"opinion": "flawed", "trusted": True} if number == 9 else {}
    return Fact(example, p, 0.5, said_type=said, **judged)


def near(*rows: tuple[float, str]) -> list[Neighbour]:
    return [Neighbour(similarity, "t", label, None, "x") for similarity, label in rows]


FACTS = [
    fact(0, 0.95, "anchoring", "anchoring"), fact(1, 0.25, None), fact(2, 0.25, None),
    fact(3, 0.65, "anchoring", "sunk_cost"), fact(4, 0.75, "anchoring", "recency_bias"),
    fact(5, 0.85, "anchoring", "recency_bias", mechanism="other"),
    fact(6, 0.65, None), fact(7, 0.75, None), fact(8, 0.4, "anchoring"),
    fact(9, 0.95, None),  # a judge, too, calls it flawed: its label is laid aside
    fact(10, math.nan, None),
]  # fmt: skip
NEAR = [
    near((1.0, "flawed")), near((0.5, "flawed"), (0.4, "flawed")), near((0.2, "valid")),
    near((0.9, "valid")), [], near((0.7, "valid"), (0.6, "flawed")), near((0.49, "flawed")),
    near((0.1, "flawed")), near((0.3, "flawed")), near((1.0, "flawed")), near((1.0, "flawed")),
]  # fmt: skip


def reported(cards: int = 9) -> dict:
    found = Analysis(FACTS, [outcome(one, BARS) for one in FACTS], NEAR, 77)
    return report_of(found, BARS, split="test", least=2, slices=0, cards=cards, seed=0)


def test_how_near_training_comes_to_misses_and_to_the_rest() -> None:
    """Misses 3 to 8, of which 4 has no neighbour: 0.9, 0.7, 0.49, 0.1, 0.3; right 1, 0.5, 0.2.

    Alike from 0.5 on. Otherwise are the neighbours of 3, 6 and 7, and those of 1.
    """
    assert reported()["neighbours"] == {
        "training_rows": 77,
        "misses": {"n": 5, "median": 0.49, "alike": 2, "otherwise": 3},
        "right": {"n": 3, "median": 0.5, "alike": 2, "otherwise": 1},
    }


def test_the_wrong_names_of_a_flaw_come_by_their_number() -> None:
    found = reported()
    assert [(row["called"], row["count"]) for row in found["types"]] == [
        ("recency_bias", 2), ("sunk_cost", 1)]  # fmt: skip
    assert found["judged"] == {"other": 1, "product": 8}  # neither the ninth nor the tenth
    assert (found["steers"], found["doubtful"]["ids"]) == (False, [])


def test_confidence_is_that_of_the_verdict_whichever_it_is() -> None:
    """0.6 to 0.7: right 3, wrong 6 and 8 (p 0.4); 0.7 to 0.8: right 1, 2 and 4, wrong 7."""
    rows = [(row["mean_p"], row["n"], row["value"]) for row in reported()["confidence"]]
    assert rows == [(0.633333, 3, 0.333333), (0.75, 4, 0.75), (0.85, 1, 1), (0.95, 1, 1)]


def test_of_each_kind_the_surest_is_read_first() -> None:
    assert [card["id"] for card in reported()["cards"]] == ["7", "8", "5", "9", "10", "6", "4", "3"]
    assert [card["id"] for card in reported(3)["cards"]] == ["7", "8", "5"]
    assert [row["id"] for row in reported()["items"]] == ["3", "4", "5", "6", "7", "8"]
