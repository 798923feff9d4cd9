"""TensorBoard shows the numbers of the report: the event files are read back."""

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from minicrit.benchmark import benchmark
from tests.minicrit.benchmark_case import StandIn, recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("board")


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    """Run twice: the second replaces what the first wrote."""
    made = recipe(folder)
    benchmark(made, load=StandIn, draws=5)
    return benchmark(made, load=StandIn, draws=5)


def read(folder: Path, judge: str) -> EventAccumulator:
    where = folder / "runs" / "reports" / "benchmark" / judge
    assert len(list(where.iterdir())) == 1
    found = EventAccumulator(str(where), size_guidance={"tensors": 0, "scalars": 0})
    return found.Reload()


def test_judges_of_an_earlier_run_are_gone(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    benchmark(made, load=StandIn, draws=5)
    made.benchmark.model_2, made.benchmark.words = None, False
    benchmark(made, load=StandIn, draws=5)
    where = tmp_path / "runs" / "reports" / "benchmark"
    assert [path.name for path in where.iterdir()] == ["model_1"]


def test_every_judge_has_its_curves(folder: Path, report: dict[str, Any]) -> None:
    """Steps are the x axis in thousandths; by hand: critic a is at FPR .25, recall .75."""
    for key, judge in report["judges"].items():
        found = read(folder, key)
        for tag, points in (
            ("roc/recall over false positives", judge["roc"]),
            ("risk_coverage/wrong over coverage", judge["risk_coverage"]),
            ("reliability/share flawed over p", [(b["mean_p"], b["value"])
                                                 for b in judge["reliability"]]),
        ):  # fmt: skip
            events = [(event.step, event.value) for event in found.Scalars(tag)]
            assert events == [(round(1000 * x), pytest.approx(y, abs=1e-6)) for x, y in points]
        assert found.Scalars("metrics/f1")[0].value == pytest.approx(
            judge["metrics"]["f1"]["value"]
        )
    assert (250, 0.75) in [
        (e.step, e.value)
        for e in read(folder, "model_1").Scalars("roc/recall over false positives")
    ]


def test_tables_histograms_and_the_precision_recall_curve(
    folder: Path, report: dict[str, Any]
) -> None:
    found = read(folder, "model_1")
    assert found.Tags()["histograms"] == ["p of valid items", "p of flawed items"]
    assert found.Histograms("p of valid items")[0].histogram_value.num == 4
    texts = {
        tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in found.Tags()["tensors"] if tag.endswith("text_summary")
    }  # fmt: skip
    metrics = texts["metrics/text_summary"]
    f1 = report["judges"]["model_1"]["metrics"]["f1"]
    assert f"| F1 | 0.750 [{f1['low']:.3f}, {f1['high']:.3f}] | 8 |" in metrics
    assert "| medical | 4 |" in texts["slices/domain/text_summary"]
    assert "| small_sample | small_sample | 3 |" in texts["flaw types/text_summary"]
    assert "certificate/text_summary" not in texts
    assert "precision and recall" in found.Tags()["tensors"]
