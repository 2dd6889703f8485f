"""S3: a power-of-two weight rebuilt at every step from a sign, a sparsity and T shift latents."""

import math

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.ir.encoding import PowerOfTwo, Ternary
from bitfold.quantizers.base import Quantizer, sign, straight_through
from bitfold.quantizers.log import shift_encoding


def heaviside(x: Tensor) -> Tensor:
    """1 if x > 0 else 0, with the identity as gradient."""
    return straight_through((x > 0).to(x.dtype), x)


class SignSparseShift(Quantizer):
    """Weights {0, +-1, ..., +-2^T}, T = 2^(bits-1) - 2, from T + 2 real tensors of the weight's shape; the weight is the sign's.

    Forward:  W = sgn(w) H(sparse) 2^s;  s_0 = 0, s_t = H(shift_t) (s_(t-1) + 1), s = s_T;  H(0) = 0, sgn(0) = +1
    Backward: identity for H and sgn without a mask; the rest is exact, so the exponent's gradient carries ln 2 2^s

    Latents start at N(0, 2 / (kh kw out)), as released: half of the weights zero, a quarter +-1, and so on.

    Shape: (out, in/groups, ...); kept. No scale.
    Reference: Li et al. 2021 (S3), arXiv 2107.03453; the released code has bits = 3 only, the recursion for more is (memory).
    """

    def __init__(self, shape: torch.Size, bits: int = 3) -> None:
        super().__init__()
        if not 2 <= bits <= 5:
            raise ConfigError(f"SignSparseShift: bits={bits}; allowed: 2 to 5 (exponents of 6 bits exceed a 16-bit code)")
        self.max_exp = (1 << (bits - 1)) - 2
        std = math.sqrt(2 / (shape[0] * math.prod(shape[2:])))
        self.sparse = nn.Parameter(torch.randn(shape) * std)
        self.shifts = nn.ParameterList(torch.randn(shape) * std for _ in range(self.max_exp))

    def forward(self, x: Tensor) -> Tensor:
        weight = straight_through(sign(x), x) * heaviside(self.sparse)
        s = x.new_zeros(())
        for latent in self.shifts:
            s = heaviside(latent) * (s + 1)
        return weight * torch.exp2(s)  # exact for whole numbers (tested)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return self(x).to(torch.int32)  # type: ignore[no-any-return]

    def encoding(self, x: Tensor | None = None) -> Ternary | PowerOfTwo:
        return shift_encoding(self.max_exp)
