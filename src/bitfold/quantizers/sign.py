"""Sign with a clipped straight-through gradient: the base of all sign estimators."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bitfold.errors import ConfigError
from bitfold.ir.encoding import Binary
from bitfold.quantizers.base import Quantizer, sign, straight_through


class Sign(Quantizer):
    """Sign with a clipped straight-through gradient; ``clip=inf`` is the identity estimator.

    Forward:  q(x) = +1 if x >= 0 else -1
    Backward: dq/dx = 1 if |x| <= clip else 0; with ``strict`` 1 if |x| < clip

    Subclasses change ``surrogate`` alone: the function whose derivative stands in for that of the sign. Its value is never used, so
    x * slope(x.detach()), two passes over an activation, does as well as the function itself.

    Shape: any; kept.
    Reference: Courbariaux et al. 2016, arXiv 1602.02830. ``strict`` is XNOR-Net's released code, the range 1.5 BNext's (arXiv 2211.12933).
    """

    def __init__(self, clip: float = 1.0, strict: bool = False) -> None:
        super().__init__()
        if not clip > 0:
            raise ConfigError(f"Sign: clip must be > 0, got {clip}")
        self.clip = clip
        self.strict = strict

    def surrogate(self, x: Tensor) -> Tensor:
        if math.isinf(self.clip):
            return x
        ulp = torch.finfo(x.dtype).eps * 2.0 ** (math.frexp(self.clip)[1] - 1)
        edge = (
            self.clip if self.strict else self.clip + ulp
        )  # the derivative of hardtanh at its edges is 0; that of clamp costs 6 times as much
        return F.hardtanh(x, -edge, edge)

    def forward(self, x: Tensor) -> Tensor:
        return straight_through(sign(x), self.surrogate(x))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return sign(x).to(torch.int32)

    def encoding(self, x: Tensor | None = None) -> Binary:
        return Binary()
