"""No page says that a p value is 0: four decimals show 0.0001, and what is less is said to be."""

from typing import Any

from data_gen.court.verdicts_page import verdicts_page
from data_gen.injection import page as injections_page
from minicrit import adapter_page, errors_page, experiments_page, gate_page
from minicrit.contrast_tables import (
    chance,
    difference_rows,
    foreseen,
    pair_rows,
    said_p,
    slice_rows,
    violation_rows,
)
from minicrit.feedback import ab_page
from minicrit.targets import targets

TINY = 0.000012
RATE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}
LESS = "< 0.0001"


def test_a_chance_for_people() -> None:
    assert [chance(p) for p in (None, 0.0, TINY, 0.0001, 0.25)] == ["-", LESS, LESS, "0.0001",
                                                                    "0.2500"]  # fmt: skip
    assert [said_p(p) for p in (TINY, 0.25)] == ["p < 0.0001", "p=0.2500"]


def contrasted() -> dict[str, Any]:
    """Two judges, of which the first finds more and is not shown to raise no more false alarms."""
    sure = {"value": 0.1, "low": 0.05, "high": 0.15, "p": 0.001}
    gaps = {"f1": sure | {"p_below": 0.002, "p_above": 0.9, "p_apart": 0.91},
            "fpr": {"value": -0.01, "low": None, "high": None, "p": None, "p_below": 0.3,
                    "p_above": 0.04, "p_apart": 0.31},
            "auroc": {"value": None, "low": None, "high": None, "p": None}}  # fmt: skip
    slices = [{"axis": axis, "slice": name, "n": 9, "only_a_right": 5, "only_b_right": 2,
               "mcnemar_p": p, "holm_p": min(1.0, 3 * p)}
              for axis, name, p in (("kind", "plain", 0.5), ("domain", "x", 0.5),
                                    ("domain", "y", 0.25))]  # fmt: skip
    pair = {"a": "m1", "b": "m2", "n": 90, "only_a_right": 8, "only_b_right": 3, "mcnemar_p": TINY,
            "detectable": None, "differences": gaps, "margin": 0.02, "slices": slices,
            "metamorphic": {"n": 40, "only_a_moved": 6, "only_b_moved": 1, "mcnemar_p": 0.125},
            }  # fmt: skip
    return {"judges": {"m1": {"name": "one"}, "m2": {"name": "two"}}, "pairs": [pair]}


def test_two_judges_in_tables() -> None:
    """Of F1 less is worse, of false positives more; slices by p, then by name, at most eight."""
    report, named = contrasted(), "one against two"
    assert pair_rows(report)[1] == [(named, "90", "8", "3", LESS, "-")]
    head, rows = difference_rows(report)
    assert head == ("A - B", named)
    assert rows == [
        ("F1", "+0.100 [+0.050, +0.150] p=0.0010"), ("F1: A worse by 0.02, p", "0.0020"),
        ("F1: apart by 0.02, p", "0.9100"), ("false-positive rate", "-0.010"),
        ("false-positive rate: A worse by 0.02, p", "0.0400"),
        ("false-positive rate: apart by 0.02, p", "0.3100"), ("AUROC", "-"),
    ]  # fmt: skip
    head, rows = slice_rows(report)
    assert rows == [("Domain", "y", "9", "5", "2", "0.2500", "0.7500"),
                    ("Domain", "x", "9", "5", "2", "0.5000", "1.0000"),
                    ("Kind", "plain", "9", "5", "2", "0.5000", "1.0000")]  # fmt: skip
    assert violation_rows(report)[1] == [(named, "40", "6", "1", "0.1250")]
    report["pairs"][0]["slices"] *= 3
    assert len(slice_rows(report)[1]) == 8
    report["pairs"][0] |= {"slices": [], "metamorphic": None}
    assert slice_rows(report) is violation_rows(report) is None
    assert difference_rows({"pairs": []})[1] == []


def test_shares_are_told_as_they_were_set() -> None:
    """Rounded, 0.4 % of disagreement were none, and 97.5 % sure were 98."""
    found = {"detectable": {"discordance": 0.004, "gap": 0.001, "power": 0.8}}
    assert "disagree on 0.4 % of the items, differences" in foreseen(found)
    doubtful = {"ids": [], "confident": 0.975}
    said = errors_page.doubts({"doubtful": doubtful, "counts": {"label": {"count": 0}}})
    assert "at least 97.5% sure of the opposite" in said


def test_a_log_says_when_in_a_form_for_people() -> None:
    row = {"event": "begin", "reason": "-", "at": 1e9 + 0.6, "experiment": "a" * 64}
    assert ab_page.log_rows({"log": [row]})[1] == [
        ("begin", "-", "2001-09-09 01:46:40 UTC", "a" * 12)
    ]


def test_a_judge_that_agrees_with_too_few_labels_is_said_to() -> None:
    """Of 41 of 55 it was said that 75% agree, and that 75% are needed."""
    control = {"value": 41 / 55, "low": 0.6, "high": 0.85, "n": 55, "one_label": 30}
    doubtful = {"ids": [], "confident": 0.9, "by": "j", "trusted": False, "unanswered": 0,
                "asked": 55, "control": control}  # fmt: skip
    said = errors_page.doubts({"doubtful": doubtful, "counts": {"label": {"count": 0}}})
    assert "It agrees with 74.5% [0.60, 0.85] of 55 labels" in said
    assert "so it is not believed (needed: 75% of 10, and more than the 30 with which" in said


