"""The stage import: groups and parts, damaged files, what is left and what is told."""

import json
from typing import get_args, get_type_hints

import pytest

from data_gen.importers import IMPORTERS
from data_gen.importing import find
from data_gen.public import read_public
from minicrit import cli
from minicrit.data_config import ImportConfig
from minicrit.jsonl import LINE_CAP
from minicrit.manifest import check_outputs
from minicrit.records import read_examples
from minicrit.written import places
from tests.data_gen import raw_sets as raw


def test_every_kind_can_be_asked_for():
    known = get_args(get_type_hints(ImportConfig)["kind"])
    assert known == ("auto", *IMPORTERS)


def test_one_problem_has_one_group_and_part_in_every_set(tmp_path):
    asked = "What is 2 + 3 + 4?"
    raw.write(tmp_path / "set/a/gsm8k.json", json.dumps([raw.processbench_row()]))
    raw.write(tmp_path / "set/b/rows.jsonl", raw.lines([raw.prmbench_row(
        original_question="what is 2 + 3 +  4?", modified_question=asked)]))  # fmt: skip
    raw.run(tmp_path / "set", tmp_path / "out")
    found = [e for kind in ("processbench", "prmbench")
             for e in read_examples(tmp_path / f"out/{kind}.jsonl").examples]  # fmt: skip
    assert len(found) == 3
    assert len({(e.group, e.split) for e in found}) == 1


def test_parts_are_drawn_by_problem(tmp_path):
    rows = [raw.processbench_row(id=f"math-{n}", problem=f"What is {n // 2} + 1?",
                                 steps=[f"{n} a.", f"{n} b."]) for n in range(2000)]  # fmt: skip
    raw.write(tmp_path / "set/math.json", json.dumps(rows))
    found = raw.imported(tmp_path / "set", "processbench")
    homes: dict[str, set[str]] = {}
    for example in found:
        homes.setdefault(example.group, set()).add(example.split)
    assert len(homes) == 1000
    assert all(len(splits) == 1 for splits in homes.values())
    shares = [sum(e.split == name for e in found) / len(found) for name in ("train", "test")]
    assert shares == pytest.approx([0.8, 0.1], abs=0.04)


def test_a_benchmark_can_be_held_out_as_a_whole(tmp_path):
    rows = [raw.processbench_row(id=f"math-{n}", problem=f"{n}?", steps=[f"{n}.", "b"])
            for n in range(40)]  # fmt: skip
    raw.write(tmp_path / "set/math.json", json.dumps(rows))
    found = raw.imported(tmp_path / "set", "processbench", held_out=True)
    assert {e.split for e in found} == {"test"}


def test_rows_that_name_no_split_are_of_that_of_their_file(tmp_path):
    names = ("train", "val", "test", "desk", "desk.test")
    for name in names:
        row = raw.example_row(id=name, rationale=f"Of {name}: it rose, so it will.", group=name)
        row.pop("split")
        told = {**row, "id": f"{name}-told", "rationale": f"Told: {name}.", "split": "calibration"}
        raw.write(tmp_path / f"set/{name}.jsonl", raw.lines([row, {**told, "group": "told"}]))
    parts = {e.id: e.split for e in raw.imported(tmp_path / "set", "example")}
    assert parts == {"train": "train", "val": "validation", "test": "test", "desk": "train",
                     "desk.test": "test",  # as where it is read itself
                     **{f"{name}-told": "calibration" for name in names}}  # fmt: skip


def test_rows_of_one_id_in_two_parts_are_not_taken_for_one_case(tmp_path, caplog):
    """Both parts count from 1; of one source they were one group, and half was left out."""
    for name in ("desk.train", "desk.test"):
        row = raw.example_row(id="1", rationale=f"Of {name}: it rose, so it will.")
        bare = {key: value for key, value in row.items() if key not in ("group", "source", "split")}
        raw.write(tmp_path / f"set/{name}.jsonl", raw.lines([bare]))
    (kept,) = raw.imported(tmp_path / "set", "example")
    assert (kept.source, kept.split) == ("desk.test", "test")
    assert "desk.train.jsonl:1: expected each id once, got 1" in caplog.text


