"""Copies of a feature map side by side, and layers that compute fewer channels and copy them (RepConv)."""

import math
from fractions import Fraction

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError


class Tile(nn.Module):
    """The whole tensor ``copies`` times along channels: y_c = x_(c mod C). Not interleaved: (0, 1) twice is 0, 1, 0, 1.

    x: (N, C, ...) with ``channel_axis`` 1, (N, ..., C) with -1. The gradient of a channel is the sum over its copies.
    Reference: RepBNN, arXiv 2207.09049 (official code).
    """

    def __init__(self, copies: int, channel_axis: int = 1) -> None:
        super().__init__()
        self.copies, self.channel_axis = copies, channel_axis

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x] * self.copies, self.channel_axis)

    def extra_repr(self) -> str:
        return f"copies={self.copies}"


def tiled(path: str, layer: nn.Conv2d | nn.Linear, times: int, *, wide: bool) -> nn.Sequential:
    """A layer I -> O as RepConv: ``times`` I inputs, O / ``times`` outputs, copied to ``times`` O channels (``wide``) or to O.

    With ``wide`` the input is as wide already; without, it is tiled in front. Weights and products keep their number. Where ``times``
    does not divide O (or the groups do not divide the filters), the next larger number of filters that can be copied evenly is taken.
    """
    inputs, outputs, groups = channels(path, layer)
    total = times * outputs if wide else outputs
    filters = next(n for n in range(1, total + 1) if n >= Fraction(outputs, times) and total % n == 0 and n % groups == 0)
    axis = 1 if isinstance(layer, nn.Conv2d) else -1
    parts: list[nn.Module] = [resized(path, layer, times * inputs, filters), Tile(total // filters, axis)]
    return nn.Sequential(*parts) if wide else nn.Sequential(Tile(times, axis), *parts)


def channels(path: str, layer: nn.Conv2d | nn.Linear) -> tuple[int, int, int]:
    """(inputs, outputs, groups) of a plain layer; ConfigError for a subclass, which may do something else."""
    if type(layer) is nn.Conv2d:
        return layer.in_channels, layer.out_channels, layer.groups
    if type(layer) is nn.Linear:
        return layer.in_features, layer.out_features, 1
    raise ConfigError(f"layer {path!r} is a {type(layer).__name__}, a subclass with its own behaviour; allowed: nn.Conv2d and nn.Linear")


def resized(path: str, layer: nn.Conv2d | nn.Linear, inputs: int, outputs: int) -> nn.Conv2d | nn.Linear:
    """A new layer of the same kind and other widths. Its weights are drawn from N(0, s^2) with s such that outputs keep their variance
    (torch's global generator); copied ones would never differ. The bias is the old one, repeated or cut.
    """
    _, _, groups = channels(path, layer)
    new: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Conv2d):
        place = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, groups)
        new = nn.Conv2d(inputs, outputs, *place, layer.bias is not None, layer.padding_mode, layer.weight.device, layer.weight.dtype)  # type: ignore[arg-type]
    else:
        new = nn.Linear(inputs, outputs, layer.bias is not None, layer.weight.device, layer.weight.dtype)
    with torch.no_grad():
        spread = layer.weight.square().mean().sqrt() * math.sqrt(layer.weight[0].numel() / new.weight[0].numel())
        new.weight.normal_().mul_(spread)
        if layer.bias is not None and new.bias is not None:
            new.bias.copy_(layer.bias.repeat(-(-outputs // len(layer.bias)))[:outputs])
    return new.train(layer.training)
