"""Examples and preference pairs: every rule broken once, and files with bad lines."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicrit.comparisons import read_preferences
from minicrit.jsonl import write_rows
from minicrit.records import (
    Example,
    Preference,
    read_examples,
    read_folder,
    write_examples,
)
from minicrit.taxonomy import DOMAINS, FLAW_TYPES, KINDS, PUBLIC_NAMES, flaw_type_of

FLAWED = {
    "id": "a",
    "domain": "trading",
    "rationale": "It held 3 of 3 times. So it always holds. Buy.",
    "label": "flawed",
    "flaw_type": "small_sample",
    "severity": "medium",
    "evidence": "So it always holds.",
    "critique": "Three cases.",
    "fix": "Count more.",
    "kind": "subtle_flaw",
    "group": "g",
    "source": "s",
    "split": "train",
}
VALID = {
    **FLAWED,
    "id": "b",
    "label": "valid",
    "flaw_type": None,
    "severity": None,
    "evidence": None,
    "fix": None,
}
PAIR = {
    "domain": "medical",
    "rationale": "r",
    "chosen": "Verdict: flawed",
    "rejected": "Verdict: valid",
    "chosen_score": 0.75,
    "rejected_score": 0.5,
    "margin": 0.25,
    "scorer": "s",
    "group": "g",
}


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in names}


def write(path: Path, *rows: dict[str, Any] | str) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("row", [FLAWED, VALID], ids=["flawed", "valid"])
def test_a_row_comes_back_as_it_was(row: dict[str, Any]) -> None:
    assert Example.from_row(row).to_row() == row
    more = {**VALID, "strengths": "Counts enough.", "licence": "MIT"}
    assert Example.from_row(more).to_row() == more


BROKEN = {
    "label": ("wrong", "label of valid, flawed, got wrong; take one of them$"),
    "domain": ("medicine", "domain of .*, got medicine; did you mean medical"),
    "kind": ("plane", "kind of .*, got plane; did you mean plain"),
    "split": ("dev", "split of train, validation, calibration, test, got dev; take one of them$"),
    "flaw_type": ("small_sampel", "flaw_type of .*, got .*; did you mean small_sample, or other"),
    "severity": ("mild", "severity of low, medium, high, critical, got mild"),
    "rationale": (" \n", r"rationale with something in it, got ' \\n'; fill it in"),
    "id": (7, "id as text, got int 7; write it as text, in quotes$"),
    "group": (True, "group as text, got bool True"),
    "source": (None, "source as text, got nothing; fill it in"),
    "critique": (["x"], r"critique as text, got list \['x'\]; write it as text"),
    "fix": ("", "fix with something in it, got ''; write null"),
    "evidence": ("So it never holds.", "evidence verbatim in the rationale, got 'So it never"),
    "strengths": ("Good.", "no strengths on a flawed row, got Good[.]; make it null"),
    "flaw_typ": ("x", "known keys .*got flaw_typ; did you mean flaw_type[?]"),
    "input": ("x", r"rationale once, got it under an older name too \(input\)"),
    "is_valid": (True, "label, is_valid and data_type to agree, got flawed and valid"),
    "data_type": ("x", "kind once, got it under an older name too"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_rule_is_named(name: str) -> None:
    value, message = BROKEN[name]
    with pytest.raises(ValueError, match=f"^expected {message}"):
        Example.from_row({**FLAWED, name: value})


@pytest.mark.parametrize(("label", "message"), [
    (True, "label of valid, flawed, got True; take one of them"),
    (1, "label of valid, flawed, got 1; take one of them"),
    ("FLAWED", "label of valid, flawed, got FLAWED; did you mean flawed[?]"),
    ("", "label with something in it, got ''; fill it in"),
])  # fmt: skip
def test_a_label_of_another_system_is_told_the_words(label: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^expected {message}$"):
        Example.from_row({**FLAWED, "label": label})


def test_evidence_in_another_form_of_unicode_is_called_that() -> None:
    """It looks the same: to copy the span again would change nothing that anybody sees."""
    for text, span in (("It fa\u0308llt. Buy.", "f\u00e4llt"), ("It f\u00e4llt.", "fa\u0308llt")):
        with pytest.raises(ValueError, match=r"verbatim .*; write both in one form of Unicode"):
            Example.from_row({**FLAWED, "rationale": text, "evidence": span})


@pytest.mark.parametrize("name", ["flaw_type", "severity", "fix"])
def test_a_valid_row_names_no_flaw(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected no {name} on a valid row"):
        Example.from_row({**VALID, name: FLAWED[name]})


@pytest.mark.parametrize("name", ["id", "domain", "rationale"])
def test_what_must_be_there(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected {name} as text, got nothing"):
        Example.from_row(without({**FLAWED, "evidence": None, "group": "g"}, name))


def test_what_may_be_missing() -> None:
    row = without(FLAWED, "group", "kind", "split", "source", "fix", "severity")
    example = Example.from_row(row, source="file")
    assert (example.group, example.kind, example.split) == ("file/a", "plain", "train")
    assert (example.source, example.fix, example.severity) == ("file", None, None)


def test_several_spans_must_each_occur() -> None:
    two = "It held 3 of 3 times.\n[...]\nBuy."
    assert Example.from_row({**FLAWED, "evidence": two}).evidence == two
    for wrong in ("Buy.\n[...]\nSell.", "Buy.\n[...]\n", "Buy. [...] It held"):
        with pytest.raises(ValueError, match=r"evidence verbatim .*; copy the span"):
            Example.from_row({**FLAWED, "evidence": wrong})
    literal = "a\n[...]\nb"  # a rationale that quotes with an omission mark of its own
    assert Example.from_row({**FLAWED, "rationale": literal, "evidence": literal})


def test_public_names_of_flaws_are_mapped() -> None:
    names = {"Hasty Generalization": "small_sample", "blackwhite": "false_dichotomy"}
    names |= {"Non-medical factual error": "factual_error", "unmet goal": "other"}
    names |= dict.fromkeys(("confidence", "counterfactual", "step_contradiction"), "other")
    for name, ours in names.items():
        assert Example.from_row({**FLAWED, "flaw_type": name}).flaw_type == ours
    assert set(PUBLIC_NAMES.values()) <= FLAW_TYPES.keys()
    assert all(flaw_type_of(name) == ours for name, ours in PUBLIC_NAMES.items())
    assert all(flaw_type_of(name.upper()) == name for name in FLAW_TYPES)


def test_upstreams_older_names() -> None:
    old = {"id": "1", "domain": "general", "input": "r", "expected_critique": "c"}
    flawed = Example.from_row({**old, "is_valid": False, "data_type": "subtle_flaw"})
    assert (flawed.rationale, flawed.critique) == ("r", "c")
    assert (flawed.label, flawed.kind) == ("flawed", "subtle_flaw")
    hard = Example.from_row({**old, "data_type": "hard_negative"})
    assert (hard.label, hard.kind) == ("valid", "suspicious_valid")
    with pytest.raises(ValueError, match="to agree, got flawed and valid"):
        Example.from_row({**old, "data_type": "hard_negative", "is_valid": False})
    with pytest.raises(ValueError, match="is_valid true, false or null, got 'no'"):
        Example.from_row({**old, "is_valid": "no"})


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)


@given(TEXT, st.sampled_from(DOMAINS), st.sampled_from(KINDS), st.sampled_from([None, "MIT"]))
def test_any_example_survives_its_row(text: str, domain: str, kind: str, licence: str) -> None:
    row = {**VALID, "rationale": text, "domain": domain, "kind": kind}
    example = Example.from_row({**row, "licence": licence})
    assert Example.from_row(example.to_row()) == example
    assert ("licence" in example.to_row()) == (licence is not None)


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_written_examples_are_read_back(tmp_path: Path, name: str) -> None:
    examples = [Example.from_row(FLAWED), Example.from_row(VALID)]
    assert write_examples(tmp_path / name, examples) == 2
    reading = read_examples(tmp_path / name)
    assert (reading.examples, reading.bad, reading.unlabelled) == (examples, 0, 0)
    assert reading.path == tmp_path / name
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    good = Example.from_row(FLAWED)
    bad = Example(**{**FLAWED, "id": "c", "severity": "mild"})
    with pytest.raises(ValueError, match=r"x\.jsonl:2: expected severity of"):
        write_examples(tmp_path / "x.jsonl", [good, bad])
    with pytest.raises(ValueError, match=r"x\.jsonl:2: expected each id once, got a"):
        write_examples(tmp_path / "x.jsonl", [good, good])
    assert list(tmp_path.iterdir()) == []


def test_bad_lines_are_set_aside_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [FLAWED, '{"id": "\x1b"}', "{", *({**VALID, "id": str(i), "kind": "x"} for i in range(4))]
    rows: list[Any] = [FLAWED, VALID, *bad, {**VALID, "id": "u", "label": None}]
    path = write(tmp_path / "x.jsonl", *rows)
    with caplog.at_level(logging.WARNING):
        reading = read_examples(path, max_bad=0.7)
    assert ([e.id for e in reading.examples], reading.bad, reading.unlabelled) == (
        ["a", "b"],
        7,
        1,
    )
    assert len(caplog.messages) == 7
    assert caplog.messages[0] == (
        f"{path}:3: expected each id once, got a; give every row its own id"
    )
    assert caplog.messages[-2:] == [
        f"{path}: 7 bad lines of 10 set aside in {tmp_path / 'x.rejected.jsonl'}",
        f"{path}: left out, as their label is null: 1 rows",
    ]
    rejected = [
        json.loads(line) for line in (tmp_path / "x.rejected.jsonl").read_text().splitlines()
    ]
    assert [row["line"] for row in rejected] == [3, 4, 5, 6, 7, 8, 9]
    assert json.loads(rejected[0]["raw"]) == FLAWED
    assert rejected[1]["raw"] == '{"id": "\\x1b"}'
    assert rejected[2]["reason"].startswith("expected JSON, got ")


def test_a_leftover_of_an_earlier_reading_is_removed(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", FLAWED, "{")
    read_examples(path, max_bad=0.5)
    assert (tmp_path / "x.rejected.jsonl").exists()
    write(path, FLAWED)
    read_examples(path)
    assert not (tmp_path / "x.rejected.jsonl").exists()


def test_a_file_of_that_name_that_holds_something_else_stays(tmp_path: Path) -> None:
    other = write(tmp_path / "x.rejected.jsonl", {"order": 7})
    read_examples(write(tmp_path / "x.jsonl", FLAWED))
    assert other.read_text() == '{"order": 7}\n'
    path = write(tmp_path / "x.jsonl", FLAWED, "{")
    with pytest.raises(ValueError, match=r"x.rejected.jsonl: expected no file, .* move it away"):
        read_examples(path, max_bad=0.5)
    assert other.read_text() == '{"order": 7}\n'


@pytest.mark.parametrize(("name", "split"), [
    ("test", "test"), ("test-public", "test"), ("dev", "validation"), ("Validation", "validation"),
    ("calibration", "calibration"), ("desk", "train"), ("train", "train"), ("tests", "train"),
    ("desk_test", "test"), ("test_2024", "test"), ("x.val", "validation"), ("train-test", "train"),
])  # fmt: skip
def test_a_row_without_a_split_is_of_that_of_its_file(
    tmp_path: Path, name: str, split: str
) -> None:
    told = {**FLAWED, "id": "told", "split": "calibration"}
    bare = {k: v for k, v in FLAWED.items() if k != "split"}
    found = read_examples(write(tmp_path / f"{name}.jsonl", bare, told)).examples
    assert [e.split for e in found] == [split, "calibration"]


def test_bad_lines_can_go_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", FLAWED, "{")
    read_examples(path, max_bad=0.5, rejects=tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder" / "x.rejected.jsonl").exists()
    assert not (tmp_path / "x.rejected.jsonl").exists()


def test_nowhere_to_put_bad_lines_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", FLAWED, "{")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"folder for refused lines, got .*; pass another folder"):
        read_examples(path, max_bad=0.5, rejects=tmp_path / "file")


def test_the_share_of_bad_lines_is_bounded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**VALID, "id": str(i)} for i in range(99)]
    path = write(tmp_path / "x.jsonl", *rows, "{")
    assert read_examples(path).bad == 1  # 1 of 100 is not more than 0.01
    write(path, *rows[:98], "{")
    with pytest.raises(
        ValueError, match=r"at most 1\.00% bad lines, got 1 bad lines of 99; mend them, all are in"
    ) as e:
        read_examples(path)
    assert f"\n{path}:99: expected JSON" in str(e.value)
    assert len(caplog.messages) == 2  # of the reading that went well: what the error says, it alone
    assert (tmp_path / "x.rejected.jsonl").exists()


@pytest.mark.parametrize("rows", [[], [{**VALID, "label": None}]], ids=["empty", "unlabelled"])
def test_nothing_good_is_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = write(tmp_path / "x.jsonl", *rows)
    with pytest.raises(
        ValueError, match=r"x\.jsonl: expected at least one labelled example, got 0"
    ):
        read_examples(path, max_bad=1.0)


def test_the_source_defaults_to_the_stem(tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl.gz", [without(FLAWED, "source")])
    assert read_examples(tmp_path / "mine.jsonl.gz").examples[0].source == "mine"


def test_a_folder_is_read_in_order_without_refused_lines(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", FLAWED)
    write_rows(tmp_path / "a.jsonl.gz", [VALID])
    for name in ("a.rejected.jsonl", ".a.jsonl", "notes.txt"):
        write(tmp_path / name, "{")
    assert [r.path.name for r in read_folder(tmp_path)] == ["a.jsonl.gz", "b.jsonl"]
    write(tmp_path / "a.jsonl", VALID)
    with pytest.raises(ValueError, match="expected it plain or zipped, got both; remove"):
        read_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    for name, got in (("empty", "none; check the path"), ("a.jsonl", "a file; name its folder")):
        with pytest.raises(ValueError, match=rf"a folder of \.jsonl or .* files, got {got}"):
            read_folder(tmp_path / name)


def test_all_files_of_a_folder_that_are_refused_are_named_at_once(tmp_path: Path) -> None:
    """Mending one, and reading an hour of data again, told of the next."""
    write(tmp_path / "a.jsonl", VALID, "{")
    write(tmp_path / "b.jsonl", FLAWED)
    write(tmp_path / "c.jsonl")
    with pytest.raises(ValueError, match="bad lines") as error:
        read_folder(tmp_path, max_bad=0.1)
    said = str(error.value).splitlines()
    assert [line.partition(": expected ")[0] for line in said] == [
        f"{tmp_path}/a.jsonl", f"{tmp_path}/a.jsonl:2", f"{tmp_path}/c.jsonl"]  # fmt: skip
    assert (tmp_path / "a.rejected.jsonl").exists()


def test_all_wrong_keys_of_a_preference_are_named_at_once() -> None:
    row = {"id": 3, "chosn": "x", **{k: v for k, v in PAIR.items() if k not in ("chosen", "group")}}
    with pytest.raises(ValueError, match="known keys") as error:
        Preference.from_row({**row, "margin": "0.25", "rejected_score": None})
    keys = (
        "domain, rationale, chosen, rejected, chosen_score, rejected_score, margin, scorer, group"
    )
    said = [
        f"expected known keys ({keys}), got id, chosn; id: leave it out, chosn: did you mean "
        "chosen?",
        "expected chosen as text, got nothing; fill it in",
        "expected rejected_score as a finite number, got nothing; fill it in",
        "expected margin as a finite number, got '0.25'; write it without quotes",
        "expected group as text, got nothing; fill it in",
    ]
    assert str(error.value).splitlines() == said


def test_every_fault_of_a_pair_is_said_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(
        json.dumps({**PAIR, "margin": None, "scorer": 5, "group": "g" * 90, "chosen": []}) + "\n"
    )
    with pytest.raises(ValueError, match="scorer") as error:
        read_preferences(tmp_path / "pairs.jsonl")
    where = f"{tmp_path}/pairs.jsonl:1: expected"
    assert str(error.value).splitlines() == [
        f"{where} chosen as text, got list []; write it as text, in quotes",
        f"{where} margin as a finite number, got nothing; fill it in",
        f"{where} scorer as text, got int 5; write it as text, in quotes",
    ]


def test_a_preference_comes_back_as_it_was() -> None:
    pair = Preference.from_row({**PAIR, "margin": 0.2500001})
    assert pair.to_row() == {**PAIR, "margin": 0.2500001}
    assert Preference.from_row({**PAIR, "chosen_score": 1, "margin": 0.5}).chosen_score == 1.0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("margin", 0.26, "margin 0.25, got 0.26; chosen minus rejected score"),
        ("rejected", PAIR["chosen"], "two different critiques, got the same text twice; drop"),
        ("margin", True, "margin as a finite number, got True"),
        ("chosen_score", "1", "chosen_score as a finite number, got '1'"),
        ("rejected_score", float("nan"), "rejected_score as a finite number, got nan"),
        ("chosen", " ", "chosen with something in it"),
        ("chosen", "Fine.", "chosen that begins with its verdict, got 'Fine.'; leave the pair out"),
        ("rejected", "Verdict: no", "rejected that begins with its verdict, got 'Verdict: no'"),
        ("scorer", None, "scorer as text, got nothing"),
        ("domain", "art", "domain of "),
        ("prompt", "x", "known keys .*, got prompt; leave it out$"),
        ("domain", "incident-response", "domain of .*, got incident-response; take one of them$"),
    ],
)
def test_a_broken_preference_is_named(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^expected {message}"):
        Preference.from_row({**PAIR, name: value})
