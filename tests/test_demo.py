import io
import json

import pytest
from rich.console import Console

import bitfold
from bitfold import demo as module
from bitfold.bench import rows
from bitfold.commands.study import write_report


@pytest.fixture
def small(monkeypatch):
    """The demo with a small network in place of ResNet-18."""
    monkeypatch.setattr(module, "BIG", "digits_cnn")


def run_demo(out, *overrides):
    console = Console(file=io.StringIO(), width=120)
    return module.demo(out, console=console, overrides=overrides), console.file.getvalue()


def test_one_epoch_writes_everything_in_place_of_an_earlier_demo(tmp_path, small):
    (tmp_path / "run-low-bit").mkdir()
    (tmp_path / "run-low-bit" / "recipe.toml").write_text("of an earlier demo")
    result, text = run_demo(tmp_path, "stage.epochs=1", "data.train_limit=100", "data.test_limit=40")
    assert len((tmp_path / "run-low-bit" / "metrics.jsonl").read_text().splitlines()) == 1
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored == result
    assert stored["accumulators_differ"] == 0 and stored["accumulators"] > 0
    assert stored["file_bytes"] == (tmp_path / "model.bitfold").stat().st_size < stored["file_bytes_float"]
    assert stored["latency_us_low_bit"] > 0 and stored["latency_us_float"] > 0 and stored["accuracy_float"] > 0
    assert set(rows.stamp()) <= set(stored)
    assert bitfold.load(tmp_path / "model.bitfold").name == "adabin_digits_cnn_digits"
    page = (tmp_path / "report.html").read_text()
    assert "UNTRAINED" in page and "0 of " in page
    assert "UNTRAINED" in text and "accumulators differ" in text and "speed-up" in text
    write_report(tmp_path / "run-low-bit", None, tmp_path / "new" / "r.html", None, 1, lambda words: None)
    assert "the float twin has untrained weights" in (tmp_path / "new" / "r.html").read_text()


@pytest.mark.train
def test_the_whole_demo_reaches_its_accuracy(tmp_path, small):
    result, _ = run_demo(tmp_path)
    assert result["accuracy_low_bit"] >= 97
    assert result["accumulators_differ"] == 0
