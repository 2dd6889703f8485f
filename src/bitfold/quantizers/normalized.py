"""A quantiser behind a normalisation of what it quantises."""

import torch
from torch import Tensor, nn

from bitfold.ir.encoding import Encoding
from bitfold.quantizers.base import Quantizer


class Normalized(Quantizer):
    """q(normalize(x)). For an input slot whatever per-channel map ``normalize`` is in evaluation (a BatchNorm, a shift) becomes part of
    the exported thresholds.

    Forward:  quantizer(normalize(x));  Backward: through both, exact in ``normalize``
    ``codes`` normalises as in evaluation, with running statistics.

    normalize: a module with channels along axis 1. Shape: any; kept. The inputs of linear layers, (..., C), are taken as (N, C).
    """

    def __init__(self, quantizer: Quantizer, normalize: nn.Module, channel_axis: int = 1) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.normalize = normalize
        self.channel_axis = channel_axis

    def _normalized(self, x: Tensor) -> Tensor:
        if self.channel_axis == 1:
            return self.normalize(x)
        return self.normalize(x.flatten(0, -2)).view_as(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.quantizer(self._normalized(x))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        training = self.normalize.training
        self.normalize.eval()
        try:
            return self.quantizer.codes(self._normalized(x))
        finally:
            self.normalize.train(training)

    @torch.no_grad()
    def encoding(self, x: Tensor | None = None) -> Encoding:
        return self.quantizer.encoding(None if x is None else self._normalized(x))
