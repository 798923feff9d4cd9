"""Public sets in their published layouts: what becomes of rows, whole and contradictory ones."""

import json

import pytest

from minicrit.manifest import read_manifest
from minicrit.records import Example
from tests.data_gen import raw_sets as raw


def test_mr_ben(tmp_path):
    raw.mr_ben(tmp_path / "set/biology.json", [raw.mr_ben_row(), raw.sound_mr_ben_row()])
    flawed, valid = raw.imported(tmp_path / "set", "mr-ben")
    assert flawed.rationale == (
        "Context: Which of these makes most of a cell's ATP?\nA: ribosome \nB: mitochondrion\n\n"
        "Reasoning: Step 1: ATP is made where sugar is burnt.\nStep 2: Ribosomes burn sugar.\n"
        "Solution: Choice_A"
    )
    assert flawed.evidence == "Step 2: Ribosomes burn sugar."
    assert flawed.critique == "Ribosomes build proteins."
    assert flawed.fix == "Step 2: Mitochondria burn sugar."
    assert (flawed.label, flawed.flaw_type, flawed.domain) == ("flawed", None, "general")
    assert (valid.label, valid.evidence, valid.critique) == ("valid", None, None)
    assert (flawed.group, flawed.split) == (valid.group, valid.split)
    assert flawed.id != valid.id
    assert flawed.licence == "MIT"


def test_mr_ben_code_has_a_line_for_evidence_or_none(tmp_path):
    other = {"model": "B", "Model_Solution_Steps": "def double(n): pass"}
    rows = [raw.coding_row(), raw.coding_row(**other, Model_Solution_First_Error_Step="")]
    raw.mr_ben(tmp_path / "set/coding.json", rows)
    marked, unmarked = raw.imported(tmp_path / "set", "mr-ben")
    assert marked.evidence == "# add one"
    assert marked.fix == "# add n to itself"
    assert (unmarked.label, unmarked.evidence) == ("flawed", None)


@pytest.mark.parametrize(("marked", "evidence"), [
    ("1", "Step 1: One.\n- It is so."), ("Step 2", "Step 2: Two."), ("10", "Step 10: Ten.\n- Yes."),
])  # fmt: skip
def test_mr_ben_a_step_ends_where_the_next_begins(tmp_path, marked, evidence):
    steps = ["Step 1: One.", "", "- It is so.", "Step 2: Two.", "Step 10: Ten.", "- Yes.",
             "Solution: Choice_A"]  # fmt: skip
    row = raw.mr_ben_row(Model_Solution_Steps=steps, Model_Solution_First_Error_Step=marked)
    raw.mr_ben(tmp_path / "set/biology.json", [row])
    assert raw.imported(tmp_path / "set", "mr-ben")[0].evidence == evidence


def test_mr_ben_steps_without_numbers_are_counted(tmp_path):
    row = raw.mr_ben_row(Model_Solution_Steps=["One.", "", "Two.", "Three."])
    raw.mr_ben(tmp_path / "set/biology.json", [row])
    assert raw.imported(tmp_path / "set", "mr-ben")[0].evidence == "Two."


@pytest.mark.parametrize(("steps", "evidence"), [
    (["Step 1: One.", "Step 2: It is 7", "Step 3: As Step 2: It is 7."],
     "Step 1: One.\nStep 2: It is 7"),
    (["It is 7, as given.", "It is 7", "So B."], "It is 7, as given.\nIt is 7"),
])  # fmt: skip
def test_mr_ben_evidence_stands_at_the_wrong_step_alone(tmp_path, steps, evidence):
    row = raw.mr_ben_row(Model_Solution_Steps=steps, Model_Solution_First_Error_Step="2")
    raw.mr_ben(tmp_path / "set/biology.json", [row])
    (one,) = raw.imported(tmp_path / "set", "mr-ben")
    assert (one.evidence, one.rationale.count(one.evidence)) == (evidence, 1)


def test_mr_ben_medicine_is_medical(tmp_path):
    raw.mr_ben(tmp_path / "set/medicine.json", [raw.mr_ben_row()])
    assert raw.imported(tmp_path / "set", "mr-ben")[0].domain == "medical"


