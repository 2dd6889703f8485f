"""QNN's logarithmic quantiser: values are powers of two."""

import torch
from torch import Tensor

from bitfold.errors import ConfigError
from bitfold.ir.encoding import PowerOfTwo, Ternary
from bitfold.quantizers.base import Quantizer, straight_through, weight_of
from bitfold.quantizers.rounding import ap2


def log_levels(bits: int) -> int:
    """How many magnitudes a sign bit and ``bits - 1`` exponent bits can say besides zero: exponents -(levels - 1)..0."""
    return (1 << (bits - 1)) - 1


def log_round(x: Tensor, bits: int) -> Tensor:
    """AP2(x) clipped to magnitudes 2^-(levels-1)..1; zero where |x| < 2^(e_min - 1/2). x is meant to lie in [-1, 1]. No gradient."""
    power = ap2(x).clamp(-1, 1)
    return torch.where(power.abs() < 0.5 ** (log_levels(bits) - 1), 0.0, power).to(x.dtype)


def shift_encoding(max_exp: int, scale: float = 1.0) -> Ternary | PowerOfTwo:
    """{0, +-1, ..., +-2^max_exp} times scale."""
    return Ternary(scale) if max_exp == 0 else PowerOfTwo(max_exp, scale=scale)


class LogQuant(Quantizer):
    """k-bit powers of two: a sign bit and k - 1 exponent bits, code 0 for zero, exponents -(2^(k-1) - 2)..0.

    Forward:  q(x) = clip(AP2(x), -1, 1), zero below the smallest magnitude (in the log domain)
              ``normalise`` (weights): x is divided by max|x| of the tensor first and multiplied back
    Backward: identity if ``normalise`` (max|x| is a constant); else 1 if |x| <= 1 else 0

    Codes are x's powers times 2^(2^(k-1) - 2), so that the smallest is 1; more than 5 bits would not fit a 16-bit code.

    Shape: any; kept.
    Reference: Hubara et al. 2017 (QNN), arXiv 1609.07061: LogQuant. (memory) for its formula; the exponent range for k bits is a
    decision of this project.
    """

    def __init__(self, bits: int, normalise: bool = False) -> None:
        super().__init__()
        if not 2 <= bits <= 5:
            raise ConfigError(f"LogQuant: bits={bits}; allowed: 2 to 5 (one bit is Sign; exponents of 6 bits exceed a 16-bit code)")
        self.bits, self.normalise = bits, normalise
        self.max_exp = log_levels(bits) - 1

    def _peak(self, x: Tensor) -> Tensor | float:
        return x.detach().abs().amax().clamp(min=torch.finfo(x.dtype).tiny) if self.normalise else 1.0

    def _codes(self, x: Tensor) -> Tensor:
        return log_round(x.detach() / self._peak(x), self.bits) * (1 << self.max_exp)

    def forward(self, x: Tensor) -> Tensor:
        return straight_through(self._codes(x) * (self._peak(x) / (1 << self.max_exp)), x if self.normalise else x.clamp(-1, 1))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return self._codes(x).to(torch.int32)

    def encoding(self, x: Tensor | None = None) -> Ternary | PowerOfTwo:
        peak = float(self._peak(weight_of(x, self))) if self.normalise else 1.0
        return shift_encoding(self.max_exp, peak / (1 << self.max_exp))
