"""Sign-sparse-shift weights: s3-shift.md section 11, tests 1-5."""

import itertools

import pytest
import torch

from bitfold.errors import ConfigError
from bitfold.ir.encoding import PowerOfTwo, Ternary
from bitfold.quantizers.shift import SignSparseShift

W1 = [[0.54, 0.88, 0.67], [-0.97, -0.72, -0.51], [0.28, 0.09, 0.34]]
W2 = [[0.63, -0.98, -0.14], [-0.40, -0.18, 0.58], [0.90, -0.01, -0.93]]
SIGN = [[-0.56, -0.24, 0.78], [-0.15, -0.07, -0.04], [0.90, -0.28, 0.68]]
SPARSE = [[0.52, -0.81, 0.55], [-0.15, 0.37, 0.42], [0.17, 0.29, -0.01]]


def example() -> tuple[SignSparseShift, torch.Tensor]:
    quantizer = SignSparseShift(torch.Size((3, 3)))
    with torch.no_grad():
        for parameter, value in [(quantizer.sparse, SPARSE), (quantizer.shifts[0], W1), (quantizer.shifts[1], W2)]:
            parameter.copy_(torch.tensor(value))
    return quantizer, torch.tensor(SIGN, requires_grad=True)


def test_worked_example() -> None:
    quantizer, w = example()
    assert quantizer(w).tolist() == quantizer.codes(w).tolist() == [[-4, 0, 1], [0, -1, -2], [4, -1, 0]]
    assert quantizer.encoding() == PowerOfTwo(2)


def test_gradients_of_the_example() -> None:
    quantizer, w = example()
    quantizer(w).sum().backward()
    assert w.grad.tolist() == [[4, 0, 1], [0, 1, 2], [4, 1, 0]]
    assert quantizer.sparse.grad.tolist() == [[-4, -1, 1], [-1, -1, -2], [4, -1, 1]]
    first = [-2.772589, 0, 0, 0, 0, -1.386294, 2.772589, 0, 0]
    second = [-5.545177, 0, 1.386294, 0, -0.693147, -1.386294, 5.545177, -1.386294, 0]
    assert quantizer.shifts[0].grad.flatten().tolist() == pytest.approx(first, abs=1e-6)
    assert quantizer.shifts[1].grad.flatten().tolist() == pytest.approx(second, abs=1e-6)


@pytest.mark.parametrize(("bits", "top"), [(2, 0), (3, 2), (4, 6)])
def test_level_sets(bits: int, top: int) -> None:
    signs = torch.tensor(list(itertools.product([-0.5, 0.5], repeat=top + 2)))  # every pattern of the latents
    quantizer = SignSparseShift(torch.Size((len(signs), 1)), bits)
    with torch.no_grad():
        quantizer.sparse.copy_(signs[:, 1:2])
        for i, latent in enumerate(quantizer.shifts):
            latent.copy_(signs[:, i + 2 : i + 3])
    levels = quantizer(signs[:, :1]).unique().tolist()
    assert levels == sorted([s * 2.0**p for s in (-1, 1) for p in range(top + 1)] + [0.0])
    assert len(levels) == 2**bits - 1
    assert quantizer.encoding() == (Ternary(1.0) if bits == 2 else PowerOfTwo(top))


def test_zero_is_asymmetric() -> None:
    quantizer = SignSparseShift(torch.Size((1, 2)), bits=2)
    with torch.no_grad():
        quantizer.sparse.copy_(torch.tensor([[0.0, 1.0]]))
    assert quantizer(torch.zeros(1, 2)).tolist() == [[0, 1]]  # H(0) = 0, sgn(0) = +1


def test_sign_changes_without_passing_zero() -> None:
    quantizer, _ = example()
    with torch.no_grad():
        quantizer.sparse.fill_(1.0)
    up = quantizer(torch.full((3, 3), 1e-6))
    assert torch.equal(quantizer(torch.full((3, 3), -1e-6)), -up) and up.min() >= 1


def test_initial_level_histogram() -> None:
    torch.manual_seed(0)
    w = torch.randn(1000, 1000)
    magnitude = SignSparseShift(w.shape)(w).abs()
    shares = [(magnitude == level).double().mean().item() for level in (0, 1, 2, 4)]
    assert shares == pytest.approx([0.5, 0.25, 0.125, 0.125], abs=0.01)


def test_powers_are_exact() -> None:
    whole = torch.arange(15.0).repeat(101)
    assert torch.exp2(whole).tolist() == [2**i for i in range(15)] * 101


def test_bits_are_checked() -> None:
    with pytest.raises(ConfigError, match="allowed: 2 to 5"):
        SignSparseShift(torch.Size((1, 1)), bits=6)
