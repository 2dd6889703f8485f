"""XNOR-Net's scale of the inputs, one factor per output position."""

import torch.nn.functional as F
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantConv2d, QuantLayer, QuantLinear


class InputScale(nn.Module):
    """layer(x) * K(x): K is the mean of |x| over channels, averaged over each window of the conv, zeros outside counted.

    Plain tensor operations around the layer, so that a trace sees them. The layer's parameters move to ``<path>.layer``.
    Reference: Rastegari et al. 2016 (XNOR-Net), arXiv 1603.05279, Eq. 7-11.
    x: (N, C, H, W) for a conv, (N, ..., C) for a linear layer, whose K is the mean over features.
    """

    def __init__(self, layer: QuantLayer) -> None:
        super().__init__()
        if layer.bias is not None:
            raise ConfigError(f"InputScale: {layer} has a bias, which K would scale too; allowed: layers without bias")
        if isinstance(layer, QuantConv2d):
            small = all(isinstance(p, int) and 2 * p <= k for p, k in zip(layer.padding, layer.kernel_size, strict=False))
            if layer.groups != 1 or layer.dilation != (1, 1) or not small:
                raise ConfigError(f"InputScale: {layer}; allowed with K: groups=1, dilation=1, padding of at most half the kernel")
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, QuantLinear):
            return self.layer(x) * x.abs().mean(-1, keepdim=True)  # type: ignore[no-any-return]
        k = F.avg_pool2d(x.abs().mean(1, keepdim=True), self.layer.kernel_size, self.layer.stride, self.layer.padding)  # type: ignore[arg-type]
        return self.layer(x) * k  # type: ignore[no-any-return]
