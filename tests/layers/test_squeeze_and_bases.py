"""Modules around a Quant layer: one gate per channel; several binary bases in its place."""

import math

import pytest
import torch
import torch.nn.functional as F

from bitfold.errors import ConfigError
from bitfold.layers.bases import Bases
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.layers.squeeze import SqueezeExcite
from bitfold.quantizers.sign import Sign


def layer(**options: object) -> QuantConv2d:
    torch.manual_seed(0)
    options = {"padding": 1, "bias": False, **options}
    return QuantConv2d(16, 4, 3, act_quant=Sign(), weight_quant=Sign(clip=math.inf), **options)  # type: ignore[arg-type]


def test_gate_is_that_of_the_mean_of_the_real_input() -> None:
    conv = layer()
    gate = SqueezeExcite(conv, reduction=8)
    assert gate.squeeze.weight.shape == (2, 16, 1, 1) and gate.excite.weight.shape == (4, 2, 1, 1)  # 2 C^2 / r if C does not change
    x = torch.randn(3, 16, 5, 4)
    hidden = F.relu(x.mean((2, 3)) @ gate.squeeze.weight[:, :, 0, 0].T + gate.squeeze.bias)
    factor = F.hardsigmoid(hidden @ gate.excite.weight[:, :, 0, 0].T + gate.excite.bias)
    assert torch.allclose(gate(x), conv(x) * factor[:, :, None, None], atol=1e-5)
    assert SqueezeExcite(conv, reduction=99).squeeze.out_channels == 1
    with pytest.raises(ConfigError, match="reduction=0"):
        SqueezeExcite(conv, 0)


def test_bases_sum_every_pair() -> None:
    conv = layer()
    bases = Bases(conv, weights=3, acts=2)
    assert [p.weight is conv.weight for p in bases.pairs] == [True] * 6
    with torch.no_grad():
        bases.mix.copy_(torch.arange(1.0, 7))
    x, w = torch.randn(2, 16, 5, 4), conv.weight.detach()
    spread = [w - w.mean() + u * w.std() for u in (-1.0, 0.0, 1.0)]
    shifted = [x - 0.5, x + 0.5]

    def signs(t: torch.Tensor) -> torch.Tensor:
        return torch.where(t >= 0, 1.0, -1.0)

    pairs = [F.conv2d(signs(a), signs(b), padding=1) for b in spread for a in shifted]
    expected = sum((i + 1) * y for i, y in enumerate(pairs))
    assert torch.allclose(bases(x), expected, atol=1e-4)
    bases(x).square().sum().backward()
    assert conv.weight.grad is not None and all(p.grad is not None for p in bases.parameters())
    assert len({id(p.weight_quant) for p in bases.pairs}) == 3 and len({id(p.act_quant) for p in bases.pairs}) == 2


def test_bases_of_a_linear_layer_and_a_bias() -> None:
    linear = QuantLinear(6, 3, bias=False, act_quant=Sign(), weight_quant=Sign())
    assert Bases(linear, 1, 2)(torch.randn(2, 7, 6)).shape == (2, 7, 3)
    with pytest.raises(ConfigError, match="without bias"):
        Bases(layer(bias=True), 2, 2)
