"""Rows in the published layout of every public set, written for these tests; importing them."""

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_gen.importing import import_sets
from minicrit.config import Recipe
from minicrit.data_config import ImportConfig
from minicrit.records import Example, read_examples

MEDEC_HEADER = ("Text ID", "Text", "Sentences", "Error Flag", "Error Type", "Error Sentence ID",
                "Error Sentence", "Corrected Sentence", "Corrected Text")  # fmt: skip
NOTE = ("A 30-year-old cook has had a burning stomach for two weeks. He takes ibuprofen every day. "
        "A breath test for Helicobacter is positive. ")  # fmt: skip


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def mr_ben_row(model: str = "A-1", **more: Any) -> dict[str, Any]:
    return {
        "Question_UUID": "0a-1", "Subject": "college_biology",
        "Question": "Which of these makes most of a cell's ATP?",
        "Options": "A: ribosome \nB: mitochondrion ", "Ground_Truth_Analysis": "",
        "Ground_Truth_Answer": "B", "Ground_Truth_Answer_Modified": "B", "Sampled_Model": model,
        "Model_Solution_Steps": ["Step 1: ATP is made where sugar is burnt.", "",
                                 "Step 2: Ribosomes burn sugar.", "", "Solution: Choice_A"],
        "Model_Solution_Correctness": "incorrect", "Model_Solution_First_Error_Step": "2",
        "Model_Solution_Error_Reason": ["Ribosomes build proteins.\n", "They burn nothing."],
        "Model_Solution_Rectified_First_Error_Step": ["Step 2: Mitochondria burn sugar.\n", "-"],
        **more,
    }  # fmt: skip


def sound_mr_ben_row(**more: Any) -> dict[str, Any]:
    return mr_ben_row(**{
        "model": "B-2", "Model_Solution_Correctness": "correct",
        "Model_Solution_Steps": ["Step 1: Mitochondria burn sugar.", "Solution: Choice_B"],
        "Model_Solution_First_Error_Step": "N/A", "Model_Solution_Error_Reason": "N/A",
        "Model_Solution_Rectified_First_Error_Step": "N/A", **more,
    })  # fmt: skip


def coding_row(**more: Any) -> dict[str, Any]:
    row = mr_ben_row(**{
        "Subject": "coding", "Question": "Write a function that doubles n.",
        "Model_Solution_Steps": "def double(n):\n    # add one\n    return n + 1\n",
        "Model_Solution_First_Error_Step": "    # add one",
        "Model_Solution_Error_Reason": "Adding one does not double.",
        "Model_Solution_Rectified_First_Error_Step": "    # add n to itself", **more,
    })  # fmt: skip
    return {k: v for k, v in row.items() if k not in ("Options", "Ground_Truth_Answer_Modified")}


