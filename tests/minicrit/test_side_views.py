"""What other stages wrote is shown as it is there; what lacks is a dash."""

import json
from pathlib import Path
from typing import Any

import pytest

from minicrit.adapter_page import adapters_view
from minicrit.side_views import (
    errors_view,
    experiments_view,
    explained_view,
    judge_view,
    read_sides,
)


def rate(value: float, n: int = 200) -> dict[str, Any]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": n}


JUDGED = {
    "models": {"model_1": {"name": "one"}, "model_2": {"name": "two"}},
    "judge": {"name": "qwen3:8b", "backend": "ollama"},
    "qualification": {"qualified": True, "failings": [], "forced": False,
                      "rates": {"better_wins": rate(0.93, 80)}},
    "outcomes": {"wins_1": 131, "wins_2": 18, "tie": 22, "identical": 3, "leaning": 14, "flips": 9,
                 "unscored": 3},
    "rates": {"flips": rate(0.1)}, "win_rate": rate(0.79, 197), "corrected": rate(0.84, 197),
}  # fmt: skip


def test_a_judges_report() -> None:
    view = judge_view(JUDGED)
    assert (view["models"], view["judge"]) == (["one", "two"], "qwen3:8b")
    assert view["qualified"] == ("met", "The judge qualified.")
    assert view["rates"][1][0] == ("win rate of model 1, ties half", "0.790 [0.740, 0.840]", "197")
    assert ("no judgement", "3") in view["outcomes"][1]
    assert ("the side changes with the order", "9") in view["outcomes"][1]
    assert view["exam"][1] == [("better wins", "0.930 [0.880, 0.980]", "80")]


@pytest.mark.parametrize(
    ("exam", "status", "words"),
    [
        ({"qualified": False, "failings": ["flips", "parsed"]}, "missed",
         "did not qualify: flips, parsed."),
        ({"qualified": False, "failings": ["flips"], "forced": True}, "missed", "all the same"),
        ({}, "open", "not said whether"),
    ],
)  # fmt: skip
def test_a_judge_that_did_not_qualify(exam: dict[str, Any], status: str, words: str) -> None:
    found = judge_view({**JUDGED, "qualification": exam})["qualified"]
    assert found[0] == status
    assert words in found[1]


def test_errors_are_counted_by_kind() -> None:
    """Kinds in their order, unknown ones last; a slice is named by its properties."""
    worst = {"slice": {"domain": "medical", "flaw_type": "sunk_cost"}, "misses": 9, "n": 20,
             **rate(0.45, 20), "rest": rate(0.16), "p_over_all": 0.00001,
             "p_by_family": 0.25}  # fmt: skip
    view = errors_view({
        "critic": {"name": "c"}, "n": 10, "split": "validation", "slices": {"worst": [worst]},
        "rest": {"items": 7, "read": 2},
        "counts": {"odd": {"count": 1, **rate(0.1)}, "false_positive": {"count": 2, **rate(0.2)},
                   "right": {"count": 7, **rate(0.7)}},
    })  # fmt: skip
    assert [row[:2] for row in view["counts"][1]] == [
        ("right", "7"), ("false positive", "2"), ("odd", "1")]  # fmt: skip
    assert view["worst"][1][0][:3] == ("domain: medical, flaw type: sunk_cost", "9", "20")
    assert view["worst"][1][0][-2:] == ("< 0.0001", "0.2500")  # one hard family may be to blame
    assert view["about"] == (
        "c on 10 items of split validation. Every item counts once. Of the 7 that are right by "
        "verdict and flaw type, the critiques of 2 were read; the other 5 count as right."
    )


def test_whole_critiques_by_figure() -> None:
    """Known figures by their names, others as they are called."""
    view = explained_view({"critic": {"name": "c"}, "n": 4, "split": "test", "figures": {
        "odd": {**rate(0.2), "n": 4}, "reasons": {**rate(0.5), "n": 2},
        "no_false_sum": {**rate(0.9), "n": 4}}})  # fmt: skip
    assert view["figures"][1] == [
        ("no false sum", "0.900 [0.850, 0.950]", "4"),
        ("flawed: content words of the reference's reasons, F1", "0.500 [0.450, 0.550]", "2"),
        ("odd", "0.200 [0.150, 0.250]", "4"),
    ]
    # as `test_every_figure_by_hand` has it: 9 of 10 verdicts right where two texts are cut off
    assert view["about"] == ("c on 4 items of split test. What is cut off or does not parse is a "
                             "miss in each row but that of the verdict, which is the readout's."
                             )  # fmt: skip


