"""Plots: data to places, ticks, escaping."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from minicrit.plots import (
    Dot,
    Frame,
    Line,
    _steps,
    _ticks,
    bars,
    curves,
    dot_plot,
    histogram,
    quantile,
    square,
)


def test_corners_of_the_frame() -> None:
    """In a box 330 high: left 38, right 12, top 10, bottom 34."""
    frame = Frame((0, 1), (0, 1), 330)
    assert frame.at(0, 0) == (38, 296)
    assert frame.at(1, 1) == (348, 10)


def test_one_step_is_drawn_as_a_dot() -> None:
    """A single validation has no line; the axis has no span."""
    assert "<circle" in curves([Line("f1", [(50, 0.5)])], ("steps", ""), top=1)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    """At most six, whatever the range."""
    ticks = _ticks(low, low + span)
    assert len(ticks) <= 6
    assert all(low - 1e-6 * span - 1e-9 <= x <= low + span * (1 + 1e-6) + 1e-9 for x in ticks)


@pytest.mark.parametrize("name", ["<script>x</script>", '"><b>', "a & b", "x" * 60])
def test_names_are_text(name: str) -> None:
    """Every plot stays well-formed, with the name as text in it."""
    plots = (
        bars([Dot(name, 0.5, 0.2, 0.7, 12), Dot("none", 0.0, 0.0, 0.1, 0)], name),
        dot_plot([Dot(name, 0.5, 0.2, 0.7, 12)], name),
        curves([Line(name, [(0, 0), (1, 1)])], (name, name)),
        square([Line(name, [(0, 0), (1, 1)])], (name, name), [(Dot("0.5", 0.5, 0.4, 0.6, 3), 0)]),
        histogram([(name, {3: 2, 90: 1}, 0), ("none", {}, 1)], name, name),
    )
    for plot in plots:
        texts = "".join(ET.fromstring(plot).itertext())
        assert name in texts
        assert str(escape(name)) in plot


def test_quantiles_and_outlines_by_hand() -> None:
    """Ten numbers, of which half are at most 2; bins of width 2, what lies beyond is left out."""
    counts = {1: 3, 2: 2, 5: 4, 40: 1}
    assert [quantile(counts, share) for share in (0.5, 0.51, 0.9, 1.0)] == [2, 5, 5, 40]
    assert quantile({}, 0.5) == 0
    assert _steps(counts, 2, 3) == [
        (0, 0), (0, 3), (2, 3), (2, 2), (4, 2), (4, 4), (6, 4), (6, 0),
    ]  # fmt: skip


def test_bars_are_as_long_as_their_counts() -> None:
    """From 138 on, 182 for the largest; a count of nothing has no length."""
    plot = ET.fromstring(bars([Dot("a", 0.5, 0, 1, 8), Dot("b", 0.25, 0, 1, 4),
                               Dot("c", 0, 0, 1, 0)], "about"))  # fmt: skip
    rects = [(float(r.attrib["x"]), float(r.attrib["width"])) for r in plot.iter("rect")]
    assert rects == [(138, 182), (138, 91), (138, 0)]
    assert [t.text for t in plot.iter("text")] == ["a", "8", "b", "4", "c", "0"]
    assert "rect" not in bars([], "about")
