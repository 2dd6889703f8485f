"""A BatchNorm behind the classifier: sums of +-1 are too large for a loss."""

from collections import OrderedDict

from torch import nn

from bitfold.layers.quant import QuantConv2d, QuantLayer
from bitfold.layers.swap import wrap_layers


def norm_outputs(model: nn.Module) -> nn.Module:
    """Puts a BatchNorm behind the Quant layer whose role is "last"; nothing where that one is in float. In place, but for a bare layer.

    The layer's parameters move to ``<path>.layer``, the BatchNorm's are at ``<path>.norm``. Returns the model.
    Reference: BinaryNet's released codes (arXiv 1602.02830), all of which end so.
    """

    def behind(layer: QuantLayer) -> nn.Module:
        if layer.role != "last":
            return layer
        norm: nn.Module = nn.BatchNorm2d(layer.out_channels) if isinstance(layer, QuantConv2d) else nn.BatchNorm1d(layer.out_features)
        norm = norm.to(device=layer.weight.device, dtype=layer.weight.dtype)
        return nn.Sequential(OrderedDict(layer=layer, norm=norm)).train(layer.training)

    return wrap_layers(model, behind)