@pytest.mark.parametrize(("changed", "expected"), [
    ({"Model_Solution_First_Error_Step": "7"}, "among steps 1, 2, got 7"),
    ({"Model_Solution_First_Error_Step": "Step two"}, "verbatim in the text, got 'Step two'"),
    ({"Model_Solution_Correctness": "yes"}, "as correct or incorrect, got str 'yes'"),
    ({"Model_Solution_Correctness": "correct"}, "in a correct solution, got 2"),
    ({"Model_Solution_Steps": ["a", 3]}, "as a list of texts, got list ['a', 3]"),
    ({"Question": None}, "'Question' as text, got null"),
])  # fmt: skip
def test_mr_ben_rows_that_contradict_themselves(tmp_path, changed, expected):
    rows = [raw.sound_mr_ben_row(), raw.mr_ben_row(**changed)]
    line, reason = raw.refused(raw.mr_ben(tmp_path / "set/biology.json", rows), "mr-ben")
    assert line == 21  # where the second object begins
    assert expected in reason


def test_medec(tmp_path, capsys):
    rows = [raw.medec_row(), raw.sound_medec_row(), raw.medec_row("ms-val-0", Text=(
        "A man fell. Prednisone  is\nstarted."))]  # fmt: skip
    raw.medec(tmp_path / "set/MEDEC-MS-TrainingSet-with-GroundTruth-and-ErrorType.csv", rows)
    flawed, valid, spaced = raw.imported(tmp_path / "set", "medec")
    assert flawed.evidence == "Prednisone is started."
    assert flawed.fix == "Amoxicillin is started."
    assert (flawed.critique, flawed.flaw_type, flawed.domain) == (None, "other", "medical")
    assert (valid.label, valid.fix) == ("valid", None)
    assert flawed.group == valid.group != spaced.group  # twins of one vignette
    assert [e.split for e in (flawed, valid, spaced)] == ["train", "train", "validation"]
    assert spaced.evidence == "Prednisone  is\nstarted."
    out = capsys.readouterr().out
    assert "| medec | train | 1 | 1 | 1 | 1 | 0 | 1 |" in out
    assert "\nmedec: flaw types: 2 treatment as other\n" in out


def test_medec_empty_rows_windows_lines_and_twice_encoded_text(tmp_path):
    twice = "It was 38 \u00c2\u00b0C, not 37 °C, \u00e2\u20ac\u0153so\u00e2\u20ac\u009d."
    rows = [raw.medec_row(Text=f"{raw.NOTE}{twice}\r\nPrednisone is started."),
            *({key: "" for key in raw.MEDEC_HEADER} for _ in range(30))]  # fmt: skip
    path = raw.medec(tmp_path / "set/medec-train.csv", rows, newline="\r\n")
    (note,) = raw.imported(path, "medec")
    assert note.rationale == (
        f"{raw.NOTE}It was 38 °C, not 37 °C, \u201cso\u201d.\nPrednisone is started."
    )
    assert not (tmp_path / "out/medec.raw.rejected.jsonl").exists()


def test_a_vignette_of_a_later_part_is_not_trained_on(tmp_path):
    raw.medec(tmp_path / "set/train.csv", [raw.medec_row()])
    raw.medec(tmp_path / "set/test.csv", [raw.sound_medec_row("ms-test-0")])
    (left,) = raw.imported(tmp_path / "set", "medec")
    assert (left.id, left.split) == ("medec/ms-test-0", "test")
    (row,) = raw.rejected(tmp_path / "out", "medec")
    assert "got one of the test part (medec/ms-train-0)" in row["reason"]


def test_a_stock_phrase_does_not_join_notes(tmp_path):
    stock = "He takes no drugs."
    notes = [f"A man has a cough {n}. It began {n} days ago. {stock}" for n in range(3)]
    rows = [raw.sound_medec_row(f"ms-train-{n}", Text=note) for n, note in enumerate(notes)]
    raw.medec(tmp_path / "set/medec.csv", rows)
    assert len({e.group for e in raw.imported(tmp_path / "set", "medec")}) == 3


