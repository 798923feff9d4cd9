"""The bench of candidates runs, and counts what it should."""

import json

from data_gen import bench_candidates as bench
from data_gen.compose import compose
from minicrit.config import BaseConfig, Recipe
from minicrit.data_config import PairsConfig
from minicrit.records import write_examples


def test_it_measures_both_sides_and_writes_them_down(tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_examples("train.jsonl", [c.example for c in compose(40, 0, "train")])
    pairs = PairsConfig(model=tiny.folder, data=tmp_path / "train.jsonl", max_new_tokens=5)
    recipe = Recipe(pairs=pairs, base=BaseConfig("tiny", folder=tiny.folder.parent))
    found = bench.bench_candidates(recipe, rounds=2)
    assert found["rounds"] == 2
    assert found["times_as_fast"]["low"] > 1  # even a tiny model gains from company
    assert json.loads((tmp_path / "reports/bench-candidates.json").read_text()) == found
    assert "one at a time" in (tmp_path / "reports/bench-candidates.md").read_text()
