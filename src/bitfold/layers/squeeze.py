"""Squeeze-and-excitation around a quantised convolution."""

from torch import Tensor, nn
from torch.nn import functional as F

from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantConv2d


class SqueezeExcite(nn.Module):
    """layer(x) * gate(x): one factor per output channel, from the mean of the real input.

    gate(x) = hard_sigmoid(W2 relu(W1 mean(x) + b1) + b2), hard_sigmoid(t) = clip(t / 6 + 1/2, 0, 1); W1 has max(C / reduction, 1) rows.

    The layer's parameters move to ``<path>.layer``; the two matrices stay in float. The hard sigmoid in place of the sigmoid of
    arXiv 1709.01507 (Hu et al.) and 2003.11535 (Martinez et al.: binary networks, mean of the real input, reduction 8) is that of
    MobileNetV3, arXiv 1905.02244: an affine and a clamp, which every device has.
    x: (N, C, H, W).
    """

    def __init__(self, layer: QuantConv2d, reduction: int = 8) -> None:
        super().__init__()
        if reduction < 1:
            raise ConfigError(f"SqueezeExcite: reduction={reduction}; allowed: 1 or more")
        hidden = max(layer.in_channels // reduction, 1)
        self.layer = layer
        self.squeeze = nn.Conv2d(layer.in_channels, hidden, 1).to(layer.weight)
        self.excite = nn.Conv2d(hidden, layer.out_channels, 1).to(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        gate = (self.excite(F.relu(self.squeeze(mean))) / 6 + 0.5).clamp(0, 1)
        return self.layer(x) * gate
