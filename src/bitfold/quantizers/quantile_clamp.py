"""ReCU: weights standardised per filter and clamped to a quantile of their layer, so that outermost weights can be revived."""

import math

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.quantizers.base import per_filter


class QuantileClamp(nn.Module):
    """A normalisation for ``WeightSign``: w -> clip(w1, -Q, Q), whose sign is that of w minus its filter's mean.

    Forward:  w1 = 2 sqrt(2) (w - mean(w)) / sqrt(var(w) + 1e-5) for each filter, var unbiased
              Q = -E ln(2 - 2 tau), E = mean|w1| of the whole layer: the tau-quantile of a Laplace distribution with that mean
    Backward: exact through mean and var; Q is a constant, so that weights beyond it get no gradient

    ``tau`` is a buffer for the same reason as EDE's t: a schedule moves it, and inference does not need it. Starts at ``tau``; with
    ``tau_max``, ``advance`` moves it from there to ``tau_max``.

    Shape: (out, in/groups, ...) with at least 2 weights a filter; kept.
    Reference: Xu et al. 2021 (ReCU), arXiv 2103.12369; released code.
    """

    tau: Tensor

    def __init__(self, tau: float, tau_max: float | None = None) -> None:
        super().__init__()
        self.register_buffer("tau", torch.tensor(float(tau)), persistent=False)
        self.set_tau(tau)
        self.tau_min, self.tau_max = tau, tau_max

    def set_tau(self, tau: float) -> None:
        if not 0.5 < tau < 1:
            raise ConfigError(f"QuantileClamp: tau={tau}; allowed: 0.5 < tau < 1")
        self.tau.fill_(tau)

    def advance(self, progress: float) -> None:
        """Sets tau for a point of the training; nothing without ``tau_max``."""
        if self.tau_max is not None:
            self.set_tau(recu_tau(progress, self.tau_min, self.tau_max))

    def forward(self, w: Tensor) -> Tensor:
        var, mean = torch.var_mean(w, per_filter(w), keepdim=True)
        w1 = (w - mean) * (2 * math.sqrt(2) * torch.rsqrt(var + 1e-5))
        q = -w1.detach().abs().mean() * torch.log(2 - 2 * self.tau)
        return w1.clamp(-q, q)


def recu_tau(progress: float, tau_min: float, tau_max: float) -> float:
    """A exp(progress) + B with tau_min at 0 and tau_max at 1: slow at first."""
    return tau_min + (tau_max - tau_min) * (math.exp(progress) - 1) / (math.e - 1)