def test_slices_of_errors() -> None:
    row = {"slice": {"domain": "medical"}, "misses": 45, **RATE, "rest": RATE, "p": TINY,
           "p_over_all": 0.00004, "p_by_family": 0.0005, "families": 7}  # fmt: skip
    _, (found,) = errors_page.slice_rows({"slices": {"worst": [row]}})
    assert found[-4:-1] == (LESS, LESS, "0.0005")


def test_arms_of_experiments() -> None:
    gap = {"value": 0.2, "low": 0.1, "high": 0.3, "p": 0.0003, "holm_p": 0.00005}
    pair = {"a": "cot", "b": "plain-1", "n": 90, "differences": {"f1": gap}}
    _, (found,) = experiments_page.difference_rows({"comparisons": [pair]})
    assert found[-2:] == ("0.0003", LESS)


def test_specialists() -> None:
    told = {"accuracy": 0.4, "only_it_right": 40, "only_general_right": 0, "says": "better",
            "mcnemar_holm_p": 0.0004,
            "auroc": {"value": 0.3, "low": 0.2, "high": 0.4, "holm_p": TINY}}  # fmt: skip
    _, (found,) = adapter_page.against_rows({"matrix": {"medical": {"medical": {"against": told}}}})
    assert (found[4], found[7]) == ("0.0004", LESS)


def test_metrics_of_an_experiment() -> None:
    arm = {"n": 300, "mean": 0.5}
    one = {"arms": {"control": arm, "treatment": arm}, "gain": 0.3, "low": 0.1, "high": 0.4,
           "p": TINY, "n": 600}  # fmt: skip
    _, (found,) = ab_page.metric_rows({"metrics": {"agreement": one}, "settings": {}})
    assert found[-2] == LESS


def test_in_shadow_operators_see_one_verdict_alone() -> None:
    """It was said that they are drawn to what they see in both arms."""
    assert "control's verdict alone" in ab_page.read({"shadow": True})
    assert "in both arms" not in ab_page.read({"shadow": True})
    assert "in both arms" in ab_page.read({"shadow": False})


def judged(p: float) -> dict[str, Any]:
    """The parts of a judge's report that its page reads."""
    names = ("flips", "leaning", "tie", "identical", "unscored", "judge_agrees_with_label")
    signs = {"wins": 40, "losses": 2, "p": p}
    parts = ("longer_wins", "correlation", "controlled")
    return {
        "models": {f"model_{n}": {"name": f"critic {n}"} for n in (1, 2)},
        "judge": {"name": "j", "backend": "local", "prompt": "compare-1", "constitution": "1"},
        "qualification": {"qualified": True}, "win_rate": RATE, "corrected": RATE, "slices": {},
        "items": {"n": 90, "flawed": 45, "groups": 45, "drawn_from": 90}, "command": "judge",
        "outcomes": dict.fromkeys(("wins_1", "wins_2", *names), 1), "to_read": [], "cost": {},
        "rates": dict.fromkeys(names, RATE), "length": {"band": 1.2, **dict.fromkeys(parts, RATE)},
        "sign_test": {**signs, "by_group": {**signs, "p": 0.04}},
    }  # fmt: skip


def test_signs_of_a_judge() -> None:
    page = verdicts_page(judged(TINY))
    assert "40 wins, 2 losses, p < 0.0001; by groups 40 to 2, p=0.0400." in page


def test_what_is_looked_at_first_of_a_gate() -> None:
    """Of 2,000 random gates none is as good: p is 1 in 2,001."""
    one = {"gain": 0.9, "low": -0.4, "high": 0.4, "median": 0.0, "p": 0.0005}
    book, gap = {"sharpe": 0.9}, {"value": 0.9, "low": 0.6, "high": 1.2, "p": TINY, "years": 2.0}
    report = {
        "books": {"before": book, "after": book},
        "differences": {"after": gap},
        "placebo": one,
        "settings": {"gain": 0.4},
        "trades": {"years": 3.0, "n": 250},
    }
    details = [detail for _, _, detail in gate_page._cards(report)]
    assert details[1].endswith(f", p {LESS}")
    assert details[2] == "p=0.0005, one-sided"
    assert ", p=0.0005, 250 trades" in targets(None, report)[3]["detail"]


def test_what_injections_flip() -> None:
    one = {"name": "order", "about": "says so", "flipped": 20, "n": 60, "rate": 0.33, "low": 0.2,
           "high": 0.5, "moved": -1.0, "p_against_control": TINY}  # fmt: skip
    sound = {"passed": 30, "items": 40, "injections": [
        {"name": "order", "flagged": 3, "n": 30, "rate": 0.1, "low": 0.03, "high": 0.26}
    ]}  # fmt: skip
    found = injections_page({"flagged": 60, "items": 80, "injections": [one], "sound": sound})
    assert f"| -1.00 | {LESS} | 3 of 30 10 % [3, 26] | says so |" in found
