r"""The strict reader: one case for each thing that the standard parser lets through."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicrit.jsonl import (
    LINE_CAP,
    MAX_DEPTH,
    BadLine,
    parse_object,
    read_lines,
    readable,
    shown,
    write_rows,
)

REFUSED = {
    b'{"a": NaN}': "finite number, got NaN",
    b'{"a": [-Infinity]}': "finite number, got -Infinity",
    b'{"a": 1e999}': "finite number, got 1e999",
    b'{"a": 1, "a": 2}': "each key once, got 'a' twice",
    b'{"b": {"a": 1, "a": 1}}': "each key once",
    b'{"a": "\\ud800"}': "lone surrogate U[+]D800",
    b'{"\\udc00": 1}': "lone surrogate U[+]DC00",
    b'{"a": "\xed\xa0\x80"}': "expected UTF-8, got byte 0xed at 7",
    b'{"a": "\\u0000"}': "control character U[+]0000",
    b'{"a": ["\\u001b[2J"]}': "control character U[+]001B",
    b'{"a": "\\r"}': "control character U[+]000D",
    b'{"a": "\x7f"}': "control character U[+]007F",
    b'{"a": "\x00"}': "expected JSON",
    b'{"a": "\xff"}': "expected UTF-8, got byte 0xff at 7; convert",
    b'\xef\xbb\xbf{"a": 1}': "byte order mark",
    b'[{"a": 1}]': "expected an object, got list",
    b'"a"': "expected an object, got str",
    b"null": "expected an object, got NoneType",
    b'{"a": ' + b"9" * 5000 + b"}": "at most 300 digits, got 5000 digits",
    b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}": "levels of objects and arrays",
    b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}": "levels of objects and arrays",
    b'{"a": "cut off': "expected JSON, got Unterminated string.*whole",
    b"a: 1": "expected JSON, got Expecting value.*begin it with",
    b'{"a": 1} {"b": 2}': "expected JSON, got Extra data",
    b'{"a": "' + b"x" * LINE_CAP + b'"}': f"at most {LINE_CAP} bytes a line, got a longer line",
}


def objects(path: Path) -> list[dict[str, Any]]:
    return [line[1] for line in read_lines(path) if not isinstance(line, BadLine)]


@pytest.mark.parametrize(("raw", "message"), REFUSED.items(), ids=range(len(REFUSED)))
def test_refused_with_its_line_and_the_rest_is_read(
    tmp_path: Path, raw: bytes, message: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"first": 1}\n' + raw + b'\n{"last": 3}\n')
    first, bad, last = read_lines(path)
    assert (first, last) == ((1, {"first": 1}), (3, {"last": 3}))
    assert isinstance(bad, BadLine)
    assert bad.raw == raw[: LINE_CAP + 1]
    with pytest.raises(ValueError, match=message):
        raise ValueError(str(bad))
    assert str(bad).startswith(f"{path}:2: expected ")


@pytest.mark.parametrize("raw", [r for r in REFUSED if len(r) < LINE_CAP], ids=lambda r: r[:12])
def test_a_document_is_as_strict_as_a_line(raw: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_object(raw)


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    row = {"a": "one\u2028two\x85three\tfour\nfive \U0001f600 e\u0301"}
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert list(read_lines(path)) == [(1, row)]


def test_empty_lines_windows_ends_and_a_missing_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\n{"a": 1}\r\n \r\n{"b": "\\ud83d\\ude00"}')
    assert list(read_lines(path)) == [(2, {"a": 1}), (4, {"b": "\U0001f600"})]


def test_a_cut_off_last_line_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": ')
    good, bad = read_lines(path)
    assert good == (1, {"a": 1})
    assert isinstance(bad, BadLine)
    assert bad.line == 2


def test_the_longest_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    raw = b'{"a": "' + b"x" * (LINE_CAP - 9) + b'"}'
    assert len(raw) == LINE_CAP
    for end in (b"\n", b"", b'\n{"b": 1}\n'):
        path.write_bytes(raw + end)
        assert not any(isinstance(line, BadLine) for line in read_lines(path))
    path.write_bytes(b" " + raw + b"\n")
    assert [type(line) for line in read_lines(path)] == [BadLine]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").touch()
    assert list(read_lines(tmp_path / "x.jsonl")) == []


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.jsonl.gz", ""])
def test_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="expected a file, got none; check the path"):
        list(read_lines(tmp_path / name))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    whole = gzip.compress(b'{"a": 1}\n' * 1000)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"x\.jsonl\.gz:\d+: expected a whole gzip file, got .*;"):
        list(read_lines(path))
    path.write_bytes(b'{"a": 1}\n')
    with pytest.raises(ValueError, match=r"gz:1: expected a whole gzip file"):
        list(read_lines(path))


def test_memory_stays_flat_when_a_small_archive_unpacks_to_one_long_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(32):
            file.write(b"x" * LINE_CAP)
    tracemalloc.start()
    assert [type(line) for line in read_lines(path)] == [BadLine]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * LINE_CAP


def test_a_message_cannot_steer_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[2J.jsonl"
    path.write_text('{"a": "\u202e\x1b[2J' + "\u202e" * 200 + '"}\n', encoding="utf-8")
    (bad,) = read_lines(path)
    text = str(bad)
    assert text.isprintable()
    assert "\\x1b[2J.jsonl:1: expected" in text
    assert len(text.partition("got ")[2].partition("; ")[0]) <= 80


def test_shown_keeps_letters_and_cuts() -> None:
    assert shown("Z\u00fcrich\n\u202e") == "Z\u00fcrich\\n\\u202e"
    assert shown("x" * 81) == "x" * 77 + "..."
    assert shown("x" * 80) == "x" * 80


def test_only_what_no_record_may_hold_is_shown_as_unreadable(tmp_path: Path) -> None:
    """A quotation of damaged text is still found in it word for word."""
    text = "".join(map(chr, (*range(32), *range(126, 161))))
    found = readable(text)
    kept = "\t\n~" + "".join(map(chr, range(128, 161)))
    assert found.replace("\ufffd", "") == kept
    assert found.count("\ufffd") == 31
    write_rows(tmp_path / "r.jsonl", [{"text": found}])
    assert objects(tmp_path / "r.jsonl") == [{"text": found}]
    assert shown("\x80\x9b\x9f") == "\\x80\\x9b\\x9f"


def test_a_refused_line_can_be_written_and_read(tmp_path: Path) -> None:
    for raw in (b"\xff\x00\x1b\t" * 300_000, b'"' * LINE_CAP):
        bad = BadLine(tmp_path, 7, "JSON", "\x1b", "mend it", raw)
        write_rows(tmp_path / "r.jsonl", [bad.to_row()])
        (row,) = objects(tmp_path / "r.jsonl")
        assert row["line"] == 7
        assert row["reason"] == "expected JSON, got \\x1b; mend it"
    assert BadLine(tmp_path, 1, "", "", "", b"\xff\x00a\t").to_row()["raw"] == "\\xff\\x00a\t"


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_written_rows_are_read_back_and_are_the_same_bytes(tmp_path: Path, name: str) -> None:
    rows: list[dict[str, Any]] = [{"b": "\u00e9\u2028", "a": None}, {"c": [1, 2.5, True]}]
    assert write_rows(tmp_path / name, iter(rows)) == 2
    assert objects(tmp_path / name) == rows
    before = (tmp_path / name).read_bytes()
    write_rows(tmp_path / name, rows)
    assert (tmp_path / name).read_bytes() == before
    if name.endswith("l"):
        assert before.startswith('{"b": "\u00e9'.encode())


@pytest.mark.parametrize("value", [float("nan"), "\ud800", "\x00", {1}, "x" * LINE_CAP, 10**400])
@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_what_could_not_be_read_is_not_written(tmp_path: Path, name: str, value: object) -> None:
    write_rows(tmp_path / name, [{"old": 1}])
    with pytest.raises(ValueError, match=rf"{name}:2: cannot be written"):
        write_rows(tmp_path / name, [{"a": 1}, {"a": value}])
    assert list(read_lines(tmp_path / name)) == [(1, {"old": 1})]
    assert len(list(tmp_path.iterdir())) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], min_codepoint=0x20).filter("\x7f".__ne__)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), JSON))
def test_any_decent_object_survives(row: dict[str, object]) -> None:
    assert parse_object(json.dumps(row).encode()) == row
    assert parse_object(json.dumps(row, ensure_ascii=False).encode()) == row


@given(st.binary(max_size=60))
def test_any_bytes_give_an_object_or_a_refusal(raw: bytes) -> None:
    message = ""
    try:
        parse_object(raw)
    except ValueError as error:
        message = str(error)
    assert message.isprintable()
