"""ReCU's sign of activations: the window of its gradient follows the spread of each sample."""

import torch
from torch import Tensor

from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.base import per_filter


class SampleSign(ApproxSign):
    """Sign whose gradient, while training, is that of ApproxSign at x divided by its sample's standard deviation.

    Forward:  q(x) = +1 if x >= 0 else -1
    Backward: training: with z = x / s, s = sqrt(var(x) + 1e-5) over all but the batch (unbiased): max(0, 2 - 2|z|) through z, exact in s
              evaluation: max(0, 2 - 2|x|)

    Shape: (N, ...); kept.
    Reference: Xu et al. 2021 (ReCU), arXiv 2103.12369; released code.
    """

    def surrogate(self, x: Tensor) -> Tensor:
        if self.training:
            x = x * torch.rsqrt(x.var(per_filter(x), keepdim=True) + 1e-5)
        return super().surrogate(x)
