"""Strict YAML: each trap of YAML 1.1 gives the right value or an error with file and line."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicrit.strictyaml import Setting, read_settings, scalar_of


def read(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return read_settings(path)


@pytest.mark.parametrize(("text", "value"), [
    ("1e-5", 1e-5), ("1.0e-5", 1e-5), ("2E4", 2e4), (".5", 0.5), ("5.", 5.0), ("0.1", 0.1),
    ("0", 0), ("-3", -3), ("+3", 3), ("true", True), ("false", False), ("null", None), ("~", None),
    ("", None), ("no", "no"), ("yes", "yes"), ("off", "off"), ("010", "010"), ("01.5", "01.5"),
    ("12:30:00", "12:30:00"), ("0x10", "0x10"), ("1_000", "1_000"), ("2001-01-01", "2001-01-01"),
    (".nan", ".nan"), ("nan", "nan"), (".inf", ".inf"), ("1e999", "1e999"), ("True", "True"),
    ("9" * 5000, "9" * 5000), ("1.2.3", "1.2.3"), ("e5", "e5"), (".", "."), ("-", "-"),
])  # fmt: skip
def test_what_a_word_means(text, value):
    found = scalar_of(text)
    assert found == value
    assert type(found) is type(value)


@given(st.integers(min_value=-(10**200), max_value=10**200))
def test_integers_survive(number):
    assert scalar_of(str(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive(number):
    found = scalar_of(repr(number))
    assert isinstance(found, float)
    assert found == number
    assert math.copysign(1, found) == math.copysign(1, number)


def test_dotted_keys_with_lines(tmp_path):
    found = read(tmp_path, "# what\nseed: 3\nsft:\n  epochs: 2\n\n  clip: '1'\nlora: {rank: 4}\n")
    assert found == {
        "seed": Setting(3, 2), "sft": Setting(None, 3), "sft.epochs": Setting(2, 4),
        "sft.clip": Setting("1", 6), "lora": Setting(None, 7), "lora.rank": Setting(4, 7),
    }  # fmt: skip


def test_lists_of_values(tmp_path):
    found = read(tmp_path, "a: [x, 1e-5, 'no']\nb:\n  - 1\n  - null\nc: []\n")
    assert {key: setting.value for key, setting in found.items()} == {
        "a": ["x", 1e-5, "no"], "b": [1, None], "c": [],
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"x.yaml:1: expected one value for a, got a list"):
        read(tmp_path, "a: [[1]]\n")


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_says_nothing(tmp_path, text):
    if text == "---\n":
        with pytest.raises(ValueError, match="expected keys with values"):
            read(tmp_path, text)
    else:
        assert read(tmp_path, text) == {}


@pytest.mark.parametrize(("text", "line", "expected"), [
    ("a: 1\na: 2\n", 2, "expected each key once, got a again after line 1; keep one"),
    ("s:\n  a: 1\ns:\n  b: 2\n", 3, "expected each key once, got s again after line 1"),
    ("s: {a: 1}\ns.a: 2\n", 2, "expected each key once, got s.a again"),
    ("a: &x 1\nb: *x\n", 2, "got an alias"),
    ("s: !!python/object/apply:os.system [touch evil]\n", 1, "the tag tag:yaml.org,2002:python"),
    ("s:\n  a: !!python/name:os.system ''\n", 2, "the tag tag:yaml.org,2002:python"),
    ("a: !!int 010\n", 1, "the tag tag:yaml.org,2002:int"),
    ("s:\n- a: 1\n", 2, "expected one value for s, got keys with values; write"),
    ("- 1\n", 1, "expected keys with values, got a list"),
    ("just words\n", 1, "expected keys with values, got 'just words'"),
    ("s:\n\ta: 1\n", 2, "expected YAML, got found character"),
    ("a: 1\n---\nb: 2\n", 2, "expected YAML"),
    ("a: 'x\n", 2, "expected YAML"),
    ("? [a, b]\n: 1\n", 1, "expected a name before the colon, got a list"),
])  # fmt: skip
def test_refusals_name_file_and_line(tmp_path, monkeypatch, text, line, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"x.yaml:{line}: .*{re.escape(expected)[:60]}"):
        read(tmp_path, text)
    assert not (tmp_path / "evil").exists()


def test_an_alias_bomb_stays_small(tmp_path):
    levels = "".join(f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}\n" for i in range(1, 40))
    with pytest.raises(ValueError, match=r"x\.yaml:2: .*an alias"):
        read(tmp_path, "a0: &a0 1\n" + levels)


def test_levels_without_end_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"x.yaml: expected YAML of few levels"):
        read(tmp_path, "[" * 5000)


def test_other_bytes_are_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(ValueError, match="expected YAML in UTF-8"):
        read_settings(path)
