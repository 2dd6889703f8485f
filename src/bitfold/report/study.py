"""The page of a study: key figures, accuracies and gains as charts, the whole table, what failed, and where the numbers come from."""

from collections.abc import Iterable
from html import escape

from bitfold.report.bars import Bar, bar_chart
from bitfold.report.content import Tile
from bitfold.report.html import captioned, section, tag, text
from bitfold.report.page import document, tiles_row
from bitfold.report.scores import HEAD, HOW, Entry, Score, Scores, cells

NUMERIC = frozenset(
    i for i, name in enumerate(HEAD) if name in ("accuracy %", "gain", "PyTorch %", "file", "million OPs", "latency", "s per epoch")
)


def render(scores: Scores) -> str:
    """A whole HTML document: style inside, no script, no request to anywhere."""
    sections = [_charts(scores), _table(scores), _failures(scores), _origin(scores)]
    return document(scores.title, text("p", scores.lead, cls="lead") + tiles_row(_tiles(scores)), sections)


def _tiles(scores: Scores) -> list[Tile]:
    ranked = [(score.mean, score, entry) for entry in scores.entries if (score := entry.accuracy) is not None and not entry.reference]
    runs = sum(len(entry.runs) for entry in scores.entries)
    failed, missing = sum(len(entry.rows) for entry in scores.entries) - runs, len(scores.missing)
    wrong = sum(entry.total("verify", "accumulators_differ") for entry in scores.entries)
    tiles = []
    if ranked:
        _, score, best = max(ranked, key=lambda each: each[0])
        tiles.append(Tile("Best", best.name, f"{score.text()} %"))
    if scores.baseline is not None and scores.baseline.accuracy is not None:
        tiles.append(Tile("Baseline", scores.baseline.name, f"{scores.baseline.accuracy.text()} %"))
    rest = ", ".join(words for n, words in ((failed, f"{failed} failed"), (missing, f"{missing} rows not run yet")) if n)
    tiles.append(Tile("Runs", str(runs), rest, good=False if failed else None))
    tiles.append(Tile("Accumulators that differ", f"{wrong:,}", "engine against PyTorch, all runs", good=wrong == 0))
    return tiles


def _charts(scores: Scores) -> str:
    accuracies = [_bar(entry, entry.accuracy, entry.by_seed.values(), False, scores) for entry in scores.entries]
    figures = [_figure([bar for bar in accuracies if bar is not None], "Accuracy of the exported file", "per cent", from_zero=False)]
    base = scores.baseline
    if base is not None:
        gains = []
        for entry in scores.entries:
            if entry is not base:
                each = [v - base.by_seed[seed] for seed, v in entry.by_seed.items() if seed in base.by_seed]
                gains.append(_bar(entry, entry.gain(base), each, True, scores))
        figures.append(_figure([bar for bar in gains if bar is not None], f"Gain over {base.name}", "points of accuracy", from_zero=True))
    shown = [figure for figure in figures if figure]
    note = "Whiskers: one standard deviation; small circles: the single seeds. Without them there was one seed."
    return section("At a glance", tag("div", "".join(shown), cls="charts"), text("p", note, cls="note")) if shown else ""


def _bar(entry: Entry, score: Score | None, values: Iterable[float], sign: bool, scores: Scores) -> Bar | None:
    if score is None:
        return None
    style = 1 if entry is scores.baseline else 0
    return Bar(entry.name, score.mean, score.std, tuple(values), score.text(sign), style)


def _figure(bars: list[Bar], title: str, x_label: str, from_zero: bool) -> str:
    return tag("figure", bar_chart(bars, title, x_label, from_zero) + text("figcaption", title)) if bars else ""


def _table(scores: Scores) -> str:
    align = [{"cls": "num"} if i in NUMERIC else {} for i in range(len(HEAD))]
    top = tag("tr", "".join(text("th", name, scope="col", **align[i]) for i, name in enumerate(HEAD)))
    body, group = [], ""
    for entry in scores.entries:
        if entry.group != group:
            group = entry.group
            body.append(tag("tr", text("th", group, colspan=str(len(HEAD)), scope="rowgroup"), cls="group"))
        first, *rest = cells(entry, scores)
        row = [text("th", first, scope="row")]
        for i, words in enumerate(rest, start=1):
            inner = escape(words) if i in NUMERIC else text("span", words, cls="wrap") if words else ""
            row.append(tag("td", inner, **align[i]))
        body.append(tag("tr", "".join(row)))
    return section("The table", captioned(scores.title, tag("thead", top) + tag("tbody", "\n".join(body))), text("p", HOW, cls="note"))


def _failures(scores: Scores) -> str:
    parts = []
    if scores.failures:
        parts.append(tag("ul", "".join(text("li", words) for words in scores.failures), cls="failures"))
    if scores.missing:
        parts.append(text("p", f"Not run yet: {', '.join(scores.missing)}."))
    return section("What is missing", *parts) if parts else ""


def _origin(scores: Scores) -> str:
    facts = "".join(text("dt", label) + text("dd", words) for label, words in scores.facts.items())
    return section("Where this comes from", tag("dl", facts, cls="facts")) if facts else ""
