"""DIR-Net's distribution-aware estimator (reconstruction): EDE that never sharpens past a share of the values it meets."""

import math

import torch
from torch import Tensor

from bitfold.errors import ConfigError
from bitfold.quantizers.ede import EDE

SAMPLES = 4096  # a quantile of more values is taken of an evenly spaced sample: 0.5 % of error at eps = 0.1, and no sort of an activation


class DTE(EDE):
    """EDE whose sharpness is capped by the tensor's own distribution. A reconstruction: the rule is ours, only its aim is the paper's.

    Forward:  q(x) = +1 if x >= 0 else -1
    Backward: dq/dx = k t' (1 - tanh^2(t' x)), k = max(1/t', 1), t' = min(t, max(1, c / r)), with r the eps-quantile of |x| over the
        tensor and c = atanh(sqrt(1 - delta)): at least the share eps of the values keeps a derivative of delta of the peak.

    Stage 1 of EDE (t <= 1) is untouched. With the defaults (c = 1.8184) the cap of Gaussian values is 14.5, above EDE's last t = 10.

    Shape: any; kept.
    Reference: Qin et al. 2021 (DIR-Net), arXiv 2109.12338 (aim: abstract; share of 10 %: memory).
    """

    def __init__(self, t: float = 1.0, t_max: float | None = None, eps: float = 0.1, delta: float = 0.1) -> None:
        if not (0 < eps < 1 and 0 < delta < 1):
            raise ConfigError(f"DTE: eps={eps}, delta={delta}; allowed: between 0 and 1")
        super().__init__(t, t_max)
        self.eps = eps
        self.reach = math.atanh(math.sqrt(1 - delta))  # c: where the surrogate's derivative has fallen to delta of its peak, times t

    def sharpness(self, x: Tensor) -> Tensor:
        """t' for these values; a scalar without gradient."""
        values = x.detach().reshape(-1)
        stride = (1 + (values.numel() - 1) // SAMPLES) | 1  # odd, so that it does not meet the same columns of an image only
        sampled = values[::stride].abs()
        r = sampled.kthvalue(1 + int(self.eps * (sampled.numel() - 1))).values
        return torch.minimum(self.t, (self.reach / r).clamp(min=1.0))

    def surrogate(self, x: Tensor) -> Tensor:
        t = self.sharpness(x)
        return (1 / t).clamp(min=1.0) * (t * x).tanh()
