"""The estimators of RBNN, BNN+ and DSQ: baselines.md 10.3, repair-methods.md 8.1 and 8.2."""

import math

import pytest
import torch

from bitfold.errors import ConfigError
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.base import sign
from bitfold.quantizers.dsq import DSQSign
from bitfold.quantizers.ede import EDE
from bitfold.quantizers.rbnn import RBNNSign
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.sign_swish import SignSwish


def slopes(quantizer: Sign, x: list[float]) -> list[float]:
    t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = quantizer.double()(t)
    assert torch.equal(y, sign(t)) and torch.equal(quantizer.codes(t), sign(t).to(torch.int32))
    y.sum().backward()
    return t.grad.tolist()


def test_rbnn_rows() -> None:
    assert slopes(RBNNSign(1.0), [0, 0.1, 0.5, 1, 2]) == pytest.approx([1.414214, 1.314214, 0.914214, 0.414214, 0], abs=1e-6)
    x = torch.linspace(-3, 3, 61, dtype=torch.float64).tolist()
    for t in (0.01, 0.5, 1.0, 10.0):  # the formula of section 2
        k = max(1 / t, 1)
        expected = [max(0, k * (math.sqrt(2) * t - t * t * abs(v))) for v in x]
        assert slopes(RBNNSign(t), x) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    activation, weight = RBNNSign(1e-2, 10.0, least=1.0), RBNNSign(1e-2, 10.0)
    for progress, t, least in [(0.0, 0.01, 1.0), (0.5, 10**-0.5, 1.0), (1.0, 10.0, 10.0)]:  # T_min and T_max of the README
        for quantizer, expected in ((weight, t), (activation, least)):
            quantizer.advance(progress)
            assert quantizer.t.item() == pytest.approx(expected)


def test_sign_swish_rows() -> None:
    got = slopes(SignSwish(5.0), [0, 0.5, 1, -0.5])
    assert got == pytest.approx([5, -0.084622, -0.194992, -0.084622], abs=1e-6)


def test_dsq_rows() -> None:
    quantizer = DSQSign(0.2).double()
    with torch.no_grad():
        quantizer.alpha.fill_(0.2)
    assert quantizer.sharpness().item() == pytest.approx(1.098612, abs=1e-6)
    x = torch.tensor([0.5, 0.0, 1.0, 1.01], dtype=torch.float64)
    assert quantizer.surrogate(x).tolist() == pytest.approx([0.625, 0, 1, 1], abs=1e-6)
    assert slopes(quantizer, [0, 1.01, -1.5]) == pytest.approx([1.373265, 0, 0], abs=1e-6)
    step = 1e-6
    with torch.no_grad():
        quantizer.alpha.fill_(0.2 + step)
        high = quantizer.surrogate(x)[0]
        quantizer.alpha.fill_(0.2 - step)
        low = quantizer.surrogate(x)[0]
        quantizer.alpha.fill_(0.2)
    (grad,) = torch.autograd.grad(quantizer(x[:1]).sum(), quantizer.alpha)
    assert grad.item() == pytest.approx((high - low).item() / (2 * step), rel=1e-5)


MIRRORED = [-1.5, -1, -0.6, -0.2, 0, 0.2, 0.6, 1, 1.5]


@pytest.mark.parametrize(
    ("quantizer", "left"),
    [
        (Sign(), [0, 1, 1, 1, 1]),
        (ApproxSign(), [0, 0, 0.8, 1.6, 2]),
        (EDE(2.0), [0.019732, 0.141302, 0.610040, 1.711278, 2]),
        (SignSwish(5.0), [-0.030340, -0.194992, -0.323214, 3.023661, 5]),
        (RBNNSign(1.0), [0, 0.414214, 0.814214, 1.214214, 1.414214]),
    ],
)
def test_surrogate_table(quantizer: Sign, left: list[float]) -> None:
    """repair-methods.md 8.1."""
    assert slopes(quantizer, MIRRORED) == pytest.approx([*left, *left[-2::-1]], abs=1e-6)


@pytest.mark.parametrize(("quantizer", "area"), [(Sign(), 2), (ApproxSign(), 2), (SignSwish(), 2), (EDE(0.5), 4), (EDE(2.0), 2)])
def test_surrogate_area(quantizer: Sign, area: float) -> None:
    """repair-methods.md 8.2: the integral of the derivative over R."""
    x = torch.linspace(-40, 40, 800_001, dtype=torch.float64, requires_grad=True)
    quantizer.double()(x).sum().backward()
    assert x.grad is not None
    assert float(torch.trapezoid(x.grad, x.detach())) == pytest.approx(area, abs=2e-4)


def test_bad_arguments_are_refused() -> None:
    for make in (lambda: RBNNSign(0.0), lambda: RBNNSign(1.0).set_t(-1), lambda: SignSwish(0.0), lambda: DSQSign(1.0)):
        with pytest.raises(ConfigError):
            make()