@pytest.mark.parametrize(("name", "row", "evidence"), [
    ("gsm8k.json", raw.processbench_row(problem="Is x = 2?", steps=["We try.", "x = 2", "So."],
                                        label=1), "We try.\n\nx = 2"),
    ("rows.jsonl", raw.prmbench_row(modified_process=["As y = 4, y + 1 = 5.", "y = 4", "So."],
                                    error_steps=[2]), "As y = 4, y + 1 = 5.\ny = 4"),
    ("dataset.json", raw.stepverify_row(
        problem="Of 100, 10 went.", student_incorrect_solution=["There are 100.", "10", "So."],
        incorrect_index=1, incorrect_step="10", error_description="No.",
        student_correct_response=None), "There are 100. 10"),
])  # fmt: skip
def test_a_wrong_step_whose_words_stand_elsewhere_is_told_apart(tmp_path, name, row, evidence):
    raw.write(tmp_path / "set" / name, json.dumps(row if name == "rows.jsonl" else [row]))
    raw.run(tmp_path / "set", tmp_path / "out")
    (made,) = (tmp_path / "out").glob("*.jsonl")
    (flawed,) = (e for e in read_examples(made).examples if e.label == "flawed")
    assert flawed.evidence == evidence
    at = flawed.rationale.index("Reasoning: ") + len("Reasoning: ")
    assert min(places(flawed.rationale, evidence)) == at  # not in the problem


def test_a_row_that_gets_too_long_for_a_line_costs_one_row(tmp_path):
    bare = {"id": "a", "domain": "trading", "label": "valid"}
    whole = {**bare, "rationale": "x" * (LINE_CAP - 80)}  # without group, source and split
    raw.write(tmp_path / "set/own.jsonl", raw.lines([whole, {**bare, "id": "b", "rationale": "y"}]))
    (kept,) = raw.imported(tmp_path / "set", "example")
    assert kept.id == "b"
    (left,) = raw.rejected(tmp_path / "out", "example")
    assert (left["line"], left["reason"]) == (1, "expected at most 1048576 bytes a line, got a "
                                              "longer line; split or shorten it")  # fmt: skip


def test_an_empty_cell_of_a_table_says_nothing(tmp_path):
    raw.write(tmp_path / "set/own.csv", 'id,domain,rationale,label,flaw_type,evidence,split\n'
              '1,trading,"It rose 3 of 3, so it ""will"".",flawed,small_sample,3 of 3,test\n'
              '2,trading,"It rose 700 of 900,\r\nso it may.",valid,, ,\n'
              '3,trading,It may rise.,,,,\n4,trading,,valid,,,\n')  # fmt: skip
    flawed, valid = raw.imported(tmp_path / "set", "example")
    assert (flawed.rationale, flawed.evidence, flawed.split) == (
        'It rose 3 of 3, so it "will".', "3 of 3", "test")  # fmt: skip
    assert (valid.rationale, valid.flaw_type, valid.evidence, valid.split) == (
        "It rose 700 of 900,\nso it may.", None, None, "train")  # fmt: skip
    left = [(row["line"], row["reason"]) for row in raw.rejected(tmp_path / "out", "example")]
    assert left == [
        (5, "expected rows of use for a verdict, got no label; nothing is to be done"),
        (6, "expected rationale as text, got nothing; fill it in"),
    ]


def test_a_table_whose_label_is_told_by_its_kind_needs_no_other(tmp_path):
    """A null was put beside it, and the two did not agree."""
    raw.write(tmp_path / "set/own.csv", "id,domain,input,data_type,label\n"
              "1,trading,It may rise.,hard_negative,\n2,trading,It may fall.,plain,\n"
              "3,trading,It rose.,hard_negative,valid\n")  # fmt: skip
    found = raw.imported(tmp_path / "set", "example")
    assert [(e.id, e.label, e.kind) for e in found] == [
        ("1", "valid", "suspicious_valid"), ("3", "valid", "suspicious_valid")]  # fmt: skip
    (left,) = raw.rejected(tmp_path / "out", "example")
    assert (left["line"], "got no label" in left["reason"]) == (3, True)


