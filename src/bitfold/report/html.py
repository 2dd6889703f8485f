"""Small pieces of HTML; all text is escaped here and nowhere else."""

from collections.abc import Iterable, Sequence
from html import escape


def tag(name: str, inner: str, **attributes: str) -> str:
    """``inner`` is HTML; attribute values are text. ``cls`` stands for ``class``."""
    written = "".join(f' {"class" if k == "cls" else k}="{escape(v)}"' for k, v in attributes.items())
    return f"<{name}{written}>{inner}</{name}>"


def text(name: str, words: str, **attributes: str) -> str:
    return tag(name, escape(words), **attributes)


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], numeric: frozenset[int] = frozenset()) -> str:
    """Cells are HTML. ``numeric``: columns to align right. The first cell of a row is its header. Scrolls sideways where it must."""
    align = lambda i: {"cls": "num"} if i in numeric else {}  # noqa: E731
    top = tag("tr", "".join(text("th", h, scope="col", **align(i)) for i, h in enumerate(head)))
    body = []
    for row in rows:
        cells = [tag("th", row[0], scope="row"), *(tag("td", cell, **align(i)) for i, cell in enumerate(row[1:], start=1))]
        body.append(tag("tr", "".join(cells)))
    return captioned(caption, tag("thead", top) + tag("tbody", "\n".join(body)))


def captioned(caption: str, inner: str, cls: str = "") -> str:
    """A table as a figure: the caption stays in place while the table scrolls under it."""
    scrolled = tag("div", tag("table", inner, cls=cls), cls="scroll", tabindex="0", role="region", **{"aria-label": caption})
    return tag("figure", text("figcaption", caption) + scrolled, cls="table")


def bar(value: float, largest: float, words: str) -> str:
    """A table cell's content: a bar as long as ``value`` is of ``largest``, and the number beside it."""
    share = 100.0 * value / largest if largest > 0 else 0.0
    return f'<span class="bar" style="--v:{share:.1f}%"></span>{escape(words)}'


def details(summary: str, inner: str) -> str:
    return tag("details", text("summary", summary) + inner)


def section(title: str, *parts: str) -> str:
    return tag("section", text("h2", title) + "\n".join(parts))
