"""The ladder of stages: who is on it, in which order, and against whom."""

# mypy: disable-error-code="import-untyped"
import json
from pathlib import Path

import pytest
from scipy import stats

from minicrit.ladder import ladder, ladder_plots, stage_of
from tests.minicrit.benchmark_case import FIRST, many, small, twins
from tests.minicrit.ladder_case import BASE, DPO, SFT, judged


def test_rungs_stand_in_order_and_against_their_start(tmp_path: Path) -> None:
    """Critic a against b is 4 : 2 (by hand in test_benchmark); base first, then SFT, then DPO."""
    judged(tmp_path, "benchmark", SFT, BASE)
    judged(tmp_path, "benchmark-dpo", DPO)
    found = ladder(tmp_path / "reports")
    assert found is not None
    head, rows = found
    by_stage = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert list(by_stage) == ["base", "sft", "dpo"]
    assert [by_stage[s]["against"] for s in by_stage] == ["-", "base", "sft"]
    assert by_stage["sft"]["only it : only that"] == "4 : 2"
    assert by_stage["dpo"]["only it : only that"] == "2 : 4"
    p = stats.binomtest(2, 6).pvalue
    assert by_stage["sft"]["p (McNemar)"] == f"{p:.4f}" == "0.6875"
    assert by_stage["sft"]["Holm"] == by_stage["dpo"]["Holm"] == "1.0000"
    assert by_stage["sft"]["F1 at 0.5"].startswith("0.750 [")
    assert by_stage["base"]["p (McNemar)"] == "-"


def test_all_are_read_at_half_whatever_their_own_threshold(tmp_path: Path) -> None:
    """A stage that leaves a certified threshold flags fewer; that is not what it has learnt."""
    judged(tmp_path, "benchmark", SFT, BASE)
    judged(tmp_path, "benchmark-dpo", DPO)
    before = ladder(tmp_path / "reports")
    path = tmp_path / "reports/benchmark-dpo.json"
    report = json.loads(path.read_text())
    critic = report["judges"]["model_1"]
    critic["metrics"]["f1_threshold_half"] = critic["metrics"]["f1"]
    critic["metrics"]["fpr_threshold_half"] = critic["metrics"]["fpr"]
    critic["metrics"] |= {"f1": None, "fpr": None}
    critic["threshold"] = 0.99
    path.write_text(json.dumps(report))
    assert ladder(tmp_path / "reports") == before
    assert [name for name, _ in ladder_plots(tmp_path / "reports")] == [
        "F1 at 0.5 by stage", "False-positive rate at 0.5 by stage"]  # fmt: skip
    assert ladder_plots(tmp_path / "reports")[0][1].count("dpo") >= 1


def test_a_critic_is_held_against_the_base_it_was_made_from(tmp_path: Path) -> None:
    """Another base comes first by name, and what is behind a server is nobody's base."""
    judged(tmp_path, "benchmark", SFT, ("another", "a"))
    judged(tmp_path, "benchmark-served", ("openai:http://127.0.0.1:1/v1#m", "a"))
    found = ladder(tmp_path / "reports")
    assert found is not None
    assert [(row[0], row[6]) for row in found[1]] == [
        ("base", "-"), ("sft", "-"), ("openai:http://127.0.0.1:1/v1#m", "-")]  # fmt: skip
    judged(tmp_path, "benchmark-base", BASE)
    found = ladder(tmp_path / "reports")
    assert found is not None
    assert [row[1] for row in found[1][:2]] == ["another", "embedded"]
    assert found[1][2][6:8] == ("base", "4 : 2")  # against another, which is as it is, 0 : 0


def test_of_two_critics_of_a_stage_the_one_of_its_own_run_is_its_start(tmp_path: Path) -> None:
    """That of another run stands first by name; DPO says what b says, so of a it wins 2 : 4."""
    judged(tmp_path, "benchmark", SFT, ("checkpoints/another/sft", "b"))
    judged(tmp_path, "benchmark-dpo", DPO)
    row = by_stage(tmp_path)["dpo"]
    assert row[6:8] == ("sft", "2 : 4")


def calibrated(path: Path, judge: str, **facts: object) -> None:
    """Writes into a report that a critic was calibrated so."""
    report = json.loads(path.read_text())
    report["judges"][judge]["calibration"] = {"sums": None, "shift": None, **facts}
    path.write_text(json.dumps(report))


