"""DoReFa-Net: weights, activations and gradients of few bits."""

import math

import pytest
import torch
from torch import Tensor, nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.ir.encoding import Binary, Float, Uniform
from bitfold.methods import get
from bitfold.quantizers.noisy_gradient import NoisyGradient, noisy_round
from bitfold.quantizers.tanh_odd import TanhOdd


def inner(**fields: object) -> nn.Module:
    model = bitfold.apply(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 3, bias=False), nn.Linear(5, 2)), get("dorefa", **fields))
    return model[1]  # type: ignore[no-any-return]


def test_one_bit_weights_have_one_scale_and_the_identity_gradient() -> None:
    layer = inner()
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-3, 3, layer.weight.numel()).view_as(layer.weight))
    y = layer.weight_quant(layer.weight)
    scale = layer.weight.abs().mean()
    assert torch.equal(y, scale * torch.where(layer.weight >= 0, 1.0, -1.0))
    g = torch.randn_like(y)
    (grad,) = torch.autograd.grad((y * g).sum(), layer.weight)
    assert torch.equal(grad, g)  # neither the scale nor a window in it
    assert layer.weight_quant.encoding(layer.weight) == Binary(scale=scale.item())


def test_activations() -> None:
    x = torch.tensor([-0.2, 0.0, 0.49, 0.5, 1.0, 1.2], requires_grad=True)
    for fields, values, slope in [
        ({}, [0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 0]),
        ({"act_bits": 2}, [0, 0, 1 / 3, 2 / 3, 1, 1], [0, 1, 1, 1, 1, 0]),
        ({"activation": "sign"}, [-1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]),
    ]:
        y = inner(**fields).act_quant(x)
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert y.tolist() == pytest.approx(values) and grad.tolist() == slope
    assert inner().act_quant.encoding() == Uniform(1, signed=False, scale=1.0)


def test_tanh_weights_of_two_bits() -> None:
    """w = atanh(.8, -.4, .1, 0): z = 1, -.5, .125, 0; levels +-1, +-1/3; the tie at 0 goes up."""
    w = torch.tensor([[math.atanh(0.8), math.atanh(-0.4), math.atanh(0.1), 0.0]], dtype=torch.float64, requires_grad=True)
    quantizer = TanhOdd(2)
    y = quantizer(w)
    assert y[0].tolist() == pytest.approx([1, -1 / 3, 1 / 3, 1 / 3])
    assert quantizer.codes(w)[0].tolist() == [3, -1, 1, 1]
    assert quantizer.encoding() == Uniform(3, signed=True, scale=1 / 3)
    g = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    (grad,) = torch.autograd.grad((y * g).sum(), w)

    def smooth(v: Tensor) -> Tensor:
        return (v.tanh() / v.tanh().abs().max() * g).sum()

    (expected,) = torch.autograd.grad(smooth(w), w)
    assert torch.allclose(grad, expected)


@pytest.mark.parametrize("bits", [1, 2, 6])
def test_gradients_lie_on_the_grid_and_are_right_on_average(bits: int) -> None:
    torch.manual_seed(0)
    grad = torch.tensor([[0.5, -0.2, 0.11, 0.0], [-8.0, 3.0, 1.0, 7.9], [0.0, 0.0, 0.0, 0.0]])
    draws = noisy_round(grad.repeat(4000, 1), bits).view(4000, 3, 4)
    steps = 2**bits - 1
    peak = torch.tensor([0.5, 8.0, 1.0])[:, None]
    index = (draws / peak + 1) * steps / 2
    assert torch.allclose(index[:, :2], index[:, :2].round(), atol=1e-4) and index.min() >= 0 and index.max() <= steps
    spread = 2 * peak / steps
    inside = (draws.mean(0) - grad)[:2, 1:]  # the largest itself may only fall
    assert (inside.abs() <= 0.03 * spread[:2] + 1e-6).all()
    assert draws[:, 2].abs().max() <= 1e-37


def test_gradient_slot() -> None:
    layer = inner(grad_bits=2)
    assert isinstance(layer.grad_quant, NoisyGradient)
    x = torch.randn(3, 4, requires_grad=True)
    y = layer.grad_quant(x)
    assert torch.equal(y, x)
    (y * torch.randn(3, 4)).sum().backward()
    assert all(row.abs().div(row.abs().max()).mul(3).round().unique().numel() <= 2 for row in x.grad)


def test_float_parts_and_refusals() -> None:
    layer = inner(weight_bits=0, act_bits=0)
    assert layer.weight_quant.encoding(layer.weight) == Float() and layer.act_quant.encoding() == Float()
    for fields in ({"weight_bits": 9}, {"act_bits": -1}, {"grad_bits": 17}, {"act_bits": 2, "activation": "sign"}):
        with pytest.raises(ConfigError, match="allowed"):
            get("dorefa", **fields)
    with pytest.raises(ConfigError, match="allowed: 1 to 16"):
        NoisyGradient(0)
