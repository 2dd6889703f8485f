import re
from html.parser import HTMLParser

import numpy as np

from bitfold.bench.timing import Timing
from bitfold.report.content import Comparison, Confusion, Contestant, Curve, Epoch, Layer, Report, Tile, Verification
from bitfold.report.page import duration, kilobytes, render

VOID = {"meta"}


def full_report() -> Report:
    epochs = tuple(Epoch(i, 1 / i, 90.0 + i, 0.1 / i) for i in range(1, 6))
    contestants = (
        Contestant("PyTorch", 98.8, 148_000, Timing(120.0, 110.0, 130.0, 100.0, 200.0, 30, 5), "eager"),
        Contestant("bitfold", 98.1, 9_400, Timing(15.0, 14.0, 16.0, 13.0, 20.0, 30, 50)),
        Contestant("other", note="not installed"),
    )
    return Report(
        title="a <title> & more",
        tiles=(Tile("Accuracy", "98.1 %", "held out", good=True),),
        curves=(Curve("low-bit", epochs), Curve("float twin", tuple(Epoch(e.number, e.loss, e.accuracy) for e in epochs))),
        confusion=Confusion(("cat", "dog"), np.array([[9, 1], [0, 10]])),
        layers=(Layer("stem", "Conv", "32 x 32", 160, 640, 3.0, "conv_f32", 'because "float"'), Layer("pool", "Mean", "", 0, 0)),
        verification=Verification(12345, 0, {"images": "599"}),
        comparisons=(Comparison("batch 1", contestants),),
        recipe='name = "<x>"',
        facts={"machine": "CPU"},
    )


class Balance(HTMLParser):
    """Fails on a tag that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_balanced_html_without_scripts_or_links():
    page = render(full_report())
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert "<script" not in page and "http://" not in page and "https://" not in page and "<link" not in page and "url(" not in page
    assert "a &lt;title&gt; &amp; more" in page and "&lt;x&gt;" in page


def test_every_number_is_on_the_page():
    page = render(full_report())
    for words in (
        "98.1 %",
        "9.4 kB",
        "148.0 kB",
        "8.00\N{MULTIPLICATION SIGN}",
        "not installed",
        "0 of 12,345 accumulators differ",
        "19 of 20",
        "conv_f32",
        "batch 1",
    ):
        assert words in page, words
    assert len(re.findall("<svg viewBox", page)) == 3 + 2  # charts and legend marks


def test_a_failure_is_shown_as_one():
    page = render(Report("t", verification=Verification(10, 3)))
    assert "3 of 10 accumulators differ" in page and 'class="verdict bad"' in page


def test_missing_parts_leave_no_empty_section():
    page = render(Report("only a title"))
    assert "<section>" not in page and "only a title" in page


def test_units():
    assert [kilobytes(n) for n in (640, 9_400, 4_210_000)] == ["640 B", "9.4 kB", "4.21 MB"]
    assert [duration(us) for us in (14.23, 6400.0)] == ["14.2 µs", "6.40 ms"]
