"""Optimiser groups and averages."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from bitfold.errors import ConfigError
from bitfold.methods.base import Method
from bitfold.training.optim import Average, make_optimizer, set_lr
from bitfold.training.recipe import Stage


@dataclass(frozen=True, kw_only=True)
class Grouped(Method):
    forget: bool = False

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [{"params": [model.weight], "weight_decay": weight_decay, "lr_scale": 4.0}]
        return groups if self.forget else [*groups, {"params": [model.bias], "weight_decay": 0.0}]


def test_groups_keep_their_scale_through_the_schedule() -> None:
    stage = Stage(method="x", epochs=1, optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.01, schedule="constant")
    optimizer = make_optimizer(stage, Grouped(), nn.Linear(2, 2))
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.4, 0.1])
    set_lr(optimizer, 0.01)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.04, 0.01])
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.01, 0.0]
    with pytest.raises(ConfigError, match="leaves out bias"):
        make_optimizer(stage, Grouped(forget=True), nn.Linear(2, 2))


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_takes_its_betas(kind: Any) -> None:
    stage = Stage(method="x", epochs=1, optimizer=kind, lr=0.1, betas=(0.8, 0.9), schedule="constant")
    optimizer = make_optimizer(stage, Method(), nn.Linear(2, 2))
    assert type(optimizer).__name__.lower() == kind and optimizer.param_groups[0]["betas"] == (0.8, 0.9)


def test_average_follows_and_swaps_back() -> None:
    model = nn.BatchNorm1d(2)
    average = Average(model, 0.75)
    with torch.no_grad():
        model.weight.fill_(5.0)
        model.running_mean.fill_(3.0)
    average.update(model)
    average.swap(model)
    assert model.weight.tolist() == [2.0, 2.0] and model.running_mean.tolist() == [3.0, 3.0]  # 0.75 * 1 + 0.25 * 5; buffers copied
    average.swap(model)
    assert model.weight.tolist() == [5.0, 5.0]