def mr_ben(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    return write(path, json.dumps({"0a-1": list(rows)}, indent=2))


def medec_row(name: str = "ms-train-0", **more: Any) -> dict[str, Any]:
    wrong = "Prednisone is started."
    return {
        "Text ID": name, "Text": f"{NOTE}{wrong}", "Error Flag": 1, "Error Type": "treatment",
        "Sentences": f"0 A 30-year-old\n1 cook has ...\n2 He\n3 A breath test\n4 {wrong}\n",
        "Error Sentence ID": 4, "Error Sentence": wrong,
        "Corrected Sentence": "Amoxicillin is started.", "Corrected Text": "...", **more,
    }  # fmt: skip


def sound_medec_row(name: str = "ms-train-1", **more: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("Error Type", "Error Sentence", "Corrected Sentence"), "NA")
    return medec_row(**{"name": name, "Text": f"{NOTE}Amoxicillin is started after that. ",
                        "Error Flag": 0, "Error Sentence ID": -1, **nothing, **more})  # fmt: skip


def medec(path: Path, rows: Sequence[dict[str, Any]], newline: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, MEDEC_HEADER, lineterminator=newline)
        out.writeheader()
        out.writerows(rows)
    return path


def prmbench_row(**more: Any) -> dict[str, Any]:
    question = "A pen costs 2 dollars. What do 3 pens cost?"
    return {
        "original_question": question, "modified_question": question, "question": question,
        "original_process": ["Each pen is 2 dollars.", "3 * 2 = 6.", "So 6 dollars."],
        "modified_process": ["Each pen is 2 dollars.", "3 * 2 = 8.", "So 8 dollars."],
        "modified_steps": [2, 3], "error_steps": [3, 2], "idx": "made_p1_0",
        "reason": "In step 2 the product was altered.", "classification": "confidence", **more,
    }  # fmt: skip


def numbered_prmbench_row(**more: Any) -> dict[str, Any]:
    row = prmbench_row(**{"idx": "circular_made_p1_0", "classification": "circular",
                          "modified_process": ["Say it is 6.", "6 / 3 = 2.", "So 6 it is."],
                          "error_steps": [1], **more})  # fmt: skip
    for key in ("original_process", "modified_process"):
        row[key] = [f"{n}. {step}" for n, step in enumerate(row[key], 1)]
    return row


def bbmistake_row(**more: Any) -> dict[str, Any]:
    return {"input": "pear apple fig", "steps": ["First letters: p, a, f.", "So fig < apple.",
            "The answer is fig apple pear"], "target": "apple fig pear",
            "answer": "fig apple pear", "mistake_index": 1, **more}  # fmt: skip


def processbench_row(**more: Any) -> dict[str, Any]:
    return {"id": "gsm8k-7", "generator": "a-model", "problem": "What is 2 + 3 + 4?",
            "steps": ["2 + 3 = 6.", "6 + 4 = 10."], "final_answer_correct": False, "label": 0,
            **more}  # fmt: skip


def stepverify_row(**more: Any) -> dict[str, Any]:
    return {
        "problem": "Ann has 3 bags of 4 nuts and eats 2. How many are left?", "topic": "Nuts",
        "reference_solution": "3 * 4 = 12\n12 - 2 = 10\n 10",
        "student_incorrect_solution": ["Ann has 3 + 4 = 7 nuts.", "7 - 2 = 5 are left. ", " 5"],
        "incorrect_index": 0, "incorrect_step": "Ann has 3 + 4 = 7 nuts.",
        "error_category": "Unit conversion error", "error_description": "Bags times nuts.",
        "dialog_history": [{"text": "hi", "user": "Teacher"}],
        "student_correct_response": "Ann has 3 x 4 = 12 nuts.\nShe eats 2, so 10 are left.", **more,
    }  # fmt: skip


def missci_row(**more: Any) -> dict[str, Any]:
    one = {"premise": "One patient is enough.", "class": "Hasty Generalization", "id": "a-1:1:1"}
    two = {"premise": "Teas are all alike.", "class": "False Equivalence", "id": "a-1:1:2"}
    fallacies = [{"consolidation_comment": "One is too few.", "fallacy_context": "It was one case.",
                  "id": "a-1:1", "interchangeable_fallacies": [one, two]}]  # fmt: skip
    return {"id": "a-1", "meta": {}, "study": {"url": ""},
            "argument": {"claim": "Tea cures colds.", "hidden_premises": [],
                         "accurate_premise_p0": {"premise": "A patient drank tea and got well."},
                         "fallacies": fallacies}, **more}  # fmt: skip


def example_row(**more: Any) -> dict[str, Any]:
    return {"id": "own/1", "domain": "trading", "rationale": "It rose, so it will rise.",
            "label": "flawed", "flaw_type": "extrapolation", "severity": "high", "group": "own-1",
            "source": "own", "split": "train", **more}  # fmt: skip


def run(source: Path, out: Path, **more: Any) -> None:
    import_sets(Recipe(imports=ImportConfig(source=source, out=out, **{"max_bad": 0.9, **more})))


def imported(source: Path, kind: str, **more: Any) -> list[Example]:
    out = (source if source.is_dir() else source.parent).parent / "out"
    run(source, out, **more)
    return read_examples(out / f"{kind}.jsonl").examples


def rejected(out: Path, kind: str) -> list[dict[str, Any]]:
    text = (out / f"{kind}.raw.rejected.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def refused(source: Path, kind: str, **more: Any) -> tuple[int, str]:
    """Line and reason of the only rejected row; all others are taken."""
    imported(source, kind, **more)
    (row,) = rejected(source.parent.parent / "out", kind)
    assert row["file"] == source.name
    return row["line"], row["reason"]
