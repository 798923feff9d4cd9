"""The ladder over seeds: the run is the unit; everything worked out by hand."""

# mypy: disable-error-code="import-untyped"
import json
from pathlib import Path

import pytest
from scipy import stats

from minicrit.config import Recipe
from minicrit.seeds import compare_seeds, over_runs
from tests.minicrit.ladder_case import BASE, DPO, SFT, judged

A, B = "a", "b"


def run(folder: Path, seed: int, **letters: str) -> str:
    """Reports of a run whose stages judge as the critic of that letter; their folder."""
    for stage, letter in letters.items():
        model = "embedded" if stage == "base" else f"checkpoints/seed{seed}/{stage}"
        judged(folder / str(seed), f"benchmark-{stage}", (model, letter))
    return str(folder / str(seed) / "reports")


def compared(folder: Path, *reports: str) -> dict[str, object]:
    """The report on these runs."""
    made = Recipe()
    made.seeds.reports = ",".join(reports)
    made.seeds.out = folder / "seeds" / "ladder"
    return compare_seeds(made)


def test_a_step_is_the_mean_over_runs_with_students_interval(tmp_path: Path) -> None:
    """Of 8 items a alone is right on 4 and b alone on 2, so a gains 2/8 over b."""
    runs = [run(tmp_path, 0, base=B, sft=A), run(tmp_path, 1, base=B, sft=A),
            run(tmp_path, 2, base=A, sft=B)]  # fmt: skip
    found = compared(tmp_path, *runs)
    (step,) = found["steps"]  # type: ignore[misc]
    assert list(step["gains"].values()) == [0.25, 0.25, -0.25]
    assert (step["won"], step["lost"]) == (4 + 4 + 2, 2 + 2 + 4)
    mean, error = 0.25 / 3, 0.25 * (1 / 3) ** 0.5 * 2 / 3**0.5  # deviations 1/3, 1/3, -2/3 of 0.5
    assert step["mean"] == pytest.approx(mean)
    assert step["high"] - step["mean"] == pytest.approx(4.302653 * error, rel=1e-6)
    assert step["mean"] - step["low"] == pytest.approx(4.302653 * error, rel=1e-6)
    assert step["p"] == pytest.approx(stats.ttest_1samp([0.25, 0.25, -0.25], 0).pvalue)
    assert step["holm"] == step["p"]
    assert step["mcnemar_p"] == pytest.approx(stats.binomtest(8, 18).pvalue)


def test_the_gain_in_auroc_is_that_of_the_reports_run_by_run(tmp_path: Path) -> None:
    runs = [run(tmp_path, 0, base=B, sft=A), run(tmp_path, 1, base=A, sft=B)]
    found = compared(tmp_path, *runs)
    rows = {row["stage"]: row["auroc"] for row in found["rungs"]}  # type: ignore[attr-defined]
    (rank,) = found["ranks"]  # type: ignore[misc]
    assert rank["gains"] == {name: rows["sft"][name] - rows["base"][name] for name in runs}
    assert rank["gains"][runs[0]] == -rank["gains"][runs[1]] != 0
    assert (rank["mean"], rank["p"], rank["holm"]) == (0, 1, 1)


def test_rungs_stand_in_the_order_of_the_ladder_with_every_run(tmp_path: Path) -> None:
    """A stage that one run alone has stands in its place, not behind."""
    runs = [run(tmp_path, 0, base=B, dpo=A), run(tmp_path, 1, base=B, sft=A, dpo=B)]
    found = compared(tmp_path, *runs)
    rows = {row["stage"]: row for row in found["rungs"]}  # type: ignore[attr-defined]
    assert list(rows) == ["base", "sft", "dpo"]
    assert list(rows["dpo"]["f1"]) == runs
    assert rows["dpo"]["f1"][runs[0]] == rows["sft"]["f1"][runs[1]] == 0.75  # by hand: see ladder
    assert [(s["stage"], s["against"]) for s in found["steps"]] == [  # type: ignore[attr-defined]
        ("sft", "base"), ("dpo", "base"), ("dpo", "sft")]  # fmt: skip


