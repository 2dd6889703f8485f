"""The page of ``bitfold bench kernels``: the roofline, every layer against its peers, and where the numbers come from."""

from collections.abc import Sequence
from html import escape
from typing import Any

from bitfold.bench.machine import one_line
from bitfold.bench.rows import Row, micros
from bitfold.report.content import Tile
from bitfold.report.html import section, table, tag, text
from bitfold.report.page import document, duration, tiles_row
from bitfold.report.roofline import Point, Roof, roofline_chart

OURS = "bitfold"
TITLE = "Layers against the machine and against other engines"
ROOFS = {"popcount": "bits", "int8_narrow": "int8", "int16": "int16", "sad": "distance", "fma": "float32"}


def render(rows: Sequence[Row]) -> str:
    """A whole HTML document from the rows of one run. ValueError without a row of ours that has a time."""
    peak = next((row for row in rows if row.subject.startswith("peaks")), None)
    ours = [row for row in rows if row.contestant == OURS and row.timing is not None]
    if not ours:
        raise ValueError("no layer of ours has a time")
    lead = f"{one_line(ours[0].machine)}; {ours[0].threads} thread{'s' if ours[0].threads > 1 else ''}; {ours[0].date}."
    top = text("p", lead, cls="lead") + tiles_row(_tiles(peak, ours))
    return document(TITLE, top, [_roofline(peak, ours), _table(rows), _origin(ours[0])])


def _tiles(peak: Row | None, ours: Sequence[Row]) -> list[Tile]:
    fastest = max(ours, key=lambda row: row.details.get("kernel_gmacs_per_s", 0.0))
    tiles = [Tile("Fastest layer", f"{fastest.details['kernel_gmacs_per_s']:,.0f} GMAC/s", fastest.subject)]
    if peak is not None:
        tiles.append(Tile("Reads from memory", f"{peak.details['memory_gb_per_s']:.1f} GB/s", f"one core, {peak.details['isa']}"))
    return tiles


def _roofline(peak: Row | None, ours: Sequence[Row]) -> str:
    points: list[Point] = []
    names: list[tuple[str, ...]] = []
    for row in ours:
        d: dict[str, Any] = row.details
        if "macs_per_byte" not in d:
            continue
        label = str(len(points) + 1)
        points.append(Point(row.subject, label, d["macs_per_byte"], d["kernel_gmacs_per_s"]))
        share = f"{100 * d['of_ceiling']:.0f} % of {ROOFS[d['ceiling']]}" if "of_ceiling" in d else ""
        names.append((label, escape(row.subject), f"{d['kernel_gmacs_per_s']:,.1f}", share, escape(d["kernel"])))
    roofs = [Roof(name, peak.details[f"{kind}_gmacs_per_s"]) for kind, name in ROOFS.items()] if peak is not None else []
    slopes = [("memory", peak.details["memory_gb_per_s"]), ("cache", peak.details["cache_gb_per_s"])] if peak is not None else []
    note = (
        "Each dot is the kernel alone, from the engine's profile: products a second over products per byte of activations and stored "
        "weights. Horizontal lines are the inner loops' instructions on registers alone; sloping ones what memory and first cache deliver."
    )
    chart = tag("figure", roofline_chart(points, roofs, slopes, "Roofline of one core"))
    return section(
        "Roofline", text("p", note), chart, table("The dots", ("", "layer", "GMAC/s", "of its ceiling", "kernel"), names, frozenset({2}))
    )


def _table(rows: Sequence[Row]) -> str:
    base = {row.subject: row.timing.median_us for row in rows if row.contestant == OURS and row.timing is not None}
    cells = []
    last = ""
    for row in rows:
        if row.subject.startswith("peaks"):
            continue
        t = row.timing
        times = f"{t.median_us / base[row.subject]:.2f}" if t is not None and row.subject in base else ""
        rate = row.details.get("gmacs_per_s")
        cells.append(
            (
                escape(row.subject) if row.subject != last else "",
                escape(row.contestant),
                escape(duration(t.median_us)) if t is not None else "",
                f"{micros(t.q1_us)} to {micros(t.q3_us)}" if t is not None else "",
                times,
                f"{rate:,.0f}" if rate is not None else "",
                escape(row.reason or ""),
            )
        )
        last = row.subject
    head = ("layer", "engine", "whole call", "middle half, µs", "times bitfold", "GMAC/s", "why not")
    return section("Against other engines", table("Interleaved medians", head, cells, frozenset({2, 3, 4, 5})))


def _origin(row: Row) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in row.versions.items() if version is not None)
    facts = {
        "Command": row.command,
        "Commit": row.commit or "unknown",
        "Versions": versions,
        "Load at the start": row.machine.get("load", "unknown"),
    }
    inner = "".join(text("dt", key) + text("dd", str(value)) for key, value in facts.items())
    return section("Where this comes from", tag("dl", inner, cls="facts"))
