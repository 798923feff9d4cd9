"""Nearest training texts, against sklearn's own TF-IDF over everything at once."""

# mypy: disable-error-code="import-untyped"
import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfTransformer

from minicrit import neighbours
from minicrit.neighbours import Neighbour, nearest, taught_otherwise
from minicrit.records import Example, write_examples

WORDS = [
    "river",
    "bank",
    "flood",
    "gate",
    "sample",
    "trial",
    "rate",
    "price",
    "risk",
    "trend",
    "map",
    "crew",
]


def example(number: int, text: str, label: str = "valid", split: str = "train") -> Example:
    flaw = {"flaw_type": "small_sample"} if label == "flawed" else {}
    return Example(id=f"t{number}", domain="general", rationale=text, label=label, group="g",
                   source="s", split=split, **flaw)  # fmt: skip


@pytest.fixture
def training(tmp_path):
    draw = np.random.default_rng(0).choice
    rows = [example(n, " ".join(draw(WORDS, 12)), ("valid", "flawed")[n % 2]) for n in range(50)]
    write_examples(tmp_path / "train.jsonl", rows)
    return tmp_path / "train.jsonl", rows


def test_the_same_as_over_everything_at_once(training, monkeypatch):
    path, rows = training
    monkeypatch.setattr(neighbours, "_BLOCK", 7)  # 50 rows in blocks of 7
    asked = ["river flood gate", "price trend of the crew", rows[13].rationale]
    found, count = nearest(asked, [path], 4)
    counts = neighbours._HASHES.transform([e.rationale for e in rows])
    known = TfidfTransformer(sublinear_tf=True).fit(counts)
    cosine = known.transform(neighbours._HASHES.transform(asked)) @ known.transform(counts).T
    for row, near in zip(cosine.toarray(), found, strict=True):
        assert [n.similarity for n in near] == pytest.approx(np.sort(row)[::-1][:4], abs=1e-6)
        assert [rows[int(n.id[1:])].rationale for n in near] == [n.rationale for n in near]
    assert count == 50
    assert (found[2][0].id, found[2][0].similarity) == ("t13", 1.0)
    assert (found[2][0].label, found[2][0].flaw_type) == ("flawed", "small_sample")


def test_what_is_not_for_training_is_no_neighbour(tmp_path):
    write_examples(
        tmp_path / "a.jsonl", [example(1, "river bank"), example(2, "river", split="test")]
    )
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write(json.dumps({"id": "x"}) + "\nno json\n")
    found, count = nearest(["river"], [tmp_path], 5)
    assert ([n.id for n in found[0]], count) == (["t1"], 1)
    assert nearest(["river"], [], 5) == ([[]], 0)
    assert nearest([], [tmp_path], 5) == ([], 1)


def test_rows_of_ones_own_are_of_the_split_of_their_file_and_under_todays_names(tmp_path):
    """An item was its own nearest training row, and what was trained on under an old name none."""
    row = {"id": "a", "domain": "general"}
    for name, said in (("mine", {"input": "river bank", "is_valid": False}),
                       ("test", {"rationale": "river", "label": "valid"})):  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({**row, **said}) + "\n")
    found, count = nearest(["river"], [tmp_path], 5)
    assert ([(n.rationale, n.label) for n in found[0]], count) == ([("river bank", "flawed")], 1)


def test_taught_otherwise_if_all_of_them_say_so():
    item = example(0, "x", "valid")
    near = [Neighbour(0.9, "a", label, None, "x") for label in ("flawed", "flawed", "valid")]
    assert taught_otherwise(item, near[:2])
    assert not taught_otherwise(item, near)
    assert not taught_otherwise(item, [])
