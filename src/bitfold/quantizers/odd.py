"""XNOR-Net's k-bit generalisation of the sign: 2^k levels from -1 to +1, none at zero."""

import torch
from torch import Tensor

from bitfold.errors import ConfigError
from bitfold.ir.encoding import Uniform
from bitfold.quantizers.base import Quantizer, straight_through
from bitfold.quantizers.rounding import round_half_away


class OddQuant(Quantizer):
    """2^k evenly spaced values, symmetric, zero not among them; k = 1 is the sign.

    Forward:  q(x) = 2 (round((2^k - 1) (x + 1) / 2) / (2^k - 1) - 1/2), x clipped to [-1, 1], ties away from zero
    Backward: 1 if |x| <= 1 else 0

    Codes are the odd integers -(2^k - 1)..2^k - 1 and stand for code / (2^k - 1); they need k + 1 bits as integers with a zero.

    Shape: any; kept.
    Reference: Rastegari et al. 2016 (XNOR-Net), arXiv 1603.05279, section on k-bit quantisation.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not 2 <= bits <= 8:
            raise ConfigError(f"OddQuant: bits={bits}; allowed: 2 to 8 (one bit is Sign)")
        self.bits = bits
        self.steps = (1 << bits) - 1

    def _codes(self, x: Tensor) -> Tensor:
        return 2 * round_half_away((x.detach().clamp(-1, 1) + 1) * (self.steps / 2)) - self.steps

    def forward(self, x: Tensor) -> Tensor:
        return straight_through(self._codes(x) * (1 / self.steps), x.clamp(-1, 1))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return self._codes(x).to(torch.int32)

    def encoding(self, x: Tensor | None = None) -> Uniform:
        return Uniform(self.bits + 1, signed=True, scale=1 / self.steps)
