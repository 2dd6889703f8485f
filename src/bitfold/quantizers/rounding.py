"""Rounding that quantisers share, exact in every float type and the same on every path. No gradients."""

import torch
from torch import Tensor


def round_half_away(x: Tensor) -> Tensor:
    """To the nearest integer, ties away from zero (C's ``round``). ``torch.round`` rounds ties to even; floor(x + 0.5) rounds twice."""
    whole = x.trunc()
    fraction = x - whole  # exact
    return whole + (fraction >= 0.5).to(x.dtype) - (fraction <= -0.5).to(x.dtype)


def ap2(x: Tensor) -> Tensor:
    """Approximate power of two: sign(x) 2^round(log2|x|), and 0 at 0 (arXiv 1602.02830, released code).

    Exact: with x = m 2^e, 0.5 <= |m| < 1, the power is x / m if |m| >= sqrt(1/2), else x / 2m, and neither division rounds.
    """
    m = torch.frexp(x).mantissa
    divisor = torch.where(m.abs() >= 0.5**0.5, m, 2 * m)
    return torch.where(m == 0, 0.0, (x / divisor).copysign(x)).to(x.dtype)
