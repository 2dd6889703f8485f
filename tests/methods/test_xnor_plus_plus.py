"""XNOR-Net++: learned scales over channels, rows and columns; their deployed form."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitfold
from bitfold import models
from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantConv2d
from bitfold.layers.scale_map import ScaleMap
from bitfold.methods import get


def small() -> nn.Module:
    body = [
        nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.Hardtanh(),
        nn.Conv2d(6, 5, 3, padding=1, bias=False),
    ]
    head = [nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)]
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), *body, *head)


def outer(size: tuple[int, int] = (9, 12)) -> nn.Module:
    torch.manual_seed(0)
    model = bitfold.apply(small(), get("xnor_plus_plus", scale="outer", image_size=size))
    for m in model.modules():
        if isinstance(m, QuantConv2d):
            nn.init.uniform_(m.weight_quant.scale, 0.5, 2)
        elif isinstance(m, ScaleMap):
            nn.init.uniform_(m.row, -1, 2)
            nn.init.uniform_(m.column, 0.5, 2)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.bias, 0.1, 0.3)  # no threshold at 0, where sums of +-alpha in float32 miss the exact 0
    return model


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def test_outer_product_of_three_vectors() -> None:
    model = outer()
    layer, scale = model[1].layer, model[1].map
    assert (len(scale.row), len(scale.column)) == (4, 5)  # 9 x 12 -> 7 x 10 -> 4 x 5
    x = torch.randn(2, 4, 7, 10)
    product = nn.functional.conv2d(sign(x), sign(layer.weight), stride=2, padding=1)
    alpha = layer.weight_quant.scale.view(1, -1, 1, 1)
    gamma = alpha * scale.row.view(1, 1, -1, 1) * scale.column.view(1, 1, 1, -1)
    y = model[1](x)
    assert torch.allclose(y, product * gamma, atol=1e-5)
    g = torch.randn_like(y)
    parts = [layer.weight_quant.scale, scale.row, scale.column]
    got = torch.autograd.grad((y * g).sum(), parts)
    expected = torch.autograd.grad((product.detach() * gamma * g).sum(), parts)
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_channel_scale_starts_at_one_with_a_strict_window() -> None:
    layer = bitfold.apply(small(), "xnor_plus_plus")[1]
    assert torch.equal(layer.weight_quant(layer.weight), sign(layer.weight))
    x = torch.tensor([-1.0, -0.99, 0.5, 1.0], requires_grad=True)
    (grad,) = torch.autograd.grad(layer.act_quant(x).sum(), x)
    assert grad.tolist() == [0, 1, 1, 0]


def test_finding_the_sizes_changes_nothing() -> None:
    plain = small()
    plain[2].eval()
    before = {k: v.clone() for k, v in plain.state_dict().items()}
    model = bitfold.apply(plain, get("xnor_plus_plus", scale="outer", image_size=(8, 8)))
    after = model.state_dict()
    assert all(torch.equal(v, after[k if k in after else k.replace(".weight", ".layer.weight")]) for k, v in before.items())
    assert [m.training for m in (model[0], model[1], model[1].layer, model[1].map, model[2])] == [True, True, True, True, False]
    assert not model[1].layer._forward_hooks


def test_export_multiplies_by_the_very_image() -> None:
    model = outer().eval()
    x = torch.randn(3, 3, 9, 12)
    graph = bitfold.export(model, x[:1])
    report = bitfold.verify(model, graph, x)
    assert report.accumulators_differ == 0
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(bitfold.load(graph)(x.numpy()), expected, rtol=1e-5, atol=1e-5)
    lone = bitfold.export(nn.Sequential(model[1].map), torch.ones(1, 6, 4, 5))
    ones = np.ones((2, 6, 4, 5), np.float32)
    image = (model[1].map.row[:, None] * model[1].map.column).detach().numpy()
    for run in (bitfold.load(lone), lambda v: bitfold.interpret(lone, v)):
        assert (run(ones) == image).all()  # bit for bit


def test_resnet20() -> None:
    model = bitfold.apply(models.create("resnet20"), get("xnor_plus_plus", scale="outer", image_size=(32, 32))).eval()
    maps = [m for m in model.modules() if isinstance(m, ScaleMap)]
    assert [len(m.row) for m in maps] == [32] * 6 + [16] * 6 + [8] * 6


def test_refusals() -> None:
    for fields in (
        {"scale": "outer"},
        {"image_size": (3, 3)},
        {"scale": "outer", "image_size": (3,)},
        {"scale": "outer", "image_size": (0, 3)},
    ):
        with pytest.raises(ConfigError, match="allowed: scale='channel' without"):
            get("xnor_plus_plus", **fields)
    with pytest.raises(ConfigError, match="allowed: height 4 and width 5"):
        outer()[1].map(torch.zeros(1, 6, 5, 4))
    biased = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ConfigError, match=r"layer '1': xnor_plus_plus: a bias.*allowed: no bias"):
        bitfold.apply(biased, get("xnor_plus_plus", scale="outer", image_size=(1, 1)))
    conv = nn.Conv2d(3, 3, 2, bias=False)
    shared = nn.Sequential(nn.Conv2d(3, 3, 1), conv, conv, nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(ConfigError, match="one size"):
        bitfold.apply(shared, get("xnor_plus_plus", scale="outer", image_size=(3, 3)))
