"""A non-finite number stops the run and names where it began."""

from pathlib import Path

import pytest
import torch
from tests.training.recipes import short
from torch import Tensor, nn

from bitfold.errors import TrainingError
from bitfold.training import train as module
from bitfold.training.nonfinite import locate


class Log(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log()


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


def test_names_the_innermost_module_first() -> None:
    model = nn.Sequential(nn.Identity(), nn.Sequential(nn.Identity(), Log()), nn.Linear(2, 2))
    assert "module '1.1' (Log)" in locate(model, lambda: model(-torch.ones(1, 2)).sum())
    assert "finite in a second pass" in locate(model, lambda: model(torch.ones(1, 2)).sum())
    assert "loss itself" in locate(model, lambda: model(torch.ones(1, 2)).sum() / 0)


def test_names_gradients_and_parameters() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), Root())
    nn.init.zeros_(model[0].weight)
    assert "gradient of parameter '0.weight'" in locate(model, lambda: model(torch.ones(1, 2)).sum())
    with torch.no_grad():
        model[0].weight[0, 0] = torch.inf
    assert "parameter '0.weight' (before" in locate(model, lambda: model(torch.ones(1, 2)).sum())


def test_names_a_norm_that_overflows() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    where = locate(model, lambda: (model(torch.ones(1, 2)) * torch.tensor([1.0, 1e25])).sum())
    assert where == "the gradient's norm, which overflows: the largest value is 1e+25, in that of parameter '1.bias'"


def test_training_stops_before_the_bad_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.build_model

    def broken(*args: object) -> nn.Module:
        model = real(*args)  # type: ignore[arg-type]
        model.blocks[2].bn = nn.Sequential(model.blocks[2].bn, Log())  # type: ignore[index, union-attr]
        return model

    monkeypatch.setattr(module, "build_model", broken)
    with pytest.raises(TrainingError, match=r"stage 0, epoch 1, batch 1: .*'blocks\.2\.bn\.1' \(Log\)"):
        module.train(short(), tmp_path, accelerator="cpu", quiet=True)
    assert not (tmp_path / "model.safetensors").exists()
