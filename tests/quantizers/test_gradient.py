"""Quantised gradients."""

import pytest
import torch

from bitfold.errors import ConfigError
from bitfold.quantizers.gradient import GradientQuant, quantize_gradient


def test_identity_forwards_and_grid_backwards() -> None:
    x = torch.randn(4, 5, requires_grad=True)
    g = torch.tensor([[0.3, -2.0, 1.9, 0.0, 0.06]]).expand(4, 5)
    y = GradientQuant(3)(x)
    assert torch.equal(y, x)
    y.backward(g)
    # peak 2, step 0.5, range [-2, 1.5]
    assert x.grad[0].tolist() == [0.5, -2, 1.5, 0, 0]


def test_log_and_one_bit() -> None:
    g = torch.tensor([0.3, -2.0, 1.0, 0.0, 1e-3])
    assert quantize_gradient(g, 6, "log", False).tolist() == [0.25, -2, 1, 0, 2 * 2.0**-11]
    assert quantize_gradient(g, 3, "log", False).tolist() == [0, -2, 1, 0, 0]
    assert quantize_gradient(g, 1, "linear", False).tolist() == [2, -2, 2, 2, 2]  # max|g| sign(g)
    for bits, kind in [(1, "linear"), (6, "linear"), (6, "log")]:
        assert quantize_gradient(torch.zeros(3), bits, kind, False).tolist() == [0, 0, 0]  # type: ignore[arg-type]


def test_stochastic_rounding_is_unbiased() -> None:
    torch.manual_seed(0)
    g = torch.full((200_000,), 0.3)
    g[0] = 1.0
    assert quantize_gradient(g, 3, "linear", True).mean().item() == pytest.approx(0.3, abs=0.002)


def test_bad_arguments() -> None:
    for make in (lambda: GradientQuant(0), lambda: GradientQuant(4, "loG"), lambda: GradientQuant(6, "log", stochastic=True)):  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            make()
