"""Quantised gradients: the identity forwards, few bits backwards."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError, unknown
from bitfold.quantizers.base import sign
from bitfold.quantizers.log import log_round
from bitfold.quantizers.rounding import round_half_away

Kind = Literal["linear", "log"]


class _QuantizeGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, kind: Kind, stochastic: bool) -> Tensor:
        ctx.rule = bits, kind, stochastic
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return quantize_gradient(grad, *ctx.rule), None, None, None


def quantize_gradient(grad: Tensor, bits: int, kind: Kind, stochastic: bool) -> Tensor:
    """``grad`` on the signed k-bit grid that max|grad| scales; one bit is max|grad| sign(grad). Zero stays zero."""
    peak = grad.abs().amax().clamp(min=torch.finfo(grad.dtype).tiny)
    if bits == 1:
        return peak * sign(grad) * (grad.abs().amax() > 0)
    if kind == "log":
        return log_round(grad / peak, bits) * peak
    levels = 1 << (bits - 1)
    scaled = grad / peak * levels
    whole = (scaled + torch.rand_like(scaled)).floor() if stochastic else round_half_away(scaled)
    return whole.clamp(-levels, levels - 1) * (peak / levels)


class GradientQuant(nn.Module):
    """The identity, whose gradient is quantised to ``bits`` (linear or powers of two), scaled by max|gradient| of the tensor.

    In a layer's ``grad_quant`` slot it acts on the gradient of the output, before the products that make the gradients of weight
    and input. ``stochastic``: linear only; rounds up with the probability of the fraction.

    Shape: any; kept.
    Reference: Hubara et al. 2017 (QNN), arXiv 1609.07061 (6 bits; the scale is a decision of this project); one bit: Rastegari et
    al. 2016 (XNOR-Net), arXiv 1603.05279.
    """

    def __init__(self, bits: int, kind: Kind = "linear", stochastic: bool = False) -> None:
        super().__init__()
        if not 1 <= bits <= 16:
            raise ConfigError(f"GradientQuant: bits={bits}; allowed: 1 to 16")
        if kind not in ("linear", "log"):
            raise unknown("kind of GradientQuant", kind, ("linear", "log"))
        if stochastic and (kind == "log" or bits == 1):
            raise ConfigError("GradientQuant: stochastic rounding is defined for kind='linear' with 2 bits or more")
        self.bits: int = bits
        self.kind: Kind = kind
        self.stochastic = stochastic

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _QuantizeGradient.apply(x, self.bits, self.kind, self.stochastic)  # type: ignore[no-untyped-call]
        return result
