"""Plots as inline SVG: no script, no network, colours from the page (so light and dark both work).

Coordinates are in a box 360 wide, about the width of a phone, so that text is readable there.
Classes: `tick`, `grid`, `area`, `fill`, `s0`..`s3` (series). `Markup.format` escapes all text.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 38, 12, 10, 34
ROW = 22  # height of a line of a dot plot
NAME_WIDTH, COUNT_WIDTH = 138, 40
MAX_NAME = 22
MAX_BINS = 30
LEAST_HIGH = 5.0  # of a histogram, so that its ticks are whole numbers

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A named curve; `color` is the number of its series class."""

    name: str
    points: Sequence[Point]
    color: int = 0


@dataclass(frozen=True)
class Dot:
    """A value in [0, 1] with its interval and the number of items behind it.

    `across` is the interval of its x, where that is a rate too.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    across: Point | None = None


@dataclass(frozen=True)
class Frame:
    """Maps data to the box; y grows upwards."""

    x: Point
    y: Point
    height: int

    def at(self, x: float, y: float) -> Point:
        """Position of a data point in the box."""
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            self.height - BOTTOM - up * (self.height - TOP - BOTTOM),
        )


def curves(
    lines: Sequence[Line], labels: tuple[str, str], *, top: float | None = None,
    dots: Sequence[tuple[Dot, int]] = (),
) -> Markup:  # fmt: skip
    """Lines over a common x axis; y from 0 to `top` (the largest value if None).

    Dots are those of `square`.
    """
    points = [p for line in lines for p in line.points]
    heights = [*(y for _, y in points), *(dot.high for dot, _ in dots)]
    highest = top or max(heights, default=1.0) * 1.05
    frame = Frame((min(x for x, _ in points), max(x for x, _ in points)), (0, highest), 240)
    drawn = (_curve(frame, line) for line in lines)
    marks = (_error_bar(frame, dot, color) for dot, color in dots)
    about = f"{labels[1] or 'values'} against {labels[0]}: " + ", ".join(x.name for x in lines)
    return _svg(240, [*_axes(frame, labels), *drawn, *marks], about)


def paths(lines: Sequence[Line], band: Sequence[Point], labels: tuple[str, str]) -> Markup:
    """Lines that may run below zero, over a shaded outline (none if empty)."""
    points = [*band, *(p for line in lines for p in line.points)]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    frame = Frame((min(xs), max(xs)), (min(0.0, *ys), max(0.0, *ys) or 1.0), 240)
    area = Markup('<polygon class="area s2" points="{}"/>')
    shaded = [area.format(_path(frame.at(*point) for point in band))] if band else []
    drawn = (_curve(frame, line) for line in lines)
    about = ", ".join(line.name for line in lines)
    return _svg(240, [*_axes(frame, labels), *shaded, *drawn], about)


def square(
    lines: Sequence[Line], labels: tuple[str, str], dots: Iterable[tuple[Dot, int]] = (), *,
    limits: Iterable[tuple[float, str]] = (),
) -> Markup:  # fmt: skip
    """Unit square with its diagonal; each dot's name is its x, its number its series class.

    Each limit is a line across at its x, with its name.
    """
    frame = Frame((0, 1), (0, 1), 330)
    diagonal = Markup('<polyline class="guide" points="{}"/>').format(
        _path([frame.at(0, 0), frame.at(1, 1)])
    )
    marks = (_error_bar(frame, dot, color) for dot, color in dots)
    drawn = (_curve(frame, line) for line in lines)
    bars = (_limit(frame, x, name) for x, name in limits)
    about = " against ".join(reversed(labels))
    return _svg(330, [*_axes(frame, labels), diagonal, *bars, *drawn, *marks], about)


def histogram(
    counts: Sequence[tuple[str, Mapping[int, int], int]], label: str, about: str
) -> Markup:
    """How often which whole number occurs, as outlines over bins of one width.

    Args:
        counts: name, how often each number occurs, series class; at least one of them not empty.
            What lies above the 99th percentile of all is left out.
        label: of the x axis.
        about: what the plot says, for those who cannot see it.
    """
    everything = sum((Counter(found) for _, found, _ in counts), Counter[int]())
    width = max(1, math.ceil((quantile(everything, 0.99) + 1) / MAX_BINS))
    bins = math.ceil((quantile(everything, 0.99) + 1) / width)
    steps = [(_steps(found, width, bins), color) for _, found, color in counts]
    highest = max(LEAST_HIGH, *(y * 1.05 for points, _ in steps for _, y in points))
    frame = Frame((0, width * bins), (0, highest), 170)
    area = Markup('<polygon class="area s{}" points="{}"/>')
    areas = [area.format(c, _path(frame.at(*point) for point in points)) for points, c in steps]
    lines = [_curve(frame, Line(name, points, color))
             for (name, _, _), (points, color) in zip(counts, steps, strict=True)]  # fmt: skip
    return _svg(170, [*_axes(frame, (label, "")), *areas, *lines], about)


def quantile(counts: Mapping[int, int], share: float) -> int:
    """The least number that at least this share of all reach or stay under; 0 if there is none."""
    wanted, seen = share * sum(counts.values()), 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= wanted:
            return number
    return 0


def _steps(counts: Mapping[int, int], width: int, bins: int) -> list[Point]:
    """The outline of a histogram, from the axis and back to it."""
    heights = [0.0] * bins
    for number, count in counts.items():
        if number < width * bins:
            heights[number // width] += count
    corners = [(width * (n + side), y) for n, y in enumerate(heights) for side in (0, 1)]
    return [(0.0, 0.0), *corners, (float(width * bins), 0.0)]


def dot_plot(dots: Sequence[Dot], title: str) -> Markup:
    """One line a slice: name, value with interval on [0, 1], n."""
    height = TOP + ROW * len(dots) + BOTTOM - 10
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _across(share)
        parts.append(_line("grid", (x, TOP), (x, height - 22)))
        parts.append(_text(f"{share:g}", (x, height - 8), "middle"))
    for number, dot in enumerate(dots):
        y = TOP + ROW * (number + 0.5)
        parts += [
            _text(_short(dot.name), (NAME_WIDTH - 8, y + 4), "end", hint=dot.name),
            _line("bar s0", (_across(dot.low), y), (_across(dot.high), y)),
            _circle((_across(dot.value), y), 0, f"{dot.value:.3f} [{dot.low:.3f}, {dot.high:.3f}]"),
            _text(str(dot.n), (WIDTH - 2, y + 4), "end"),
        ]
    return _svg(height, parts, title)


def bars(dots: Sequence[Dot], title: str) -> Markup:
    """One bar a name, as long as its count `n`, which stands at its end; `value` is not drawn."""
    height = TOP + ROW * len(dots) + 4
    most = max((dot.n for dot in dots), default=0) or 1
    area = Markup('<rect class="fill s0" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}"><title>'
                  "{}</title></rect>")  # fmt: skip
    parts = []
    for number, dot in enumerate(dots):
        y = TOP + ROW * number
        length = (_across(1) - _across(0)) * dot.n / most
        share = f"{dot.value:.3f} [{dot.low:.3f}, {dot.high:.3f}]"
        parts += [
            _text(_short(dot.name), (NAME_WIDTH - 8, y + ROW / 2 + 4), "end", hint=dot.name),
            area.format(_across(0), y + 3, length, ROW - 6, share),
            _text(str(dot.n), (_across(0) + length + 6, y + ROW / 2 + 4), "start"),
        ]
    return _svg(height, parts, title)


def _across(share: float) -> float:
    return NAME_WIDTH + share * (WIDTH - NAME_WIDTH - COUNT_WIDTH)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 3] + "..."


def _svg(height: int, parts: Iterable[Markup], title: str) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
                  ).format(WIDTH, height, title, title, Markup("").join(parts))  # fmt: skip


def _axes(frame: Frame, labels: tuple[str, str]) -> list[Markup]:
    """Grid, tick labels and the names of both axes."""
    parts = []
    for value in _ticks(*frame.y):
        left, right = frame.at(frame.x[0], value), frame.at(frame.x[1], value)
        parts += [
            _line("grid", left, right),
            _text(f"{value:g}", (LEFT - 6, left[1] + 4), "end"),
        ]
    for value in _ticks(*frame.x):
        x, y = frame.at(value, frame.y[0])
        parts.append(_text(f"{value:g}", (x, y + 14), "middle"))
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(_text(labels[0], (middle, frame.height - 4), "middle"))
    if labels[1]:
        turned = Markup('<text class="tick" transform="translate(10 {}) rotate(-90)" '
                        'text-anchor="middle">{}</text>')  # fmt: skip
        parts.append(turned.format(round(frame.height / 2 - 12), labels[1]))
    return parts


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most about `most` round numbers from low to high."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if span / (power * k) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _curve(frame: Frame, line: Line) -> Markup:
    places = [frame.at(x, y) for x, y in line.points]
    if len(places) == 1:
        return _circle(places[0], line.color, line.name)
    return Markup('<polyline class="line s{}" points="{}"><title>{}</title></polyline>').format(
        line.color, _path(places), line.name
    )


def _limit(frame: Frame, x: float, name: str) -> Markup:
    bottom, top = frame.at(x, 0), frame.at(x, 1)
    return _line("limit", bottom, top) + _text(name, (bottom[0] + 5, bottom[1] - 6), "start")


def _error_bar(frame: Frame, dot: Dot, color: int) -> Markup:
    x = float(dot.name)
    bar = _line(f"bar s{color}", frame.at(x, dot.low), frame.at(x, dot.high))
    if dot.across:
        left, right = (frame.at(end, dot.value) for end in dot.across)
        bar += _line(f"bar s{color}", left, right)
    return bar + _circle(frame.at(x, dot.value), color, f"{dot.value:.3f}, n={dot.n}")


def _path(places: Iterable[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _line(css: str, start: Point, end: Point) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        css, *start, *end
    )


def _circle(place: Point, color: int, hint: str) -> Markup:
    return Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>'
                  ).format(color, *place, hint)  # fmt: skip


def _text(text: str, place: Point, anchor: str, hint: str = "") -> Markup:
    title = Markup("<title>{}</title>").format(hint) if hint and hint != text else ""
    return Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}{}</text>').format(
        *place, anchor, escape(text), title
    )
