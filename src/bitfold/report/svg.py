"""Line charts as inline SVG.

Our own 100 lines instead of a plotting library: a page with plotly inlined weighs over 4 MB and shows nothing until its script has
run; these charts are a few kB, need no script, print well and take their colours from the page's style sheet (light and dark).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 250  # user units; small, so that the text stays readable on a phone
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 38
MARKERS_UP_TO = 40  # points on a line; more would run together


@dataclass(frozen=True)
class Line:
    """``style``: 0, 1, 2 ... picks the colour and dash of the style sheet."""

    name: str
    style: int
    points: Sequence[tuple[float, float]]


def line_chart(lines: Sequence[Line], title: str, x_label: str, y_label: str, y_from_zero: bool = False) -> str:
    """An ``<svg>`` with axes, grid, one path per line, a tooltip per point and ``title`` for screen readers."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    if not xs:
        raise ValueError(f"line_chart {title!r}: no points")
    x_ticks = ticks(min(xs), max(xs), 6, whole=True)
    y_ticks = ticks(min(0.0, *ys) if y_from_zero else min(ys), max(ys), 5)
    place = Scale((min(xs), max(xs)), (y_ticks[0], y_ticks[-1]))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" class="chart">']
    parts += axes(place, x_ticks, y_ticks, x_label, y_label)
    for line in lines:
        parts += _drawn(line, place)
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class Scale:
    """Where values lie in a picture of ``size`` (width, height) with ``margins`` (left, right, top, bottom); ``log``: both axes."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    size: tuple[int, int] = (WIDTH, HEIGHT)
    margins: tuple[int, int, int, int] = (LEFT, RIGHT, TOP, BOTTOM)
    log: bool = False

    def x(self, value: float) -> float:
        left, right, _, _ = self.margins
        return round(left + (self.size[0] - left - right) * self._share(value, self.x_range), 1)

    def y(self, value: float) -> float:
        _, _, top, bottom = self.margins
        return round(self.size[1] - bottom - (self.size[1] - top - bottom) * self._share(value, self.y_range), 1)

    def _share(self, value: float, span: tuple[float, float]) -> float:
        low, high = span
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return 0.5 if high == low else (value - low) / (high - low)


def axes(place: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str, columns: bool = False) -> list[str]:
    """Grid lines (``columns``: upright ones too), figures and names of both axes."""
    (width, height), (left, right, top, bottom) = place.size, place.margins
    parts = []
    for y in y_ticks:
        at = place.y(y)
        parts.append(f'<path class="grid" d="M{left} {at}H{width - right}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{at + 4}" text-anchor="end">{number(y)}</text>')
    for x in x_ticks:
        if columns:
            parts.append(f'<path class="grid" d="M{place.x(x)} {top}V{height - bottom}"/>')
        parts.append(f'<text class="tick" x="{place.x(x)}" y="{height - bottom + 16}" text-anchor="middle">{number(x)}</text>')
    parts.append(f'<text class="label" x="{(left + width - right) / 2}" y="{height - 5}" text-anchor="middle">{escape(x_label)}</text>')
    middle = (top + height - bottom) / 2
    parts.append(
        f'<text class="label" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'  # reads upwards
    )
    return parts


def _drawn(line: Line, place: Scale) -> list[str]:
    path = "L".join(f"{place.x(x)} {place.y(y)}" for x, y in line.points)
    parts = [f'<path class="line s{line.style}" d="M{path}"/>']
    if len(line.points) <= MARKERS_UP_TO:
        for x, y in line.points:
            label = f"{line.name}: {number(y)} at {number(x)}"
            parts.append(
                f'<circle class="dot s{line.style}" cx="{place.x(x)}" cy="{place.y(y)}" r="2.6"><title>{escape(label)}</title></circle>'
            )
    return parts


def ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Round numbers at equal steps. ``whole``: inside [low, high] and at least 1 apart; else enclosing it."""
    span = high - low if high > low else max(abs(high) * 0.2, 1.0 if whole else 1e-6)
    raw = span / max(about - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
        first, last = math.ceil(low / step), math.floor(high / step)
    else:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        last = max(last, first + 1)
    return [i * step for i in range(first, last + 1)]


def number(value: float) -> str:
    return f"{value:.4g}"
