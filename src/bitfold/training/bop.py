"""Bop: an optimiser for weights that are -1 or +1 and nothing else."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bitfold.errors import ConfigError


class Bop(Optimizer):
    """Binary optimiser: no latent weights; a weight flips when its averaged gradient points against it strongly enough.

        m <- (1 - lr) m + lr g;  w <- -w where |m| > threshold and sign(m) = sign(w)

    ``lr`` is the paper's adaptivity rate gamma, so that a schedule of rates moves it. The state is m alone, zero at the start.
    Raises ConfigError for parameters that are not exactly -1 and +1. There is no weight decay: nothing could decay.
    Reference: Helwegen et al. 2019, arXiv 1906.02107, algorithm 1.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-4, threshold: float = 1e-8) -> None:
        if not 0 <= lr <= 1 or not threshold >= 0:
            raise ConfigError(f"Bop: lr={lr}, threshold={threshold}; allowed: lr from 0 to 1, threshold >= 0")
        super().__init__(params, {"lr": lr, "threshold": threshold})
        for group in self.param_groups:
            if group.get("weight_decay", 0.0) != 0.0:
                raise ConfigError(f"Bop: weight_decay={group['weight_decay']}; allowed: 0, binary weights cannot decay")
            if not all(bool((p.detach().abs() == 1).all()) for p in group["params"]):
                raise ConfigError("Bop: a parameter has values other than -1 and +1; allowed: binary parameters")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """``closure`` belongs to the interface of PyTorch's optimisers; it must be None."""
        if closure is not None:
            raise ConfigError("Bop: step takes no closure")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._flip(p, group["lr"], group["threshold"])

    def _flip(self, p: Tensor, gamma: float, threshold: float) -> None:
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state["average"] = torch.zeros_like(p)
        m = state["average"].lerp_(p.grad, gamma)
        p.copy_(torch.where(m * p > threshold, -p, p))  # |p| = 1, so m p > threshold says both conditions at once
