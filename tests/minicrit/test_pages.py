"""What the pages share: text that can do nothing and hides nothing, pieces, results read back."""

from pathlib import Path

import pytest

from minicrit.pages import pieces, read_results, render, visible
from minicrit.tables import escaped


def test_what_hides_is_shown_and_what_is_markup_is_text() -> None:
    assert visible("<b>&") == "&lt;b&gt;&amp;"
    assert visible("a\u202eb\n\tc") == 'a<span class="code">U+202E</span>b\n\tc'
    assert visible("é 数 👍") == "é 数 👍"
    assert visible("\x85\xad") == '<span class="code">U+0085</span><span class="code">U+00AD</span>'


def test_a_cell_of_markdown_is_read_as_it_is_written_unless_it_could_be_markup() -> None:
    assert escaped("FPR <= 8 %, n < 3") == "FPR <= 8 %, n < 3"
    assert escaped("<b>|&lt;</b> <!-- <?x") == "&lt;b>\\|&amp;lt;&lt;/b> &lt;!-- &lt;?x"


def test_pieces_are_cut_where_a_mark_begins_or_ends() -> None:
    assert pieces("abcd", {1, 2}, {2, 3}) == [
        ("a", (False, False)), ("b", (True, False)), ("c", (True, True)), ("d", (False, True)),
    ]  # fmt: skip
    assert pieces("", {1}) == []
    assert pieces("ab", set()) == [("ab", (False,))]


def test_a_template_of_another_folder_uses_the_frame(tmp_path: Path) -> None:
    (tmp_path / "x.html").write_text(
        '{% extends "page.html" %}{% block body %}{{ text }}{{ text|visible }}{% endblock %}'
    )
    page = render("x.html", tmp_path, title="t", text="<i>")
    assert "&lt;i&gt;&lt;i&gt;" in page
    assert "default-src 'none'" in page


def test_results_that_are_not_there_or_damaged(tmp_path: Path) -> None:
    assert read_results(tmp_path / "none.json") is None
    (tmp_path / "bad.json").write_text("[")
    with pytest.raises(ValueError, match=r"bad\.json: expected JSON.*make it again"):
        read_results(tmp_path / "bad.json")
