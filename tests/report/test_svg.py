import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitfold.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, line_chart

VALUES = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: round(v, 6))


@given(st.lists(st.tuples(st.integers(1, 500).map(float), VALUES), min_size=1, max_size=30), st.booleans())
def test_every_point_lies_in_the_frame(points, from_zero):
    svg = line_chart([Line("a", 0, points)], "t", "x", "y", y_from_zero=from_zero)
    root = ElementTree.fromstring(svg)
    dots = root.findall("circle")
    assert len(dots) == len(points)
    for dot in dots:
        assert LEFT - 0.1 <= float(dot.get("cx")) <= WIDTH - RIGHT + 0.1
        assert TOP - 0.1 <= float(dot.get("cy")) <= HEIGHT - BOTTOM + 0.1


def test_axis_ticks_are_round_numbers():
    svg = line_chart([Line("a", 0, [(1, 20.3), (30, 98.6)])], "t", "epoch", "per cent")
    ticks = re.findall(r'class="tick"[^>]*>([^<]*)<', svg)
    assert ticks == ["20", "40", "60", "80", "100", "10", "20", "30"]


def test_names_are_escaped_and_dots_left_out_of_long_lines():
    svg = line_chart([Line("<b>&", 1, [(float(i), i / 7) for i in range(100)])], 'a"<t>', "x", "<y>")
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'a"<t>' and root.findall("circle") == []


def test_no_points_is_an_error():
    with pytest.raises(ValueError, match="no points"):
        line_chart([Line("a", 0, [])], "t", "x", "y")
