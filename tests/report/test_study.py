"""The page of a study and its charts."""

import re
from xml.etree import ElementTree

import pytest
from tests.report.studies import failure, run
from tests.report.test_page import Balance
from tests.report.test_scores import scores

from bitfold.report.bars import LETTER, RIGHT, WIDTH, Bar, bar_chart
from bitfold.report.scores import Entry, gather
from bitfold.report.study import render

BARS = [Bar("up", 2.0, 0.5, (1.5, 2.5), "+2.00"), Bar("<down>", -3.0, None, (-3.0,), "-3.00", 1)]


def test_page_is_balanced_html_without_scripts_or_links() -> None:
    page = render(scores())
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert "<script" not in page and "http://" not in page and "https://" not in page and "<link" not in page and "url(" not in page


def test_everything_is_on_the_page() -> None:
    page = render(scores())
    for words in (
        "better",
        "85.00 ± 2.83",
        "+4.00 ± 1.41",
        "90.25 (table 3)",
        "400 epochs",
        "half, seed 1: the loss is not finite",
        "later",
    ):
        assert words in page, words
    assert page.count("<svg viewBox") == 2 and 'class="bad">5<small>3 failed, 1 rows not run yet' in page


def test_references_are_no_contestants() -> None:
    page = render(gather("", "", [Entry("twin", (run("twin", 0, 99.0),), reference=True), Entry("a", (run("a", 0, 50.0),))], None))
    assert re.search(r"Best</dt><dd[^>]*>a<", page) and page.index('row">twin') < page.index('row">a')


def test_a_study_where_all_failed_has_no_charts() -> None:
    page = render(gather("t", "", [Entry("a", (failure("a", 0, "why"),))], "a"))
    assert "<svg" not in page and "a, seed 0: why" in page


def test_bars_begin_at_zero_and_end_at_the_mean() -> None:
    root = ElementTree.fromstring(bar_chart(BARS, "t", "x", from_zero=True))
    up, down = root.findall("rect")
    zero = float(up.get("x", ""))
    assert float(down.get("x", "")) + float(down.get("width", "")) == pytest.approx(zero)
    assert float(down.get("width", "")) == pytest.approx(1.5 * float(up.get("width", "")), abs=0.2)
    assert len(root.findall("circle[@class='seed']")) == 2 and len(root.findall("path[@class='whisker']")) == 1


def test_dots_lie_in_the_frame() -> None:
    root = ElementTree.fromstring(bar_chart(BARS, "t", "x", from_zero=False))
    assert root.findall("rect") == []
    dots = root.findall("circle")
    assert len(dots) == 4 and all(len(BARS[1].name) * LETTER < float(d.get("cx", "")) <= WIDTH - RIGHT for d in dots)


def test_no_bars_is_an_error() -> None:
    with pytest.raises(ValueError, match="no bars"):
        bar_chart([], "t", "x", from_zero=True)
