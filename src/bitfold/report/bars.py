"""Horizontal bars with the spread of their seeds, as inline SVG: one line a row of a study.

Values that are compared from zero (gains) are bars. Others (accuracies) are dots on an axis that need not begin at zero: the length of
a bar would lie there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bitfold.report.svg import number, ticks

WIDTH = 500  # user units
RIGHT, TOP, BOTTOM = 100, 6, 38  # on the right the figures after the longest bar
LETTER = 6.7  # mean width of a name's letters at the style sheet's 12 units
STEP = 22  # from row to row


@dataclass(frozen=True)
class Bar:
    """``values``: one a seed; the bar or dot stands at their mean, the whisker spans one standard deviation to either side."""

    name: str
    mean: float
    std: float | None
    values: tuple[float, ...]
    words: str
    style: int = 0


def bar_chart(bars: Sequence[Bar], title: str, x_label: str, from_zero: bool) -> str:
    """An ``<svg>``: bars ``from_zero``, else dots."""
    ends = [v for bar in bars for v in (*bar.values, bar.mean - (bar.std or 0.0), bar.mean + (bar.std or 0.0))]
    if not ends:
        raise ValueError(f"bar_chart {title!r}: no bars")
    zero = [0.0] if from_zero else []
    marks = ticks(min(zero + ends), max(zero + ends), 6)
    place = _Axis(marks[0], marks[-1], left=round(16 + LETTER * max(len(bar.name) for bar in bars)))
    height = TOP + STEP * len(bars) + BOTTOM
    bottom = height - BOTTOM
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" class="chart bars">']
    for mark in marks:
        parts.append(f'<path class="grid" d="M{place.x(mark)} {TOP}V{bottom}"/>')
        parts.append(f'<text class="tick" x="{place.x(mark)}" y="{bottom + 16}" text-anchor="middle">{number(mark)}</text>')
    parts.append(
        f'<text class="label" x="{(place.left + WIDTH - RIGHT) / 2}" y="{height - 5}" text-anchor="middle">{escape(x_label)}</text>'
    )
    for i, bar in enumerate(bars):
        parts += _drawn(bar, TOP + STEP * i + STEP // 2, place, from_zero)
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    left: int

    def x(self, value: float) -> float:
        return round(self.left + (WIDTH - self.left - RIGHT) * (value - self.low) / (self.high - self.low), 1)


def _drawn(bar: Bar, y: int, place: _Axis, from_zero: bool) -> list[str]:
    end = place.x(bar.mean)
    parts = [f'<text class="name" x="{place.left - 8}" y="{y + 4}" text-anchor="end">{escape(bar.name)}</text>']
    label = f"<title>{escape(f'{bar.name}: {bar.words}')}</title>"
    if from_zero:
        left, width = min(place.x(0.0), end), round(abs(end - place.x(0.0)), 1)
        parts.append(f'<rect class="fill s{bar.style}" x="{left}" y="{y - 7}" width="{width}" height="14">{label}</rect>')
    after = max(end, place.x(0.0)) if from_zero else end
    if bar.std is not None:
        left, right = place.x(bar.mean - bar.std), place.x(bar.mean + bar.std)
        parts.append(f'<path class="whisker" d="M{left} {y}H{right}M{left} {y - 4}V{y + 4}M{right} {y - 4}V{y + 4}"/>')
        parts += [f'<circle class="seed" cx="{place.x(v)}" cy="{y}" r="2"/>' for v in bar.values]
        after = max(after, right, *(place.x(v) for v in bar.values))
    if not from_zero:
        parts.append(f'<circle class="fill s{bar.style}" cx="{end}" cy="{y}" r="5">{label}</circle>')
    return [*parts, f'<text class="value" x="{round(after + 9, 1)}" y="{y + 4}">{escape(bar.words)}</text>']
