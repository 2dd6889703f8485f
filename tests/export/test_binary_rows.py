"""Binary layers through export and engine: baselines.md 10.7, qnn.md 11.10."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import bitfold
from bitfold.ir import ops
from bitfold.layers.quant import QuantLinear
from bitfold.quantizers.rsign import RSign
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.weight_sign import WeightSign

pytestmark = pytest.mark.native


def test_batch_norm_and_sign_become_the_threshold_of_the_row() -> None:
    """gamma .8, beta -.3, mean 2, var 4, alpha .05, shift .1 before the sign, eps 1e-5: T = 50.0000125; 50 gives -1 and 52 gives +1."""
    first = QuantLinear(
        60, 1, bias=False, act_quant=Sign(), weight_quant=WeightSign(Sign(), "learned", scale_init=torch.full((1, 1), 0.05))
    )
    second = QuantLinear(1, 1, bias=False, act_quant=RSign(1, -1), weight_quant=Sign())
    norm = nn.BatchNorm1d(1, eps=1e-5)
    values = [(first.weight, 1), (second.weight, 1), (second.act_quant.shift, 0.1)]
    values += [(norm.weight, 0.8), (norm.bias, -0.3), (norm.running_mean, 2), (norm.running_var, 4)]
    with torch.no_grad():
        for tensor, value in values:
            tensor.fill_(value)
    assert (2 - (-0.3 + 0.1) * math.sqrt(4 + 1e-5) / 0.8) / 0.05 == pytest.approx(50.0000125, abs=1e-7)
    graph = bitfold.export(nn.Sequential(first, norm, second).eval(), torch.zeros(1, 60))
    assert not any(isinstance(node, ops.Affine) for node in graph.nodes)
    sums = np.arange(-60, 61, 2)
    x = np.where(np.arange(60) < (60 + sums[:, None]) // 2, 1, -1).astype(np.float32)  # rows with these sums
    assert (bitfold.load(graph)(x)[:, 0] == np.where(sums >= 52, 1, -1)).all()


@pytest.mark.parametrize("k", [1, 2, 3, 31, 33, 63, 64, 65, 127, 130, 200, 513])
def test_binary_product_is_the_float_product_of_signs(k: int, rng: np.random.Generator) -> None:
    layer = QuantLinear(k, 7, bias=False, act_quant=Sign(), weight_quant=Sign())
    graph = bitfold.export(nn.Sequential(layer).eval(), torch.zeros(1, k))
    x = rng.normal(size=(5, k)).astype(np.float32)
    expected = np.where(x >= 0, 1, -1) @ np.where(layer.weight.detach().numpy() >= 0, 1, -1).T
    assert (bitfold.load(graph)(x) == expected).all()
