"""What words, length and source give away."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.bench_filters import rows as made_rows
from data_gen.changed import with_changes
from data_gen.compose import compose
from data_gen.probes import probe, table
from data_gen.shortcuts import WITHIN, asked_of, twin_names
from data_gen.stage import make_data
from minicrit.config import Recipe
from minicrit.data_config import DataConfig, ProbeConfig
from minicrit.records import Example, write_examples

ROWS = list(made_rows(300))


def aucs(rows: list[Example]) -> dict[str, float]:
    return {one.what: one.auc.value for one in asked_of("f", "p", rows, 0)}


def told(rows: list[Example], **change: object) -> list[Example]:
    """The flawed rows after a change that gives them away."""
    return [replace(e, **change) if e.label == "flawed" else e for e in rows]  # type: ignore[arg-type]


def test_each_shortcut_is_seen_by_its_own_probe():
    rng = random.Random(0)
    rows = [replace(e, source=f"set/{rng.randrange(3)}") for e in ROWS]
    plain = aucs(rows)
    assert all(abs(auc - 0.5) < 0.1 for auc in plain.values())
    clearly = [replace(e, rationale=f"clearly {e.rationale}") if e.label == "flawed" else
               replace(e, rationale=f"perhaps {e.rationale}") for e in rows]  # fmt: skip
    assert aucs(clearly)["words"] > 0.95
    longer = [replace(e, rationale=f"{e.rationale} {e.rationale}") if e.label == "flawed" else e
              for e in rows]  # fmt: skip
    assert aucs(longer)["length"] > 0.95
    assert aucs(told(rows, source="set/wrong"))["source"] > 0.95


def test_the_table_has_a_line_for_each_set_and_says_what_cannot_be_asked():
    rows = [replace(e, source="first/x") for e in ROWS]
    rows += [replace(e, id=f"{e.id}/2", source="second/y", label="flawed") for e in ROWS[:60]]
    head, every, first, second, end = table(rows, 0).split("\n")
    assert head.split()[-6:] == ["words", "words,", "within", "twins", "length", "source"]
    assert every.split()[:4] == ["all", "rows", "360", "58%"]
    assert first.split()[:3] == ["first", "300", "50%"]
    assert "100%  too few: 60 flawed; asked from 100 rows on" in second
    assert end == ""


def test_an_interval_over_too_few_groups_is_none() -> None:
    """Of three groups one in 13 draws holds one label alone: more than the 5 % that may."""
    line = table(in_three_groups(), 0).splitlines()[1]
    assert "nan" not in line
    cells = re.split(r"\s{2,}", line)
    assert [cell.partition(" ")[2] for cell in cells[-2:]] == ["- too few groups"] * 2


def in_three_groups() -> list[Example]:
    """One with both labels, one flawed, one valid."""
    flawed, valid = ([e for e in ROWS if e.label == label] for label in ("flawed", "valid"))
    groups = [[*flawed[:30], *valid[:30]], flawed[30:90], valid[30:90]]
    return [replace(e, id=f"{e.id}/{n}", group=f"g{n}", source="few/x")
            for n, rows in enumerate(groups) for e in rows]  # fmt: skip


def test_the_probe_refuses_composed_data_whose_words_tell(tmp_path: Path, capsys):
    recipe = Recipe(data=DataConfig(folder=tmp_path, train=600, validation=2, calibration=2,
                                    test=2))  # fmt: skip
    make_data(recipe)
    result = probe(recipe)
    assert result is not None
    assert result[WITHIN].n == 300
    assert "within twins" in capsys.readouterr().out
    path = tmp_path / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for r in rows:
        r["rationale"] += " Clearly." if r["label"] == "flawed" else " Perhaps."
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(ValueError, match="AUC of at most"):
        probe(recipe)


def test_any_file_can_be_probed_and_public_sets_have_no_bar(tmp_path: Path, capsys):
    write_examples(tmp_path / "x.jsonl", told(ROWS, source="bench/wrong"))
    assert probe(Recipe(probe=ProbeConfig(data=tmp_path / "x.jsonl"))) is None
    assert capsys.readouterr().out.splitlines()[1].startswith("all rows")


@pytest.mark.parametrize("squares", [False, True])
def test_twins_that_were_changed_are_asked_like_others(squares: bool):
    """Beside each group's one more pair; of groups of two, 306 of 600 were left out, too."""
    rows = [c.example for c in compose(240, 0, "train", squares=squares)]
    changed = with_changes(rows, 1.0, 0)
    pairs = Counter(twin_names(changed))
    assert set(pairs.values()) == {2}
    assert len(pairs) == len(changed) / 2 > len(rows) / 2
    labels = {(name, e.label) for name, e in zip(twin_names(changed), changed, strict=True)}
    assert len(labels) == len(changed)


def test_composed_rows_are_clustered_by_family():
    rows = [made.example for made in compose(120, 0, "train")]
    assert len(table(rows, 0).splitlines()) == 2


@pytest.mark.parametrize("count", [1, 2])
def test_composed_rows_that_are_too_few_to_ask_are_named(count, tmp_path: Path):
    rows = [made.example for made in compose(2, 0, "train")][:count]
    write_examples(tmp_path / "train.jsonl", rows)
    with pytest.raises(ValueError, match=rf"train.jsonl: expected composed .*, got {count} that"):
        probe(Recipe(data=DataConfig(folder=tmp_path)))
