"""One row format for every number the project keeps: JSON lines, one per contestant and subject, complete in itself."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from bitfold.bench import machine
from bitfold.bench.timing import Timing
from bitfold.errors import FormatError

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """``timing`` is None where nothing was timed; ``reason`` then says why (peer missing, wrong result) or details hold the figures."""

    bench: str  # "models", "kernels", "training", "demo", "run", "study", "zoo"
    subject: str  # model or shape
    contestant: str  # who ran it
    threads: int
    batch: int
    timing: Timing | None
    reason: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any]
    versions: dict[str, Any]
    commit: str | None
    date: str
    command: str
    schema: int = SCHEMA


def stamp() -> dict[str, Any]:
    """The fields that say where and when, for every row of one run."""
    return {
        "machine": machine.facts(),
        "versions": machine.versions(),
        "commit": machine.commit(),
        "date": machine.now(),
        "command": machine.command(),
    }


def append(path: str | Path, rows: Iterable[Row]) -> None:
    """Adds rows at the end of a JSONL file; makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = lines(rows)
    with path.open("a", encoding="utf-8") as f:
        f.write(text)


def lines(rows: Iterable[Row]) -> str:
    """What a JSONL file holds of these rows."""
    return "".join(json.dumps(asdict(row), allow_nan=False) + "\n" for row in rows)


def read(path: str | Path) -> list[Row]:
    """All rows of a file; FormatError names the line and the field that is wrong."""
    rows = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                rows.append(_from_json(json.loads(line)))
            except (json.JSONDecodeError, FormatError) as error:
                raise FormatError(f"{path}, line {number}: {error}") from error
    return rows


def markdown(rows: Sequence[Row], reference: str | None = None) -> str:
    """A Markdown table. ``reference`` names the contestant whose median, within the same subject, threads and batch, is ratio 1."""
    base = {_setting(r): r.timing.median_us for r in rows if r.contestant == reference and r.timing is not None}
    head = ["subject", "contestant", "threads", "batch", "median us", "quartiles us", "n"]
    head += [f"times {reference}", "notes"] if reference else ["notes"]
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(["---"] * len(head)) + "|"]
    for row in rows:
        cells = [row.subject, row.contestant, str(row.threads), str(row.batch)]
        t = row.timing
        cells += [micros(t.median_us), f"{micros(t.q1_us)} to {micros(t.q3_us)}", str(t.n)] if t else ["", "", ""]
        if reference:
            cells.append(f"{t.median_us / base[_setting(row)]:.2f}" if t and _setting(row) in base else "")
        cells.append(row.reason if row.reason is not None else ", ".join(f"{k} {_short(v)}" for k, v in row.details.items()))
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"


def _setting(row: Row) -> tuple[str, int, int]:
    return row.subject, row.threads, row.batch


def micros(us: float) -> str:
    """Three or four figures, no false precision."""
    return f"{us:,.0f}" if us >= 1000 else f"{us:.1f}" if us >= 10 else f"{us:.2f}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _from_json(record: Any) -> Row:
    record = _checked(record, Row, "row")
    if record["schema"] != SCHEMA:
        raise FormatError(f"schema is {record['schema']}; this version reads {SCHEMA}")
    if record["timing"] is not None:
        record["timing"] = Timing(**_checked(record["timing"], Timing, "timing"))
    return Row(**record)


def _checked(record: Any, cls: type, where: str) -> dict[str, Any]:
    """``record`` as a dict with exactly the fields of ``cls``, each of its annotated JSON type."""
    if not isinstance(record, dict):
        raise FormatError(f"{where} is a {type(record).__name__}, expected an object")
    names = {f.name for f in fields(cls)}
    if set(record) != names:
        raise FormatError(f"{where} lacks {sorted(names - set(record))} and has unknown {sorted(set(record) - names)}")
    for name, hint in get_type_hints(cls).items():
        kinds = tuple(_json_type(h) for h in (get_args(hint) if isinstance(hint, UnionType) else (hint,)))
        value = record[name]
        if not isinstance(value, kinds) or (isinstance(value, bool)):
            raise FormatError(f"{where}.{name} is {value!r}, expected {hint}")
    return dict(record)


def _json_type(hint: Any) -> Any:
    if hint is float:
        return (int, float)
    if hint is Timing:
        return dict
    return getattr(hint, "__origin__", hint)
