"""The page about the data: counts by hand, nothing hostile survives, what is missing stays out."""

import json
import re
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen import data_tables
from data_gen.data_report import _coverage, write_data_report
from data_gen.preferences import preference, twin_pairs
from data_gen.reservoir import Distinct, GroupReservoir
from data_gen.side_by_side import compared, differing, sample_of
from data_gen.survey import ALL, OTHERS, Limits, survey
from minicrit.config import Recipe
from minicrit.data_config import DataConfig, PairsConfig
from minicrit.files import write_json
from minicrit.jsonl import write_rows
from minicrit.manifest import write_manifest
from minicrit.measure_config import BenchmarkConfig
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example, write_examples

HOSTILE = '</div></mark><script>alert("x")</script><img src=x onerror=alert(1)>{{7*7}}'
REVERSED = "\u202egnirts\u202c and\u200b nothing\u2066"


def twins(number: int, split: str = "train", **more: object) -> list[Example]:
    """A sound and a flawed text that differ in one word."""
    group = f"composer/trading/desk{number % 7}/small_sample/{number}"
    both = {"domain": "trading", "group": group, "source": group, "split": split, **more}
    return [
        Example(id=f"{group}/{split}/0", label="valid", kind="sophisticated_valid",
                rationale=f"Case {number}: of 900 trades 700 gained, so it mostly gains.",
                critique="Many trades.", **both),  # type: ignore[arg-type]
        Example(id=f"{group}/{split}/1", label="flawed", kind="subtle_flaw", severity="medium",
                rationale=f"Case {number}: of 3 trades 2 gained, so it mostly gains.",
                flaw_type="small_sample", evidence="of 3 trades 2 gained",
                critique="Three are few.", fix="Look at more.", **both),  # type: ignore[arg-type]
    ]  # fmt: skip


def folder_of(path: Path, **files: list[Example]) -> Path:
    for name, rows in files.items():
        write_examples(path / f"{name.replace('_', '-')}.jsonl", rows)
    write_manifest(path, stage="data", inputs={}, settings={"seed": 0}, facts={})
    return path


def recipe_for(path: Path) -> Recipe:
    return Recipe(data=DataConfig(folder=path / "data"),
                  pairs=PairsConfig(out=path / "data-pairs"),
                  benchmark=BenchmarkConfig(out=path / "reports/benchmark"))  # fmt: skip


def page_of(path: Path) -> str:
    target = write_data_report(recipe_for(path))
    assert target == path / "reports/data.html"
    return target.read_text()


def row_of(page: str, name: str) -> list[str]:
    """The texts of the cells of the first table row of that name."""
    found = re.search(rf'<th scope="row">{re.escape(name)}</th>(.*?)</tr>', page, re.DOTALL)
    assert found, name
    cells = re.findall(r"<td[^>]*>(.*?)</td>", found[1], re.DOTALL)
    return [re.sub(r"<[^>]+>", "", cell).strip() for cell in cells]


def make_pairs_folder(path: Path, data: Path) -> None:
    """Ten pairs of twins and one by the oracle, and a report that says so."""
    rows = [twins(n) for n in range(5)]
    pairs = [pair for group in rows for pair in twin_pairs(group)]
    reference = render_critique(critique_of(rows[0][1]))
    worse = reference.replace("few", HOSTILE)
    pairs.append(preference(rows[0][1], reference, worse, (0.9, 0.4), "oracle"))
    write_rows(path / "pairs.jsonl", (pair.to_row() for pair in pairs))
    bias = {"pairs": 1, "mean_words_more": -3.0, "chosen_longer": 0, "chosen_equal": 0,
            "chosen_shorter": 1, "words_auc": None}  # fmt: skip
    write_json(path / "report.json", {"counts": {"candidates": 44, "no_pair_tie": 9},
                                      "by_scorer": {"oracle": bias}})  # fmt: skip
    write_manifest(path, stage="pairs", inputs={"data": data}, settings={}, facts={})


