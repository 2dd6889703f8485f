"""DoReFa's k-bit gradients: noise before rounding keeps them right on average."""

from typing import Any

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.quantizers.base import per_filter
from bitfold.quantizers.rounding import round_half_away


class _NoisyGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int) -> Tensor:
        ctx.bits = bits
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return noisy_round(grad, ctx.bits), None


def noisy_round(grad: Tensor, bits: int) -> Tensor:
    """``grad`` (N, ...) on 2^bits evenly spaced values from -m to m, m = max|grad| of its sample, after noise of one step's width."""
    steps = (1 << bits) - 1
    peak = grad.abs().amax(per_filter(grad), keepdim=True).clamp(min=torch.finfo(grad.dtype).tiny)
    scaled = (grad / peak + 1) * (steps / 2) + (torch.rand_like(grad) - 0.5)
    return (round_half_away(scaled).clamp(0, steps) * (2 / steps) - 1) * peak


class NoisyGradient(nn.Module):
    """The identity, whose gradient is quantised to ``bits`` by stochastic rounding, scaled by max|gradient| of each sample.

    Backward: dx = 2 m [quantize_k(dr / (2 m) + 1/2 + noise) - 1/2], noise uniform within half a step. In a layer's ``grad_quant``
    slot it acts on the gradient of the output, before the products that make the gradients of weight and input.

    Shape: (N, ...); kept.
    Reference: Zhou et al. 2016 (DoReFa-Net), arXiv 1606.06160, Eq. 12 (memory).
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not 1 <= bits <= 16:
            raise ConfigError(f"NoisyGradient: bits={bits}; allowed: 1 to 16")
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _NoisyGradient.apply(x, self.bits)  # type: ignore[no-untyped-call]
        return result
