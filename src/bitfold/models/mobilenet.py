"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861) and ReActNet-A, its binary-friendly relative (Liu et al. 2020, arXiv 2003.03488).

ReActNet-A puts a dense 3x3 and a 1x1 convolution with one shortcut each where MobileNetV1 has its separable convolution; where the width
doubles, two 1x1 convolutions stand side by side, so that each can have a shortcut. Both networks share their widths and strides.
"""

import torch
from torch import Tensor, nn

from bitfold.layers.parallel import Parallel
from bitfold.models.common import Act, activation, conv3x3

_SHAPES = [(2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1)]  # width of a block over the stem's, stride


class Separable(nn.Module):
    """Depthwise 3x3 - BN - act - pointwise 1x1 - BN - act."""

    def __init__(self, in_channels: int, channels: int, stride: int, act: Act) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = activation(act, in_channels)
        self.conv2 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = activation(act, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act2(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x))))))


class ReActBlock(nn.Module):
    """t = act1(bn1(conv3x3(x)) + pool(x)); y = act2(bn2(conv1x1(t)) + t), twice side by side where the width doubles.

    Mean pooling of 2x2 where the stride is 2, identity else; sizes round up, as the strided conv beside it does. Activations are
    PReLUs with a slope per channel.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        branches = channels // in_channels
        self.conv1 = conv3x3(in_channels, in_channels, stride)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.shortcut = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.act1 = nn.PReLU(in_channels)
        self.conv2 = Parallel(nn.Conv2d(in_channels, in_channels, 1, bias=False) for _ in range(branches))
        self.bn2 = nn.ModuleList(nn.BatchNorm2d(in_channels) for _ in range(branches))
        self.act2 = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        t = self.act1(self.bn1(self.conv1(x)) + self.shortcut(x))
        parts = [bn(y) + t for bn, y in zip(self.bn2, self.conv2(t), strict=True)]
        return self.act2(parts[0] if len(parts) == 1 else torch.cat(parts, 1))


class MobileNet(nn.Module):
    """conv3x3 - BN - [act] - 13 blocks - global mean - linear."""

    def __init__(self, stem: nn.Sequential, blocks: list[nn.Module], features: int, num_classes: int) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))


def _shapes(width: int) -> list[tuple[int, int, int]]:
    """(in_channels, channels, stride) of the 13 blocks."""
    widths = [width, *(times * width for times, _ in _SHAPES)]
    return [(i, o, stride) for i, o, (_, stride) in zip(widths[:-1], widths[1:], _SHAPES, strict=True)]


def mobilenet_v1(num_classes: int = 1000, in_channels: int = 3, width: int = 32, stem_stride: int = 2, act: Act = "relu") -> MobileNet:
    """MobileNetV1: 13 separable convolutions of width 64 to 1024; width=16 is the multiplier 0.5, stem_stride=1 fits 32x32 images."""
    stem = nn.Sequential(conv3x3(in_channels, width, stem_stride), nn.BatchNorm2d(width), activation(act, width))
    return MobileNet(stem, [Separable(i, o, stride, act) for i, o, stride in _shapes(width)], 32 * width, num_classes)


def reactnet_a(num_classes: int = 1000, in_channels: int = 3, width: int = 32, stem_stride: int = 2) -> MobileNet:
    """ReActNet-A: 13 blocks of a dense 3x3 and a 1x1 convolution, one shortcut each; stem_stride=1 fits 32x32 images."""
    stem = nn.Sequential(conv3x3(in_channels, width, stem_stride), nn.BatchNorm2d(width))
    return MobileNet(stem, [ReActBlock(*shape) for shape in _shapes(width)], 32 * width, num_classes)