def test_a_text_of_the_test_part_stays_there_alone(tmp_path):
    raw.medec(tmp_path / "set/a.csv", [raw.medec_row()])
    raw.medec(tmp_path / "set/b.csv", [raw.medec_row("ms-test-0")])
    assert [e.split for e in raw.imported(tmp_path / "set", "medec")] == ["test"]


@pytest.mark.parametrize(("changed", "expected"), [
    ({"Error Sentence": "Aspirin is started."}, "verbatim in the text, got 'Aspirin is started.'"),
    ({"Error Sentence ID": 9}, "Error Sentence ID from ['0'] to ['4'], got 9"),
    ({"Error Flag": 2}, "'Error Flag' as 0 or 1, got str '2'"),
    ({"Error Sentence": "NA"}, "an Error Sentence where Error Flag is 1, and only there, got None"),
    ({"Text ID": "ms-0"}, "train, val or test in Text ID or file name, got ms-0"),
    ({"Text": " "}, "'Text' as text, got str ' '"),
])  # fmt: skip
def test_medec_rows_that_contradict_themselves(tmp_path, changed, expected):
    rows = [raw.sound_medec_row(), raw.medec_row(**changed)]
    line, reason = raw.refused(raw.medec(tmp_path / "set/medec.csv", rows), "medec")
    assert line == 8  # the first note spans six lines
    assert expected in reason


def test_prmbench(tmp_path):
    rows = [raw.prmbench_row(), raw.numbered_prmbench_row(),
            raw.prmbench_row(classification="multi_solutions", error_steps=[]),
            raw.prmbench_row(classification="redundency", idx="redundency_made_p2_0",
                             original_process=["2 + 2 + 2 = 6."])]  # fmt: skip
    raw.write(tmp_path / "set/rows.jsonl", raw.lines(rows))
    original, confident, circular, second = raw.imported(tmp_path / "set", "prmbench")
    assert original.rationale.endswith(
        "Reasoning: Each pen is 2 dollars.\n3 * 2 = 6.\nSo 6 dollars."
    )
    assert (original.label, original.id) == ("valid", "prmbench/original/made_p1_0")
    assert confident.evidence == "3 * 2 = 8."
    assert confident.critique is None  # it would tell how the flaw was put in
    assert [e.flaw_type for e in (confident, circular)] == ["other", "circular_reasoning"]
    assert (second.label, second.id) == ("valid", "prmbench/original/made_p2_0")
    assert circular.rationale.endswith("Reasoning: Say it is 6.\n6 / 3 = 2.\nSo 6 it is.")
    assert len({e.group for e in (original, confident, circular)}) == 1
    counts = read_manifest(tmp_path / "out/prmbench.jsonl")["facts"]["left_out"]
    assert counts == {"rows": 4, "repeated": 1, "several right solutions": 1,
                      "redundant, not wrong": 1}  # fmt: skip
    reasons = [row["reason"] for row in raw.rejected(tmp_path / "out", "prmbench")]
    assert any("got redundant, not wrong" in reason for reason in reasons)


@pytest.mark.parametrize(("changed", "expected"), [
    ({"error_steps": [4]}, "error_steps from 1 to 3, got 4"),
    ({"error_steps": [0]}, "error_steps from 1 to 3, got 0"),
    ({"error_steps": []}, "as a list of whole numbers, got []"),
    ({"error_steps": ["2"]}, "as a list of whole numbers, got ['2']"),
    ({"modified_process": "3 * 2 = 8"}, "as a list of texts, got str '3 * 2 = 8'"),
])  # fmt: skip
def test_prmbench_rows_that_contradict_themselves(tmp_path, changed, expected):
    rows = [raw.prmbench_row(), raw.numbered_prmbench_row(**{"idx": "x", **changed})
            if "modified_process" not in changed else raw.prmbench_row(**changed)]  # fmt: skip
    path = raw.write(tmp_path / "set/rows.jsonl", raw.lines(rows))
    line, reason = raw.refused(path, "prmbench")
    assert line == 2
    assert expected in reason


