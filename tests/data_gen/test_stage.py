"""The data stage: the same bytes each time, nothing half-written, splits apart, public rows in."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from data_gen.coverage import cells, table
from data_gen.public import draw_groups, read_public
from data_gen.stage import checked, make_data
from minicrit.config import Recipe
from minicrit.data_config import DataConfig
from minicrit.files import folder_hashes
from minicrit.manifest import check_outputs, read_manifest
from minicrit.measures import family_of
from minicrit.records import Example, read_examples

ROOT = Path(__file__).parents[2]


def recipe_for(folder: Path, **more: object) -> Recipe:
    counts = {"train": 240, "validation": 48, "calibration": 48, "test": 48, "fresh": 0}
    return Recipe(data=DataConfig(folder=folder, **{**counts, **more}))  # type: ignore[arg-type]


def row(number: int, split: str, **more: object) -> dict[str, object]:
    return {
        "id": f"set/{number}", "domain": "general", "rationale": f"Text number {number}.",
        "label": "valid", "group": f"g{number // 2}", "source": "set", "split": split, **more,
    }  # fmt: skip


def write_set(folder: Path, rows: list[dict[str, object]]) -> Path:
    folder.mkdir()
    with gzip.open(folder / "set.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(r) + "\n" for r in rows)
    return folder


def example(number: int, split: str = "train", **more: object) -> Example:
    return Example.from_row(row(number, split, **more))


@pytest.mark.parametrize("squares", [True, False])
def test_plain_data_have_no_twins(tmp_path: Path, squares: bool) -> None:
    """As many texts, each of another group, labels even; what is measured on stays the same."""
    make_data(recipe_for(tmp_path / "twins", squares=squares))
    make_data(recipe_for(tmp_path / "plain", squares=squares, alone=True))
    read = {name: read_examples(tmp_path / name / "train.jsonl").examples
            for name in ("twins", "plain")}  # fmt: skip
    assert len(read["plain"]) == len(read["twins"]) == 240
    assert len({e.group for e in read["plain"]}) == 240 > len({e.group for e in read["twins"]})
    assert Counter(e.label for e in read["plain"]) == {"valid": 120, "flawed": 120}
    for name in ("validation", "test"):
        paths = [tmp_path / kind / f"{name}.jsonl" for kind in ("twins", "plain")]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_two_runs_give_the_same_bytes_and_whole_splits(tmp_path: Path) -> None:
    make_data(recipe_for(tmp_path / "a"))
    make_data(recipe_for(tmp_path / "b"))
    make_data(recipe_for(tmp_path / "b"))
    assert folder_hashes(tmp_path / "a") == folder_hashes(tmp_path / "b")
    assert check_outputs(tmp_path / "a") == []
    splits = {n: read_examples(tmp_path / "a" / f"{n}.jsonl").examples
              for n in ("train", "validation", "calibration", "test")}  # fmt: skip
    assert {n: len(rows) for n, rows in splits.items()} == read_manifest(tmp_path / "a")["facts"][
        "examples"
    ]
    homes = Counter(f for rows in splits.values() for f in {family_of(e) for e in rows})
    assert set(homes.values()) == {1}
    train = splits["train"]
    assert all(a.group == b.group for a, b in zip(train[::2], train[1::2], strict=True))
    assert [e.group for e in train] != sorted(e.group for e in train)
    cells = json.loads((tmp_path / "a" / "coverage.json").read_text())["train"]["cells"]
    assert sum(cell["examples"] for cell in cells) == len(train)


def test_a_flaw_without_a_type_is_no_sound_text() -> None:
    """A public set may say that a text is flawed and not how; the labels stand last."""
    rows = [example(0), example(1, label="flawed"),
            example(2, label="flawed", flaw_type="small_sample", severity="low")]  # fmt: skip
    assert cells(rows) == {("general", flaw, "plain"): 1
                           for flaw in ("valid", "flawed", "small_sample")}  # fmt: skip
    for part in table({"train": rows}).strip().split("\n\n")[1:]:
        names = [line.split()[1] for line in part.splitlines()[2:]]
        assert names == ["small_sample", "flawed", "valid"]


def test_what_is_read_for_a_folder_is_not_replaced_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    make_data(recipe_for(folder))
    own = write_set(folder / "own", [row(1, "train")])
    (folder / "holdout.jsonl").write_text(json.dumps(row(2, "validation")) + "\n")
    read = recipe_for(folder)
    read.filters.held_out = str(folder / "holdout.jsonl")
    for recipe in (recipe_for(folder, public=own), read):
        with pytest.raises(ValueError, match=r"is or holds .*, which is read for it; name another"):
            make_data(recipe)
    with pytest.raises(ValueError, match=r"somebody put holdout.jsonl and 1 more"):
        make_data(recipe_for(folder))
    assert (own / "set.jsonl.gz").exists()


def test_another_seed_gives_other_examples(tmp_path: Path) -> None:
    one, two = recipe_for(tmp_path / "a"), recipe_for(tmp_path / "b")
    two.seed = 1
    make_data(one)
    make_data(two)
    assert (tmp_path / "a/train.jsonl").read_bytes() != (tmp_path / "b/train.jsonl").read_bytes()


def test_killed_at_any_moment_then_rerun(tmp_path: Path) -> None:
    make_data(recipe_for(tmp_path / "whole"))
    wanted = folder_hashes(tmp_path / "whole")
    code = (
        "from pathlib import Path; from data_gen.stage import make_data;"
        "from minicrit.config import Recipe; from minicrit.data_config import DataConfig;"
        f"make_data(Recipe(data=DataConfig(folder=Path({str(tmp_path / 'cut')!r}), train=240,"
        "validation=48, calibration=48, test=48, fresh=0)))"
    )
    rng = random.Random(0)
    for _ in range(4):
        run = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        time.sleep(rng.uniform(0.2, 1.2))
        run.send_signal(signal.SIGKILL)
        run.wait()
        if (tmp_path / "cut").exists():
            assert folder_hashes(tmp_path / "cut") == wanted
    make_data(recipe_for(tmp_path / "cut"))
    assert folder_hashes(tmp_path / "cut") == wanted
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_public_rows_keep_their_split_and_what_goes_is_counted(tmp_path: Path) -> None:
    rows = [row(n, "train") for n in range(8)] + [row(n, "test") for n in range(8, 12)]
    rows += [row(20, "train", label=None), row(22, "train", rationale="long " * 50)]
    folder = write_set(tmp_path / "sets", rows)
    public = read_public(folder, length=lambda e: len(e.rationale), max_tokens=100,
                         rejects=tmp_path)  # fmt: skip
    assert {split: len(found) for split, found in public.splits.items()} == {"train": 8, "test": 4}
    assert public.counts["set"] == Counter(kept=12, unlabelled=1, too_long=1)
    assert public.kept["set"] == {"train": {"valid": 8}, "test": {"valid": 4}}


def test_a_limit_is_of_rows_that_fit(tmp_path: Path) -> None:
    """What was too long had taken a place, so that a limit of 3 gave fewer though 4 fit."""
    rows = [row(n, "train", **({"rationale": "long " * 50} if n % 2 else {})) for n in range(8)]
    rows = [{**one, "group": f"g{n}"} for n, one in enumerate(rows)]
    folder = write_set(tmp_path / "sets", rows)
    public = read_public(folder, length=lambda e: len(e.rationale), max_tokens=100, limit=3)
    assert len(public.splits["train"]) == 3
    assert public.counts["set"] == Counter(kept=3, too_long=4, over_limit=1)


def test_a_limit_takes_whole_groups() -> None:
    examples = [example(n) for n in range(40)]
    drawn = draw_groups(examples, 11, "0")
    assert len(drawn) == 10
    assert set(Counter(e.group for e in drawn).values()) == {2}
    assert drawn == draw_groups(examples, 11, "0") != draw_groups(examples, 11, "1")
    assert draw_groups(examples, 0, "0") == examples


def test_no_group_is_drawn_again_before_all_had_their_turn() -> None:
    examples = [example(n) for n in range(40)]
    turns = [draw_groups(examples, 11, "0", turn) for turn in range(1, 7)]
    assert turns[0] == draw_groups(examples, 11, "0")
    assert sorted(e.id for some in turns[:4] for e in some) == sorted(e.id for e in examples)
    assert turns[4:] == turns[:2]
    first, second = ({e.group for e in draw_groups(examples, 30, "0", turn)} for turn in (1, 2))
    assert len(first) == len(second) == 15
    assert first | second == {e.group for e in examples}


def test_public_sets_are_mixed_and_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(0, "train"), row(2, "train"), row(4, "validation"), row(6, "test")]
    rows.append(row(8, "train", rationale="text  number 6."))  # the same text as a test row
    rows.append(row(10, "train", label="flawed", flaw_type="Unmet goal"))
    recipe = recipe_for(tmp_path / "data", public=write_set(tmp_path / "sets", rows))
    recipe.base.model, recipe.base.folder = "tiny", tmp_path / "base"
    make_data(recipe)
    found = {p.name: read_examples(p).examples for p in (tmp_path / "data").glob("*.jsonl")}
    assert len(found["train.jsonl"]) == 243
    assert [e.id for e in found["test-public.jsonl"]] == ["set/6"]
    assert [e.id for e in found["validation-public.jsonl"]] == ["set/4"]
    manifest = read_manifest(tmp_path / "data")
    assert manifest["facts"]["public"]["all sets"] == {"in_another_split": 1}
    assert set(manifest["inputs"]) == {"public/set.jsonl.gz"}
    assert manifest["facts"]["public_kept"]["set"]["train"] == {"valid": 3, "flawed": 1}
    assert (
        "public set: train 3 valid 1 flawed; validation 1 valid 0 flawed; test 1 valid 0 flawed; "
        "6 kept\npublic all sets: 1 in another split\n"
        "public set: flaw types: 1 Unmet goal as other\n" in capsys.readouterr().out
    )


def test_refused_lines_of_public_sets_outlive_the_folder_that_is_not_made(tmp_path: Path) -> None:
    rows = [row(n, "train") for n in range(4)] + [row(n, "dev") for n in range(4, 14)]
    recipe = recipe_for(tmp_path / "data", public=write_set(tmp_path / "sets", rows))
    recipe.base.model, recipe.base.folder = "tiny", tmp_path / "base"
    kept = tmp_path / "data.rejected" / "set.rejected.jsonl"
    with pytest.raises(ValueError, match=r"got 10 bad .*data\.max_bad") as e:
        make_data(recipe)
    assert f"all are in {kept}, or allow more (data.max_bad)" in str(e.value)
    assert len(kept.read_text().splitlines()) == 10
    shutil.rmtree(tmp_path / "sets")
    write_set(tmp_path / "sets", rows[:4])
    make_data(recipe)
    assert not kept.parent.exists()


def test_truncating_leaves_out_only_rows_whose_critique_has_no_room(tmp_path: Path) -> None:
    long = " ".join(f"the word{n}" for n in range(900))
    rows = [
        row(0, "train", rationale=long),
        row(2, "train", label="flawed", flaw_type="small_sample", critique=long),
    ]
    recipe = recipe_for(tmp_path / "data", public=write_set(tmp_path / "sets", rows), truncate=True)
    recipe.base.model, recipe.base.folder = "tiny", tmp_path / "base"
    make_data(recipe)
    train = read_examples(tmp_path / "data" / "train.jsonl").examples
    assert [e.id for e in train if e.source == "set"] == ["set/0"]
    assert read_manifest(tmp_path / "data")["facts"]["public"]["set"]["too_long"] == 1


def test_a_group_or_a_text_in_two_splits_is_refused() -> None:
    with pytest.raises(ValueError, match="every group in one split"):
        checked({"train": [example(0)], "test": [example(1)]})
    with pytest.raises(ValueError, match="every rationale in one split"):
        checked({"train": [example(0)], "test": [example(9, rationale="TEXT number  0.")]})
    checked({"test": [example(0)], "test-public": [example(1)]})


def test_fresh_examples_go_on_where_training_stops(tmp_path):
    def made(folder, **told):
        data = DataConfig(folder=tmp_path / folder, validation=4, calibration=4, test=4, **told)
        make_data(Recipe(data=data))
        return {p.name: read_examples(p).examples for p in data.folder.glob("*.jsonl")}

    plain = made("plain", train=40, fresh=0)
    assert "train-fresh.jsonl" not in plain
    both = made("both", train=40, fresh=24)
    assert both["train.jsonl"] == plain["train.jsonl"]  # more to come changes nothing before
    fresh = both["train-fresh.jsonl"]
    assert 24 <= len(fresh) < 28
    assert {e.split for e in fresh} == {"train"}
    assert {e.group for e in fresh}.isdisjoint(e.group for e in plain["train.jsonl"])
    assert len({e.group for e in fresh}) == len(fresh) / 4  # whole squares


def test_two_public_sets_of_the_same_ids_are_named_before_anything_is_composed(
    tmp_path: Path,
) -> None:
    rows = [row(n, "train") for n in range(4)]
    folder = write_set(tmp_path / "sets", rows)
    shutil.copy(folder / "set.jsonl.gz", folder / "other.jsonl.gz")
    with pytest.raises(ValueError, match=r"set\.jsonl\.gz: expected ids that no other set has"):
        read_public(folder, length=lambda _: 1, max_tokens=9, rejects=tmp_path)
