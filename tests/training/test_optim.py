"""Optimiser groups and averages."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from bitfold.errors import ConfigError
from bitfold.methods.base import Method
from bitfold.training.optim import Average, Optimizers
from bitfold.training.recipe import Stage


@dataclass(frozen=True, kw_only=True)
class Grouped(Method):
    forget: bool = False

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [{"params": [model.weight], "weight_decay": weight_decay, "lr_scale": 4.0}]
        return groups if self.forget else [*groups, {"params": [model.bias], "weight_decay": 0.0}]


def test_groups_keep_their_scale_through_the_schedule() -> None:
    stage = Stage(method="x", epochs=1, optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.01, schedule="constant")
    optimizer = Optimizers(stage, Grouped(), nn.Linear(2, 2))
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.4, 0.1])
    optimizer.set_lr(0.1, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.04, 0.01])
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.01, 0.0]
    with pytest.raises(ConfigError, match="leaves out bias"):
        Optimizers(stage, Grouped(forget=True), nn.Linear(2, 2))


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_takes_its_betas(kind: Any) -> None:
    stage = Stage(method="x", epochs=1, optimizer=kind, lr=0.1, betas=(0.8, 0.9), schedule="constant")
    optimizer = Optimizers(stage, Method(), nn.Linear(2, 2))
    assert type(optimizer.parts[0]).__name__.lower() == kind and optimizer.param_groups[0]["betas"] == (0.8, 0.9)


@dataclass(frozen=True, kw_only=True)
class OwnOptimizer(Method):
    name: str = "adam"

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        own = {"optimizer": self.name, "lr": 0.5, "factor": lambda progress: 1 - progress, "options": {"betas": (0.5, 0.6)}}
        return [{"params": [model.weight], "weight_decay": weight_decay}, {"params": [model.bias], "weight_decay": 0.0, **own}]


def test_a_group_may_have_its_own_optimizer_and_schedule() -> None:
    stage = Stage(method="x", epochs=1, optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.01, schedule="constant")
    model = nn.Linear(2, 2)
    optimizer = Optimizers(stage, OwnOptimizer(), model)
    assert [type(part) for part in optimizer.parts] == [torch.optim.SGD, torch.optim.Adam]
    optimizer.set_lr(0.5, 0.9)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.05, 0.05])
    assert optimizer.parts[1].param_groups[0]["betas"] == (0.5, 0.6)
    before = model.bias.detach().clone()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.allclose(model.bias, before - 0.05)  # Adam's first step is the rate itself
    twin = Optimizers(stage, OwnOptimizer(), model)
    twin.load_state_dict(optimizer.state_dict())
    assert torch.equal(twin.parts[1].state[model.bias]["exp_avg"], optimizer.parts[1].state[model.bias]["exp_avg"])
    twin.set_lr(0.25, 0.8)  # loading makes new groups
    assert [g["lr"] for g in twin.param_groups] == pytest.approx([0.025, 0.1])
    with pytest.raises(ConfigError, match="adamw"):
        Optimizers(stage, OwnOptimizer(name="adan"), model)


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
