"""Learned activations per channel, and the walk that puts them in place of plain ones."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.layers.quant import quant_layers
from bitfold.layers.swap import replace_modules
from bitfold.layers.tile import Tile
from bitfold.quantizers.base import along

PLAIN = (nn.ReLU, nn.Hardtanh, nn.PReLU)  # nn.ReLU6 is a Hardtanh


def two_slopes(x: Tensor, pos: Tensor | None, neg: Tensor) -> Tensor:
    """x pos where x > 0 (None: x itself), x neg elsewhere; pos and neg of one shape that broadcasts against x.

    A function of its own, because the backward passes of torch.where and F.prelu take ten times as long on a CPU in eager mode.
    """
    return _TwoSlopes.apply(x, pos, neg)  # type: ignore[no-any-return, no-untyped-call]


class _TwoSlopes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pos: Tensor | None, neg: Tensor) -> Tensor:
        ctx.save_for_backward(x, pos, neg)
        left, right = x.clamp(max=0).mul_(neg), x.relu()
        # a view: compiled by PyTorch 2.11, a function that returns what it changed in place has no gradient
        return left.add_(right if pos is None else right.mul_(pos)).view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:  # type: ignore[override]
        x, pos, neg = ctx.saved_tensors
        right = torch.ops.aten.threshold_backward(gradient, x, 0)  # the gradient where x > 0
        left = gradient - right
        d_neg = (left * x).sum_to_size(neg.shape)
        if pos is None:
            return left.mul_(neg).add_(right), None, d_neg
        d_pos = (right * x).sum_to_size(pos.shape)
        return left.mul_(neg).add_(right.mul_(pos)), d_pos, d_neg


class TwoSlope(nn.Module):
    """M(x) = pos relu(x) - neg relu(-x): one slope right of zero, one left, learned per channel. AdaBin's "Maxout".

    Slopes may become negative, so M need not be monotone.
    Shape: any, ``channels`` along ``channel_axis``; kept. Reference: arXiv 2208.08084 (official code); starts at 1 and 0.25.
    """

    def __init__(self, channels: int, channel_axis: int = 1) -> None:
        super().__init__()
        self.channel_axis = channel_axis
        self.pos = nn.Parameter(torch.ones(channels))
        self.neg = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return two_slopes(x, along(self.pos, x, self.channel_axis), along(self.neg, x, self.channel_axis))


class RPReLU(nn.Module):
    """t = x + shift_in; y = (t if t > 0 else neg t) + shift_out, learned per channel. The paper's gamma is -shift_in.

    Shape: any, ``channels`` along ``channel_axis``; kept. Reference: ReActNet, arXiv 2003.03488; shifts start at 0, slope at 0.25.
    """

    def __init__(self, channels: int, channel_axis: int = 1) -> None:
        super().__init__()
        self.channel_axis = channel_axis
        self.shift_in = nn.Parameter(torch.zeros(channels))
        self.neg = nn.Parameter(torch.full((channels,), 0.25))
        self.shift_out = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        t = x + along(self.shift_in, x, self.channel_axis)
        return two_slopes(t, None, along(self.neg, x, self.channel_axis)) + along(self.shift_out, x, self.channel_axis)


def replace_activations(model: nn.Module, make: Callable[[int, int], nn.Module]) -> int:
    """Puts ``make(channels, channel_axis)`` in place of every nn.ReLU, nn.Hardtanh and nn.PReLU of ``model``; returns how many.

    A module does not know how many channels it will meet, unless it is a PReLU with a slope for each: they are those of the nearest
    BatchNorm, conv, linear layer or Tile before it in registration order (the order of ``named_modules``). A module held in several
    places becomes one module, held in the same places. Raises ConfigError, before anything is changed, for an activation with no such
    layer before it.
    """
    new: dict[nn.Module, nn.Module] = {}
    width: tuple[int, int] | None = None
    device = dtype = None
    inside = {m for layer in quant_layers(model) for m in layer.modules() if m is not layer}
    for name, module in model.named_modules():
        if module in inside:  # what a layer's quantisers hold says nothing about its output
            continue
        if isinstance(module, PLAIN):
            if width is None:
                raise ConfigError(f"activation {name!r} has no BatchNorm, conv or linear layer before it to tell its channels")
            channels = module.num_parameters if isinstance(module, nn.PReLU) and module.num_parameters > 1 else width[0]
            new[module] = make(channels, width[1]).to(device=device, dtype=dtype).train(module.training)
            continue
        if isinstance(module, Tile) and width is not None:
            width = (module.copies * width[0], width[1])
        width = _out_width(module) or width
        if isinstance(module, nn.Conv2d | nn.Linear):
            device, dtype = module.weight.device, module.weight.dtype
    replace_modules(model, new)
    return len(new)


def _out_width(module: nn.Module) -> tuple[int, int] | None:
    """(channels, axis of the channels) of what a layer puts out."""
    if isinstance(module, nn.Conv2d):
        return module.out_channels, 1
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return module.num_features, 1
    if isinstance(module, nn.Linear):
        return module.out_features, -1
    return None
