"""Errors under corruptions and their mean against a baseline, of modules, callables and runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.recipes import TEXT, short
from torch import nn
from typer.testing import CliRunner

import bitfold
from bitfold.cli import app
from bitfold.commands.robust import _names
from bitfold.data import Loader, load
from bitfold.data.corruptions import COMMON
from bitfold.errors import ConfigError
from bitfold.training.robustness import Robustness

A = Robustness(10, 5.0, {"fog": {1: 10.0, 2: 30.0}, "snow": {1: 20.0, 2: 20.0}})
B = Robustness(10, 4.0, {"fog": {1: 20.0, 2: 30.0}, "snow": {1: 8.0, 2: 24.0}})


def test_means() -> None:
    assert A.mean == 20
    assert A.ce(B) == {"fog": pytest.approx(80), "snow": pytest.approx(125)} and A.mce(B) == pytest.approx(102.5)
    assert A.mce(A) == 100
    assert A.rows() == [
        {"corruption": "fog", "1": 10, "2": 30, "mean": 20},
        {"corruption": "snow", "1": 20, "2": 20, "mean": 20},
        {"corruption": "mean", "1": 15, "2": 25, "mean": 20},
        {"corruption": "clean", "1": "", "2": "", "mean": 5},
    ]
    assert [(row["baseline"], row["CE"]) for row in A.rows(B)] == [(25, 80), (16, 125), (20.5, 102.5), (4, "")]


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match="both must agree"):
        A.ce(Robustness(9, 4.0, B.errors))
    with pytest.raises(ConfigError, match="both must agree"):
        A.ce(Robustness(10, 4.0, {"fog": B.errors["fog"]}))
    with pytest.raises(ConfigError, match="makes no error under 'fog'"):
        A.ce(Robustness(10, 0.0, {"fog": {1: 0.0, 2: 0.0}, "snow": {1: 1.0, 2: 1.0}}))


def digits() -> Loader:
    return Loader(load("digits", "test").head(60), 25, shuffle=False, drop_last=False, normalize="unit")


def test_a_module_and_a_function_meet_the_same_images() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    weight, bias = model[1].weight.detach().numpy(), model[1].bias.detach().numpy()
    seen: list[str] = []
    names, severities = ("gaussian_noise", "contrast"), (5, 2)
    found = bitfold.evaluate_corruptions(model, digits(), names, severities, note=seen.append)
    assert (
        seen == list(names)
        and found.images == 60
        and {name: list(row) for name, row in found.errors.items()} == {name: [5, 2] for name in names}
    )
    again = bitfold.evaluate_corruptions(lambda x: x.reshape(len(x), -1) @ weight.T + bias, digits(), names, severities)
    assert again == found
    other = bitfold.evaluate_corruptions(model, digits(), ["gaussian_noise"], [5], seed=1)
    assert other.clean == found.clean == 100 - bitfold.evaluate(model, digits())["accuracy"]


def test_corruption_comes_before_normalisation() -> None:
    """A network that looks at the mean: contrast keeps it, brightness does not; values stay in [0, 1] with normalize "unit"."""
    sums: list[float] = []

    def network(x: np.ndarray) -> np.ndarray:
        assert x.min() >= 0 and x.max() <= 1
        sums.append(float(x.sum()))
        return np.eye(10, dtype=np.float32)[np.zeros(len(x), dtype=int)]

    bitfold.evaluate_corruptions(network, digits(), ["brightness"], [5])
    assert sum(sums[3:]) > 1.5 * sum(sums[:3])  # three batches of clean images, three of corrupted ones


def test_nothing_to_do_is_refused() -> None:
    for names, severities in (((), (1,)), (("fog",), ())):
        with pytest.raises(ConfigError, match="nothing to do"):
            bitfold.evaluate_corruptions(nn.Identity(), digits(), names, severities)
    with pytest.raises(ConfigError, match="unknown corruption 'fgo'"):
        bitfold.evaluate_corruptions(nn.Identity(), digits(), ["fog", "fgo"])
    with pytest.raises(ConfigError, match=r"59 samples.* in place of 60"):
        digits().over(load("digits", "test").head(59))


def test_eval_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    bitfold.train(short("stage.epochs=1", text=TEXT.replace('"adabin"', '"float"')), run, quiet=True)
    options = ["--corruptions", "contrast,saturate", "--severities", "1,4-5", "--limit", "40"]
    result = CliRunner().invoke(app, ["eval", str(run), "--corruptions", "contrast", *options[2:], "--baseline", str(run), "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["corruption"] for row in rows] == ["contrast", "mean", "clean"]
    assert list(rows[0]) == ["corruption", "1", "4", "5", "mean", "baseline", "CE"] and rows[0]["CE"] == rows[1]["CE"] == 100
    clean = bitfold.evaluate(
        bitfold.training.run.Run.load(run).model(), bitfold.training.loaders.test_loader(short("data.test_limit=40"), None)
    )
    assert rows[2]["mean"] == pytest.approx(100 - clean["accuracy"])
    assert len(COMMON) == 15 and _names("all,fog,-frost, -snow") == tuple(n for n in COMMON if n not in ("frost", "snow"))
    for arguments, message in [
        (options, "1 channels; allowed: 3"),
        (["--corruptions", "blur"], "unknown corruption 'blur'"),
        (["--corruptions", "all,-blur"], "unknown corruption 'blur'"),
        (["--corruptions", "all", "--severities", "a-5"], "expected numbers of 1 to 5"),
        (["--limit", "5"], "belong to --corruptions"),
    ]:
        error = CliRunner().invoke(app, ["eval", str(run), *arguments]).exception
        assert isinstance(error, ConfigError) and message in str(error)
