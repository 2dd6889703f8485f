"""ReCU's weight normalisation and activation sign: baselines.md sections 3 and 5."""

import math

import pytest
import torch

from bitfold.errors import ConfigError
from bitfold.layers.norm import SampleStd
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.normalized import Normalized
from bitfold.quantizers.quantile_clamp import QuantileClamp, recu_tau


@pytest.mark.parametrize(("progress", "tau", "ratio"), [(0.0, 0.85, 1.2040), (0.5, 0.90286, None), (1.0, 0.99, 3.9120)])
def test_schedule_and_quantile(progress: float, tau: float, ratio: float | None) -> None:
    """baselines.md 5: tau(0), tau(E/2), tau(E) and Q / E."""
    value = recu_tau(progress, 0.85, 0.99)
    assert value == pytest.approx(tau, abs=5e-6)
    if ratio is not None:
        assert -math.log(2 - 2 * value) == pytest.approx(ratio, abs=5e-5)


def test_clamp_uses_one_quantile_for_the_layer(rng) -> None:  # type: ignore[no-untyped-def]
    w = torch.tensor(rng.normal(size=(5, 3, 3, 3)) * 0.1 + 0.02, dtype=torch.float64, requires_grad=True)
    module = QuantileClamp(0.85).double()
    w0 = w - w.mean((1, 2, 3), keepdim=True)
    w1 = w0 / (torch.sqrt(w0.var((1, 2, 3), keepdim=True) + 1e-5) / (2 * math.sqrt(2)))
    q = (-w1.abs().mean() * math.log(2 - 2 * 0.85)).item()
    z = module(w)
    assert torch.allclose(z, w1.clamp(-q, q))
    assert 0 < (w1.abs() > q).sum() < w.numel()  # the case is not trivial
    g = torch.tensor(rng.normal(size=w.shape))
    (got,) = torch.autograd.grad((z * g).sum(), w)
    (expected,) = torch.autograd.grad((w1.clamp(-q, q) * g).sum(), w)
    assert torch.allclose(got, expected)


def test_outliers_get_gradient_through_the_statistics_only() -> None:
    """d clip / d w1 is 0 beyond Q: the direct part of the gradient is missing there."""
    w = torch.tensor([[1.0, -1.0, 1.0, -1.0, 9.0, -9.0]], dtype=torch.float64)
    inside = QuantileClamp(0.85).double()
    jacobian = torch.autograd.functional.jacobian(inside, w)[0, :, 0]
    assert torch.equal(jacobian[4], torch.zeros(6)) and torch.equal(jacobian[5], torch.zeros(6))
    assert (jacobian[:4].diagonal() > 0).all()


def test_sample_sign_window() -> None:
    x = torch.tensor([[-4.0, -1.0, 1.0, 4.0], [-0.4, -0.1, 0.1, 0.4]], dtype=torch.float64, requires_grad=True)
    quantizer = Normalized(ApproxSign(), SampleStd())
    z = x / torch.sqrt(x.var(1, keepdim=True) + 1e-5)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    y = quantizer(x)
    assert y.tolist() == [[-1, -1, 1, 1]] * 2
    (got,) = torch.autograd.grad((y * weight).sum(), x)
    (expected,) = torch.autograd.grad((ApproxSign()(z) * weight).sum(), x)
    assert torch.allclose(got, expected)
    assert torch.allclose(got[1], 10 * got[0], rtol=1e-3)  # the window follows the sample, but for epsilon
    quantizer.eval()
    (got,) = torch.autograd.grad((quantizer(x) * weight).sum(), x)
    (expected,) = torch.autograd.grad((ApproxSign()(x) * weight).sum(), x)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("tau", [0.5, 1.0, 0.2])
def test_tau_is_checked(tau: float) -> None:
    with pytest.raises(ConfigError, match=r"allowed: 0\.5 < tau < 1"):
        QuantileClamp(tau)
