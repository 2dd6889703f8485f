"""What a quantiser is: a tensor -> tensor map with a gradient, which can state its codes and their encoding."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from bitfold.ir.encoding import Encoding, Float


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0 (so sign(0) = sign(-0.0) = +1), else -1, in x's dtype; NaN stays NaN. Never ``torch.sign``: it gives 0 at 0.
    No gradient.

    One pass and four in place, because in eager mode on a CPU ``torch.where`` takes five times as long as all of them.
    """
    negated = F.threshold(x.detach().neg(), 0, -2, inplace=True)  # -2 where x >= 0, else -x > 0
    return negated.add_(1).clamp_(max=1).neg_()


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """``value``, bit for bit, with the gradient of ``surrogate`` (one shape, one dtype), whose own values do not matter.

    An autograd.Function, because it costs no pass over the tensor; surrogate + (value - surrogate).detach() costs two and rounds.
    """
    if not (surrogate.requires_grad and torch.is_grad_enabled()):
        return value.detach()
    return _StraightThrough.apply(value.detach(), surrogate)  # type: ignore[no-any-return, no-untyped-call]


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, surrogate: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        return None, gradient


def along(vector: Tensor, x: Tensor, axis: int) -> Tensor:
    """A per-channel vector (C,) shaped to broadcast against x along ``axis`` (1 for images, -1 for features of linear layers)."""
    shape = [1] * x.ndim
    shape[axis] = -1
    return vector.reshape(shape)


def per_filter(weight: Tensor) -> tuple[int, ...]:
    """The dimensions of one filter of a weight (out, in/groups, ...): all but the first."""
    return tuple(range(1, weight.ndim))


def scale_tuple(scale: Tensor) -> tuple[float, ...]:
    """A per-channel scale or offset of any shape as an encoding wants it."""
    return tuple(scale.detach().flatten().tolist())


class Quantizer(nn.Module):
    """Base of all quantisers. ``forward`` returns fake-quantised float of x's shape: encoding.offset + encoding.scale * codes.

    Every value of ``forward`` must equal the value of its code as float32 arithmetic gives it; export never compares floats,
    it asks ``codes`` and ``encoding``. Schedules arrive as attributes set by the method's hooks; no epoch, device or global here.
    """

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def codes(self, x: Tensor) -> Tensor:
        """The integer codes (int32) of x, as used at inference (deterministic). Shape of x. No gradient."""
        raise NotImplementedError

    def encoding(self, x: Tensor | None = None) -> Encoding:
        """The alphabet with its present scale and offset. Weight quantisers need the weight ``x`` (out, in/groups, ...) and may give
        one scale per output channel; activation quantisers give scalars and ignore ``x``."""
        raise NotImplementedError


class Identity(Quantizer):
    """No quantisation: the slot's float value. encoding is Float."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def codes(self, x: Tensor) -> Tensor:
        raise TypeError("Identity has no codes; ask encoding() first")

    def encoding(self, x: Tensor | None = None) -> Encoding:
        return Float()


def weight_of(x: Tensor | None, who: Quantizer) -> Tensor:
    """The weight that a weight quantiser's ``encoding`` was asked about."""
    if x is None:
        raise TypeError(f"{type(who).__name__}.encoding(weight): the scale comes from the weight, which was not given")
    return x.detach()