def test_a_text_with_both_labels_goes_altogether(tmp_path):
    same = raw.prmbench_row()["original_process"]
    rows = [raw.prmbench_row(modified_process=same), raw.numbered_prmbench_row(idx="made_p2_0")]
    rows[1] |= {"original_question": "Another?", "modified_question": "Another?"}
    raw.write(tmp_path / "set/rows.jsonl", raw.lines(rows))
    assert {e.id.split("/")[-1] for e in raw.imported(tmp_path / "set", "prmbench")} == {
        "made_p2_0"
    }
    assert len(raw.rejected(tmp_path / "out", "prmbench")) == 2


def test_bbmistake(tmp_path):
    rows = [raw.bbmistake_row(), raw.bbmistake_row(input="b a", steps=["The answer is a b"],
                                                   mistake_index=None)]  # fmt: skip
    raw.write(tmp_path / "set/word_sorting.jsonl.gz", raw.lines(rows))
    flawed, valid = raw.imported(tmp_path / "set", "big-bench-mistake")
    assert flawed.evidence == "So fig < apple."
    assert flawed.rationale.startswith(
        "Context: Sort the words alphabetically.\nInput: pear apple fig\n\nReasoning: First"
    )
    assert (valid.label, valid.id) == ("valid", "big-bench-mistake/word_sorting/2")
    assert flawed.group != valid.group


@pytest.mark.parametrize(("steps", "index", "evidence"), [
    (["{ ; stack: {", "[ ; stack: { [", "] ; stack: {", "{ ; stack: {"], 3,
     "] ; stack: {\n{ ; stack: {"),
    (["} ; stack: [ {", "[ ; stack: [", "; stack: [ {", "end"], 2, "[ ; stack: [\n; stack: [ {"),
    (["a b", "a b", "c"], 0, "a b"),
])  # fmt: skip
def test_bbmistake_evidence_stands_at_the_wrong_step_alone(tmp_path, steps, index, evidence):
    row = raw.bbmistake_row(steps=steps, mistake_index=index)
    raw.write(tmp_path / "set/dyck_languages.jsonl", raw.lines([row]))
    (one,) = raw.imported(tmp_path / "set", "big-bench-mistake")
    assert one.evidence == evidence


def test_bbmistake_input_that_says_what_to_do_stands_alone(tmp_path):
    raw.write(tmp_path / "set/logical_deduction.jsonl", raw.lines([raw.bbmistake_row()]))
    (one,) = raw.imported(tmp_path / "set", "big-bench-mistake")
    assert one.rationale.startswith("Context: pear apple fig\n\nReasoning: First")


@pytest.mark.parametrize(("changed", "expected"), [
    ({"mistake_index": 3}, "mistake_index from 0 to 2, got 3"),
    ({"mistake_index": -1}, "mistake_index from 0 to 2, got -1"),
    ({"mistake_index": "1"}, "as a whole number, got str '1'"),
    ({"mistake_index": True}, "as a whole number, got bool True"),
    ({"steps": []}, "as a list of texts, got list []"),
])  # fmt: skip
def test_bbmistake_rows_that_contradict_themselves(tmp_path, changed, expected):
    rows = [raw.bbmistake_row(), raw.bbmistake_row(**changed)]
    path = raw.write(tmp_path / "set/word_sorting.jsonl", raw.lines(rows))
    line, reason = raw.refused(path, "big-bench-mistake")
    assert line == 2
    assert expected in reason


def test_bbmistake_needs_the_name_of_its_task(tmp_path):
    raw.write(tmp_path / "set/rows.jsonl", raw.lines([raw.bbmistake_row()]))
    with pytest.raises(ValueError, match=r"rows.jsonl:1: expected a file named after its task"):
        raw.imported(tmp_path / "set", "big-bench-mistake")


