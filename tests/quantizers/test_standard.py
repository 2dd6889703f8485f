"""IR-Net's weight: standardised, signed, times a power of two (dir-net.md 8.3 to 8.6, lcr-bnn.md 10.6, baselines.md 10.5)."""

import numpy as np
import pytest
import torch
from torch import Tensor

from bitfold.ir.encoding import Binary
from bitfold.quantizers.ede import EDE
from bitfold.quantizers.standard import StandardWeight
from bitfold.quantizers.weight_sign import WeightSign

ROW = (0.6, -0.2, 0.1, -0.9, 0.4, 0.3)


def libra(t: float = 1.0) -> WeightSign:
    return WeightSign(EDE(t), "pow2", StandardWeight()).double()


def one_filter(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1).requires_grad_()


def test_weight_forward_row() -> None:
    w = one_filter(*ROW)
    z = StandardWeight()(w)
    assert z.flatten().tolist() == pytest.approx([1.019568, -0.463440, 0.092688, -1.761072, 0.648816, 0.463440], abs=1e-6)
    assert z.abs().mean().item() == pytest.approx(0.741504, abs=1e-6)
    assert libra()(w).flatten().tolist() == [1, -1, 1, -1, 1, 1]
    heavy = one_filter(4, 0.1, -0.1, 0.1, -0.1, 0.1, -0.1, -4)
    assert StandardWeight()(heavy).abs().mean().item() == pytest.approx(0.502315, abs=1e-6)
    assert libra()(heavy).abs().flatten().tolist() == [0.5] * 8
    assert libra().encoding(heavy) == Binary(scale=0.5)
    assert libra().codes(heavy).flatten().tolist() == [1, 1, -1, 1, -1, 1, -1, -1]


@pytest.mark.parametrize(
    ("w", "z", "mean"),
    [
        ((0.2, -0.1, 0.4, 0.1), (0.2402, -1.2010, 1.2010, -0.2402), 0.7206),  # baselines.md 10.5
        ((1, 2, 3, -6), (0.2449, 0.4899, 0.7348, -1.4697), 0.7348),  # lcr-bnn.md 10.6
    ],
)
def test_more_weight_rows(w: tuple[float, ...], z: tuple[float, ...], mean: float) -> None:
    found = StandardWeight()(one_filter(*w))
    assert found.flatten().tolist() == pytest.approx(list(z), abs=5e-5)
    assert found.abs().mean().item() == pytest.approx(mean, abs=5e-5)
    assert libra()(one_filter(*w)).abs().flatten().tolist() == [1] * 4


def test_weight_backward_row() -> None:
    w = one_filter(*ROW)
    libra(0.5)(w).backward(torch.tensor([1, 2, -1, 0.5, 0, 3], dtype=torch.float64).view_as(w))
    expected = [-0.29476079, 2.16121402, -3.34840752, -0.55305292, -1.64309765, 3.67810486]
    assert w.grad.flatten().tolist() == pytest.approx(expected, abs=1e-8)


def test_gradient_ignores_shift_and_scale(rng: np.random.Generator) -> None:
    quantizer = libra(0.7)
    w = torch.tensor(rng.normal(size=(5, 4, 3, 3)), requires_grad=True)
    g = torch.tensor(rng.normal(size=w.shape))
    quantizer(w).backward(g)
    z = StandardWeight()(w.detach())
    assert w.grad.sum((1, 2, 3)).abs().max() < 1e-10
    assert (w.grad * z).sum((1, 2, 3)).abs().max() < 1e-10
    scaled = (3.7 * w.detach()).requires_grad_()
    assert torch.equal(quantizer(scaled), quantizer(w))
    quantizer(scaled).backward(g)
    assert torch.allclose(scaled.grad * 3.7, w.grad, rtol=1e-10, atol=1e-12)


def test_shift_is_never_to_the_left(rng: np.random.Generator) -> None:
    n = 10_000 // 5
    draws = [
        rng.normal(size=(n, 9)),
        rng.uniform(-1, 1, (n, 9)),
        rng.laplace(size=(n, 9)),
        rng.standard_cauchy((n, 9)),
        rng.choice([-1.0, 1.0], (n, 9)) + 1e-3 * rng.normal(size=(n, 9)),
    ]
    w = torch.tensor(np.concatenate(draws)).view(-1, 1, 3, 3)
    scale = torch.tensor(libra().encoding(w).scale)
    assert len(scale) == 5 * n and (scale <= 1).all() and (scale < 1).any()
    assert torch.equal(scale.log2(), scale.log2().round())
