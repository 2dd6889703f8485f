"""The page: one function per section, each leaving itself out where its part of the report is missing."""

from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files

from bitfold.bench.rows import micros
from bitfold.report.content import Comparison, Confusion, Contestant, Curve, Epoch, Report, Tile
from bitfold.report.html import bar, captioned, details, section, table, tag, text
from bitfold.report.svg import Line, line_chart


def render(report: Report) -> str:
    """A whole HTML document: style inside, no script, no request to anywhere."""
    sections = [_curves(report), _comparisons(report), _verification(report), _layers(report), _confusion(report)]
    sections += [_origin(report)]
    lead = text("p", report.lead, cls="lead") if report.lead else ""
    return document(report.title, lead + tiles_row(report.tiles), sections)


def document(title: str, top: str, sections: Sequence[str]) -> str:
    """A whole page of our style: ``top`` stands below the title, empty sections are left out."""
    style = files("bitfold.report").joinpath("style.css").read_text(encoding="utf-8")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        # a browser may not fetch anything, even if a text of the run looked like markup
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>\n{style}</style>"
    )
    header = tag("header", text("h1", title) + top, cls="top")
    body = header + tag("main", "\n".join(s for s in sections if s)) + text("footer", "Made by bitfold; this page fetches nothing.")
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def kilobytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB" if size >= 1e3 else f"{size} B"


def duration(us: float) -> str:
    return f"{micros(us)} µs" if us < 1000 else f"{micros(us / 1000)} ms"


def tiles_row(tiles: Sequence[Tile]) -> str:
    """The key figures at the top; "" of none."""
    cells = []
    for tile in tiles:
        cls = {None: "", True: "good", False: "bad"}[tile.good]
        cells.append(tag("div", text("dt", tile.label) + tag("dd", escape(tile.value) + text("small", tile.note), cls=cls)))
    return tag("dl", "".join(cells), cls="tiles") if cells else ""


def _chart(curves: tuple[Curve, ...], value: Callable[[Epoch], float | None], title: str, y_label: str, y_from_zero: bool) -> str:
    """A figure with the lines of one quantity; "" where no epoch has it."""
    lines = []
    for style, curve in enumerate(curves):
        points = [(float(e.number), v) for e in curve.epochs if (v := value(e)) is not None]
        if points:
            lines.append(Line(curve.name, style, points))
    if not lines:
        return ""
    return tag("figure", line_chart(lines, title, "epoch", y_label, y_from_zero) + text("figcaption", title))


def _flips(epoch: Epoch) -> float | None:
    return None if epoch.flip_rate is None else 100 * epoch.flip_rate


def _legend(curves: tuple[Curve, ...]) -> str:
    mark = '<svg viewBox="0 0 28 10" class="chart" aria-hidden="true"><path class="line s{}" d="M0 5H28"/></svg>'
    return tag("ul", "".join(tag("li", mark.format(i) + escape(c.name)) for i, c in enumerate(curves)), cls="legend")


def _curves(report: Report) -> str:
    charts = [
        _chart(report.curves, lambda e: e.accuracy, "Test accuracy after each epoch", "per cent", False),
        _chart(report.curves, lambda e: e.loss, "Mean training loss of each epoch", "loss", True),
        _chart(report.curves, _flips, "Low-bit weights whose code changed in the epoch; falls with the learning rate", "per cent", True),
    ]
    if not any(charts):
        return ""
    rows = [
        [escape(curve.name), str(e.number), _maybe(e.loss, ".4f"), _maybe(e.accuracy, ".2f"), _maybe(e.flip_rate, ".2%")]
        for curve in report.curves
        for e in curve.epochs
    ]
    head = ["network", "epoch", "training loss", "test accuracy %", "weight codes changed"]
    numbers = details("The numbers as a table", table("Training, epoch by epoch", head, rows, frozenset({1, 2, 3, 4})))
    return section("Training", _legend(report.curves), tag("div", "".join(charts), cls="charts"), numbers)


def _comparisons(report: Report) -> str:
    parts = []
    for comparison in report.comparisons:
        parts.append(_comparison(comparison))
    if not parts:
        return ""
    how = (
        "All contestants of a table ran in turn in one process, on the same input and the same number of threads, their results checked "
        "first. Times are medians; the range holds the middle half of the rounds."
    )
    return section("Speed and size", text("p", how), *parts)