@pytest.mark.parametrize("as_lines", [True, False])
def test_processbench(tmp_path, as_lines):
    right = {"label": -1, "final_answer_correct": True, "steps": ["2 + 3 = 5.", "5 + 4 = 9."]}
    rows = [raw.processbench_row(), raw.processbench_row(id="gsm8k-8", **right)]
    raw.write(tmp_path / "set/gsm8k.json", raw.lines(rows) if as_lines else json.dumps(rows))
    flawed, valid = raw.imported(tmp_path / "set", "processbench")
    assert flawed.rationale == (
        "Context: What is 2 + 3 + 4?\n\nReasoning: 2 + 3 = 6.\n\n6 + 4 = 10."
    )
    assert (flawed.label, flawed.evidence) == ("flawed", "2 + 3 = 6.")
    assert (valid.label, valid.source) == ("valid", "processbench/gsm8k")
    assert flawed.group == valid.group


def test_stepverify(tmp_path):
    raw.write(tmp_path / "set/dataset.json", json.dumps([raw.stepverify_row()], indent=4))
    wrong, later = raw.imported(tmp_path / "set", "stepverify")
    assert wrong.rationale.endswith("Reasoning: Ann has 3 + 4 = 7 nuts. 7 - 2 = 5 are left.")
    assert (wrong.evidence, wrong.critique) == ("Ann has 3 + 4 = 7 nuts.", "Bags times nuts.")
    assert wrong.flaw_type == "calculation_error"
    assert later.rationale.endswith("Ann has 3 x 4 = 12 nuts. She eats 2, so 10 are left.")
    assert (later.label, later.group) == ("valid", wrong.group)


@pytest.mark.parametrize(("changed", "apart"), [
    ({"error_description": "there is no error, this is a correct solution"}, "with no error"),
    ({"error_description": "I don't think the student has made an error."}, "with no error"),
    ({"error_description": "James answered correctly."}, "with no error"),
    ({"incorrect_index": 2, "incorrect_step": " 5"}, "wrong in the answer line alone"),
    ({"student_correct_response": "So Ann had 315/8 = 27 nuts; 10 are left."}, "a false sum"),
    ({"student_correct_response": "They cost $35 + $5 = $165, so 10 are left."}, "a false sum"),
    ({"student_correct_response": "12 nuts less 2. So 9 are left."}, "without the answer"),
])  # fmt: skip
def test_stepverify_solutions_that_belie_their_label_are_set_apart(tmp_path, changed, apart):
    sound = raw.stepverify_row(problem="Another?")
    path = raw.write(tmp_path / "set/dataset.json", json.dumps([raw.stepverify_row(**changed),
                                                                sound], indent=4))  # fmt: skip
    _, reason = raw.refused(path, "stepverify", max_bad=0.0)
    assert apart in reason
    (count,) = (n for why, n in read_manifest(tmp_path / "out/stepverify.jsonl")["facts"][
        "left_out"].items() if apart in why)  # fmt: skip
    assert count == 1


@pytest.mark.parametrize("later", [
    "Student: She paid $100/3 = $33 or 2 + 3 * 4 = 14, 20% of 50 / 5 = 2, so 10 are left.",
    "It is $1 - $0.25 = 75 cents, 4.5 / 2 = 2.3, 12 - 2 = 10 nuts. Well done!",
])  # fmt: skip
def test_stepverify_rounded_and_longer_sums_are_not_false(tmp_path, later):
    row = raw.stepverify_row(student_correct_response=later)
    raw.write(tmp_path / "set/dataset.json", json.dumps([row]))
    valid = raw.imported(tmp_path / "set", "stepverify")[1]
    assert valid.rationale.endswith(f"Reasoning: {later.removeprefix('Student: ')}")


def test_rows_that_stand_on_one_line_have_ids_of_their_own(tmp_path):
    rows = [raw.stepverify_row(problem=f"Problem {n}.", student_correct_response=f"It is {n}.",
                               reference_solution=f" {n}")
            for n in range(3)]  # fmt: skip
    ids = []
    for folder, indent in (("published", 4), ("short", None)):
        path = raw.write(tmp_path / folder / "set/dataset.json", json.dumps(rows, indent=indent))
        ids.append([e.id for e in raw.imported(path.parent, "stepverify", max_bad=0.0)])
    assert ids[0][::2] == [f"stepverify/incorrect/{line}" for line in (2, 23, 44)]
    assert ids[1][::2] == [f"stepverify/incorrect/{mark}" for mark in ("1", "1.2", "1.3")]
    assert len({*ids[1]}) == 6
    raw.write(tmp_path / "set/word_sorting.json",
              json.dumps([raw.bbmistake_row(input=word) for word in ("b a", "d c")]))  # fmt: skip
    assert len(raw.imported(tmp_path / "set", "big-bench-mistake", max_bad=0.0)) == 2