NO_SHIFT = {"pooled": 0.0, "domains": {"trading": 0.0}}
MOVING = (
    ({"sums": {"believed": 0.9}, "shift": NO_SHIFT}, "sums"),
    ({"shift": {"pooled": 0.0, "domains": {"trading": -0.7}}}, "shift"),
    ({"sums": {"believed": 0.9}, "shift": {"pooled": 0.3, "domains": {}}}, "sums and shift"),
)


def test_what_a_calibration_moves_is_no_difference_of_stages(tmp_path: Path) -> None:
    judged(tmp_path, "benchmark", SFT, BASE)
    judged(tmp_path, "benchmark-dpo", DPO)
    for facts, said in MOVING:
        calibrated(tmp_path / "reports/benchmark-dpo.json", "model_1", **facts)
        rows = by_stage(tmp_path)
        assert rows["dpo"][6] == f"sft, not tested: {said} of the calibrations differ"
        assert rows["dpo"][7:] == ("-",) * 3
        assert rows["sft"][7:] == ("4 : 2", "0.6875", "0.6875")  # adjusted for what is tested
    calibrated(tmp_path / "reports/benchmark.json", "model_1", **MOVING[-1][0])
    assert by_stage(tmp_path)["dpo"][6:8] == ("sft", "2 : 4")  # both alike
    assert by_stage(tmp_path)["sft"][7] == "-"


def by_stage(folder: Path) -> dict[str, tuple[str, ...]]:
    found = ladder(folder / "reports")
    assert found is not None
    return {row[0]: row for row in found[1]}


def test_a_calibration_without_sums_and_shift_moves_nothing(tmp_path: Path) -> None:
    judged(tmp_path, "benchmark", SFT, BASE)
    calibrated(tmp_path / "reports/benchmark.json", "model_1", shift=NO_SHIFT)
    assert by_stage(tmp_path)["sft"][6:8] == ("base", "4 : 2")


def test_a_router_of_specialists_with_calibrations_of_their_own_is_not_tested(
    tmp_path: Path,
) -> None:
    judged(tmp_path, "benchmark", SFT, BASE)
    judged(tmp_path, "benchmark-router", DPO)
    path = tmp_path / "reports/benchmark-router.json"
    report = json.loads(path.read_text())
    report["judges"]["model_1"]["name"] = "checkpoints/x/router"
    path.write_text(json.dumps(report))
    row = by_stage(tmp_path)["router"]
    assert row[6] == "sft, not tested: sums and shift of the calibrations differ"
    assert row[7:] == ("-",) * 3


def test_the_control_of_rejection_sampling_is_held_against_its_start(tmp_path: Path) -> None:
    judged(tmp_path, "benchmark", SFT, BASE)
    judged(tmp_path, "benchmark-rsf-control", ("checkpoints/x/rsf-control", "b"))
    assert by_stage(tmp_path)["rsf-control"][6:8] == ("sft", "2 : 4")


def rounded(reports: Path, stage: str, adapter: str) -> None:
    """A report of a critic in weights of its own, which names the adapter that it was made from."""
    report = json.loads((reports / "benchmark-dpo.json").read_text())
    critic = report["judges"]["model_1"]
    critic |= {"name": f"checkpoints/x/{stage}", "identity": stage, "adapter": adapter}
    (reports / f"benchmark-{stage}.json").write_text(json.dumps(report))


def test_what_rounds_a_critic_is_held_against_that_one(tmp_path: Path) -> None:
    """Folder names say nothing of it: int8 of this run's SFT, int4 of its DPO, int16 of neither."""
    judged(tmp_path, "benchmark", SFT, BASE)
    judged(tmp_path, "benchmark-dpo", DPO)
    made = {"int16": "another", "int8": SFT[0], "int4": DPO[0], "export": DPO[0]}
    for stage, adapter in made.items():
        rounded(tmp_path / "reports", stage, adapter)
    assert {stage: row[6] for stage, row in by_stage(tmp_path).items()} == {
        "base": "-", "sft": "base", "dpo": "sft", "int16": "-", "int8": "sft", "int4": "dpo",
        "export": "dpo"}  # fmt: skip


def test_a_critic_of_another_name_is_held_against_none(tmp_path: Path) -> None:
    judged(tmp_path, "benchmark", SFT, ("checkpoints/released/embedded-2", "b"))
    found = ladder(tmp_path / "reports")
    assert found is not None
    assert [(row[0], row[6]) for row in found[1]] == [("sft", "-"), ("embedded-2", "-")]


