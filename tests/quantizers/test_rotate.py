"""RBNN's two rotations: orthogonal, better with every fit, exact gradients."""

import itertools
import math

import pytest
import torch

from bitfold.quantizers.rotate import Rotate, factors
from bitfold.quantizers.standard import StandardWeight


@pytest.mark.parametrize(("n", "expected"), [(144, (12, 12)), (576, (24, 24)), (288, (16, 18)), (7, (1, 7)), (1, (1, 1)), (4608, (64, 72))])
def test_factors(n: int, expected: tuple[int, int]) -> None:
    assert factors(n) == expected


def test_rotations_are_orthogonal_and_a_kronecker_product() -> None:
    torch.manual_seed(0)
    w = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    rotate = Rotate(w.shape).double()
    assert rotate.r1.shape == rotate.r2.shape == (6, 6)
    rotate.fit(w)
    for r in (rotate.r1, rotate.r2):
        assert torch.allclose(r @ r.T, torch.eye(6, dtype=torch.float64), atol=1e-10)
    z = StandardWeight()(w).flatten(1)
    whole = torch.kron(rotate.r1, rotate.r2)  # (36, 36): what the two small ones stand for
    assert torch.allclose(rotate(w).flatten(1), z @ whole, atol=1e-10)  # the angle starts at pi / 2: rotated altogether
    assert torch.allclose(rotate(w).flatten(1).norm(dim=1), z.norm(dim=1))


def test_every_fit_brings_weights_nearer_to_their_signs() -> None:
    torch.manual_seed(1)
    w = torch.randn(8, 4, 3, 3, dtype=torch.float64)
    rotate = Rotate(w.shape).double()
    sums = [rotate(w).abs().sum().item()]  # sum of tr(B^T R1^T X R2) with B = sign
    for _ in range(8):
        rotate.fit(w, cycles=1)
        sums.append(rotate(w).abs().sum().item())
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(sums))
    assert sums[-1] > 1.05 * sums[0] and rotate.fits == 8


def test_angle_mixes() -> None:
    torch.manual_seed(2)
    w = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    rotate = Rotate(w.shape).double()
    all_rotated = rotate(w).detach()
    z = StandardWeight()(w)
    with torch.no_grad():
        rotate.angle.copy_(torch.tensor([0.0, math.pi / 6, -math.pi / 6]).view(3, 1, 1, 1))
    mixed = rotate(w)
    assert torch.allclose(mixed[0], z[0])
    for i in (1, 2):
        assert torch.allclose(mixed[i], 0.5 * z[i] + 0.5 * all_rotated[i])


def test_gradients_are_exact() -> None:
    torch.manual_seed(3)
    w = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    rotate = Rotate(w.shape).double()
    with torch.no_grad():
        rotate.angle.copy_(torch.tensor([0.4, 2.0]).view(2, 1, 1, 1))
    assert torch.autograd.gradcheck(rotate, w)
    g = torch.randn_like(w)
    (angle,) = torch.autograd.grad((rotate(w) * g).sum(), rotate.angle)
    z = StandardWeight()(w)
    r = (rotate.r1.T @ z.reshape(2, 3, 6) @ rotate.r2).view_as(w)
    expected = ((r - z) * g).sum((1, 2, 3)) * torch.tensor([0.4, 2.0], dtype=torch.float64).cos()  # both sines are positive
    assert torch.allclose(angle.flatten(), expected)


def test_rotations_and_their_count_are_saved() -> None:
    w = torch.randn(2, 2, 3, 3)
    rotate, twin = Rotate(w.shape), Rotate(w.shape)
    rotate.fit(w)
    twin.load_state_dict(rotate.state_dict())
    assert twin.fits == 1 and torch.equal(twin(w), rotate(w))
