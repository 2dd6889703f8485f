"""EDE's schedule over epochs and DTE's cap (dir-net.md 8.1, 8.2, 8.7)."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from bitfold.errors import ConfigError
from bitfold.quantizers.dte import DTE, SAMPLES
from bitfold.quantizers.ede import EDE, advance_ede, ede_t


def slope(quantizer: EDE, *at: float) -> list[float]:
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    quantizer.double()(x).sum().backward()
    assert x.grad is not None
    return x.grad.tolist()


@pytest.mark.parametrize(
    ("epoch", "t", "slopes"),
    [
        (0, 0.001, {0: 1}),
        (200, 0.1, {0: 1, 1: 0.99007, 2: 0.961043}),
        (300, 1, {0.5: 0.78645, 1: 0.41997}),
        (399, 9.772372, {0: 9.77237, 0.5: 0.00223}),
    ],
)
def test_ede_values_of_400_epochs(epoch: int, t: float, slopes: dict[float, float]) -> None:
    ede = EDE(1e-3, 10.0)
    ede.advance(epoch / 400)
    assert ede.t.item() == pytest.approx(t)
    assert slope(ede, *slopes) == pytest.approx(list(slopes.values()), abs=1e-5)


def test_ede_values_of_100_epochs() -> None:
    """lcr-bnn.md section 2 and 10.5."""
    for epoch, t, k in [(0, 1e-3, 1000), (25, 0.01, 100), (50, 0.1, 10), (75, 1, 1), (99, 9.12, 1)]:
        found = ede_t(epoch / 100, 1e-3, 10.0)
        assert found == pytest.approx(t, rel=1e-4) and max(1 / found, 1) == pytest.approx(k, rel=1e-4)
    assert slope(EDE(10.0), 0, 0.5) == pytest.approx([10, 0.0018158], abs=1e-7)


def test_monotone_schedule() -> None:
    ts = [ede_t(i / 400, 1e-3, 10.0) for i in range(400)]
    assert all(a < b for a, b in pairwise(ts))
    for t in ts:
        (at_zero,) = slope(EDE(t), 0.0)
        assert at_zero == pytest.approx(1.0 if t < 1 else t, rel=1e-6)  # k t, continuous at t = 1


def test_each_estimator_keeps_its_own_schedule() -> None:
    model = torch.nn.ModuleList([EDE(1e-3, 10.0), EDE(0.1, 10.0), EDE(0.5)])
    advance_ede(model, 0.5)
    assert [m.t.item() for m in model] == pytest.approx([0.1, 1.0, 0.5])


def sharpness(x: Tensor, t: float) -> float:
    return DTE(t).sharpness(x).item()


def test_dte_cap() -> None:
    uniform = torch.linspace(0, 1, 1001)
    assert DTE(1.0).reach == pytest.approx(1.8184, abs=1e-4)
    assert sharpness(uniform, 10.0) == 10.0 and sharpness(uniform, 100.0) == pytest.approx(18.18, abs=0.01)
    bimodal = torch.ones(1000)
    bimodal[::2] = -1
    bimodal[::20] = 0.5
    for t in (1.8185, 5.0, 10.0):
        assert sharpness(bimodal, t) == pytest.approx(1.8184, abs=1e-4)
    for t in (1e-3, 0.5, 1.8):
        assert sharpness(bimodal, t) == pytest.approx(t)  # not bound
    assert sharpness(torch.full((9,), 50.0), 3.0) == 1.0  # never below 1: stage 1 is EDE's
    assert sharpness(torch.zeros(9), 3.0) == 3.0


def test_dte_changes_the_gradient_as_its_sharpness_says() -> None:
    x = torch.tensor([-1.0, 1.0, 0.7, -0.9], dtype=torch.float64, requires_grad=True)
    dte = DTE(10.0, eps=0.5).double()
    t = dte.sharpness(x).item()
    assert 1 < t < 10
    dte(x).sum().backward()
    assert torch.allclose(x.grad, t * (1 - (t * x.detach()).tanh().square()))
    assert dte(x).tolist() == [-1, 1, 1, -1]


def test_dte_of_many_values_takes_a_sample() -> None:
    torch.manual_seed(0)
    x = torch.rand(16, 8, 32, 32) * torch.linspace(0.5, 1.5, 32)  # columns differ, so a stride of whole rows would be wrong
    assert x.numel() > 30 * SAMPLES
    exact = DTE(10.0).reach / x.flatten().sort().values[x.numel() // 10].item()
    assert sharpness(x, 100.0) == pytest.approx(exact, rel=0.1)


def test_dte_refuses_shares_outside_0_and_1() -> None:
    for fields in ({"eps": 0.0}, {"eps": 1.0}, {"delta": 0.0}, {"delta": 1.5}):
        with pytest.raises(ConfigError, match="allowed: between 0 and 1"):
            DTE(1.0, **fields)
