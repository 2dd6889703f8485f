"""Multi-layer perceptron: linear - BatchNorm - activation, as in BinaryNet (Courbariaux et al. 2016, arXiv 1602.02830)."""

import torch
from torch import Tensor, nn

from bitfold.models.common import Act, activation


class MLP(nn.Module):
    """Flattens any input of in_channels * image_size^2 values; ``depth`` hidden layers of ``width``, then the classifier."""

    def __init__(self, *, num_classes: int, in_channels: int, image_size: int, width: int, depth: int, act: Act) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = in_channels * image_size**2
        for _ in range(depth):
            layers += [nn.Linear(previous, width, bias=False), nn.BatchNorm1d(width), activation(act, width)]
            previous = width
        self.hidden = nn.Sequential(*layers)
        self.linear = nn.Linear(previous, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.hidden(torch.flatten(x, 1)))


def mlp(num_classes: int = 10, in_channels: int = 1, image_size: int = 28, width: int = 512, depth: int = 3, act: Act = "hardtanh") -> MLP:
    """Hidden layers linear - BN - activation, for MNIST-like images."""
    return MLP(num_classes=num_classes, in_channels=in_channels, image_size=image_size, width=width, depth=depth, act=act)
