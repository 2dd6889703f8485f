"""ResNets for CIFAR (32x32) and ImageNet (224x224), normal or with one shortcut per convolution.

He et al. 2015, arXiv 1512.03385 (ResNet; CIFAR ResNet-20 with option-A shortcuts); Liu et al. 2018, arXiv 1808.00278 (Bi-Real Net:
a shortcut around every convolution, average-pool + 1x1 conv downsampling); Qin et al. 2020, arXiv 1909.10788 (hardtanh after each add,
BatchNorm on the pooled features). Parameter names are those of the usual PyTorch code; downsampling is called ``shortcut``.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from bitfold.models.common import Act, Shortcut, activation, conv3x3, make_shortcut

BlockKind: TypeAlias = Literal["double", "normal"]
Downsample: TypeAlias = Literal["avgpool_conv", "conv"]


class Block(nn.Module):
    """Two 3x3 convs, one shortcut each: u = act1(bn1(conv1(x)) + shortcut(x)); y = act2(bn2(conv2(u)) + u)."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: Shortcut, act: Act) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = activation(act, channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = activation(act, channels)
        self.shortcut = make_shortcut(shortcut, in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        u = self.act1(self.bn1(self.conv1(x)) + self.shortcut(x))
        return self.act2(self.bn2(self.conv2(u)) + u)


class NormalBlock(Block):
    """The same parts with one shortcut around both convs: y = act2(bn2(conv2(act1(bn1(conv1(x))))) + shortcut(x))."""

    def forward(self, x: Tensor) -> Tensor:
        u = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(u)) + self.shortcut(x))


_BLOCKS: dict[BlockKind, type[Block]] = {"double": Block, "normal": NormalBlock}


def _stages(widths: list[int], depths: list[int], block: BlockKind, shortcut: Shortcut, act: Act) -> list[nn.Sequential]:
    """Stages of blocks; the first block of every stage but the first halves the image."""
    stages, width = [], widths[0]
    for i, (channels, depth) in enumerate(zip(widths, depths, strict=True)):
        blocks = [
            _BLOCKS[block](width if j == 0 else channels, channels, 2 if i > 0 and j == 0 else 1, shortcut, act) for j in range(depth)
        ]
        stages.append(nn.Sequential(*blocks))
        width = channels
    return stages


class CifarResNet(nn.Module):
    """conv3x3 - BN - [act] - 3 or 4 stages - global mean - [BN] - linear. Kaiming-normal weights (fan-in)."""

    def __init__(
        self,
        widths: list[int],
        depths: list[int],
        *,
        num_classes: int,
        in_channels: int,
        block: BlockKind,
        shortcut: Shortcut,
        act: Act,
        stem_act: bool,
        pooled_bn: bool,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act1 = activation(act, widths[0]) if stem_act else nn.Identity()
        stages: list[nn.Module] = [*_stages(widths, depths, block, shortcut, act)]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages if len(stages) == 4 else [*stages, nn.Identity()]
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.bn2 = nn.BatchNorm1d(widths[-1]) if pooled_bn else nn.Identity()
        self.linear = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(self.bn2(torch.flatten(self.pool(x), 1)))


class ImageNetResNet(nn.Module):
    """conv7x7/2 - BN - [act] - maxpool3/2 - 4 stages - global mean - [BN] - fc. Conv weights N(0, 2 / (k k out_channels))."""

    def __init__(
        self, depths: list[int], *, num_classes: int, in_channels: int, downsample: Downsample, act: Act, stem_act: bool, pooled_bn: bool
    ) -> None:
        super().__init__()
        widths = [64, 128, 256, 512]
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.act1 = activation(act, 64) if stem_act else nn.Identity()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = _stages(widths, depths, "double", downsample, act)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.bn2 = nn.BatchNorm1d(512) if pooled_bn else nn.Identity()
        self.fc = nn.Linear(512, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.bn2(torch.flatten(self.avgpool(x), 1)))


def resnet20(
    num_classes: int = 10,
    in_channels: int = 3,
    block: BlockKind = "double",
    shortcut: Shortcut = "subsample_pad",
    act: Act = "hardtanh",
    stem_act: bool = True,
    pooled_bn: bool = True,
) -> CifarResNet:
    """CIFAR ResNet-20, widths 16/32/64; by default double-skip blocks with option-A shortcuts (IR-Net's and AdaBin's form)."""
    return CifarResNet(
        [16, 32, 64],
        [3, 3, 3],
        num_classes=num_classes,
        in_channels=in_channels,
        block=block,
        shortcut=shortcut,
        act=act,
        stem_act=stem_act,
        pooled_bn=pooled_bn,
    )


def resnet18(
    num_classes: int = 10,
    in_channels: int = 3,
    block: BlockKind = "normal",
    shortcut: Shortcut = "conv",
    act: Act = "hardtanh",
    stem_act: bool = False,
    pooled_bn: bool = True,
) -> CifarResNet:
    """CIFAR ResNet-18, widths 64 to 512; by default normal blocks, 1x1-conv shortcuts, no activation after the stem (IR-Net's form)."""
    return CifarResNet(
        [64, 128, 256, 512],
        [2, 2, 2, 2],
        num_classes=num_classes,
        in_channels=in_channels,
        block=block,
        shortcut=shortcut,
        act=act,
        stem_act=stem_act,
        pooled_bn=pooled_bn,
    )


def resnet18_imagenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    downsample: Downsample = "avgpool_conv",
    act: Act = "identity",
    stem_act: bool = False,
    pooled_bn: bool = False,
) -> ImageNetResNet:
    """ImageNet ResNet-18, one shortcut per conv; by default Bi-Real Net's form (no activation, average-pool downsampling)."""
    return ImageNetResNet(
        [2, 2, 2, 2],
        num_classes=num_classes,
        in_channels=in_channels,
        downsample=downsample,
        act=act,
        stem_act=stem_act,
        pooled_bn=pooled_bn,
    )


def resnet34_imagenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    downsample: Downsample = "avgpool_conv",
    act: Act = "identity",
    stem_act: bool = False,
    pooled_bn: bool = False,
) -> ImageNetResNet:
    """ImageNet ResNet-34, one shortcut per conv; by default Bi-Real Net's form (no activation, average-pool downsampling)."""
    return ImageNetResNet(
        [3, 4, 6, 3],
        num_classes=num_classes,
        in_channels=in_channels,
        downsample=downsample,
        act=act,
        stem_act=stem_act,
        pooled_bn=pooled_bn,
    )