def _comparison(comparison: Comparison) -> str:
    timed = [c.timing.median_us for c in comparison.contestants if c.timing is not None]
    base = comparison.contestants[0].timing
    has_accuracy = any(c.accuracy is not None for c in comparison.contestants)
    has_size = any(c.size_bytes is not None for c in comparison.contestants)
    head = ["", *(["test accuracy"] if has_accuracy else []), *(["size"] if has_size else []), "time", "speed-up", "middle half", "note"]

    def row(c: Contestant) -> list[str]:
        cells = [escape(c.name)]
        if has_accuracy:
            cells.append(_maybe(c.accuracy, ".2f") + (" %" if c.accuracy is not None else ""))
        if has_size:
            cells.append(kilobytes(c.size_bytes) if c.size_bytes is not None else "")
        if c.timing is None:
            return [*cells, "", "", "", text("span", c.note, cls="wrap")]
        middle = f"{duration(c.timing.q1_us)} to {duration(c.timing.q3_us)}"
        speed = f"{base.median_us / c.timing.median_us:.2f}\N{MULTIPLICATION SIGN}" if base is not None else ""
        return [
            *cells,
            bar(c.timing.median_us, max(timed), duration(c.timing.median_us)),
            speed,
            middle,
            text("span", c.note, cls="wrap"),
        ]

    numeric = frozenset(i for i, h in enumerate(head) if h in ("test accuracy", "size", "speed-up"))
    return table(comparison.title, head, [row(c) for c in comparison.contestants], numeric)


def _verification(report: Report) -> str:
    v = report.verification
    if v is None:
        return ""
    good = v.accumulators_differ == 0
    verdict = f"{v.accumulators_differ:,} of {v.accumulators:,} accumulators differ"
    facts = "".join(text("dt", k) + text("dd", w) for k, w in v.figures.items())
    why = "Every integer sum of the trained network, recomputed by the exported file's engine from the same codes."
    return section(
        "Same integers as trained",
        text("p", verdict, cls="verdict " + ("good" if good else "bad")),
        text("p", why, cls="note"),
        tag("dl", facts, cls="facts"),
    )


def _layers(report: Report) -> str:
    if not report.layers:
        return ""
    slowest = max((layer.latency_us or 0.0 for layer in report.layers), default=0.0)
    largest = max(layer.size_bytes for layer in report.layers)
    rows = [
        [
            escape(layer.name),
            escape(layer.bits),
            bar(layer.latency_us, slowest, micros(layer.latency_us)) if layer.latency_us is not None else "",
            bar(layer.size_bytes, largest, f"{layer.size_bytes:,}") if layer.size_bytes else "",
            f"{layer.parameters:,}" if layer.parameters else "",
            text("span", layer.kernel, title=layer.reason) + text("small", layer.op.replace("+", " + ")),
        ]
        for layer in report.layers
    ]
    head = ["layer", "bits (input \N{MULTIPLICATION SIGN} weight)", "µs", "bytes", "parameters", "kernel and its operations"]
    caption = "Layers of the exported network as the engine runs them; times of one image from the engine's own profile"
    return section("Layer by layer", table(caption, head, rows, frozenset({4})))


def _confusion(report: Report) -> str:
    if report.confusion is None:
        return ""
    return section("Confusion matrix", _matrix(report.confusion))


def _matrix(confusion: Confusion) -> str:
    counts = confusion.counts
    head = tag("tr", text("th", "true \\ given", scope="col") + "".join(text("th", c, scope="col") for c in confusion.classes))
    rows = []
    for i, name in enumerate(confusion.classes):
        total = max(int(counts[i].sum()), 1)
        cells = []
        for j in range(len(confusion.classes)):
            n = int(counts[i, j])
            cls = "zero" if n == 0 else "right" if i == j else "wrong"
            cells.append(text("td", str(n), cls=cls, style=f"--v:{n / total:.3f}"))
        rows.append(tag("tr", text("th", name, scope="row") + "".join(cells)))
    right, all_ = int(counts.trace()), int(counts.sum())
    caption = f"{right} of {all_} test samples right; rows are the true classes, columns what the network said"
    return captioned(caption, tag("thead", head) + tag("tbody", "".join(rows)), cls="confusion")


def _origin(report: Report) -> str:
    if not report.facts and not report.recipe:
        return ""
    facts = tag("dl", "".join(text("dt", k) + text("dd", v) for k, v in report.facts.items()), cls="facts")
    recipe = details("The recipe", tag("pre", escape(report.recipe))) if report.recipe else ""
    return section("Where this comes from", facts, recipe)


def _maybe(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)
