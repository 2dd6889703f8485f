"""ReCU on a model: schedule, learned scale, no effect of the sample's deviation on the forward pass."""

import pytest
import torch
from torch import nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.ir.encoding import Binary
from bitfold.methods import get
from bitfold.quantizers.quantile_clamp import QuantileClamp


def small() -> nn.Module:
    body = [nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.Hardtanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), *body, nn.Linear(6, 4))


def test_schedule() -> None:
    method = get("recu")
    model = bitfold.apply(small(), method)
    (clamp,) = [m for m in model.modules() if isinstance(m, QuantileClamp)]
    for progress, tau in [(0.0, 0.85), (0.5, 0.90286), (1.0, 0.99)]:
        method.before_step(model, progress)
        assert clamp.tau.item() == pytest.approx(tau, abs=5e-6)


def test_layer_is_alpha_times_the_signs_of_centred_weights() -> None:
    torch.manual_seed(0)
    layer = bitfold.apply(small(), "recu")[1]
    alpha = layer.weight_quant.scale
    assert alpha.shape == (6, 1, 1, 1) and alpha.min() >= 0 and alpha.max() < 1 and alpha.unique().numel() == 6
    signs = torch.where(layer.weight - layer.weight.mean((1, 2, 3), keepdim=True) >= 0, 1.0, -1.0)
    x = torch.randn(2, 4, 7, 7)
    expected = nn.functional.conv2d(torch.where(x >= 0, 1.0, -1.0), signs, padding=1) * alpha.view(1, -1, 1, 1)
    for mode in (True, False):
        assert torch.allclose(layer.train(mode)(x), expected, atol=1e-5)
    encoding = layer.weight_quant.encoding(layer.weight)
    assert isinstance(encoding, Binary) and encoding.scale == pytest.approx(alpha.flatten().tolist())


def test_alpha_learns_the_sum_of_its_filter() -> None:
    torch.manual_seed(0)
    layer = bitfold.apply(small(), "recu")[1]
    x = torch.randn(2, 4, 7, 7)
    y = layer(x)
    g = torch.randn_like(y)
    (grad,) = torch.autograd.grad((y * g).sum(), layer.weight_quant.scale)
    expected = ((y * g).sum((0, 2, 3)) / layer.weight_quant.scale.flatten()).detach()
    assert torch.allclose(grad.flatten(), expected, rtol=1e-3, atol=1e-3)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="tau_min"):
        get("recu", tau_min=0.4)
    with pytest.raises(ConfigError, match="one weight per filter"):
        bitfold.apply(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1, groups=2), nn.Linear(2, 2)), "recu")
