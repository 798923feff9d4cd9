"""MODEL_1 and MODEL_2 change places: the whole report is mirrored, exactly."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minicrit.benchmark import benchmark
from minicrit.config import Recipe
from tests.minicrit.benchmark_case import StandIn, recipe, twins

OTHER = {"model_1": "model_2", "model_2": "model_1", "words": "words"}
LIMITS = {"a": 0.4, "b": 0.7}


def mirrored(pair: dict[str, Any]) -> dict[str, Any]:
    """The comparison as it must read from the other side."""

    def turned(row: dict[str, Any]) -> dict[str, Any]:
        counts = {"only_a_right": row["only_b_right"], "only_b_right": row["only_a_right"]}
        return {**row, **counts}

    def against(row: dict[str, Any]) -> dict[str, Any]:
        swapped = {"value": -row["value"], "low": -row["high"], "high": -row["low"],
                   "p_below": row["p_above"], "p_above": row["p_below"]}  # fmt: skip
        bounds = {unit: [-high, -low] for unit, (low, high) in row["intervals"].items()}
        return {**row, **swapped, "intervals": bounds}

    differences = {name: against(row) for name, row in pair["differences"].items()}
    return {**turned(pair), "a": pair["b"], "b": pair["a"], "differences": differences,
            "slices": [turned(row) for row in pair["slices"]]}  # fmt: skip


def mirrored_report(report: dict[str, Any]) -> dict[str, Any]:
    """All of it but times and memory, as it must read from the other side."""
    settings = report["settings"]
    first, *against_words = report["pairs"]
    words = [{**pair, "a": OTHER[pair["a"]]} for pair in reversed(against_words)]
    return {
        **{key: value for key, value in report.items() if key != "measured"},
        "settings": {**settings, "model_1": settings["model_2"], "model_2": settings["model_1"]},
        "judges": {OTHER[key]: judge for key, judge in report["judges"].items()},
        "pairs": [{**mirrored(first), "a": "model_1", "b": "model_2"}, *words],
    }


def load(name: str) -> StandIn:
    return StandIn(name, threshold=LIMITS[name])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], list[Any]]]:
    """Forty groups, thresholds that differ, an item that only b can score, in both orders."""
    rng = random.Random(3)
    digits = [[f"{rng.random():.3f}" for _ in range(4)] for _ in range(40)]
    digits[7][1] = "nan"
    made = recipe(tmp_path_factory.mktemp("mirror"),
                  [e for n, d in enumerate(digits) for e in twins(n, d[:2], d[2:])])  # fmt: skip
    found = []
    for names in (("a", "b"), ("b", "a")):
        made.benchmark.model_1, made.benchmark.model_2 = names
        found.append((benchmark(made, load=load, draws=200), items(made)))
    return found


def items(made: Recipe) -> list[Any]:
    path = Path(f"{made.benchmark.out}.items.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_swapping_the_models_mirrors_the_whole_report(both: Any) -> None:
    """Judges change places; differences change sign and bounds; nothing else moves."""
    (one, _), (two, _) = both
    assert mirrored_report(one) == {key: value for key, value in two.items() if key != "measured"}


def test_the_mirror_is_not_blind(both: Any) -> None:
    """The two sides differ, their intervals have width, their types and slices are compared."""
    (one, _), (two, _) = both
    assert one["judges"] != two["judges"]
    gap = one["pairs"][0]["differences"]["f1"]
    assert gap["low"] < gap["high"]
    assert one["pairs"][0]["slices"]
    right = [one["judges"][key]["flaw_types"]["right_if_flawed"]["value"] for key in OTHER
             if key != "words"]  # fmt: skip
    assert right == [1, 0]
    assert [one["judges"][key]["n"] for key in ("model_1", "model_2")] == [79, 80]


def test_scores_by_item_change_their_columns(both: Any) -> None:
    (_, one), (_, two) = both
    assert [(row["id"], row["p_1"], row["p_2"], row["p_words"]) for row in one] == [
        (row["id"], row["p_2"], row["p_1"], row["p_words"]) for row in two
    ]
    assert np.isfinite([row["p_2"] for row in one]).all()