def test_the_result_is_what_the_data_stage_takes(tmp_path):
    raw.mr_ben(tmp_path / "set/biology.json", [raw.mr_ben_row(), raw.sound_mr_ben_row()])
    raw.write(tmp_path / "set/word_sorting.jsonl", raw.lines([raw.bbmistake_row()]))
    raw.run(tmp_path / "set", tmp_path / "out")
    raw.run(tmp_path / "set", tmp_path / "out", zip=True)  # takes the place of the plain files
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["big-bench-mistake.jsonl.gz", "big-bench-mistake.jsonl.gz.manifest.json",
                     "mr-ben.jsonl.gz", "mr-ben.jsonl.gz.manifest.json"]  # fmt: skip
    assert check_outputs(tmp_path / "out/mr-ben.jsonl.gz") == []
    public = read_public(tmp_path / "out", length=lambda e: 1, max_tokens=9)
    assert {name: count["kept"] for name, count in public.counts.items()} == {
        "mr-ben": 2, "big-bench-mistake": 1,
    }  # fmt: skip
    assert sum(public.kept["mr-ben"].values(), start=type(public.counts["mr-ben"])()) == {
        "valid": 1, "flawed": 1,
    }  # fmt: skip
    before = (tmp_path / "out/mr-ben.jsonl.gz").read_bytes()
    raw.run(tmp_path / "set", tmp_path / "out", zip=True)
    assert (tmp_path / "out/mr-ben.jsonl.gz").read_bytes() == before


def test_a_source_below_the_results_is_read(tmp_path):
    raw.write(tmp_path / "public/raw/rows.jsonl", raw.lines([raw.example_row()]))
    raw.run(tmp_path / "public/raw", tmp_path / "public")
    (row,) = read_examples(tmp_path / "public/example.jsonl").examples
    assert row.id == raw.example_row()["id"]


def test_the_result_of_another_source_is_not_replaced(tmp_path):
    out, rows = tmp_path / "out", tmp_path / "a/rows.jsonl"
    raw.write(rows, raw.lines([raw.example_row()]))
    raw.run(tmp_path / "a", out, zip=True)
    raw.write(tmp_path / "b/rows.jsonl", raw.lines([raw.example_row(id="own/2")]))
    refused = r"out/example\.jsonl\.gz: expected .* got one of .*a/rows\.jsonl; name another OUT"
    with pytest.raises(ValueError, match=refused):
        raw.run(tmp_path / "b", out)
    raw.write(rows, raw.lines([raw.example_row(id="own/3")]))  # a newer version of the same
    raw.run(tmp_path / "a", out)
    rows.rename(tmp_path / "rows.jsonl")  # the same in another place
    raw.run(tmp_path / "rows.jsonl", out)
    assert [one.id for one in read_examples(out / "example.jsonl").examples] == ["own/3"]


def test_what_was_made_of_a_set_is_no_set(tmp_path):
    """Below the source it became one, `example`, that said all of it a second time."""
    raw.write(tmp_path / "set/gsm8k.json", json.dumps([raw.processbench_row()]))
    for _ in range(2):
        raw.run(tmp_path / "set", tmp_path / "set/made")
        assert [p.name for p in sorted((tmp_path / "set/made").iterdir())] == [
            "processbench.jsonl", "processbench.jsonl.manifest.json"]  # fmt: skip
    with pytest.raises(ValueError, match=r"imports.out: expected another folder than imports.so"):
        raw.run(tmp_path / "set", tmp_path / "set/../set")


def test_files_of_no_known_layout_are_named(tmp_path, capsys):
    raw.mr_ben(tmp_path / "set/biology.json", [raw.mr_ben_row()])
    raw.write(tmp_path / "set/k_shot_demo.json", '{"coding": [{"Question": "q"}]}')
    raw.write(tmp_path / "set/.git/x.json", "[")
    raw.write(tmp_path / "set/other.json", '{"files": [],\n"strict": true}')
    raw.run(tmp_path / "set", tmp_path / "out")
    out = capsys.readouterr().out
    assert "k_shot_demo.json: no layout that is asked for; to be of " in out
    assert "other.json:2: expected [, got t" in out
    assert ".git" not in out


@pytest.mark.parametrize(("name", "content", "why"), [
    ("x.csv", b"a,a\n1,2\n", "x.csv:1: expected a header with every column once, got a name twice"),
    ("x.csv", b"", "x.csv:1: expected a header with every column once, got none"),
    ("x.csv", b'a,b\n"x"y,2\n', "x.csv:2: expected a CSV row"),
    ("x.json", b"\xef\xbb\xbf{}", "x.json:1: expected UTF-8 without a mark"),
    ("x.jsonl.gz", b"\x1f\x8b\x08\x00zzz", "x.jsonl.gz:1: expected a whole gzip file"),
])  # fmt: skip
def test_a_damaged_file_of_something_else_stops_nothing(tmp_path, capsys, name, content, why):
    raw.write(tmp_path / "set/word_sorting.jsonl", raw.lines([raw.bbmistake_row()]))
    (tmp_path / "set" / name).write_bytes(content)
    raw.run(tmp_path / "set", tmp_path / "out")
    assert len(read_examples(tmp_path / "out/big-bench-mistake.jsonl").examples) == 1
    assert f"passed over: {tmp_path / 'set'}/{why}" in capsys.readouterr().out


