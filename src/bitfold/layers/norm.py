"""Normalisation around binary layers: in front of their signs, and taking out the BatchNorms behind them."""

import torch
from torch import Tensor, nn

from bitfold.layers.quant import QuantConv2d, QuantLayer, QuantLinear, quant_layers
from bitfold.layers.swap import replace_modules
from bitfold.quantizers.base import along, per_filter


class MeanShift(nn.Module):
    """x - mean(x) per channel: a BatchNorm without a division, slope and shift. In evaluation the running mean, which folds.

    The mean is differentiated. With several processes each takes that of its own part of the batch.
    Shape: (N, C, ...), or (N, C) with ``channels`` = C; kept.
    """

    mean: Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x - along(self.mean, x, 1)
        mean = x.mean([d for d in range(x.ndim) if d != 1])
        with torch.no_grad():
            self.mean.lerp_(mean.detach().to(self.mean.dtype), self.momentum)
        return x - along(mean, x, 1)


class SampleStd(nn.Module):
    """While training x / sqrt(var(x) + 1e-5), var over all but the batch (unbiased), differentiated; in evaluation x itself.

    For signs without a threshold of their own, which do not care: only the window of their gradient follows the spread.
    Shape: (N, ...); kept. Reference: Xu et al. 2021 (ReCU), arXiv 2103.12369; released code.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.var(per_filter(x), keepdim=True) + 1e-5) if self.training else x


def batch_norm(layer: QuantLayer) -> nn.Module:
    """A new BatchNorm for the layer's input."""
    return nn.BatchNorm2d(layer.in_channels) if isinstance(layer, QuantConv2d) else nn.BatchNorm1d(layer.in_features)


def remove_norms_behind(model: nn.Module) -> int:
    """Takes out the BatchNorm behind every Quant layer, the next one in registration order if no other layer comes before it and it has
    the layer's width; returns how many. In place. Those inside a layer's quantisers stay."""
    gone: dict[nn.Module, nn.Module] = {}
    width: int | None = None
    inside = {m for layer in quant_layers(model) for m in layer.modules() if m is not layer}
    for module in model.modules():
        if module in inside:
            continue
        if isinstance(module, nn.Conv2d | nn.Linear):
            quantised = isinstance(module, QuantConv2d | QuantLinear)
            width = (module.out_channels if isinstance(module, nn.Conv2d) else module.out_features) if quantised else None
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.num_features == width:
            gone[module] = nn.Identity()
            width = None
    replace_modules(model, gone)
    return len(gone)