def test_counts_by_hand(tmp_path: Path) -> None:
    train = [row for n in range(3) for row in twins(n)]
    extra = replace(train[0], id="x", group="x", source="puzzles", domain="medical", label="valid",
                    rationale="One two three.", kind="plain", licence="MIT")  # fmt: skip
    folder_of(tmp_path / "data", train=[*train, extra], test=twins(9, "test"))
    page = page_of(tmp_path)
    assert row_of(page, "train") == ["7", "4", "4", "3", "42.9", "0", "0"]
    assert row_of(page, "test") == ["2", "1", "1", "1", "50.0", "0", "0"]
    assert row_of(page, "trading") == ["6", "2"]
    assert row_of(page, "medical") == ["1", "-"]
    assert row_of(page, "subtle flaw") == ["3", "1"]
    assert row_of(page, "small sample") == ["3", "1"]
    assert row_of(page, "small_sample") == ["6 (50% flawed)", "2 (50% flawed)"]
    assert row_of(page, "puzzles") == ["1 (0% flawed)", "-"]
    assert row_of(page, "MIT") == ["1 (0% flawed)", "-"]
    # "Case 0: of 3 trades 2 gained, so it mostly gains." has 49 characters, 11 words
    assert row_of(page, "train, flawed") == ["49"] * 4 + ["11"] * 4
    assert "1 of 32" in page
    assert (
        page.count("too few: ") == 2 + 1 + 1
    )  # train: composer, puzzles, all sets; test: composer


def test_coverage_marks_what_is_thin_and_what_is_not_there(tmp_path: Path) -> None:
    rows = [row for n in range(20) for row in twins(n)]
    rows += twins(30, domain="medical")
    [file] = survey(folder_of(tmp_path / "data", train=rows), 0)
    found = data_tables.coverage([file])
    line = next(line for line in found.by_domain.rows if line.name == "small sample")
    assert line.cells == [("20", ""), ("0", "none"), ("0", "none"), ("1", "thin"), ("0", "none"),
                          ("0", "none")]  # fmt: skip
    assert (found.empty, found.thin, found.cells, found.examples) == (4, 1, 6, 42)
    assert len(found.missing) == 31
    assert [(name, number) for name, number, _ in found.domains] == [("trading", 40),
                                                                     ("medical", 2)]  # fmt: skip
    medical = found.domains[1][2]
    assert medical.head == ["in medical", "subtle flaw", "sophisticated valid"]
    assert [line.cells for line in medical.rows] == [[("1", "thin"), ("-", "")],
                                                     [("-", ""), ("1", "")]]  # fmt: skip


def test_what_is_trained_on_and_what_is_measured_on_are_told_apart(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "data", train=twins(0), train_fresh=twins(1), test=twins(2),
                       test_public=twins(3), validation=twins(4))  # fmt: skip
    found = dict(_coverage(survey(folder, 0)))
    assert {name: one.examples for name, one in found.items()} == {
        "train": 4, "what is measured on": 6
    }  # fmt: skip


def test_the_difference_of_twins_and_the_evidence_are_marked(tmp_path: Path) -> None:
    sound, flawed = sample_of(twins(0)).sides
    assert [text for text, (differs, _) in sound.pieces if differs] == ["900", "700"]
    assert [text for text, (differs, _) in flawed.pieces if differs] == ["3", "2"]
    assert "".join(text for text, (_, given) in flawed.pieces if given) == "of 3 trades 2 gained"
    folder_of(tmp_path / "data", train=twins(0))
    page = page_of(tmp_path)
    assert "<u>of </u><mark><u>3</u></mark><u> trades </u>" in page
    assert "Fix: Look at more." in page


def test_differing_marks_runs_of_words_with_their_blanks() -> None:
    assert differing("a b c d e", "a x  y c d e") == ({2}, {2, 3, 4, 5})
    assert differing("a b c", "x y z") is None
    assert differing("", "") == (set(), set())
    assert differing("w " * 2000, "w") is None


def test_of_a_square_the_most_alike_two_are_shown() -> None:
    near, flawed = twins(0)
    far = replace(near, id="far", rationale="Nothing of the kind was ever said by anybody here.")
    assert [s.title for s in sample_of([far, flawed, near]).sides] == ["valid", "flawed"]
    assert "900" in "".join(text for text, _ in sample_of([far, flawed, near]).sides[0].pieces)
    assert len(sample_of([far, near]).sides) == 1


