"""BNN+'s estimator: the derivative of a swish made symmetric."""

from torch import Tensor

from bitfold.errors import ConfigError
from bitfold.quantizers.sign import Sign


class SignSwish(Sign):
    """Sign with the gradient of 2 s (1 + b x (1 - s)) - 1, s = sigmoid(b x).

    Forward:  q(x) = +1 if x >= 0 else -1
    Backward: dq/dx = b (2 - b x tanh(b x / 2)) / (1 + cosh(b x)): 2 b / 2 at 0, negative beyond |b x| = 2.3994

    Shape: any; kept.
    Reference: Darabi et al. 2018 (BNN+), arXiv 1812.11800 (memory); b = 5 there.
    """

    def __init__(self, beta: float = 5.0) -> None:
        super().__init__()
        if not beta > 0:
            raise ConfigError(f"SignSwish: beta must be > 0, got {beta}")
        self.beta = beta

    def surrogate(self, x: Tensor) -> Tensor:
        u = self.beta * x
        s = u.sigmoid()
        return 2 * s * (1 + u * (1 - s)) - 1
