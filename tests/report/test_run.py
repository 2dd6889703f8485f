import json

import pytest

from bitfold.errors import DataError
from bitfold.report import run
from bitfold.report.content import Epoch


def test_curve_counts_epochs_through_all_stages(tmp_path):
    rows = [
        {"stage": 0, "epoch": 1, "train_loss": 2.0, "test_accuracy": 50.0},
        {"stage": 1, "epoch": 1, "train_loss": 1.0, "flip_rate": 0.25, "flips": {"conv": 0.25}},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert run.curve(tmp_path, "x").epochs == (Epoch(1, 2.0, 50.0, None), Epoch(2, 1.0, None, 0.25))


def test_a_broken_row_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"train_loss": 1}\n{"train')
    with pytest.raises(DataError, match="line 2"):
        run.curve(tmp_path, "x")


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(DataError, match=r"not the folder of a run: cannot read recipe\.toml"):
        run.recipe(tmp_path)


def test_facts_leave_out_what_is_unknown(tmp_path):
    table = {"recipe": "r", "seed": 0, "commit": None, "machine": {"cpu": "C", "gpus": ["G"]}, "versions": {"torch": "2"}, "started": "a"}
    (tmp_path / "run.json").write_text(json.dumps(table))
    expected = {"recipe": "r", "seed": "0", "trained on": "C, G", "trained": "a", "versions": "torch 2"}
    assert run.facts(tmp_path) == expected
