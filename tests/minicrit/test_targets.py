"""The headline numbers: what is met, missed, open and not measured."""

from typing import Any

import pytest

from minicrit.targets import summary, targets

KEYS = ("value", "low", "high")


def benchmark(
    fpr: tuple[float, float, float], p50: float | None, p95: float | None
) -> dict[str, Any]:
    """A report with this false-positive rate and these times; F1 is .95 for sure."""
    metrics = {"fpr": {**dict(zip(KEYS, fpr, strict=True)), "n": 9},
               "f1": {"value": 0.95, "low": 0.92, "high": 0.97}}  # fmt: skip
    times = {"verdict_ms": {"n": 0} if p50 is None else {"p50": p50, "p95": p95, "n": 5}}
    return {
        "judges": {"model_1": {"metrics": metrics, "identity": "x"}},
        "items": {"prevalence": 0.5},
        "measured": {"model_1": times, "hardware": {"gpu": None, "cpu": "a cpu"}},
    }


def gate(gain: float, low: float, high: float, p: float = 0.001) -> dict[str, Any]:
    """A report of this gain over random gates, all of it against a gated ratio of 0."""
    return {"placebo": {"gain": gain, "low": -high, "high": -low, "p": p},
            "books": {"after": {"sharpe": 0.0}},
            "differences": {"after": {"value": 2.0, "low": 1.0, "high": 3.0}},
            "trades": {"n": 250}, "critic": {"identity": "x", "name": "c"}}  # fmt: skip


def operators(
    value: float, low: float, high: float, proven: bool = False, target: float = 0.98
) -> dict[str, Any]:
    return {"agreement": {**dict(zip(KEYS, (value, low, high), strict=True)), "n": 500},
            "proof": {"proven": proven, "target": target},
            "critic": {"identity": "x", "name": "c"}}  # fmt: skip


def statuses(*found: Any) -> list[str]:
    return [card["status"] for card in targets(*found)]


@pytest.mark.parametrize(
    ("name", "device", "machine"),
    [("c", "cuda:0", "a gpu"), ("c", "cpu", "a cpu"), ("c", None, "a gpu"),
     ("openai:qwen", "unknown", "by its server, whose machine is not known")],
)  # fmt: skip
def test_a_time_is_that_of_what_computed_it(name: str, device: str | None, machine: str) -> None:
    """A GPU that int8 does not run on, and one beside a served critic, bore their times."""
    report = benchmark((0.02, 0.01, 0.07), 10, 29)
    report["judges"]["model_1"]["name"] = name
    report["measured"]["hardware"]["gpu"] = "a gpu"
    report["measured"]["model_1"]["device"] = device
    assert targets(report)[-1]["detail"] == f"p95 29.0 ms, {machine}"


def test_status_asks_the_whole_interval() -> None:
    """Met and missed need all of it; the rest is open; in the order FPR, F1, ..., time."""
    some = (gate(0.5, 0.41, 0.6), operators(0.99, 0.981, 0.997, proven=True))
    assert statuses(benchmark((0.02, 0.01, 0.07), 10, 29), *some) == ["met"] * 5
    assert statuses(benchmark((0.02, 0.01, 0.09), 10, 31), *some)[::4] == ["open", "open"]
    assert statuses(benchmark((0.20, 0.08, 0.30), 31, 40), *some)[::4] == ["missed", "missed"]


@pytest.mark.parametrize("split", ["train", "validation", "calibration"])
def test_what_known_items_show_is_not_met(split: str) -> None:
    """The threshold is chosen so that the calibration items themselves stay under the limit."""
    found = benchmark((0.02, 0.01, 0.07), 10, 29)
    found["items"]["known"] = {split: 400}
    assert statuses(found)[:2] == ["open", "open"]
    assert f"; known items: 400 of split {split}" in targets(found)[0]["detail"]
    found = benchmark((0.20, 0.18, 0.30), 10, 29)
    found["items"]["known"] = {split: 400}
    assert statuses(found)[0] == "missed"  # not even there


