"""A small network of one-conv residual blocks for 8x8 one-channel digits (scikit-learn's scans)."""

import torch
from torch import Tensor, nn

from bitfold.models.common import Act, activation, conv3x3, make_shortcut


class OneConvBlock(nn.Module):
    """y = act(bn(conv(x)) + shortcut(x)): every 3x3 conv has its own shortcut (Bi-Real Net, arXiv 1808.00278)."""

    def __init__(self, in_channels: int, channels: int, stride: int, act: Act) -> None:
        super().__init__()
        self.conv = conv3x3(in_channels, channels, stride)
        self.bn = nn.BatchNorm2d(channels)
        self.act = activation(act, channels)
        self.shortcut = make_shortcut("avgpool_pad", in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)) + self.shortcut(x))


class DigitsCNN(nn.Module):
    """conv3x3 - BN - act - 2 blocks of ``width`` - 1 block to 2 ``width`` with stride 2 - 2 blocks - global mean - linear."""

    def __init__(self, *, num_classes: int, in_channels: int, width: int, act: Act) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = activation(act, width)
        shapes = [(width, width, 1), (width, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1), (2 * width, 2 * width, 1)]
        self.blocks = nn.Sequential(*(OneConvBlock(i, o, stride, act) for i, o, stride in shapes))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act1(self.bn1(self.conv1(x))))
        return self.linear(torch.flatten(self.pool(x), 1))


def digits_cnn(num_classes: int = 10, in_channels: int = 1, width: int = 32, act: Act = "hardtanh") -> DigitsCNN:
    """Six 3x3 convs with one shortcut each, for 8x8 digits; the network of ``bitfold demo``."""
    return DigitsCNN(num_classes=num_classes, in_channels=in_channels, width=width, act=act)