def test_what_people_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run(tmp_path, 0, base=B, sft=A), run(tmp_path, 1, base=B, sft=A)]
    compared(tmp_path, *runs)
    out = tmp_path / "seeds" / "ladder"
    said = out.with_suffix(".md").read_text()
    assert capsys.readouterr().out == said
    assert "| sft | base | +0.250 | - | 2 of 2 | - | - | 8 : 4 |" in said  # runs do not differ
    assert said.index("AUROC gained") > said.index("accuracy gained")
    assert "| sft | 2 | 0.250 (0.250 to 0.250) | 0.750 (0.750 to 0.750) |" in said
    page = out.with_suffix(".html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page
    kept = json.loads(out.with_suffix(".json").read_text())
    assert set(kept["inputs"]) == {f"{folder}/benchmark-{stage}.json" for folder in runs
                                   for stage in ("base", "sft")}  # fmt: skip


def test_holm_takes_all_steps(tmp_path: Path) -> None:
    runs = [run(tmp_path, 0, base=B, sft=A, dpo=B), run(tmp_path, 1, base=A, sft=B, dpo=A),
            run(tmp_path, 2, base=B, sft=A, dpo=A)]  # fmt: skip
    steps = compared(tmp_path, *runs)["steps"]
    smaller, larger = sorted(step["p"] for step in steps)  # type: ignore[attr-defined]
    held = sorted(step["holm"] for step in steps)  # type: ignore[attr-defined]
    assert held == pytest.approx([min(1, 2 * smaller), max(larger, min(1, 2 * smaller))])


@pytest.mark.parametrize("gains", [[0.1], [0.1, 0.1, 0.1]])
def test_where_runs_do_not_differ_nothing_is_known_of_others(gains: list[float]) -> None:
    assert over_runs(gains) == {"mean": pytest.approx(0.1), "low": None, "high": None,
                                "p": None, "holm": None}  # fmt: skip


def test_blanks_between_folders_are_none_of_their_names(tmp_path: Path) -> None:
    runs = [run(tmp_path, 0, base=B, sft=A), run(tmp_path, 1, base=B, sft=A)]
    assert compared(tmp_path, runs[0], f" {runs[1]} ")["runs"] == runs


def test_reports_of_any_name_are_named_as_what_was_read(tmp_path: Path) -> None:
    runs = [run(tmp_path, 0, base=B, sft=A), run(tmp_path, 1, base=B, sft=A)]
    judged(tmp_path / "0", "last", ("checkpoints/seed0/dpo", B))
    found = compared(tmp_path, *runs)
    assert [row["stage"] for row in found["rungs"]] == ["base", "sft", "dpo"]  # type: ignore[attr-defined]
    assert f"{runs[0]}/last.json" in found["inputs"]  # type: ignore[operator]


def test_runs_that_are_none(tmp_path: Path) -> None:
    first = run(tmp_path, 0, base=B, sft=A)
    with pytest.raises(ValueError, match=r"seeds\.reports: expected the folders of two .* got 0"):
        compared(tmp_path)
    with pytest.raises(ValueError, match="got 1; run make ladder SEEDS"):
        compared(tmp_path, first, first)
    with pytest.raises(ValueError, match=r"nothing: expected benchmark reports of two .* got 0"):
        compared(tmp_path, first, str(tmp_path / "nothing"))
    judged(tmp_path / "copy", "benchmark", ("checkpoints/seed0/sft", A), BASE)
    with pytest.raises(ValueError, match=r"a seed of its own, got the sft of .*0/reports; name"):
        compared(tmp_path, first, str(tmp_path / "copy/reports"))
    judged(tmp_path / "two", "benchmark", SFT, ("checkpoints/y/sft", B))
    with pytest.raises(ValueError, match="one critic a stage, got two of sft; remove"):
        compared(tmp_path, first, str(tmp_path / "two/reports"))
    judged(tmp_path / "two", "benchmark", DPO, BASE)
    assert compared(tmp_path, first, str(tmp_path / "two/reports"))["steps"]
