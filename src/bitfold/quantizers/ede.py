"""IR-Net's error decay estimator: a tanh that sharpens towards the sign during training."""

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.quantizers.sign import Sign


class EDE(Sign):
    """Sign with the gradient of k tanh(t x).

    Forward:  q(x) = +1 if x >= 0 else -1
    Backward: dq/dx = k t (1 - tanh^2(t x)), k = max(1/t, 1)

    ``t`` is a buffer, so that a compiled graph reads it instead of being compiled anew when a schedule moves it; it is not saved,
    because inference does not need it and training sets it before every step. Starts at ``t``; with ``t_max``, ``advance`` moves it
    from there to ``t_max``, so that several methods in one model each keep their own schedule.

    Shape: any; kept.
    Reference: Qin et al. 2020 (IR-Net), arXiv 1909.10788.
    """

    t: Tensor

    def __init__(self, t: float = 1.0, t_max: float | None = None) -> None:
        super().__init__()
        self.register_buffer("t", torch.tensor(float(t)), persistent=False)
        self.set_t(t)
        self.t_min, self.t_max = t, t_max

    def set_t(self, t: float) -> None:
        if not t > 0:
            raise ConfigError(f"EDE: t must be > 0, got {t}")
        self.t.fill_(t)

    def advance(self, progress: float) -> None:
        """Sets t for a point of the training; nothing without ``t_max``."""
        if self.t_max is not None:
            self.set_t(ede_t(progress, self.t_min, self.t_max))

    def surrogate(self, x: Tensor) -> Tensor:
        peak = self.t.clamp(min=1.0)  # k t
        return x * (x.detach() * self.t).tanh_().square_().mul_(-peak).add_(peak)


def ede_t(progress: float, t_min: float, t_max: float) -> float:
    """t = t_min (t_max / t_min)^progress, progress in [0, 1]. The papers hold it constant within an epoch; we move it every step."""
    return float(t_min * (t_max / t_min) ** progress)


def advance_ede(model: nn.Module, progress: float) -> None:
    """Moves every EDE in ``model`` along its own schedule; a method's ``before_step``."""
    for module in model.modules():
        if isinstance(module, EDE):
            module.advance(progress)
