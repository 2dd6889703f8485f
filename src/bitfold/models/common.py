"""Small parts that several families share. Everything here traces into plain PyTorch operations without a branch on shapes."""

from typing import Literal, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

Act: TypeAlias = Literal["hardtanh", "relu", "prelu", "identity"]


def activation(kind: Act, channels: int) -> nn.Module:
    """A new activation module; PReLU has one slope (0.25) per channel."""
    if kind == "hardtanh":
        return nn.Hardtanh()
    if kind == "relu":
        return nn.ReLU()
    if kind == "prelu":
        return nn.PReLU(channels)
    return nn.Identity()


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


class Subsample(nn.Module):
    """Every ``stride``-th pixel: (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride]

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class ChannelPad(nn.Module):
    """Zero channels in front and behind: (N, C, H, W) -> (N, before + C + after, H, W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))

    def widened(self, times: int) -> "ChannelPad":
        """The same for tensors ``times`` as wide."""
        return ChannelPad(times * self.before, times * self.after)

    def extra_repr(self) -> str:
        return f"before={self.before}, after={self.after}"


Shortcut: TypeAlias = Literal["subsample_pad", "avgpool_pad", "conv", "avgpool_conv"]


def make_shortcut(kind: Shortcut, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The residual path of a block: identity where shapes agree, else ``kind``.

    subsample_pad: every second pixel, zero channels on both sides (option A). avgpool_pad: mean of 2x2 instead of subsampling.
    conv: strided 1x1 conv + BN (option B). avgpool_conv: mean of 2x2, then 1x1 conv + BN (Bi-Real Net).
    Pooling rounds sizes up, as the strided 3x3 conv beside it does, so that odd sizes work; even sizes are not affected.
    """
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    pool = nn.AvgPool2d(stride, stride, ceil_mode=True) if stride > 1 else nn.Identity()
    extra = out_channels - in_channels
    pad = ChannelPad(extra // 2, extra - extra // 2)
    if kind == "subsample_pad":
        return nn.Sequential(Subsample(stride), pad)
    if kind == "avgpool_pad":
        return nn.Sequential(pool, pad)
    if kind == "conv":
        return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
    return nn.Sequential(pool, nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