@pytest.mark.parametrize(("changed", "expected"), [
    ({"incorrect_index": 3}, "incorrect_index from 0 to 2, got 3"),
    ({"incorrect_step": "Ann has 7."}, "incorrect_step to be step 0, got Ann has 7."),
])  # fmt: skip
def test_stepverify_rows_that_contradict_themselves(tmp_path, changed, expected):
    rows = [raw.stepverify_row(), raw.stepverify_row(**changed)]
    path = raw.write(tmp_path / "set/dataset.json", json.dumps(rows, indent=4))
    line, reason = raw.refused(path, "stepverify")
    assert line == 23
    assert expected in reason


def test_missci(tmp_path):
    raw.write(tmp_path / "set/dev.missci.jsonl", raw.lines([raw.missci_row()]))
    one, two = raw.imported(tmp_path / "set", "missci")
    assert one.rationale == ("A patient drank tea and got well. It was one case. "
                             "One patient is enough. Therefore: Tea cures colds.")  # fmt: skip
    assert (one.evidence, one.critique) == ("One patient is enough.", "One is too few.")
    assert (one.flaw_type, two.flaw_type) == ("small_sample", "other")
    assert (one.split, one.group) == ("validation", two.group)


def test_two_files_that_count_from_one_lose_nothing_without_a_word(tmp_path):
    told = {"label": "valid", "flaw_type": None, "severity": None, "evidence": None, "fix": None}
    for name in ("a", "b"):
        rows = [raw.example_row(id=str(n), rationale=f"Text {n} of {name}.", **told)
                for n in (1, 2)]  # fmt: skip
        raw.write(tmp_path / f"set/{name}.jsonl", raw.lines([*rows, rows[0] | {"id": "3"}]))
    found = raw.imported(tmp_path / "set", "example")
    assert [e.rationale for e in found] == ["Text 1 of a.", "Text 2 of a."]
    left = raw.rejected(tmp_path / "out", "example")
    assert [(row["file"], row["line"]) for row in left] == [("b.jsonl", 1), ("b.jsonl", 2)]
    assert all("expected each id once, got" in row["reason"] for row in left)
    with pytest.raises(ValueError, match="2 of 6 refused or of an id used before and 2 examples"):
        raw.run(tmp_path / "set", tmp_path / "out", max_bad=0.05)


def test_examples_under_older_names_are_known(tmp_path):
    row = raw.example_row()
    older = {"input": row["rationale"], "is_valid": False,
             **{k: v for k, v in row.items() if k not in ("rationale", "label")}}  # fmt: skip
    rows = [older, {**older, "id": "own/2", "is_valid": None, "flaw_type": None, "severity": None}]
    for kind in ("auto", "example"):
        raw.write(tmp_path / kind / "set/own.jsonl", raw.lines(rows))
        assert raw.imported(tmp_path / kind / "set", "example") == [Example.from_row(row)]
        (left,) = raw.rejected(tmp_path / kind / "out", "example")
        assert "got no label" in left["reason"]


def test_examples_keep_all_they_have(tmp_path):
    rows = [raw.example_row(), raw.example_row(id="own/2", label=None, flaw_type=None),
            raw.example_row(id="own/3", flaw_type="extrapolatoin")]  # fmt: skip
    raw.write(tmp_path / "set/own.jsonl.gz", raw.lines(rows))
    (one,) = raw.imported(tmp_path / "set", "example")
    assert one == Example.from_row(rows[0])
    unlabelled, mistyped = (row["reason"] for row in raw.rejected(tmp_path / "out", "example"))
    assert "got no label" in unlabelled
    assert "did you mean extrapolation, or other?" in mistyped