def test_what_has_no_interval_is_not_drawn(tmp_path: Path) -> None:
    """No flawed item: F1 has no bounds, the false-positive rate has Wilson's."""
    judged(tmp_path, "benchmark", SFT, BASE, examples=small()[:1])
    drawn = dict(ladder_plots(tmp_path / "reports"))
    assert "sft" not in drawn["F1 at 0.5 by stage"]
    assert "sft" in drawn["False-positive rate at 0.5 by stage"]


def test_twins_are_held_against_plain_data(tmp_path: Path) -> None:
    judged(tmp_path, "benchmark", SFT, BASE)
    judged(tmp_path, "benchmark-plain", ("checkpoints/x/plain", "b"))
    found = ladder(tmp_path / "reports")
    assert found is not None
    assert [(row[0], row[6]) for row in found[1]] == [
        ("base", "-"), ("plain", "base"), ("sft", "plain")]  # fmt: skip


def test_others_items_are_shown_but_not_compared(tmp_path: Path) -> None:
    judged(tmp_path, "benchmark", SFT, BASE, examples=many())
    judged(tmp_path, "benchmark-dpo", DPO, examples=small())
    found = ladder(tmp_path / "reports")
    assert found is not None
    rows = {row[0]: row for row in found[1]}
    assert (rows["sft"][2], rows["dpo"][2]) == ("100", "8 others")
    assert rows["dpo"][6:] == ("-",) * 4


def test_the_same_critic_in_two_reports_stands_once(tmp_path: Path) -> None:
    judged(tmp_path, "benchmark", SFT, BASE)
    judged(tmp_path, "again", SFT)
    found = ladder(tmp_path / "reports")
    assert found is not None
    assert [row[0] for row in found[1]] == ["base", "sft"]


def test_a_stage_that_kept_its_start_takes_no_rung_away(tmp_path: Path) -> None:
    """Rounds that were all refused leave the start's weights; DPO is still held against SFT."""
    judged(tmp_path, "benchmark", SFT, BASE)
    judged(tmp_path, "benchmark-dpo", DPO)
    judged(tmp_path, "benchmark-constitution", ("checkpoints/x/constitution", "a"))
    path = tmp_path / "reports/benchmark-constitution.json"
    report = json.loads(path.read_text())
    report["judges"]["model_1"] |= {"identity": f"embedded+{SFT[0]}", "adapter": SFT[0]}
    path.write_text(json.dumps(report))
    rows = by_stage(tmp_path)
    assert {stage: row[6] for stage, row in rows.items()} == {
        "base": "-", "sft": "base", "dpo": "sft", "constitution": "sft"}  # fmt: skip
    assert rows["constitution"][7] == "0 : 0"


def test_unscored_items_are_no_evidence(tmp_path: Path) -> None:
    """The one item that a alone gets right there is unscored for b: one pair fewer."""
    odd = [e for n in range(20) for e in twins(n, (0.1, 0.9), (0.2, 0.8))]
    odd += twins(20, (0.1, 0.9), ("nan", 0.8))
    odd += [e for n, (a, b) in enumerate(zip(FIRST, FIRST, strict=True))
            for e in twins(30 + n, a, tuple(1 - x for x in b))]  # fmt: skip
    judged(tmp_path, "benchmark", SFT, BASE, examples=odd)
    found = ladder(tmp_path / "reports")
    assert found is not None
    sft = next(row for row in found[1] if row[0] == "sft")
    assert sft[7] == "6 : 2"


def test_nothing_to_climb(tmp_path: Path) -> None:
    """One critic, none, or files of other stages; a broken one is named."""
    reports = tmp_path / "reports"
    assert ladder(reports) is None
    judged(tmp_path, "benchmark", SFT)
    (reports / "sharpe.json").write_text('{"form": 1}')
    assert ladder(reports) is None
    (reports / "odd.json").write_text("{")
    with pytest.raises(ValueError, match=r"odd\.json: .*make it again"):
        ladder(reports)


def test_stages_by_name() -> None:
    assert stage_of({"name": "checkpoints/cpu/int8", "adapter": None}) == "int8"
    assert stage_of({"name": "Qwen/Qwen2.5-1.5B-Instruct", "adapter": None}) == "base"
    assert stage_of({"name": "checkpoints/released/embedded-2", "adapter": "f00"}) == "embedded-2"
    whole = {"name": "checkpoints/mine/first", "adapter": None, "trained": True}
    assert stage_of(whole) == "first"
