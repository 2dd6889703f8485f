"""BNN's stochastic binarisation."""

import torch
from torch import Tensor

from bitfold.quantizers.base import straight_through
from bitfold.quantizers.sign import Sign


class StochasticSign(Sign):
    """A random sign while training, the plain sign otherwise.

    Forward:  training: +1 with probability clip((x + 1) / 2, 0, 1), else -1; evaluation, ``codes``: +1 if x >= 0 else -1
    Backward: that of Sign: 1 if |x| <= clip else 0

    Shape: any; kept.
    Reference: Hubara et al. 2016, arXiv 1602.02830 and 1609.07061; released Torch code (activations, while training only).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        p = ((x.detach() + 1) / 2).clamp(0, 1)
        return straight_through(torch.where(torch.rand_like(p) < p, 1.0, -1.0).to(x.dtype), self.surrogate(x))