@pytest.mark.parametrize(
    ("rate", "status"),
    [
        ((0.02, 0.01, 0.049), "met"),
        ((0.02, 0.01, 0.06), "open"),
        ((0.11, 0.08, 0.13), "missed"),
        ((None, None, None), "not measured"),
    ],
)
def test_moved_verdicts_stand_after_f1_where_items_are_changes(rate: Any, status: str) -> None:
    found = benchmark((0.02, 0.01, 0.07), 10, 29)
    found["judges"]["model_1"]["metamorphic"] = {
        "rate": {**dict(zip(KEYS, rate, strict=True)), "n": 681}
    }
    card = targets(found)[2]
    assert (card["name"], card["target"]) == ("Verdicts moved by harmless changes", "at most 5 %")
    assert card["status"] == status
    assert card["detail"].endswith("681 changed items")
    found["judges"]["model_1"]["metamorphic"] = None
    assert len(targets(found)) == len(targets(None)) == 5


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (gate(0.5, -0.1, 1.1), "open"),
        (gate(0.1, -0.2, 0.4), "missed"),  # at most the target is not above it
        (gate(0.41, 0.4, 0.5), "open"),
        (gate(0.41, 0.401, 0.5), "met"),
        (gate(0.9, 0.5, 1.3, p=0.03), "open"),  # as good as random gates that have no ratio
        (gate(0.1, -0.2, 0.4, p=0.4), "missed"),
        (gate(0.9, 0.5, 1.3) | {"placebo": None}, "not measured"),  # flags nothing, or everything
        (gate(0.9, 0.5, 1.3) | {"placebo": {"draws": 99, "p": 1.0}}, "not measured"),
        (None, "not measured"),
    ],
)
def test_sharpe_counts_over_random_gates(found: Any, status: str) -> None:
    assert targets(None, found)[3]["status"] == status


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (operators(0.99, 0.97, 1.0), "open"),
        (operators(0.9, 0.85, 0.95), "missed"),
        (operators(0.99, 0.9798, 0.997, proven=True), "met"),  # one-sided, as the page says
        (operators(0.91, 0.9, 0.92), "missed"),
        (operators(0.91, 0.9, 0.92, target=0.9), "open"),
        (None, "not measured"),
    ],
)
def test_agreement(found: Any, status: str) -> None:
    assert targets(None, None, found)[2]["status"] == status


def test_nothing_measured_says_what_to_run() -> None:
    cards = targets(None)
    assert [card["name"] for card in cards] == [
        "False-positive rate", "Flaw detection F1", "Operator agreement",
        "Sharpe ratio over random gates", "One verdict"]  # fmt: skip
    assert {card["status"] for card in cards} == {"not measured"}
    assert [card["detail"].split()[:2] for card in cards] == [
        ["make", "benchmark"], ["make", "benchmark"], ["make", "agreement"], ["make", "sharpe"],
        ["make", "benchmark"]]  # fmt: skip
    assert targets(benchmark((0.1, 0.0, 0.2), None, None))[4]["status"] == "not measured"


def test_figures_of_another_critic_say_so() -> None:
    other = gate(0.1, -0.2, 0.5)
    assert "critic" not in targets(benchmark((0.1, 0, 0.2), 1, 2), other)[3]["detail"]
    other["critic"]["identity"] = "y"
    detail = targets(benchmark((0.1, 0, 0.2), 1, 2), other)[3]["detail"]
    assert detail == "95 %: -0.20 to +0.50, p=0.0010, 250 trades; critic c"
    assert targets(None, other)[3]["value"] == "+0.10"
    trained_anew = benchmark((0.1, 0, 0.2), 1, 2)
    trained_anew["judges"]["model_1"]["name"] = "c"
    detail = targets(trained_anew, other)[3]["detail"]
    assert detail.endswith("; critic c in another state than the benchmark's")


def test_summary_without_a_benchmark() -> None:
    text = summary(None, [{"val/f1": 0.8}], gate(0.1, -0.2, 0.5))
    assert "| +0.10 |" in text
    assert "No benchmark yet." in text
    assert "| val/f1 | 0.800 |" in text
    assert "not measured" not in summary(None, [])
