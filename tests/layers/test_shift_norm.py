"""Shift-based BatchNorm: qnn.md 11.3 and section 5."""

import pytest
import torch
from torch import nn

import bitfold
from bitfold.layers.shift_norm import ShiftNorm, shift_norms
from bitfold.quantizers.rounding import ap2


def columns() -> torch.Tensor:
    return torch.tensor([[1.0, 4.0], [3.0, 0.0], [2.0, -2.0], [6.0, 2.0]])


def test_row() -> None:
    """mean (3, 1), v (4.25, 6.5), 1/sqrt (0.48507, 0.39223) -> r (0.5, 0.5)."""
    norm = ShiftNorm(2, momentum=1.0)
    y = norm(columns())
    assert y.T.tolist() == [[-1, 0, -0.5, 1.5], [1.5, -0.5, -1.5, 0.5]]
    assert norm.running_mean.tolist() == [3, 1]
    assert norm.running_rstd.tolist() == pytest.approx([0.48507, 0.39223], abs=1e-5)
    c = columns() - torch.tensor([3.0, 1.0])
    assert ap2(c).T.tolist() == [[-2, 0, -1, 4], [4, -1, -4, 1]]


def test_gradients_of_the_formula(rng) -> None:  # type: ignore[no-untyped-def]
    x = torch.tensor(rng.normal(size=(3, 4, 2, 5)), requires_grad=True)
    d = torch.tensor(rng.normal(size=(3, 4, 2, 5)))
    norm = ShiftNorm(4).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.8, -1.5, 3.0, 0.2]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, -0.3, 0.0]))
    y = norm(x)
    (y * d).sum().backward()
    dims = (0, 2, 3)
    c = (x - x.mean(dims, keepdim=True)).detach()
    p = ap2(c)
    r = ap2(torch.rsqrt((c * p).mean(dims, keepdim=True) + 1e-5))
    gamma = ap2(norm.weight.detach()).view(1, 4, 1, 1)
    assert gamma.flatten().tolist() == [1, -2, 4, 0.25]
    assert torch.allclose(y, c * r * gamma + norm.bias.view(1, 4, 1, 1))
    dx = gamma * r * (d - d.mean(dims, keepdim=True) - p * r**2 * (p * d).mean(dims, keepdim=True))
    assert torch.allclose(x.grad, dx)
    assert torch.allclose(norm.weight.grad, (d * ap2(c * r)).sum(dims))
    assert torch.allclose(norm.bias.grad, d.sum(dims))


def test_running_averages_and_evaluation() -> None:
    norm = ShiftNorm(2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([3.0, 0.7]))
        norm.bias.copy_(torch.tensor([0.5, -0.5]))
    norm(columns())
    assert norm.running_mean.tolist() == [3 / 8, 1 / 8]
    assert norm.running_rstd.tolist() == pytest.approx([7 / 8 + 0.48507 / 8, 7 / 8 + 0.39223 / 8], abs=1e-5)
    x = columns()
    y = norm.eval()(x)  # AP2 of .9356 and .9240 is 1; AP2(3) = 4, AP2(.7) = .5
    assert torch.equal(y, (x - torch.tensor([0.375, 0.125])) * torch.tensor([4.0, 0.5]) + torch.tensor([0.5, -0.5]))


def test_replaces_batch_norms_and_exports() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5), nn.BatchNorm1d(5, affine=False))
    weight = model[1].weight
    shift_norms(model)
    assert isinstance(model[1], ShiftNorm) and model[1].weight is weight and isinstance(model[5], ShiftNorm)
    x = torch.randn(6, 3, 5, 5)
    model(x)
    model.eval()
    graph = bitfold.export(model, x[:1])
    assert torch.allclose(torch.tensor(bitfold.interpret(graph, x.numpy())), model(x), atol=1e-5)
    assert not any("sqrt" in type(node).__name__.lower() for node in graph.nodes)
