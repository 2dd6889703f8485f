"""Shift-based AdaMax: an Adam whose products are shifts."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bitfold.errors import ConfigError
from bitfold.quantizers.rounding import ap2


class SAdaMax(Optimizer):
    """AdaMax with powers of two for the step and the divisor; AP2 rounds to the nearest power of two.

        m <- b1 m + (1 - b1) g,  v <- max(b2 v, |g|),  v <- AP2(v) + 2^-27,  x <- x - AP2(lr / (1 - b1^t)) m / v

    ``store_quantised_v``: as released, v is kept after its rounding, so that it never decays: 0.999 2^k rounds back to 2^k. False keeps
    the exact v and rounds a copy. A rate with a factor per layer, such as Glorot's, is rounded with that factor. Clipping to [-1, 1] is the
    method's. ``weight_decay`` is added to the gradient (released: none).
    Reference: Courbariaux, Hubara et al. 2016, arXiv 1602.02830; released Torch code (itayhubara/BinaryNet).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2.0**-6,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        store_quantised_v: bool = True,
    ) -> None:
        if not lr >= 0 or not all(0 <= b < 1 for b in betas):
            raise ConfigError(f"SAdaMax: lr={lr}, betas={betas}; allowed: lr >= 0, betas from 0 to below 1")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "store_quantised_v": store_quantised_v})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """``closure`` belongs to the interface of PyTorch's optimisers; it must be None."""
        if closure is not None:
            raise ConfigError("SAdaMax: step takes no closure")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)

    def _move(self, p: Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state, (b1, b2) = self.state[p], group["betas"]
        if not state:
            state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        state["step"] += 1
        g = p.grad.add(p, alpha=group["weight_decay"]) if group["weight_decay"] else p.grad
        m = state["m"].lerp_(g, 1 - b1)
        v = torch.maximum(state["v"] * b2, g.abs())
        divisor = ap2(v) + 2.0**-27
        state["v"].copy_(divisor if group["store_quantised_v"] else v)
        p.sub_(_power(group["lr"] / (1 - b1 ** state["step"])) * m / divisor)


def _power(x: float) -> float:
    """AP2 of a number >= 0."""
    return 0.0 if x == 0 else 2.0 ** math.floor(math.log2(x) + 0.5)
