"""What ``bitfold bench`` does: runs one of the benches, prints its table, keeps its rows."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bitfold.bench import machine, rows
from bitfold.bench.rows import Row
from bitfold.errors import ConfigError
from bitfold.report.page import duration


def run(bench: Callable[..., list[Row]], console: Console, keep: Path | None, reference: str | None, **options: Any) -> list[Row]:
    """The rows. ``reference``: the contestant whose time is the base of the ratios. ``keep``: JSONL file to which the rows are added."""
    console.print(machine.one_line(machine.facts()), soft_wrap=True)
    with console.status("starting") as status:

        def say(words: str) -> None:
            status.update(words)
            if not console.is_terminal:
                console.print(f"- {words}", soft_wrap=True)

        made = bench(**options, say=say)
    wide = console if console.is_terminal else Console(width=200, highlight=False)  # a file or pipe has no width of its own
    wide.print(table(made, reference))
    if keep is not None:
        rows.append(keep, made)
        console.print(f"{len(made)} rows added to {keep}", soft_wrap=True)
    return made


def kept(path: Path, console: Console) -> list[Row]:
    """The rows of the last ``bench kernels`` in a file, shown as when they were measured."""
    found = [row for row in rows.read(path) if row.bench == "kernels"]
    if not found:
        raise ConfigError(f"{path}: no row of bench kernels; write one with bitfold bench kernels --json {path}")
    made = [row for row in found if (row.date, row.command) == (found[-1].date, found[-1].command)]
    console.print(table(made, "bitfold"))
    return made


def write_kernels(made: Sequence[Row], folder: Path) -> None:
    """kernels.md and kernels.html."""
    from bitfold.report.kernels import render

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernels.md").write_text(rows.markdown(made, "bitfold"), encoding="utf-8")
    (folder / "kernels.html").write_text(render(made), encoding="utf-8")


def table(made: Sequence[Row], reference: str | None) -> Table:
    """One line a row; the speed-up is the reference's time over this one's, within the same subject."""
    base = {row.subject: row.timing.median_us for row in made if row.contestant == reference and row.timing is not None}
    head = ["", "", "median", "middle half", *([f"speed-up on {reference}"] if reference is not None else []), "notes"]
    shown = Table(*head, box=None, pad_edge=False)
    last = ""
    for row in made:
        cells = [row.subject if row.subject != last else "", row.contestant]
        last = row.subject
        t = row.timing
        cells += [duration(t.median_us), f"{duration(t.q1_us)} to {duration(t.q3_us)}"] if t is not None else ["", ""]
        if reference is not None:
            cells.append(f"{base[row.subject] / t.median_us:.2f}" if t is not None and row.subject in base else "")
        cells.append(row.reason if row.reason is not None else _notes(row.details))
        shown.add_row(*cells)
    return shown


def names(text: str | None, known: Collection[str] = ()) -> list[str] | None:
    """A list given with commas; None where the option is absent. ``known``: names that may hold commas themselves."""
    if text is None:
        return None
    parts = [name.strip() for name in text.split(",")]
    if not all(parts):
        raise ConfigError(f"{text!r}: expected names with commas between them")
    found = []
    while parts:
        n = next((n for n in range(len(parts), 1, -1) if ", ".join(parts[:n]) in known), 1)
        found.append(", ".join(parts[:n]))
        del parts[:n]
    return found


def _notes(details: dict[str, Any]) -> str:
    """What a reader of the table wants; the rows of --json hold everything."""
    shown = (
        "accuracy",
        "accuracy_torch",
        "file_bytes",
        "weights",
        "form",
        "size_bytes",
        "kernel",
        "gmacs_per_s",
        "of_ceiling",
        "times_float",
    )
    return ", ".join(f"{k} {f'{v:.4g}' if isinstance(v, float) else v}" for k, v in details.items() if k in shown)
