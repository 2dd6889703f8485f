"""Rounding, uniform and logarithmic quantisers: qnn.md section 11, tests 2, 7, 8; xnor-net.md 11.5."""

import math

import numpy as np
import pytest
import torch

from bitfold.errors import ConfigError
from bitfold.ir.encoding import PowerOfTwo, Ternary, Uniform
from bitfold.quantizers.linear import LinearQuant
from bitfold.quantizers.log import LogQuant
from bitfold.quantizers.odd import OddQuant
from bitfold.quantizers.rounding import ap2, round_half_away


def test_round_half_away() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -2.5, 0.49999997, -0.49999997, 8388609.0, 0.0, -0.0])
    assert round_half_away(x).tolist() == [1, 2, 3, -1, -3, 0, 0, 8388609, 0, 0]


def test_round_half_away_is_c_round(rng) -> None:  # type: ignore[no-untyped-def]
    x = np.concatenate([rng.normal(size=2000) * 100, rng.integers(-50, 50, 2000) / 2]).astype(np.float32)
    expected = [math.copysign(math.floor(abs(v) + 0.5), v) for v in x.astype(np.float64)]  # exact in float64
    assert round_half_away(torch.tensor(x)).tolist() == expected


def test_ap2_rows() -> None:
    x = [0.3, 0.35, 0.36, 0.7, 0.71, 1.4, 1.42, 3, 5.6, 5.7, -0.9, 0]
    assert ap2(torch.tensor(x)).tolist() == [0.25, 0.25, 0.5, 0.5, 1, 1, 2, 4, 4, 8, -1, 0]
    assert ap2(torch.tensor([1e-45, -2.3e38, -0.0])).tolist() == [1.401298464324817e-45, -(2.0**127), 0]


def test_linear_signed_rows() -> None:
    x = torch.tensor([-1.2, -0.6, -0.3, 0.1, 0.3, 0.6, 0.9], requires_grad=True)
    y = LinearQuant(2, signed=True)(x)
    y.sum().backward()
    assert y.tolist() == [-1, -0.5, -0.5, 0, 0.5, 0.5, 0.5]
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0, 0]  # range [-1, 0.5]
    assert LinearQuant(3, signed=True)(torch.tensor([-0.6, 0.25, 0.9])).tolist() == [-0.5, 0.25, 0.75]


def test_linear_unsigned() -> None:
    quantizer = LinearQuant(2, signed=False)
    x = torch.tensor([-0.5, 0.0, 1 / 6 + 1e-4, 0.5, 0.9, 1.0, 2.0], requires_grad=True)
    y = quantizer(x)
    y.sum().backward()
    assert quantizer.codes(x).tolist() == [0, 0, 1, 2, 3, 3, 3]  # 0.5 * 3 = 1.5 goes away from zero
    assert y.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1, 1])
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert quantizer.encoding() == Uniform(2, signed=False, scale=1 / 3)


def test_normalised_weights() -> None:
    w = torch.tensor([[0.2, -0.4], [0.1, 0.06]], requires_grad=True)
    quantizer = LinearQuant(3, signed=True, normalise=True)
    y = quantizer(w)
    y.sum().backward()
    assert quantizer.codes(w).tolist() == [[2, -4], [1, 1]]
    assert y.flatten().tolist() == pytest.approx([0.2, -0.4, 0.1, 0.1])
    assert w.grad.flatten().tolist() == [1, 1, 1, 1]
    assert quantizer(torch.zeros(2, 2)).tolist() == [[0, 0], [0, 0]]


def test_log_rows() -> None:
    quantizer = LogQuant(3)  # magnitudes 0.25, 0.5, 1
    x = torch.tensor([0.1, 0.1767, 0.1769, -0.3, 0.4, 0.7072, -5.0, 0.0], requires_grad=True)
    y = quantizer(x)
    y.sum().backward()
    assert y.tolist() == [0, 0, 0.25, -0.25, 0.5, 1, -1, 0]  # zero below 2^(e_min - 1/2) = 0.17678
    assert x.grad.tolist() == [1, 1, 1, 1, 1, 1, 0, 1]
    assert quantizer.encoding() == PowerOfTwo(2, scale=0.25)
    assert quantizer.codes(x).tolist() == [0, 0, 1, -1, 2, 4, -4, 0]
    assert LogQuant(2).encoding() == Ternary(1.0)
    assert LogQuant(5).encoding() == PowerOfTwo(14, scale=2.0**-14)


def test_odd_rows() -> None:
    quantizer = OddQuant(2)
    x = torch.tensor([-0.8, -0.6, 0.1, 0.4, 0.7, 0.0])
    assert quantizer(x).tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1 / 3, 1, 1 / 3])
    assert quantizer.codes(x).tolist() == [-3, -1, 1, 1, 3, 1]


def test_bit_plane_product_of_the_encodings() -> None:
    """qnn.md 11.7: a unsigned planes, w two's complement; sum of sigma_j 2^(i+j) popcount(a_i & w_j)."""
    a, w = np.array([3, 0, 2, 1]), np.array([-4, 3, -1, 2])
    total = 0
    for i in range(2):
        for j in range(3):
            weight = (-1 if j == 2 else 1) * 2 ** (i + j)
            total += weight * int((((a >> i) & 1) & ((w >> j) & 1)).sum())
    assert total == int(a @ w) == -12


@pytest.mark.parametrize(
    "make", [lambda: LinearQuant(1, signed=True), lambda: LinearQuant(9, signed=False), lambda: LogQuant(6), lambda: OddQuant(1)]
)
def test_bits_are_checked(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match="allowed: "):
        make()
