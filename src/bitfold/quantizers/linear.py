"""QNN's uniform k-bit quantiser."""

import torch
from torch import Tensor

from bitfold.errors import ConfigError
from bitfold.ir.encoding import Uniform
from bitfold.quantizers.base import Quantizer, straight_through, weight_of
from bitfold.quantizers.rounding import round_half_away


class LinearQuant(Quantizer):
    """Uniform k-bit quantiser on a fixed range.

    Forward:  q(x) = step * clip(round(x / step), min_code, max_code), ties away from zero
              signed:   step = 2^-(k-1), range [-1, 1 - step];  unsigned: step = 1 / (2^k - 1), range [0, 1]
              ``normalise`` (weights): x is divided by max|x| of the tensor first and multiplied back
    Backward: identity if ``normalise`` (max|x| is a constant); else 1 inside the range, ends included, 0 outside

    Shape: any; kept.
    Reference: Hubara et al. 2017 (QNN), arXiv 1609.07061: LinearQuant. (memory) for its formula; step and ranges for k bits are a
    decision of this project. One signed bit is Sign.
    """

    def __init__(self, bits: int, signed: bool, normalise: bool = False) -> None:
        super().__init__()
        low = 2 if signed else 1
        if not low <= bits <= 8:
            raise ConfigError(f"LinearQuant: bits={bits}; allowed: {low} to 8{' (one signed bit is Sign)' if signed else ''}")
        self.bits, self.signed, self.normalise = bits, signed, normalise
        self.levels = (1 << (bits - 1)) if signed else (1 << bits) - 1  # 1 / step
        self.min_code = -self.levels if signed else 0
        self.max_code = self.levels - 1 if signed else self.levels

    def _peak(self, x: Tensor) -> Tensor | float:
        return x.detach().abs().amax().clamp(min=torch.finfo(x.dtype).tiny) if self.normalise else 1.0

    def _codes(self, x: Tensor) -> Tensor:
        scaled = x.detach() / self._peak(x) * self.levels
        return round_half_away(scaled).clamp(self.min_code, self.max_code)

    def forward(self, x: Tensor) -> Tensor:
        surrogate = x if self.normalise else x.clamp(self.min_code / self.levels, self.max_code / self.levels)
        return straight_through(self._codes(x) * (self._peak(x) / self.levels), surrogate)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return self._codes(x).to(torch.int32)

    def encoding(self, x: Tensor | None = None) -> Uniform:
        peak = float(self._peak(weight_of(x, self))) if self.normalise else 1.0
        return Uniform(self.bits, self.signed, scale=peak / self.levels)
