"""Shift-based batch normalisation: its products are shifts, because one factor is always a power of two."""

import torch
from torch import Tensor, nn

from bitfold.layers.swap import replace_modules
from bitfold.quantizers.base import along, straight_through
from bitfold.quantizers.rounding import ap2


class ShiftNorm(nn.Module):
    """BatchNorm with powers of two, per channel over batch and space; AP2 rounds to the nearest power of two (in the exponent).

    Forward:  c = x - mean(x), v = mean(c AP2(c)), r = AP2(1 / sqrt(v + eps)), xh = c r, y = xh AP2(gamma) + beta
              evaluation: r = AP2 of the running average of the unrounded 1 / sqrt(v + eps), the running mean for mean(x)
    Backward: with d = dL/dy and p = AP2(c): dx = AP2(gamma) r (d - mean(d) - p r^2 mean(p d)), dgamma = sum d AP2(xh), dbeta = sum d
              evaluation: dx = AP2(gamma) r d, none for gamma

    v is not the variance. With several processes each takes the statistics of its own part of the batch.
    Shape: (N, C, ...) with ``channels`` = C; kept.
    Reference: Courbariaux, Hubara et al. 2016, arXiv 1602.02830; released Torch code (itayhubara/BinaryNet), momentum 2^-3.
    """

    running_mean: Tensor
    running_rstd: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.125) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_rstd", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            slope, shift = self.slope_and_shift()
            return x * along(slope, x, 1) + along(shift, x, 1)
        dims = [d for d in range(x.ndim) if d != 1]
        with torch.no_grad():
            mean = x.mean(dims, keepdim=True)
            c = x - mean
            p = ap2(c)
            rstd = torch.rsqrt((c * p).mean(dims, keepdim=True) + self.eps)
            r, gamma = ap2(rstd), along(ap2(self.weight), x, 1)
            xh = c * r
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_rstd.lerp_(rstd.flatten(), self.momentum)
        # linear in x, gamma and beta, so that autograd gives the backward formulas above
        through = gamma * r * (x - x.mean(dims, keepdim=True) - p * r.square() * (p * x).mean(dims, keepdim=True))
        surrogate = through + along(self.weight, x, 1) * ap2(xh) + along(self.bias, x, 1)
        return straight_through(xh * gamma + along(self.bias.detach(), x, 1), surrogate)

    def slope_and_shift(self) -> tuple[Tensor, Tensor]:
        """What evaluation does: y = slope x + shift, each (channels,); the slopes are powers of two."""
        slope = ap2(self.running_rstd) * ap2(self.weight.detach())
        return slope, self.bias - self.running_mean * slope


def shift_norms(model: nn.Module) -> nn.Module:
    """Puts a ShiftNorm in place of every BatchNorm of ``model``, with its slope and shift (the very parameters). In place."""
    new: dict[nn.Module, nn.Module] = {}
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            new[m] = ShiftNorm(m.num_features).to(next(m.parameters(), torch.empty(0)))
            if m.affine:
                new[m].weight, new[m].bias = m.weight, m.bias
            new[m].train(m.training)
    replace_modules(model, new)
    return new.get(model, model)
