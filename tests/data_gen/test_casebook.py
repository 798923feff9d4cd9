"""The casebook: squares whose halves fit or do not, drawn in many wordings."""

from collections import Counter
from dataclasses import replace

import pytest
import yaml

from data_gen.casebook import VALIDATION, casebook, drawn_cases, read_cases
from data_gen.stage import make_data
from minicrit.config import Recipe
from minicrit.data_config import DataConfig
from minicrit.measures import family_of
from minicrit.records import read_examples

CASE = {
    "id": "swans", "domain": "general", "kind": "subtle_flaw",
    "text": "<Look|See here>: {evidence} <It rained.|It was dry.> {claim}",
    "evidence": {"a": "All swans of the pond <are|were> counted.", "b": "Two swans were counted."},
    "claim": {"a": "So we know them all.", "b": "So we know only two."},
    "flawed": {
        "ba": {"flaw": "small_sample", "severity": "high", "evidence": "claim",
               "critique": "Two are <few|not many>.", "fix": "Count on."},
        "ab": {"flaw": "dismissed_evidence", "severity": "low", "evidence": "only two",
               "critique": "All were counted.", "fix": "Say so."},
    },
    "sound": {"aa": {"strengths": "full count", "critique": "All were seen."},
              "bb": {"strengths": "modest", "critique": "It claims two."}},
}  # fmt: skip


def written(tmp_path, *cases):
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(list(cases)))
    return tmp_path


def test_a_square_by_hand(tmp_path):
    (case,) = read_cases(written(tmp_path, CASE))
    aa, ab, ba, bb = case.draw("0", 0)
    assert [e.label for e in (aa, ab, ba, bb)] == ["valid", "flawed", "flawed", "valid"]
    assert (ba.flaw_type, ba.severity, ba.evidence) == (
        "small_sample", "high", "So we know them all.")  # fmt: skip
    assert (ab.flaw_type, ab.evidence) == ("dismissed_evidence", "only two")
    assert aa.strengths == "full count"
    assert {e.group for e in (aa, ab, ba, bb)} == {"casebook/swans/0"}
    assert family_of(aa) == "casebook/swans"
    head = aa.rationale[: aa.rationale.index("All swans")]
    assert head in ("Look: ", "See here: ")
    assert all(e.rationale.startswith(head) for e in (ab, ba, bb))  # one wording for all four
    assert (
        ba.rationale
        == head
        + "Two swans were counted. "
        + ("It rained." if "rained" in aa.rationale else "It was dry.")
        + " So we know them all."
    )


def test_draws_differ_until_the_wordings_are_used_up(tmp_path):
    (case,) = read_cases(written(tmp_path, CASE))
    texts = drawn_cases(1000, 0, case.split, [case])
    # two openings, two weathers; two tenses more would repeat the texts with evidence b
    assert len(texts) == len({e.rationale for e in texts}) == 4 * 4
    assert drawn_cases(1000, 0, case.split, [case]) == texts
    assert [len(drawn_cases(n, 0, case.split, [case])) for n in (0, 1, 4, 5)] == [0, 4, 4, 8]
    other = "validation" if case.split == "train" else "train"
    assert drawn_cases(10, 0, other, [case]) == []


def test_cases_come_about_equally_often_and_keep_their_split(tmp_path):
    cases = read_cases(written(tmp_path, *({**CASE, "id": f"c{n}"} for n in range(60))))
    cases = [replace(c, text=f"{c.id}: {c.text}") for c in cases]
    texts = drawn_cases(400, 1, "train", cases)
    counts = Counter(family_of(e) for e in texts)
    assert max(counts.values()) - min(counts.values()) <= 4
    assert {e.split for e in texts} == {"train"}
    held = {c.id for c in cases if c.split == "validation"}
    assert 0 < len(held) < 60 / VALIDATION * 3
    assert held.isdisjoint(name.removeprefix("casebook/") for name in counts)


def changed(**fields):
    return {**CASE, **fields}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (changed(text="{evidence} alone"), r"expected {claim} once in the text, got it 0 times"),
        (changed(evidence={"a": "x"}), r"expected evidence with \['a', 'b'\], got \['a'\]"),
        (changed(claim={"a": "x", "b": ""}), "expected text in b, got ''"),
        (changed(claim={"a": {"x": None}, "b": "y"}), "expected text in a, got {'x': None}"),
        (changed(text={"evidence": None}), "expected text in text, got {'evidence': None}"),
        (changed(evidence="x"), r"expected evidence with \['a', 'b'\], got str"),
        (changed(flawed={"ab": "x", "ba": CASE["flawed"]["ba"]}), "a flawed text with .* got str"),
        (changed(flawed={"ab": None, "ba": {**CASE["flawed"]["ba"], "flaw": {}}}),
         "expected text in flaw, got {}"),
        (changed(flawed={"ab": None, "ba": None}), "expected a flawed text, got none"),
        (changed(flawed={"ab": None, "ba": {**CASE["flawed"]["ba"], "flaw": "bad_luck"}}),
         "expected a flaw and a severity of the taxonomy, got bad_luck"),
        (changed(flawed={"ab": None, "ba": {**CASE["flawed"]["ba"], "evidence": "nowhere"}}),
         "one.yaml: case 1 .swans.: "),
        (changed(text="<Look {evidence} {claim}"), "expected no open brackets, got '<'"),
        (changed(evidence={"a": "same", "b": "same"}), "expected different texts, got one twice"),
        ({k: v for k, v in CASE.items() if k != "kind"}, "expected a case with"),
        (changed(kind="odd"), "kind"),
        (changed(kind="suspicious_valid"),
         "expected the kind of the flawed texts, got suspicious_valid"),
    ],
)  # fmt: skip
def test_bad_cases_are_named(tmp_path, case, message):
    with pytest.raises(ValueError, match=message):
        read_cases(written(tmp_path, case))


def test_bad_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="expected each id once, got swans again"):
        read_cases(written(tmp_path, CASE, CASE))
    (tmp_path / "one.yaml").write_text("a: b")
    with pytest.raises(ValueError, match=r"one.yaml: expected a list of cases"):
        read_cases(tmp_path)
    (tmp_path / "one.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"one.yaml: expected YAML"):
        read_cases(tmp_path)


def test_shipped_cases_hold_both_labels_alike():
    cases = casebook()
    texts = drawn_cases(10**6, 0, "validation")
    assert texts
    labels = Counter(e.label for case in cases for e in case.draw("0", 0))
    by_kind = {(e.label, e.kind) for case in cases for e in case.draw("0", 0)}
    of_valid = {kind for label, kind in by_kind if label == "valid"}
    assert of_valid.isdisjoint(kind for label, kind in by_kind if label == "flawed")
    assert 0.4 < labels["flawed"] / labels.total() <= 0.5


def test_stage_mixes_them_in_and_keeps_some_apart(tmp_path):
    data = DataConfig(folder=tmp_path / "data", train=40, validation=4, calibration=4, test=4,
                      casebook=0.5)  # fmt: skip
    make_data(Recipe(data=data))
    rows = read_examples(data.folder / "train.jsonl").examples
    held = read_examples(data.folder / "validation-casebook.jsonl").examples
    cases = {family_of(e) for e in rows if e.source.startswith("casebook/")}
    assert 20 <= sum(e.source.startswith("casebook/") for e in rows) <= 24
    assert cases.isdisjoint(map(family_of, held))
