"""What is taken out of training data, and why; and that stages do so."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.adversarial import suite
from data_gen.bench_filters import bench_filters
from data_gen.bench_filters import rows as made_rows
from data_gen.compose import compose
from data_gen.filters import Screening, balanced
from data_gen.hard import make_hard
from data_gen.screen import Screened, held_out_files, screened
from data_gen.stage import make_data
from minicrit.config import Recipe
from minicrit.data_config import BenchFiltersConfig, DataConfig, FilterConfig, HardConfig
from minicrit.jsonl import read_lines
from minicrit.manifest import read_manifest
from minicrit.records import Example, read_examples, write_examples

ROWS = list(made_rows(40))
OWN = [made.example for made in compose(80, 0, "train", squares=True)]
TEST = [made.example for made in compose(40, 0, "test")]
GERMAN = ("Wir haben das Gerät an drei Tagen geprüft und es ist nie ausgefallen, daher ist es "
          "zuverlässig und wir sollten es für die ganze Flotte kaufen.")  # fmt: skip
SPANISH = ("Probamos el aparato durante tres días y no falló nunca, así que es fiable y deberíamos "
           "comprarlo para toda la flota antes de que termine el año.")  # fmt: skip
CHINESE = "我们测试了三天设备从未出现故障因此它是可靠的"
ALGEBRA = "x^2 + 2x = 8, x^2 + 2x - 8 = 0, (x + 4)(x - 2) = 0, x = 2 or x = -4, x > 0, x = 2."


def row(text: str, **more: object) -> Example:
    return replace(ROWS[0], **{"id": text, "group": text, "rationale": text, **more})  # type: ignore[arg-type]


def why(*rows: Example, **bars: object) -> list[str | None]:
    screening = Screening({"test": TEST}, FilterConfig(**bars))  # type: ignore[arg-type]
    screening.add(rows)
    found = screening.removed()
    return [found[n].reason if n in found else None for n in range(len(rows))]


def test_language():
    found = why(*map(row, (GERMAN, SPANISH, CHINESE, ALGEBRA, "Up, so buy.")), *OWN)
    assert found[:3] == ["language"] * 3
    assert set(found[3:]) == {None}
    assert why(row(GERMAN), english=False) == [None]


def test_length():
    assert why(row("Buy now."), row("So buy now.")) == ["too short", None]
    assert why(row("So buy now."), ROWS[0], max_words=59) == [None, "too long"]


def test_a_group_with_an_item_goes_as_a_whole_and_says_so():
    twin = replace(ROWS[3], group=ROWS[2].group, rationale=f"Before. {TEST[4].rationale}")
    screening = Screening({"test.jsonl": TEST}, FilterConfig())
    screening.add([ROWS[0], ROWS[2], twin])
    found = screening.removed()
    assert {n: one.detail for n, one in found.items()} == {
        1: "by its group", 2: f"test.jsonl: {TEST[4].id}: 1.00 of its 13-word sequences",
    }  # fmt: skip


def test_an_edited_item_is_a_near_copy_even_if_the_firewall_is_blind():
    item = replace(TEST[0], rationale=ROWS[0].rationale, evidence=None)
    words = ROWS[0].rationale.split()
    words[20], words[40] = "otherwise", "elsewhere"
    screening = Screening({"test.jsonl": [item]}, FilterConfig())
    screening.add([row(" ".join(words), label=item.label)])
    assert screening.firewall.hits([" ".join(words)]) == {}
    assert screening.removed()[0].detail == f"test.jsonl: {item.id}: near-copy"


def test_rows_of_a_group_that_is_measured_on_go_whatever_they_say():
    item = replace(TEST[0], rationale=ROWS[0].rationale, evidence=None, group="problem/x")
    words = ROWS[0].rationale.split()
    words[20], words[40] = "otherwise", "elsewhere"
    screening = Screening({"test.jsonl": [item]}, FilterConfig())
    screening.add([row(" ".join(words), label=item.label, group="problem/x"), ROWS[2],
                   row(ROWS[4].rationale, group="problem/x")])  # fmt: skip
    screening.add([row(OWN[0].rationale, group="problem/x")], fixed=True)
    assert {n: (one.reason, one.detail) for n, one in screening.removed().items()} == {
        n: ("leak", "test.jsonl: of its group") for n in (0, 2, 3)}  # fmt: skip


def test_a_header_of_all_rows_is_no_leak():
    header = " ".join(f"word{n}" for n in range(44))
    rows = [row(f"{header} {e.rationale}", group=e.group) for e in ROWS]
    item = replace(TEST[0], rationale=f"{header} {TEST[0].rationale}", evidence=None)
    screening = Screening({"test.jsonl": [item]}, FilterConfig())
    screening.add([*rows, row(f"So: {item.rationale}")])
    assert {n: one.reason for n, one in screening.removed().items()} == {len(rows): "leak"}


def test_screened_keeps_order_and_loses_nothing():
    copy = replace(ROWS[2], id="copy", group="copy")
    leak = replace(OWN[0], id="leak", group="leak", rationale=suite()[0].rationale, evidence=None)
    others = [*ROWS, copy, row(GERMAN)]
    found = screened([*OWN, leak], others, {"test": TEST}, FilterConfig(), 0)
    assert found.composed == OWN
    assert found.others == [e for e in others if e in found.others]
    assert len(found.others) + len(found.removed) == len(others) + 1
    reasons = {e.id: one for e, one in found.removed}
    assert reasons["leak"].reason == "leak"
    assert {"copy", ROWS[2].id} & reasons.keys()
    assert {"copy", ROWS[2].id} - reasons.keys()
    assert found.items == len(TEST) + len(suite())


def test_screening_twice_removes_nothing_more():
    others = [*ROWS, *(replace(e, id=f"{e.id}/2", group=f"{e.group}/2") for e in ROWS), row(GERMAN)]
    first = screened(OWN, others, {}, FilterConfig(), 0)
    again = screened(OWN, first.others, {}, FilterConfig(), 0)
    assert len(first.others) == len(ROWS)
    assert (again.others, again.removed) == (first.others, [])


def test_balance_takes_whole_groups_of_one_label_and_keeps_twins():
    twins = [replace(e, source="a/x") for e in ROWS[:8]]
    wrong = [replace(e, id=f"w{n}", group=f"w{n // 2}", source="a/y", label="flawed")
             for n, e in enumerate(ROWS[8:32])]  # fmt: skip
    rows = twins + wrong
    gone = balanced(rows, 2, 0)
    left = Counter(e.label for n, e in enumerate(rows) if n not in gone)
    assert left == {"valid": 4, "flawed": 8}
    assert not gone.keys() & set(range(8))
    assert set(Counter(rows[n].group for n in gone).values()) == {2}
    assert gone == balanced(rows, 2, 0) != balanced(rows, 2, 1)
    assert balanced(rows, 0, 0) == {}


def test_the_data_stage_writes_what_it_removes_and_counts_it(tmp_path: Path, capsys):
    test_text = next(compose(2, 0, "test")).example.rationale
    rows = [replace(e, source="set/x", split="train") for e in ROWS[:6]]
    rows += [replace(rows[2], id="again", group="again"), row(GERMAN, source="set/x"),
             row(f"As they say: {test_text}", source="set/x")]  # fmt: skip
    (tmp_path / "sets").mkdir()
    write_examples(tmp_path / "sets/set.jsonl", rows)
    write_examples(tmp_path / "holdout.jsonl", [replace(ROWS[4], split="test")])
    recipe = Recipe(
        data=DataConfig(folder=tmp_path / "data", train=40, validation=2, calibration=2, test=2,
                        public=tmp_path / "sets"),
        filters=FilterConfig(held_out=str(tmp_path / "holdout.jsonl")),
    )  # fmt: skip
    recipe.base.model, recipe.base.folder = "tiny", tmp_path / "base"
    make_data(recipe)
    removed = [found[1] for found in read_lines(tmp_path / "data/removed.jsonl")]
    assert Counter(r["reason"] for r in removed) == {"leak": 3, "language": 1, "copy": 1}
    kept = read_examples(tmp_path / "data/train.jsonl").examples
    assert len(kept) + len(removed) == 40 + len(rows)
    record = read_manifest(tmp_path / "data")
    assert record["facts"]["removed"] == {"set": {"leak": 3, "language": 1, "copy": 1}}
    assert record["facts"]["evaluation_items"] == 6 + len(suite()) + 1
    assert sorted(record["inputs"], reverse=True) == [
        "public/set.jsonl",
        f"held_out/{tmp_path}/holdout.jsonl",
    ]
    out = capsys.readouterr().out
    assert "removed from set: 1 copy, 1 language, 3 leak; see removed.jsonl" in out


def test_hard_examples_pass_the_firewall(tmp_path: Path, capsys):
    own = next(compose(4, 0, "train")).example
    write_examples(tmp_path / "data/test.jsonl", [replace(own, split="test")])
    recipe = Recipe(hard=HardConfig(out=tmp_path / "hard", count=8),
                    filters=FilterConfig(held_out=str(tmp_path / "data")))  # fmt: skip
    make_hard(recipe)
    kept = read_examples(tmp_path / "hard/train.jsonl").examples
    assert {own.group}.isdisjoint(e.group for e in kept)
    assert len(kept) == 6
    assert "removed from composer: 2 leak" in capsys.readouterr().out
    assert read_manifest(tmp_path / "hard")["facts"]["removed"] == {"composer": {"leak": 2}}


def test_held_out_files_that_are_not_there_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"expected evaluation files .* got none; check"):
        held_out_files(FilterConfig(held_out=str(tmp_path)))
    with pytest.raises(ValueError, match=r"x\.jsonl: expected a file, got none"):
        screened([], ROWS, {}, FilterConfig(held_out="x.jsonl"), 0)


def test_nothing_removed_leaves_no_file(tmp_path: Path):
    Screened([], ROWS, [], 0).write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_benchmark_finds_what_it_planted(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = bench_filters(Recipe(bench_filters=BenchFiltersConfig(rows=2000)))
    assert found["copies"] == [76, 76]
    assert found["leaks"] == [38, 38]
    assert found["removed_besides"] == 0
    assert (tmp_path / "reports/bench-filters.md").read_text() in capsys.readouterr().out
