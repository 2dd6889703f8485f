"""Bi-Real Net's polynomial approximation of the sign's derivative."""

from torch import Tensor

from bitfold.quantizers.sign import Sign


class ApproxSign(Sign):
    """Sign with a piecewise linear derivative.

    Forward:  q(x) = +1 if x >= 0 else -1
    Backward: dq/dx = max(0, 2 - 2|x|), the derivative of c (2 - |c|) with c = clip(x, -1, 1)

    Shape: any; kept.
    Reference: Liu et al. 2018 (Bi-Real Net), arXiv 1808.00278.
    """

    def surrogate(self, x: Tensor) -> Tensor:
        return x * x.detach().abs().mul_(-2).add_(2).clamp_(min=0)
