"""A small network with the parts of MobileNetV3: hardswish, depthwise convolutions, gates by hardsigmoid, residuals."""

import numpy as np
import pytest
import torch
from tests.export.nets import compare, inputs, kinds
from torch import Tensor, nn

import bitfold

pytestmark = pytest.mark.native


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(4, channels // 4)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1), nn.Hardsigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Block(nn.Module):
    def __init__(self, channels: int, wide: int, out: int, kernel: int, stride: int, act: type[nn.Module], gated: bool) -> None:
        super().__init__()
        self.adds = stride == 1 and channels == out
        depthwise = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        self.body = nn.Sequential(
            *(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), act(), depthwise, nn.BatchNorm2d(wide), act()),
            *(Gate(wide) if gated else nn.Identity(), nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def mobilenet_v3() -> nn.Module:
    stem = (nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
    blocks = (
        Block(8, 16, 8, 3, 1, nn.ReLU, True),
        Block(8, 40, 12, 5, 2, nn.Hardswish, True),
        Block(12, 30, 12, 3, 1, nn.Hardswish, False),
    )
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 16), nn.Hardswish(), nn.Linear(16, 5))


def test_mobilenet_v3(rng: np.random.Generator) -> None:
    torch.manual_seed(int(rng.integers(1 << 31)))
    model = mobilenet_v3()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.copy_(0.1 * inputs(rng, norm.num_features))
        norm.running_var.copy_(0.5 + inputs(rng, norm.num_features).abs())
    graph = compare(model, inputs(rng, 2, 3, 20, 20))
    assert {"Unary", "Mean", "Mul", "Add"} <= set(kinds(graph)) and "Affine" not in kinds(graph)
    gates = [row.op for row in bitfold.load(graph).kernels if row.op in ("Mean", "Mul")]
    assert gates == ["Mean", "Mul"] * 2 + ["Mean"]
