"""What a quantiser is: a tensor -> tensor map with a gradient, which can state its codes and their encoding."""

import torch
from torch import Tensor, nn

from bitfold.ir.encoding import Encoding


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0 (so sign(0) = sign(-0.0) = +1), else -1, in x's dtype. Never ``torch.sign``: it gives 0 at 0. No gradient."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


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
        from bitfold.ir.encoding import Float

        return Float()
