"""AlexNet in the block order of XNOR-Net (Rastegari et al. 2016, arXiv 1603.05279): BatchNorm - convolution - ReLU - pooling.

Pooling comes after the convolution because the maximum of signs is nearly always +1. Sizes are those of the widely used PyTorch port:
227x227 without padding in the stem, which gives the same maps as the official 224x224 with padding 2. No bias in inner layers.
"""

import torch
from torch import Tensor, nn

from bitfold.models.common import Act, activation


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2)


class AlexNet(nn.Module):
    """Stem (conv 11x11/4 - BN - act - pool), four BN - conv - act blocks, two BN - linear - act blocks, then BN - dropout - linear.

    Widths are multiples of ``width``: 3, 8, 12, 12, 8 for the convs, 128 for the linear layers (96, 256, 384, 384, 256, 4096).
    The port's dropout inside the second linear block, between sign and product, has no place here; the official network has none.
    """

    def __init__(self, *, num_classes: int, in_channels: int, image_size: int, width: int, act: Act, dropout: bool) -> None:
        super().__init__()
        stem, c2, c3, c4, c5, hidden = (n * width for n in (3, 8, 12, 12, 8, 128))
        self.stem = nn.Sequential(nn.Conv2d(in_channels, stem, 11, 4, bias=False), nn.BatchNorm2d(stem), activation(act, stem), _pool())
        self.features = nn.Sequential(
            *_conv_block(stem, c2, 5, act),
            _pool(),
            *_conv_block(c2, c3, 3, act),
            *_conv_block(c3, c4, 3, act),
            *_conv_block(c4, c5, 3, act),
            _pool(),
        )
        size = (image_size - 11) // 4 + 1
        for _ in range(3):
            size = (size - 3) // 2 + 1
        flat = c5 * size**2
        self.hidden = nn.Sequential(*_linear_block(flat, hidden, act), *_linear_block(hidden, hidden, act))
        self.bn = nn.BatchNorm1d(hidden)
        self.dropout = nn.Dropout() if dropout else nn.Identity()
        self.linear = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(self.features(self.stem(x)), 1)
        return self.linear(self.dropout(self.bn(self.hidden(x))))


def _conv_block(in_channels: int, channels: int, kernel: int, act: Act) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False)
    return [nn.BatchNorm2d(in_channels, eps=1e-4), conv, activation(act, channels)]


def _linear_block(in_features: int, features: int, act: Act) -> list[nn.Module]:
    return [nn.BatchNorm1d(in_features, eps=1e-4), nn.Linear(in_features, features, bias=False), activation(act, features)]


def alexnet(
    num_classes: int = 1000, in_channels: int = 3, image_size: int = 227, width: int = 32, act: Act = "relu", dropout: bool = True
) -> AlexNet:
    """AlexNet with BatchNorm in front of each convolution (XNOR-Net's form); image_size of 67 or more."""
    return AlexNet(num_classes=num_classes, in_channels=in_channels, image_size=image_size, width=width, act=act, dropout=dropout)
