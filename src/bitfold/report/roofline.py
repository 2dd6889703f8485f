"""The roofline: what kernels reach against what a core can do, as inline SVG on two logarithmic axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from bitfold.report.svg import Scale, axes, number

WIDTH, HEIGHT = 520, 360  # user units
LEFT, RIGHT, TOP, BOTTOM = 52, 96, 14, 40


@dataclass(frozen=True)
class Point:
    """``intensity``: products per byte moved; ``rate``: 1e9 products a second; ``label``: short, stands beside the dot."""

    name: str
    label: str
    intensity: float
    rate: float
    style: int = 0


@dataclass(frozen=True)
class Roof:
    """A horizontal ceiling."""

    name: str
    rate: float


def roofline_chart(points: Sequence[Point], roofs: Sequence[Roof], slopes: Sequence[tuple[str, float]], title: str) -> str:
    """An ``<svg>``. ``slopes``: (name, GB/s) of memories: a rate of intensity times bandwidth."""
    if not points:
        raise ValueError(f"roofline_chart {title!r}: no points")
    place = Scale(
        _decades([p.intensity for p in points]),
        _decades([*(p.rate for p in points), *(r.rate for r in roofs)]),
        (WIDTH, HEIGHT),
        (LEFT, RIGHT, TOP, BOTTOM),
        log=True,
    )
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" class="chart roofline">']
    names = ("products per byte moved", "GMAC/s of one core")
    parts += axes(place, _powers(place.x_range), _powers(place.y_range), *names, columns=True)
    highest = max(r.rate for r in roofs) if roofs else place.y_range[1]
    parts += [part for name, bandwidth in slopes for part in _slope(place, name, bandwidth, highest)]
    parts += [part for roof, at in zip(roofs, _apart([place.y(r.rate) for r in roofs]), strict=True) for part in _roof(place, roof, at)]
    for point in points:
        x, y = place.x(point.intensity), place.y(point.rate)
        words = f"{point.name}: {number(point.rate)} GMAC/s at {number(point.intensity)} products a byte"
        parts.append(f'<circle class="fill s{point.style}" cx="{x}" cy="{y}" r="4"><title>{escape(words)}</title></circle>')
        parts.append(f'<text class="value" x="{x + 6}" y="{y + 4}">{escape(point.label)}</text>')
    return "".join([*parts, "</svg>"])


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Whole powers of ten around positive values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values) * 1.05))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _powers(span: tuple[float, float]) -> list[float]:
    return [10.0**power for power in range(round(math.log10(span[0])), round(math.log10(span[1])) + 1)]


def _slope(place: Scale, name: str, bandwidth: float, highest: float) -> list[str]:
    """The part of rate = intensity x bandwidth inside the plot, up to the highest roof."""
    left = max(place.x_range[0], place.y_range[0] / bandwidth)
    right = min(place.x_range[1], highest / bandwidth)
    if left >= right:
        return []
    x0, y0, x1, y1 = place.x(left), place.y(left * bandwidth), place.x(right), place.y(right * bandwidth)
    tip = f"<title>{escape(f'{name}: {number(bandwidth)} GB/s')}</title>"
    return [
        f'<path class="line s1" d="M{x0} {y0}L{x1} {y1}">{tip}</path>',
        f'<text class="tick" x="{x0 + 4}" y="{y0 - 6}">{escape(name)}</text>',
    ]


def _roof(place: Scale, roof: Roof, text_y: float) -> list[str]:
    y, right = place.y(roof.rate), WIDTH - RIGHT
    tip = f"<title>{escape(f'{roof.name}: {number(roof.rate)} GMAC/s')}</title>"
    return [
        f'<path class="line s2" d="M{LEFT} {y}H{right}">{tip}</path>',
        f'<text class="tick" x="{right + 4}" y="{text_y + 4}">{escape(f"{roof.name} {number(round(roof.rate))}")}</text>',
    ]


def _apart(heights: Sequence[float], least: float = 13.0) -> list[float]:
    """The same heights, moved up from the lowest where two are nearer than ``least``, so that their names do not overlap."""
    order = sorted(range(len(heights)), key=lambda i: -heights[i])
    moved = list(heights)
    for before, i in pairwise(order):
        moved[i] = min(moved[i], moved[before] - least)
    return moved
