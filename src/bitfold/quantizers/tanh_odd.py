"""DoReFa's k-bit weights: odd levels of the weights squashed by a tanh."""

import torch
from torch import Tensor

from bitfold.quantizers.odd import OddQuant


class TanhOdd(OddQuant):
    """OddQuant of z = tanh(w) / max|tanh(w)| over the layer: 2^k levels from -1 to +1.

    Forward:  q(w) = 2 round((2^k - 1) (z / 2 + 1/2)) / (2^k - 1) - 1, ties away from zero (released code: to even)
    Backward: identity for the rounding; tanh and the maximum are differentiated

    Shape: any; kept.
    Reference: Zhou et al. 2016 (DoReFa-Net), arXiv 1606.06160, Eq. 9 (memory).
    """

    @staticmethod
    def squash(w: Tensor) -> Tensor:
        t = w.tanh()
        return t / t.abs().amax().clamp(min=torch.finfo(w.dtype).tiny)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.squash(x))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return super().codes(self.squash(x))
