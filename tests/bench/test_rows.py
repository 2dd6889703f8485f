import json
from dataclasses import asdict, replace

import pytest

from bitfold.bench import rows
from bitfold.bench.rows import Row
from bitfold.bench.timing import Timing
from bitfold.errors import FormatError

ROW = Row(
    bench="models",
    subject="resnet20",
    contestant="pytorch",
    threads=1,
    batch=1,
    timing=Timing(2000.0, 1900.0, 2100.0, 1800.0, 4000.0, n=30, loops=3),
    details={"cosine": 1.0, "note": "eager | NCHW"},
    machine={"cpu": "x"},
    versions={"python": "3"},
    commit=None,
    date="2026-01-01T00:00:00Z",
    command="bitfold bench models",
)


def test_append_and_read_give_the_same_rows(tmp_path):
    path = tmp_path / "new" / "r.jsonl"
    missing = replace(ROW, contestant="openvino", timing=None, reason="not installed")
    rows.append(path, [ROW])
    rows.append(path, [missing])
    assert rows.read(path) == [ROW, missing]


def test_stamp_fills_the_rest_and_names_the_machine():
    stamp = rows.stamp()
    row = Row(bench="b", subject="s", contestant="c", threads=1, batch=1, timing=None, **stamp)
    assert row.machine["isa_active"] and row.machine["cpu"]
    assert row.versions["python"] and "torch" in row.versions
    json.dumps(asdict(row), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema is 2"),
        ({"threads": "1"}, "row.threads"),
        ({"threads": True}, "row.threads"),
        ({"subject": None}, "row.subject"),
        ({"extra": 1}, "unknown \\['extra'\\]"),
        ({"timing": {"median_us": 1}}, "timing lacks"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, change, message):
    path = tmp_path / "r.jsonl"
    rows.append(path, [ROW])
    with path.open("a") as f:
        f.write(json.dumps({**asdict(ROW), **change}) + "\n")
    with pytest.raises(FormatError, match=f"line 2.*{message}"):
        rows.read(path)


def test_not_json_is_refused(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("{\n")
    with pytest.raises(FormatError, match="line 1"):
        rows.read(path)


def test_markdown_has_ratios_within_one_setting():
    fast = replace(ROW, contestant="bitfold", timing=replace(ROW.timing, median_us=500.0), details={})
    other = replace(ROW, subject="vgg_small")
    missing = replace(ROW, contestant="nncf", timing=None, reason="not installed")
    lines = rows.markdown([ROW, fast, replace(other, contestant="bitfold"), missing], reference="pytorch").splitlines()
    assert len(lines) == 6 and len({line.count(" | ") for line in lines if "eager" not in line and "---" not in line}) == 1
    assert "| 1.00 |" in lines[2] and "eager \\| NCHW" in lines[2]
    assert "| 0.25 |" in lines[3]
    assert "0.25" not in lines[4] and "1.00" not in lines[4]  # no PyTorch row for that subject
    assert "not installed" in lines[5]


@pytest.mark.parametrize(("us", "text"), [(0.456, "0.46"), (12.34, "12.3"), (12345.6, "12,346")])
def test_micros(us, text):
    assert rows.micros(us) == text
