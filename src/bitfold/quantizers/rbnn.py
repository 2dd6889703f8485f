"""RBNN's polynomial estimator: a triangular derivative that sharpens towards the sign during training."""

import math

from torch import Tensor

from bitfold.quantizers.ede import EDE


class RBNNSign(EDE):
    """Sign with a triangular derivative that reaches sqrt(2) / t to each side; its t and schedule are EDE's.

    Forward:  q(x) = +1 if x >= 0 else -1
    Backward: dq/dx = max(0, k (sqrt(2) t - t^2 |x|)), k = max(1/t, 1): the derivative of k (sqrt(2) t c - t^2 c |c| / 2)
              with c = clip(x, -sqrt(2)/t, sqrt(2)/t)

    ``least``: t never falls below it; the released code takes 1 for activations, with which k is 1 too.

    Shape: any; kept.
    Reference: Lin et al. 2020 (RBNN), arXiv 2009.13055; released code.
    """

    def __init__(self, t: float = 1.0, t_max: float | None = None, least: float = 0.0) -> None:
        self.least = least
        super().__init__(t, t_max)

    def set_t(self, t: float) -> None:
        super().set_t(max(t, self.least))

    def surrogate(self, x: Tensor) -> Tensor:
        u = (self.t * x).clamp(-math.sqrt(2), math.sqrt(2))
        return (1 / self.t).clamp(min=1.0) * u * (math.sqrt(2) - 0.5 * u.abs())