def test_hostile_texts_do_not_survive(tmp_path: Path) -> None:
    sound, flawed = twins(0)
    texts = f"{HOSTILE} {REVERSED} {'w' * 5000}"
    rows = [replace(sound, rationale=f"{texts} {sound.rationale}", critique=HOSTILE),
            replace(flawed, rationale=f"{texts} {flawed.rationale}", fix=HOSTILE),
            replace(sound, id="x", group=f"{HOSTILE}{REVERSED}", source=f"{HOSTILE}{REVERSED}",
                    rationale="y", licence=HOSTILE)]  # fmt: skip
    folder_of(tmp_path / "data", train=rows)
    make_pairs_folder(tmp_path / "data-pairs", tmp_path / "data/train.jsonl")
    page = page_of(tmp_path)
    assert page.count("&lt;script&gt;") >= 6
    assert not re.findall(r"<(script|img|link|iframe|object|form)|javascript:|url\(|@import", page)
    assert "{{7*7}}" in page
    assert not re.findall(r"[\u200b\u202a-\u202e\u2066-\u2069]", page)
    assert '<span class="code">U+202E</span>gnirts' in page
    assert "default-src 'none'" in page
    assert page.count("<mark") == page.count("</mark>")
    assert page.count("<div") == page.count("</div>")


