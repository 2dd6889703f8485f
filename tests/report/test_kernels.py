"""The page of ``bench kernels``."""

import pytest
from tests.report.test_page import Balance

from bitfold.bench import kernels
from bitfold.bench.shapes import Shape
from bitfold.report.kernels import render
from bitfold.report.roofline import Point, Roof, roofline_chart


@pytest.fixture(scope="module")
def made():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "SHAPES", (Shape("<one> & only", 8, 8, 6, 3),))
        return kernels.run(peer_names=["pytorch"], repeats=5)


def test_the_page_is_closed_and_shows_every_row(made):
    page = render(made)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert "&lt;one&gt; &amp; only" in page and "<one>" not in page
    assert "pytorch" in page and "Roofline of one core" in page and "http" not in page.replace("http-equiv", "")


def test_rows_without_ours_have_no_page(made):
    with pytest.raises(ValueError, match="no layer"):
        render([row for row in made if row.contestant == "pytorch"])


def test_a_point_under_its_roof_is_drawn_below_it():
    chart = roofline_chart([Point("p", "1", 10.0, 50.0)], [Roof("bits", 500.0), Roof("int8", 490.0)], [("memory", 8.0)], "t")
    roofs = [float(part.split(" ")[1].split("H")[0]) for part in chart.split('class="line s2" d="M')[1:]]
    names = [float(part.split('y="')[1].split('"')[0]) for part in chart.split('class="tick" x="428"')[1:]]
    dot = float(chart.split('cy="')[1].split('"')[0])
    assert dot > max(roofs) and roofs == sorted(roofs) and abs(names[0] - names[1]) >= 12.9
