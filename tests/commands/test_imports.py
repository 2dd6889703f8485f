"""``bitfold import`` and what the other commands do with an imported run."""

from pathlib import Path

import numpy as np
import pytest
import torch

import bitfold
from bitfold import cli
from bitfold.commands import imports, study
from bitfold.data import NORMALIZE
from bitfold.errors import ConfigError
from bitfold.importers import get
from bitfold.training.run import build_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported run of made-up float weights."""
    folder = tmp_path_factory.mktemp("import")
    recipe = get("resnet20_float").load_recipe()
    torch.manual_seed(0)
    state = build_model(recipe, 0).state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "best_prec1": 91.7}, folder / "published.th")
    words = imports.import_file("resnet20_float", folder / "published.th", folder / "run")
    assert "best_prec1 = 91.70" in words and f"next: bitfold eval {folder / 'run'}" in words
    return folder / "run"


@pytest.mark.native
def test_an_imported_run_exports_with_its_origin(run: Path) -> None:
    from bitfold.commands.runs import export_run

    graph = export_run(run)
    assert graph.metadata["classes"].split("\n")[:2] == ["airplane", "automobile"] and graph.metadata["method"] == "float"
    assert graph.metadata["mean"] == " ".join(map(repr, NORMALIZE["imagenet"][0]))  # type: ignore[index]
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = bitfold.training.run.Run.load(run).model()(x).numpy()
    np.testing.assert_allclose(bitfold.load(graph)(x.numpy()), expected, rtol=1e-3, atol=1e-3)


def test_there_is_nothing_to_resume(run: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to resume"):
        cli.train(str(run / "recipe.toml"), out=run, resume=True)


def test_the_report_names_the_origin_and_draws_no_curve(run: Path) -> None:
    from bitfold.report import run as run_files
    from bitfold.training.run import Run

    facts = run_files.facts(run)
    assert "published.th (akamaster/pytorch_resnet_cifar10" in facts["imported"] and "trained on" not in facts
    assert study.curves(Run.load(run), None) == ()
