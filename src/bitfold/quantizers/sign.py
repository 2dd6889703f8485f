"""Sign with a clipped straight-through gradient: the base of all sign estimators."""

import math

import torch
from torch import Tensor

from bitfold.errors import ConfigError
from bitfold.ir.encoding import Binary
from bitfold.quantizers.base import Quantizer, sign, straight_through


class Sign(Quantizer):
    """Sign with a clipped straight-through gradient; ``clip=inf`` is the identity estimator.

    Forward:  q(x) = +1 if x >= 0 else -1
    Backward: dq/dx = 1 if |x| <= clip else 0; with ``strict`` 1 if |x| < clip

    Subclasses change ``surrogate`` alone: the function whose derivative stands in for that of the sign.

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
        return x * (x.detach().abs() < self.clip) if self.strict else x.clamp(-self.clip, self.clip)

    def forward(self, x: Tensor) -> Tensor:
        return straight_through(sign(x), self.surrogate(x))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return sign(x).to(torch.int32)

    def encoding(self, x: Tensor | None = None) -> Binary:
        return Binary()
