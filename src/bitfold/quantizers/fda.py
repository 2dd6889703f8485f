"""Sign with the derivative of a truncated Fourier series, and the small network that learns what the series leaves out."""

import math
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.quantizers.base import sign, straight_through
from bitfold.quantizers.sign import Sign

Layout: TypeAlias = Literal["filters", "image", "features"]
Shortcut: TypeAlias = Literal["sin", "linear", "none"]


class NoiseAdaptation(nn.Module):
    """e(t) = relu(t W1) W2 + eta(t), W1 (d, d/64), W2 (d/64, d), eta(t) = 0.1 sin(t) by default.

    t is a row of d numbers: a whole filter of a weight ("filters", (out, ...)), the channels at a pixel ("image", (N, C, H, W)), or
    the last axis ("features"). ``down`` is W1 and ``up`` W2, transposed as PyTorch's linear layers hold them; the hidden width is
    max(1, ceil(d / 64)), because 64 exceeds many layers' channels. Start: PyTorch's for linear layers, of zero mean as required.

    Shape: kept. Reference: Xu et al. 2021 (FDA-BNN), arXiv 2103.00841, Eq. 14 and Table 4; the rows t are a third party's reading.
    """

    def __init__(self, width: int, layout: Layout, shortcut: Shortcut = "sin", slope: float = 0.1, reduction: int = 64) -> None:
        super().__init__()
        hidden = max(1, math.ceil(width / reduction))
        self.layout, self.shortcut, self.slope = layout, shortcut, slope
        self.down = nn.Parameter(torch.empty(hidden, width).uniform_(-1, 1) / math.sqrt(width))
        self.up = nn.Parameter(torch.empty(width, hidden).uniform_(-1, 1) / math.sqrt(hidden))

    def forward(self, t: Tensor) -> Tensor:
        if self.layout == "image":
            e = F.conv2d(F.conv2d(t, self.down[:, :, None, None]).relu(), self.up[:, :, None, None])
        else:
            rows = t.flatten(1) if self.layout == "filters" else t
            e = F.linear(F.linear(rows, self.down).relu(), self.up).reshape(t.shape)
        if self.shortcut == "none":
            return e
        return torch.add(e, t.sin() if self.shortcut == "sin" else t, alpha=self.slope)


class FDASign(Sign):
    """Sign, zero to -1, with the derivative of its Fourier series of ``terms`` + 1 sines; while training plus alpha times ``noise``.

    Forward:  z = (+1 if t > 0 else -1) + alpha e(t); in evaluation without the noise e
    Backward: dz/dt = (4 omega / pi) sum_{i=0..n} cos((2i+1) omega t) + alpha e'(t), the first part 0 where |t| > ``clip``

    The sum is (2 omega / pi) sin(2 (n+1) omega t) / sin(omega t), and 4 omega (n+1) / pi at 0. It turns negative beyond
    |t| = pi / (2 (n+1) omega). ``terms`` (n) and ``alpha`` are buffers that a schedule moves, as EDE's t.

    Shape: any; kept.
    Reference: Xu et al. 2021 (FDA-BNN), arXiv 2103.00841, Eq. 1, 14 and 15, the latter with the factor alpha that 14 implies. omega is
    not given there; 0.1 and the clip are from a third-party implementation (BiBench).
    """

    terms: Tensor
    alpha: Tensor

    def __init__(
        self, omega: float = 0.1, clip: float = math.inf, terms: int = 9, noise: NoiseAdaptation | None = None, alpha: float = 0.1
    ) -> None:
        super().__init__(clip)
        if not omega > 0 or terms < 0:
            raise ConfigError(f"FDASign: omega must be > 0 and terms >= 0, got {omega} and {terms}")
        self.omega = omega
        self.noise = noise
        self.register_buffer("terms", torch.tensor(float(terms)), persistent=False)
        self.register_buffer("alpha", torch.tensor(float(alpha)), persistent=False)

    @torch.no_grad()
    def slope(self, x: Tensor) -> Tensor:
        """The derivative of the series, without the noise. Closed: as a surrogate the series would cost n + 1 sines, and as many
        cosines back."""
        size = x.abs()
        angle = (size * self.omega).clamp_(min=torch.finfo(x.dtype).tiny)  # the slope is even in x, and at 0 what it is beside 0
        slope = (angle * (2 * (self.terms + 1))).sin_().div_(angle.sin_()).mul_(2 * self.omega / math.pi)
        return slope if math.isinf(self.clip) else slope.masked_fill_(size > self.clip, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        z = _above_zero(x)
        if torch.is_grad_enabled():
            z = straight_through(z, x * self.slope(x))
        return torch.addcmul(z, self.alpha, self.noise(x)) if self.noise is not None and self.training else z

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return _above_zero(x).to(torch.int32)


def _above_zero(x: Tensor) -> Tensor:
    """+1 where x > 0, else -1."""
    return -sign(-x)
