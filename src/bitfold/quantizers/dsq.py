"""DSQ's estimator for one bit: a tanh whose sharpness is learned."""

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.quantizers.sign import Sign


class DSQSign(Sign):
    """Sign with the gradient of tanh(k c) / tanh(k), c = clip(x, -1, 1); ``alpha`` = 1 - tanh(k) is learned.

    Forward:  q(x) = +1 if x >= 0 else -1
    Backward: dq/dx = k (1 - tanh^2(k x)) / tanh(k) if |x| <= 1 else 0; dalpha: through k = ln(2 / alpha - 1) / 2

    alpha near 0 is the sign itself, near 1 a straight line; it is used clipped to [0.001, 0.999].

    Shape: any; kept.
    Reference: Gong et al. 2019 (DSQ), arXiv 1908.05033 (memory).
    """

    def __init__(self, alpha: float = 0.2) -> None:
        super().__init__()
        if not 0 < alpha < 1:
            raise ConfigError(f"DSQSign: alpha={alpha}; allowed: between 0 and 1")
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))

    def sharpness(self) -> Tensor:
        """k"""
        return 0.5 * torch.log(2 / self.alpha.clamp(1e-3, 1 - 1e-3) - 1)

    def surrogate(self, x: Tensor) -> Tensor:
        k = self.sharpness()
        return (k * x.clamp(-1, 1)).tanh() / k.tanh()
