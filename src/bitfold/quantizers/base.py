"""What a quantiser is: a tensor -> tensor map with a gradient, which can state its codes and their encoding."""

import torch
from torch import Tensor, nn

from bitfold.ir.encoding import Encoding, Float


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0 (so sign(0) = sign(-0.0) = +1), else -1, in x's dtype. Never ``torch.sign``: it gives 0 at 0. No gradient."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """``value``, bit for bit, with the gradient of ``surrogate`` (one shape, one dtype).

    surrogate - surrogate is +0 exactly, so nothing is rounded and scaled values stay on their grid, which the usual form
    surrogate + (value - surrogate).detach() does not promise. Plain operations, because torch.compile fuses them and an
    autograd.Function costs it more. A -0 becomes +0; where the surrogate is not finite, neither is the result.
    """
    return value.detach() + (surrogate - surrogate.detach())


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