@pytest.mark.parametrize(("settings", "named", "more"), [
    ({"overlap": 0.6}, "valid: verdict, figures and sums", ""),  # asked for no reasons
    ({"overlap": 0.6, "reasons": 0.25}, "valid: verdict, figures, sums and some reasons",
     ", nothing worked out wrongly"),
])  # fmt: skip
def test_a_right_critique_of_an_older_report_need_not_have_given_reasons(
    settings: dict[str, float], named: str, more: str
) -> None:
    figures = {"no_false_sum": rate(0.9), "valid_right": rate(0.9)}
    view = explained_view({"settings": settings, "figures": figures})
    assert [row[0] for row in view["figures"][1]] == ["no false sum" + more, named]


def test_experiments_by_arm() -> None:
    """An arm's name may hold a dot; columns without a figure are left out."""
    view = experiments_view({
        "model": {"name": "c"}, "items": {"all": {"n": 9}},
        "arms": {"plain": {"n": 9, "metrics": {"f1": rate(0.9)}},
                 "temperature 0.3": {"n": 4, "parsed": rate(1.0)}},
        "comparisons": [{"a": "temperature 0.3", "b": "plain", "only_a_right": 1,
                         "only_b_right": 2, "mcnemar_holm_p": 0.5}],
        "measured": {"arms": {"temperature 0.3": {"p50": 5900.4}}},
    })  # fmt: skip
    head, rows = view["arms"]
    assert head == ("arm", "n", "F1", "parsed", "against", "only it : only that", "Holm",
                    "ms an item, p50")  # fmt: skip
    assert rows[0] == ("plain", "9", "0.900 [0.850, 0.950]", "-", "-", "-", "-", "-")
    assert rows[1][4:] == ("plain", "1 : 2", "0.5000", "5900")


@pytest.mark.parametrize(
    "view", [judge_view, errors_view, explained_view, experiments_view, adapters_view]
)
def test_an_empty_report_is_all_dashes(view: Any) -> None:
    """Nothing is guessed, and nothing fails."""
    text = str(view({"form": 9}))
    assert "-" in text
    assert "None" not in text.replace("'worst': None", "")


def test_found_beside_the_benchmark(tmp_path: Path) -> None:
    out = tmp_path / "benchmark"
    assert set(read_sides(out)) == {"judged", "adapters", "explained", "errors", "experiments"}
    assert not any(read_sides(out).values())
    out.with_name("benchmark.judge.json").write_text(json.dumps(JUDGED))
    assert read_sides(out)["judged"] == judge_view(JUDGED)
    out.with_name("errors.json").write_text("[]")
    with pytest.raises(ValueError, match=r"errors\.json: .*make it again"):
        read_sides(out)


def test_a_critic_that_has_changed_since_is_not_taken_for_the_benchmarks(tmp_path: Path) -> None:
    """Trained anew it has the name of its folder, and what was wrong before stood under it."""
    name, changed = "checkpoints/r/sft", "checkpoints/r/sft in another state than the benchmark's"
    judges = {"model_1": {"name": name, "identity": "new"},
              "words": {"name": "bag of words"}}  # fmt: skip
    out = tmp_path / "benchmark"
    errors = {"n": 1, "split": "validation", "counts": {}}
    for identity, shown in (("new", name), ("old", changed)):
        critic = {"name": name, "identity": identity}
        (tmp_path / "errors.json").write_text(json.dumps({**errors, "critic": critic}))
        models = {"model_1": critic, "model_2": {"name": "embedded", "identity": "b"}}
        (tmp_path / "benchmark.judge.json").write_text(json.dumps({**JUDGED, "models": models}))
        found = read_sides(out, {"judges": judges})
        assert found["errors"] is not None
        assert found["errors"]["about"].startswith(f"{shown} on 1 items")
        assert found["judged"] is not None
        assert found["judged"]["models"] == [shown, "embedded"]