def test_a_page_without_pairs_manifest_or_rows_in_a_split(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", train=twins(0), validation=[])
    (data / "manifest.json").unlink()
    page = page_of(tmp_path)
    assert row_of(page, "validation") == ["0", "0", "0", "0", "-", "0", "0"]
    assert "validation holds no examples." in page
    assert "There is no manifest" in page
    assert 'id="pairs"' not in page
    assert 'id="screening"' not in page
    assert 'id="made"' not in page


def test_what_was_kept_out_is_shown_as_the_manifest_says(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", train=twins(0))
    facts = {"duplicates": {"copies": 1200, "near": {"puzzles": 3}}, "firewall": 7}
    write_manifest(data, stage="data", inputs={}, settings={}, facts=facts)
    page = page_of(tmp_path)
    assert row_of(page, "duplicates: copies") == ["1,200"]
    assert row_of(page, "duplicates: near: puzzles") == ["3"]
    assert row_of(page, "firewall") == ["7"]


def test_pairs_beside_each_other(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", train=twins(0)) / "train.jsonl"
    make_pairs_folder(tmp_path / "data-pairs", data)
    page = page_of(tmp_path)
    assert row_of(page, "no pair tie") == ["9"]
    assert row_of(page, "oracle") == ["1", "0", "0", "1", "-3.0", "not asked: too few"]
    assert page.count("<h4>Chosen</h4>") == page.count("<h4>Rejected</h4>") == 10  # of eleven
    assert "other training rows" not in page
    folder_of(tmp_path / "data", train=twins(1))
    assert "was made from other training rows than these" in page_of(tmp_path)
    (tmp_path / "data-pairs/report.json").write_text("{}")
    with pytest.raises(ValueError, match=r"report\.json: expected counts and by_scorer"):
        page_of(tmp_path)


def test_chosen_and_rejected_differ_where_marked() -> None:
    example = twins(0)[1]
    shown = compared(preference(example, "Verdict: flawed now", "Verdict: valid now", (1, 0), "o"))
    marked = [[text for text, (differs, _) in side.pieces if differs] for side in shown.sides]
    assert marked == [["flawed"], ["valid"]]


def test_refused_lines_and_strange_splits_are_told(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", train=[*twins(0), *twins(1, "test")])
    with (data / "train.jsonl").open("a") as file:
        file.write('{"id": "<b>"}\nno json\n' + json.dumps({"id": "n", "label": None}) + "\n")
    page = page_of(tmp_path)
    assert row_of(page, "train")[-2:] == ["2", "1"]
    assert "train.jsonl:5: expected" in page
    assert "train holds rows of other splits: test." in page
    assert "Not as it was made" in page
    (data / "train.jsonl").write_text("")
    with pytest.raises(ValueError, match="expected examples, got none in 1 files"):
        page_of(tmp_path)


def test_rows_are_read_as_training_reads_them(tmp_path: Path) -> None:
    bare = {k: v for k, v in twins(0)[1].to_row().items() if k != "split"}
    old = {**bare, "id": "old", "is_valid": None}
    del old["label"]
    write_rows(tmp_path / "data/test.jsonl", [bare, old])
    page = page_of(tmp_path)
    assert row_of(page, "test")[-2:] == ["0", "1"]
    assert "rows of other splits" not in page


def test_words_and_sources_that_tell_are_found(tmp_path: Path) -> None:
    rows = [row for n in range(80) for row in twins(n)]
    plain = [replace(rows[0], id=f"p{n}", group=f"p{n}", source="plain", rationale=f"Text {n}.")
             for n in range(60)]  # fmt: skip
    folder_of(tmp_path / "data", train=[*rows, *plain])
    page = page_of(tmp_path)
    words, within, length, source = row_of(page, "train: composer")[1:]
    assert words.startswith("1.000 tells")
    assert within.startswith("1.000 tells")
    assert length.startswith("1.000 tells")  # flawed ones are shorter
    assert "tells" not in source
    assert "tells" in row_of(page, "train: all sets")[-1]
    assert "too few: 60 valid" in page


def test_what_too_few_groups_say_is_no_shortcut(tmp_path: Path) -> None:
    """Of three families one in 13 draws holds one label alone, so that there is no interval."""
    rows = []
    for family, labels in enumerate(("valid flawed", "flawed", "valid")):
        source = f"composer/trading/family{family}/small_sample"
        rows += [replace(row, source=source) for n in range(60)
                 for row in twins(60 * family + n) if row.label in labels]  # fmt: skip
    folder_of(tmp_path / "data", train=rows)
    page = page_of(tmp_path)
    assert "[nan" not in page
    length, source = row_of(page, "train: composer")[-2:]
    assert length.endswith("- too few groups")
    assert source.endswith("- too few groups")
    assert "Strongest shortcut" not in page


def test_the_same_data_give_the_same_page(tmp_path: Path) -> None:
    folder_of(tmp_path / "data", train=[row for n in range(30) for row in twins(n)])
    assert page_of(tmp_path) == page_of(tmp_path)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    limits = Limits(shown=2, probed=50, members=4, characters=200, groups=256, names=8)

    def peak(number: int) -> int:
        path = tmp_path / str(number) / "train.jsonl"
        write_rows(path, (replace(row, source=f"set{n}").to_row() for n in range(number)
                          for row in twins(n)))  # fmt: skip
        tracemalloc.start()
        [found] = survey(path.parent, 0, limits)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.rows == 2 * number
        assert set(found.parts) == {ALL, OTHERS, *(f"set{n}" for n in range(7))}
        assert found.parts[OTHERS].labels == Counter(valid=number - 7, flawed=number - 7)
        return highest

    peak(50)  # what is loaded once
    assert peak(4000) < 1.15 * peak(1000)


def test_a_reservoir_holds_whole_groups_whatever_the_order() -> None:
    rows = [(f"g{n % 40}", n) for n in range(200)]
    drawn = []
    for order in (rows, rows[::-1]):
        reservoir: GroupReservoir[int] = GroupReservoir("seed", groups=6, members=9)
        for group, member in order:
            reservoir.add(group, member)
        drawn.append([sorted(members) for members in reservoir.drawn()])
    assert drawn[0] == drawn[1]
    assert [len(members) for members in drawn[0]] == [5] * 6


def test_distinct_names_are_exact_then_estimated() -> None:
    names = Distinct(1024)
    for n in range(1000):
        names.add(str(n % 500))
    assert names.count() == (500, True)
    for n in range(20_000):
        names.add(str(n))
    number, exact = names.count()
    assert not exact
    assert number == pytest.approx(20_000, rel=0.1)