def test_a_set_that_is_damaged_behind_its_first_row_stops_all(tmp_path):
    raw.write(tmp_path / "set/word_sorting.jsonl", raw.lines([raw.bbmistake_row()]))
    path = raw.medec(tmp_path / "set/medec.csv", [raw.medec_row()])
    path.write_bytes(path.read_bytes() + b'ms-train-9,"x"y\n')
    with pytest.raises(ValueError, match=r"medec.csv:8: expected a CSV row"):
        raw.run(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bytes_that_are_no_utf8_cost_one_row(tmp_path):
    sound, other = json.dumps(raw.processbench_row()), json.dumps(raw.processbench_row(id="a-2"))
    damaged = other.replace("2 + 3 = 6.", "caf\xe9").encode("latin-1", "backslashreplace")
    damaged = damaged.replace(b"\\u00e9", b"\xe9").replace(b"caf\\xe9", b"caf\xe9")
    path = raw.write(tmp_path / "set/a.json", b"[" + sound.encode() + b",\n" + damaged + b"]")
    line, reason = raw.refused(path, "processbench")
    assert line == 2
    assert "expected UTF-8, got byte 0xe9" in reason


def test_latin_1_in_a_table_costs_one_row(tmp_path):
    rows = [raw.sound_medec_row(), raw.medec_row(Text=f"{raw.NOTE}Déjà. Prednisone is started.")]
    path = raw.medec(tmp_path / "set/medec.csv", rows)
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    line, reason = raw.refused(path, "medec")
    assert line == 8
    assert "expected UTF-8, got byte 0xe9" in reason


def test_windows_lines_are_read(tmp_path):
    text = raw.lines([raw.bbmistake_row(steps=["First.\r\nSecond.", "So fig < apple.", "c"])])
    path = raw.write(tmp_path / "set/word_sorting.jsonl", text.replace("\n", "\r\n"))
    (one,) = raw.imported(path, "big-bench-mistake")
    assert one.rationale.endswith("First.\nSecond.\nSo fig < apple.\nc")


@pytest.mark.parametrize(("name", "content", "expected"), [
    ("a.json", b"\xef\xbb\xbf[]", r"a.json:1: expected UTF-8 without a mark, got a byte order"),
    ("a.json", b'[{"a": 1},\n{"b": }]', r"a.json:2: expected whole JSON, got Expecting value"),
    ("a.json", b'[{"a": 1}\n{"b": 2}]', r"a.json:2: expected , or ], got {"),
    ("a.json", b'[{"a": 1}]\n[{"a": 2}]', r"a.json:2: expected the end of the file, got \["),
    ("a.json", b'{"x": [{"a": 1}]}\n{"y": []}', r"a.json:2: expected the end of the file, got {"),
    ("a.json", b'[{"a": 1}', r"a.json:1: expected , or ], got the end of the file"),
    ("a.csv", b'a,b\n1,"2\n', r"a.csv:2: expected a CSV row, got unexpected end of data"),
    ("a.csv", b"a,a\n", r"a.csv:1: expected a header with every column once, got a name twice"),
    ("a.json.gz", b"no archive", r"a.json.gz: expected a whole gzip file"),
])  # fmt: skip
def test_damaged_files_are_refused(tmp_path, name, content, expected):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        raw.run(tmp_path / "set", tmp_path / "out")


def test_too_few_columns_cost_one_row(tmp_path):
    path = raw.medec(tmp_path / "set/medec.csv", [raw.medec_row()])
    path.write_text(path.read_text() + "ms-train-9,too few\n")
    line, reason = raw.refused(path, "medec")
    assert line == 8
    assert "expected 9 columns, got 2; put quotes around texts that hold commas" in reason


def test_a_missing_key_is_named(tmp_path):
    rows = [raw.processbench_row(), raw.processbench_row(id="a-2")]
    del rows[1]["problem"]
    path = raw.write(tmp_path / "set/a.jsonl", raw.lines(rows))
    _, reason = raw.refused(path, "processbench")
    assert "expected the key 'problem', got id, generator, steps" in reason


def test_too_many_refused_rows_stop_and_show_the_first(tmp_path):
    rows = [raw.bbmistake_row(input=str(n), mistake_index=9 if n < 3 else 0) for n in range(20)]
    raw.write(tmp_path / "set/word_sorting.jsonl", raw.lines(rows))
    with pytest.raises(ValueError, match=r"(?s)3 of 20 refused.*word_sorting.jsonl:1: expected"):
        raw.run(tmp_path / "set", tmp_path / "out", max_bad=0.1)
    assert not (tmp_path / "out/big-bench-mistake.jsonl").exists()
    assert len(raw.rejected(tmp_path / "out", "big-bench-mistake")) == 3


@pytest.mark.parametrize(("kind", "expected"), [
    ("auto", r"(?s)expected files of mr-ben, medec, .* got none among 1 files.*no layout"),
    ("medec", "expected files of medec, got none among 1 files"),
])  # fmt: skip
def test_a_folder_without_the_set(tmp_path, kind, expected):
    raw.write(tmp_path / "set/other.json", '[{"a": 1}]')
    with pytest.raises(ValueError, match=expected):
        raw.run(tmp_path / "set", tmp_path / "out", kind=kind)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw.write(tmp_path / "set/word_sorting.jsonl", raw.lines([raw.bbmistake_row()]))
    argv = ["import", "--imports.source", "set", "--imports.kind", "big-bench-mistake"]
    assert cli.main(argv) == cli.OK
    assert "written: data/public" in capsys.readouterr().out
    assert (tmp_path / "data/public/big-bench-mistake.jsonl").exists()
    assert cli.main(["import"]) == cli.FAILED
    assert "imports.source: expected the folder" in capsys.readouterr().err
    assert cli.main(["import", "--imports.source", "nowhere"]) == cli.FAILED


def test_a_row_that_lacks_a_key_is_told_which(tmp_path):
    """Told was to check the path and the kind, which both were right."""
    raw.write(tmp_path / "mine.csv", "rationale,label\nIt rose.,valid\n")
    lacking = "no layout that is asked for; to be of example it lacks id$"
    with pytest.raises(ValueError, match=lacking):
        raw.run(tmp_path / "mine.csv", tmp_path / "out", kind="example")
    raw.write(tmp_path / "mine.csv", "")
    with pytest.raises(ValueError, match="expected a header"):
        raw.run(tmp_path / "mine.csv", tmp_path / "out", kind="example")
    raw.write(tmp_path / "mine.jsonl", "\n")
    with pytest.raises(ValueError, match=r"mine.jsonl: no rows$"):
        raw.run(tmp_path / "mine.jsonl", tmp_path / "out", kind="example")


def test_a_row_that_is_set_aside_says_of_which_of_two_files_it_is(tmp_path):
    for folder in ("2024", "2025"):
        rows = [raw.example_row(id=f"{folder}/{n}", rationale=f"{folder}: {n} cases, so it is so.",
                                evidence="so") for n in range(20)]  # fmt: skip
        rows[0]["label"] = "Valid" if folder == "2025" else rows[0]["label"]
        raw.write(tmp_path / f"set/{folder}/desk.jsonl", raw.lines(rows))
    raw.run(tmp_path / "set", tmp_path / "out")
    (left,) = raw.rejected(tmp_path / "out", "example")
    assert (left["file"], left["line"]) == ("2025/desk.jsonl", 1)


def test_a_file_that_names_its_own_fault_is_named_once(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('[{"id": 1}, {')
    with pytest.raises(ValueError, match="check the path and the kind") as caught:
        find(ImportConfig(source=path))
    assert str(caught.value).count(str(path)) == 2  # what was asked for, and where it is wrong
    assert f"\n{path}:1: expected whole JSON" in str(caught.value)


def test_a_file_of_damaged_rows_says_why_it_fits_nothing(tmp_path):
    text = b"\xef\xbb\xbf" + raw.lines([raw.bbmistake_row()]).encode()
    raw.write(tmp_path / "set/word_sorting.jsonl", text)
    with pytest.raises(ValueError, match=r"word_sorting.jsonl:1: expected UTF-8 without a mark"):
        raw.run(tmp_path / "set", tmp_path / "out")


def test_an_escaped_backslash_before_a_line_end_stays(tmp_path):
    steps = ["a\\r\nb", "c\\\r\nd", "e"]
    raw.write(tmp_path / "set/word_sorting.jsonl", raw.lines([raw.bbmistake_row(steps=steps)]))
    (one,) = raw.imported(tmp_path / "set", "big-bench-mistake")
    assert one.rationale.endswith("Reasoning: a\\r\nb\nc\\\nd\ne")
