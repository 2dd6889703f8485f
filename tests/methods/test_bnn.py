"""BinaryNet: which parts are binary, how they round, latent weights or none."""

import math

import pytest
import torch
from torch import nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.ir.encoding import Binary, Float
from bitfold.layers.quant import QuantLinear, quant_layers
from bitfold.methods import get
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.stochastic_sign import StochasticSign


def small() -> nn.Module:
    body = [nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Hardtanh(), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Hardtanh(), *body, nn.Linear(6, 4))


def test_all_weights_are_binary_and_the_first_input_is_real() -> None:
    model = bitfold.apply(small(), "bnn")
    first, inner, last = model[0], model[3], model[7].layer
    for layer in (first, inner, last):
        assert layer.weight_quant.encoding(layer.weight) == Binary()  # no scale
    assert first.act_quant.encoding() == Float() and inner.act_quant.encoding() == last.act_quant.encoding() == Binary()
    partly = bitfold.apply(small(), get("bnn", first=False, last=False))
    assert type(partly[0]) is nn.Conv2d and type(partly[7]) is nn.Linear


def test_gradients_and_clipping() -> None:
    method = get("bnn")
    model = bitfold.apply(small(), method)
    weight = model[3].weight
    nn.init.normal_(weight, std=2.0)
    g = torch.randn_like(weight)
    (grad,) = torch.autograd.grad((model[3].weight_quant(weight) * g).sum(), weight)
    assert torch.equal(grad, g)  # applied to the latent weight unchanged, outside [-1, 1] too
    x = torch.tensor([-1.2, -1, 0.3, 1, 1.01], requires_grad=True)  # qnn.md 11.5
    (grad,) = torch.autograd.grad(model[3].act_quant(x).sum(), x)
    assert grad.tolist() == [0, 1, 1, 1, 0]
    before = weight.detach().clone()
    method.after_step(model, 0.5)
    assert torch.equal(weight, before.clamp(-1, 1)) and weight.abs().max() == 1


@pytest.mark.parametrize("name", ["bnn", "qnn"])
def test_a_batch_norm_behind_a_binary_classifier(name: str) -> None:
    fields = {"norm": "shift"} if name == "qnn" else {}
    model = bitfold.apply(small(), get(name, **fields))
    assert isinstance(model[7].layer, QuantLinear) and type(model[7].norm) is nn.BatchNorm1d  # a plain one, whatever the others are
    x = torch.randn(8, 3, 5, 5)
    y = model(x)
    assert torch.allclose(y.mean(0), torch.zeros(4), atol=1e-5) and y.abs().max() < 4
    assert isinstance(bitfold.apply(small(), get(name, output_norm=False))[7], QuantLinear)
    assert type(bitfold.apply(small(), get(name, last=False))[7]) is nn.Linear


def test_stochastic_rounding_is_for_training_alone() -> None:
    torch.manual_seed(0)
    model = bitfold.apply(small(), get("bnn", weight_rounding="stochastic", act_rounding="stochastic"))
    layer = model[3]
    assert isinstance(layer.weight_quant, StochasticSign) and layer.weight_quant.clip == math.inf
    x = torch.full((100_000,), 0.25)  # qnn.md 11.1
    for quantizer in (layer.weight_quant, layer.act_quant):
        assert quantizer(x).mean().item() == pytest.approx(0.25, abs=0.01)
        assert quantizer.eval()(x).unique().tolist() == [1]


def test_without_latent_weights() -> None:
    method = get("bnn", latent=False)
    plain = small()
    signs = torch.where(plain[3].weight >= 0, 1.0, -1.0)
    model = bitfold.apply(plain, method)
    assert torch.equal(model[3].weight, signs) and type(model[3].weight_quant) is Sign
    rest, binary = method.param_groups(model, 1e-4)
    assert {id(p) for p in binary["params"]} == {id(layer.weight) for layer in quant_layers(model)}
    assert binary["optimizer"] == "bop" and binary["lr"] == 1e-4 and binary["weight_decay"] == 0
    assert len(rest["params"]) + 3 == len(list(model.parameters())) and "optimizer" not in rest
    for fields in ({"latent": False, "weight_rounding": "stochastic"}, {"adaptivity": 0.0}, {"threshold": -1.0}):
        with pytest.raises(ConfigError, match="allowed"):
            get("bnn", **fields)
