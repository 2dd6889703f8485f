"""The table of a study: means, spreads, gains, failures."""

import pytest
from tests.report.studies import failure, run

from bitfold.errors import ConfigError
from bitfold.report.scores import HEAD, Entry, Figure, Score, Scores, cells, gather, markdown


def entries() -> list[Entry]:
    return [
        Entry("base", (run("base", 0, 80.0), run("base", 1, 82.0))),
        Entry("better", (run("better", 0, 83.0), run("better", 1, 87.0)), published=Figure(90.25, "table 3", "400 epochs")),
        Entry("half", (run("half", 0, 81.0), failure("half", 1, "the loss is not finite"))),
        Entry("broken", (failure("broken", 0, "unknown field | 'x'"), failure("broken", 1, "unknown field | 'x'"))),
        Entry("later", ()),
    ]


def scores() -> Scores:
    return gather("A title", "A lead.", entries(), "base")


def test_spread_is_the_sample_standard_deviation_and_unknown_of_one() -> None:
    assert Score.of([1.0, 3.0]) == Score(2.0, 2**0.5, 2) and Score.of([5.0]) == Score(5.0, None, 1) and Score.of([]) is None
    assert Score(2.0, 0.5, 2).text() == "2.00 ± 0.50" and Score(2.0, None, 1).text(sign=True) == "+2.00"


def test_best_first_and_failures_last() -> None:
    assert [entry.name for entry in scores().entries] == ["better", "base", "half", "broken"] and scores().missing == ("later",)


def test_sorted_within_groups_in_the_order_of_the_file() -> None:
    each = [Entry(n, (run(n, 0, a),), group=g) for n, a, g in (("a", 1.0, "x"), ("b", 9.0, "y"), ("c", 5.0, "x"), ("d", 10.0, "y"))]
    assert [entry.name for entry in gather("", "", each, None).entries] == ["c", "a", "d", "b"]


def test_gains_are_paired_by_seed() -> None:
    better, base, half, _ = scores().entries
    assert better.gain(base) == Score.of([3.0, 5.0])
    assert half.gain(base) == Score(1.0, None, 1)  # of the seed that both have
    assert Entry("other", (run("other", 7, 90.0),)).gain(base) is None


def test_cells() -> None:
    shown = scores()
    found = dict(zip(HEAD, cells(shown.entries[0], shown), strict=True))
    assert found == {
        "method": "better",
        "accuracy %": "85.00 ± 2.83",
        "gain": "+4.00 ± 1.41",
        "published %": "90.25 (table 3)",
        "difference of its protocol": "400 epochs",
        "PyTorch %": "85.50",
        "codes flipped": "6 of 10,000",
        "accumulators differ": "0 of 1,400",
        "file": "12.3 kB",
        "million OPs": "1.07",
        "latency": "1.3 ms",
        "s per epoch": "2.5",
        "note": "2 seeds",
    }
    assert cells(shown.entries[1], shown)[2] == "baseline"
    assert cells(shown.entries[2], shown)[-1] == "1 seed, 1 failed"
    assert cells(shown.entries[3], shown)[:2] == ["broken", "failed"]


def test_markdown_tells_what_failed_and_what_is_missing() -> None:
    text = markdown(scores())
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 4 and {line.count(" | ") for line in table[2:]} == {len(HEAD) - 1}
    assert "- half, seed 1: the loss is not finite\n" in text
    assert "- broken, seed 0, 1: unknown field | 'x'\n" in text
    assert "Not run yet: later." in text and "- tested on: 1,000 test images" in text and "- trained on: Some GPU, cuda:0" in text


def test_held_out_images_are_named() -> None:
    held = gather("", "", [Entry("a", (run("a", 0, 50.0, holdout=1000),))], None)
    assert "1,000 held-out training images (the test set was not used)" in held.facts["tested on"]


def test_different_test_sets_do_not_stand_in_one_table() -> None:
    with pytest.raises(ConfigError, match=r"cannot stand in one table: 1,000 held-out .*; 1,000 test images"):
        gather("", "", [Entry("a", (run("a", 0, 50.0, holdout=1000),)), Entry("b", (run("b", 0, 60.0),))], None)
