"""RBNN: weights turned towards the corners of the cube by two small rotations."""

import math

import torch
from torch import Tensor, nn

from bitfold.quantizers.base import sign
from bitfold.quantizers.standard import StandardWeight


class Rotate(nn.Module):
    """A normalisation for ``WeightSign``: standardised filters, mixed with themselves rotated.

    Forward:  z = standardised w (mean 0, unbiased deviation 1 for each filter), X = z as a matrix (a, b) for each filter,
              r = R1^T X R2,  result z + |sin(angle)| (r - z), one learned angle per filter (pi/2 at the start: all rotated)
    Backward: exact in w and the angle; R1 and R2 are constants

    R1 (a, a) and R2 (b, b) are orthogonal, one pair for the layer, a b = the filter's size, a the largest divisor not above its root.
    They are random at the start; ``fit`` turns them so that the signs of r agree better with r. They are saved: inference needs them.
    ``fits`` counts these turns; a resumed training goes on counting, a network that begins a new one with these weights at zero.

    Shape: (out, in/groups, ...) with at least two weights a filter; kept.
    Reference: Lin et al. 2020 (RBNN), arXiv 2009.13055; released code. Deviation: there the rotated part is cut off from the gradient,
    so that with the angle at its start no weight gets any; we differentiate it, as the paper does (memory).
    """

    r1: Tensor
    r2: Tensor

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        a, b = factors(math.prod(shape[1:]))
        self.standard = StandardWeight()
        self.angle = nn.Parameter(torch.full((shape[0], *[1] * (len(shape) - 1)), math.pi / 2))
        self.register_buffer("r1", _random_rotation(a))
        self.register_buffer("r2", _random_rotation(b))
        self.fits = 0

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.fits)

    def set_extra_state(self, state: Tensor) -> None:
        self.fits = int(state)

    def _matrices(self, z: Tensor) -> Tensor:
        return z.reshape(len(z), len(self.r1), len(self.r2))

    def forward(self, w: Tensor) -> Tensor:
        z = self.standard(w)
        rotated = (self.r1.T @ self._matrices(z) @ self.r2).view_as(z)
        return torch.lerp(z, rotated, self.angle.sin().abs())

    @torch.no_grad()
    def fit(self, w: Tensor, cycles: int = 3) -> None:
        """Alternating maximisation of sum tr(B^T R1^T X R2) over the filters, three closed-form updates a cycle: B = sign(R1^T X R2), then
        each rotation in turn from a singular value decomposition. Never lowers the sum."""
        x = self._matrices(self.standard(w))
        for _ in range(cycles):
            b = sign(self.r1.T @ x @ self.r2)
            self.r1.copy_(_nearest((x @ self.r2 @ b.mT).sum(0)))
            self.r2.copy_(_nearest((x.mT @ self.r1 @ b).sum(0)))
        self.fits += 1


def factors(n: int) -> tuple[int, int]:
    """(a, b) with a b = n and a <= b as close as possible."""
    a = next(i for i in range(math.isqrt(n), 0, -1) if n % i == 0)
    return a, n // a


def _nearest(m: Tensor) -> Tensor:
    """The orthogonal R that maximises tr(R^T m)."""
    u, _, vh = torch.linalg.svd(m)
    return u @ vh


def _random_rotation(n: int) -> Tensor:
    """Uniform over the orthogonal matrices: QR of a normal matrix, with R's diagonal made positive."""
    q, r = torch.linalg.qr(torch.randn(n, n))
    return q * sign(r.diagonal())
