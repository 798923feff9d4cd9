"""Strict CSV: what is read, and what each refusal says."""

import gzip
from pathlib import Path

import pytest

from minicrit.tabular import inert, table_rows, write_table


def rows(tmp_path: Path, text: str | bytes) -> list[tuple[int, dict[str, str]]]:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(table_rows(path, ("a", "b"), ("c",)))


def test_rows_carry_the_line_they_begin_on(tmp_path: Path) -> None:
    text = 'b,a\n1, x \n"two\nlines",y\n,,\n\n3,"say ""hi"", you"\n'.replace(",,\n", ",\n")
    assert rows(tmp_path, text) == [
        (2, {"b": "1", "a": "x"}),
        (3, {"b": "two\nlines", "a": "y"}),
        (7, {"b": "3", "a": 'say "hi", you'}),
    ]


def test_lines_of_a_cell_end_as_they_do_elsewhere(tmp_path: Path) -> None:
    """As in a record, which would refuse a carriage return; one alone ends no line."""
    text = b'a,b\r\n1,"one\r\ntwo\n\r\nthree\r\n"\r\n'
    assert rows(tmp_path, text) == [(2, {"a": "1", "b": "one\ntwo\n\nthree"})]
    with pytest.raises(ValueError, match=r"t.csv:2: b: expected text with no control characters"):
        rows(tmp_path, b'a,b\n1,"one\rtwo"\n')


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert rows(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n") == [(2, {"a": "1", "b": "2"})]
    assert rows(tmp_path, b'\xef\xbb\xbf"a","b"\n1,2\n') == [(2, {"a": "1", "b": "2"})]


def test_a_table_that_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    cells = [("1,2", 'quote "', None), ("a\nb", "é", 0.1)]
    write_table(tmp_path / "t.csv", ("a", "b", "c"), cells)
    path.write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    found = [row for _, row in table_rows(path, ("a", "b"), ("c",))]
    assert found == [{"a": "1,2", "b": 'quote "', "c": ""}, {"a": "a\nb", "b": "é", "c": "0.1"}]


@pytest.mark.parametrize(("text", "message"), [
    ("", ":1: expected a header with every column once, got none"),
    ("a,b,a\n", ":1: expected a header with every column once, got a name twice"),
    ("a,b,a \n", ":1: expected a header with every column once, got a name twice"),
    ("a,b,cc\n", "got a, b, cc; cc: did you mean c? else remove it"),
    ("a,b,c,unlike\n", "got a, b, c, unlike; unlike: remove it"),
    ("a,c\n", ":1: expected columns a, b, and perhaps c, got a, c; b: it is missing, add it"),
    ("unlike,other\n", "unlike: rename or remove it; other: rename or remove it; "
                       "a: it is missing, add it; b: it is missing, add it"),
    ("a,b\n1,2\n1,2,3\n", ":3: expected 2 columns, got 3; put quotes"),
    ('a,b\n1,"2\n', ": expected a CSV row"),
    ("a,b,,\n", "got a name twice (an empty one); put the published header back, or name each"),
    ("a,b,\n", "a column without a name: remove it"),
    ("a;b\n1;0,5\n", ":1: expected columns separated by commas, got semicolons; save the table"),
    ("sep=;\na;b\n1;2\n", ":1: expected columns separated by commas, got semicolons"),
    ("a\tb\n1\t2\n", ":1: expected columns separated by commas, got tabs"),
    (b"a,b\n1,\xfcber\n", ":2: expected UTF-8, got byte 0xfc; save or convert the table"),
    ("a,b\n1,2\n".encode("utf-16"), ":1: expected UTF-8, got byte 0xff; save or convert"),
    ("a,b\n1,2\n".encode("utf-16-le"), ":1: expected UTF-8, got byte 0x00; save or convert"),
    (b"PK\3\4\x14\0\6\0\x08\0\0\0!\0", ":1: expected UTF-8, got byte 0x00; save or convert"),
    (b"a,b\n1,\x1b[2J\n", ":2: b: expected text with no control characters"),
])  # fmt: skip
def test_what_is_not_such_a_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"t.csv") as error:
        rows(tmp_path, text)
    assert message in str(error.value)


def test_a_missing_file_and_a_broken_archive_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a file, got none; check the path"):
        list(table_rows(tmp_path / "none.csv", ("a",)))
    (tmp_path / "t.csv.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"expected a whole gzip file"):
        list(table_rows(tmp_path / "t.csv.gz", ("a",)))


def test_what_a_spreadsheet_would_compute_stays_text() -> None:
    for text in ('=HYPERLINK("http://x")', "@SUM(1)", "+1", "-1 % is little", "\tx", "\r=1"):
        assert inert(text) == f"'{text}"
    assert [inert(cell) for cell in ("a = b", "", -0.5, None)] == ["a = b", "", -0.5, None]
