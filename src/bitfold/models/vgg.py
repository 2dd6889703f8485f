"""VGG-Small for 32x32 images, as the binary-network papers use it (IR-Net, arXiv 1909.10788; pooling before BatchNorm)."""

import math

import torch
from torch import Tensor, nn

from bitfold.models.common import Act, activation, conv3x3


class VGGSmall(nn.Module):
    """Six 3x3 convs (128, 128, 256, 256, 512, 512), each - [maxpool 2 after every second] - BN - act; one linear layer.

    Conv weights N(0, 2 / (k k out_channels)), linear weights N(0, 0.01^2).
    """

    def __init__(self, *, num_classes: int, in_channels: int, image_size: int, act: Act) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = in_channels
        for i, channels in enumerate([128, 128, 256, 256, 512, 512]):
            layers.append(conv3x3(previous, channels))
            if i % 2 == 1:
                layers.append(nn.MaxPool2d(2))
            layers += [nn.BatchNorm2d(channels), activation(act, channels)]
            previous = channels
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(512 * (image_size // 8) ** 2, num_classes)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, math.sqrt(2 / (9 * module.out_channels)))
        nn.init.normal_(self.linear.weight, 0.0, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.flatten(self.features(x), 1))


def vgg_small(num_classes: int = 10, in_channels: int = 3, image_size: int = 32, act: Act = "hardtanh") -> VGGSmall:
    """VGG-Small: six 3x3 convs of width 128 to 512 and one linear layer, for CIFAR."""
    return VGGSmall(num_classes=num_classes, in_channels=in_channels, image_size=image_size, act=act)
