import io

import pytest
from rich.console import Console

from bitfold.bench import rows
from bitfold.bench.rows import Row
from bitfold.bench.timing import Timing
from bitfold.commands import benches
from bitfold.errors import ConfigError


def made(**options) -> list[Row]:
    options["say"]("working")
    base = {"bench": "models", "subject": "net", "threads": options["threads"], "batch": 1, **rows.stamp()}
    slow = Row(**base, contestant="pytorch", timing=Timing(2000.0, 1900.0, 2100.0, 1800.0, 4000.0, 30, 1), details={"form": "eager"})
    fast = Row(**base, contestant="bitfold", timing=Timing(500.0, 490.0, 510.0, 480.0, 900.0, 30, 1), details={"cosine": 1.0})
    return [slow, fast, Row(**base, contestant="openvino", timing=None, reason="not installed: openvino")]


def test_prints_machine_progress_table_and_keeps_rows(tmp_path):
    console = Console(file=io.StringIO(), width=80)
    benches.run(made, console, tmp_path / "rows.jsonl", "pytorch", threads=2)
    kept = rows.read(tmp_path / "rows.jsonl")
    assert [row.contestant for row in kept] == ["pytorch", "bitfold", "openvino"] and kept[0].threads == 2
    text = console.file.getvalue()
    assert "cores" in text and "- working" in text and "3 rows added" in text


def test_the_table_has_speed_ups_and_reasons():
    console = Console(file=io.StringIO(), width=200)
    console.print(benches.table(made(threads=1, say=lambda words: None), "pytorch"))
    lines = console.file.getvalue().splitlines()
    assert "2.00 ms" in lines[1] and "1.00" in lines[1] and "form eager" in lines[1]
    assert "500.0 µs" in lines[2] and "4.00" in lines[2] and "cosine" not in lines[2]
    assert "not installed: openvino" in lines[3]


def test_names_are_split_at_commas():
    assert benches.names(None) is None
    assert benches.names("a, b") == ["a", "b"]
    assert benches.names("a, b, c rows,a", ["a", "b, c rows"]) == ["a", "b, c rows", "a"]
    with pytest.raises(ConfigError, match="names with commas"):
        benches.names("a,,b")
