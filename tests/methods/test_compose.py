"""Methods put together: slots from two, hooks of all."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitfold
from bitfold import methods
from bitfold.errors import ConfigError
from bitfold.layers.activations import RPReLU, TwoSlope
from bitfold.layers.quant import QuantConv2d
from bitfold.methods.base import Forward, Method, Wrapper
from bitfold.quantizers.adabin import AdaBinActivation, AdaBinWeight
from bitfold.quantizers.rsign import RSign
from bitfold.quantizers.scaled_sign import ScaledSign


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))


def test_slots_come_from_two_methods_and_structure_from_both() -> None:
    model = bitfold.apply(net(), methods.get("compose", weight={"method": "adabin", "maxout": False}, act="reactnet"))
    layer = model[1]
    assert isinstance(layer, QuantConv2d) and isinstance(layer.weight_quant, AdaBinWeight) and isinstance(layer.act_quant, RSign)
    assert isinstance(model[3], RPReLU)
    model = bitfold.apply(net(), methods.get("compose", weight="xnor_net", act="adabin"))
    assert isinstance(model[1].weight_quant, ScaledSign) and isinstance(model[1].act_quant, AdaBinActivation)
    assert isinstance(model[3], TwoSlope)


def test_schedules_of_all_parts_run() -> None:
    method = methods.get("compose", weight="adabin", act="bireal")
    model = bitfold.apply(net(), method)
    method.before_step(model, 1.0)
    assert model[1].weight_quant.estimator.t.item() == pytest.approx(10.0)


def test_parameter_groups_keep_what_departs_from_the_default() -> None:
    method = methods.get("compose", weight="adabin", act="reactnet")
    model = bitfold.apply(net(), method)
    groups = method.param_groups(model, 1e-4)
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert len(decay) == sum(1 for _ in model.parameters())
    assert decay[id(model[1].weight)] == 1e-4 and decay[id(model[2].weight)] == 0.0  # ReActNet's rule


@dataclass(frozen=True, kw_only=True)
class AddOne(Wrapper):
    by: float = 1.0

    def taps(self, model: nn.Module) -> tuple[str, ...]:
        return (*super().taps(model), "1")

    def loss(self, model: nn.Module, forward: Forward) -> Tensor:
        return super().loss(model, forward) + self.by


def test_losses_are_chained_and_a_wrapper_in_also_comes_alone() -> None:
    s3 = methods.get("s3", shortcut=False)
    method = methods.get("compose", weight=s3, act="adabin", also=[AddOne(base="adabin", by=2.0), AddOne(by=4.0)])
    model = bitfold.apply(net(), method)
    assert method.taps(model) == ("1",)
    zero = torch.tensor(0.0)
    expected = s3.loss(model, Forward(None, zero, None, zero)) + 6
    assert method.loss(model, Forward(None, zero, None, zero)).item() == pytest.approx(expected.item())
    assert [type(p).__name__ for p in method.parts] == ["S3", "AdaBin", "AddOne", "AddOne"]


def test_a_wrapper_is_its_base_with_something_more() -> None:
    method = AddOne(base={"method": "s3", "bits": 4})
    assert method.shortcut  # the base's default
    model = bitfold.apply(net(), method)
    assert len(model[1].weight_quant.encoding(model[1].weight).alphabet()) == 2**4 - 1
    assert isinstance(method.parts[0], Method)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight": "adabn"}, "adabin"),
        ({"act": {"name": "adabin"}}, "method = name"),
        ({"act": {"method": "adabin", "maxot": True}}, "maxout"),
        ({"also": "adabin"}, "expected a list"),
        ({"weight": 3}, "expected a method"),
    ],
)
def test_refusals_name_the_field(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        methods.get("compose", **values)
