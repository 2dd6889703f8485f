"""Bop: repair-methods.md 8.5, and a run whose binary weights are -1 and +1 throughout."""

import pytest
import torch
from torch import nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.layers.quant import quant_layers
from bitfold.methods import get
from bitfold.training.bop import Bop
from bitfold.training.optim import Optimizers
from bitfold.training.recipe import Stage


@pytest.mark.parametrize(("w", "after"), [((1, -1), (-1, 1)), ((-1, 1), (-1, 1))])
def test_bop_row(w: tuple[float, float], after: tuple[float, float]) -> None:
    """gamma .1, threshold .2, m = (.2, -.3), g = (.5, .1): m' = (.23, -.26)."""
    p = nn.Parameter(torch.tensor(w, dtype=torch.float32))
    bop = Bop([p], lr=0.1, threshold=0.2)
    bop.state[p]["average"] = torch.tensor([0.2, -0.3])
    p.grad = torch.tensor([0.5, 0.1])
    bop.step()
    assert bop.state[p]["average"].tolist() == pytest.approx([0.23, -0.26])
    assert p.tolist() == list(after)


def test_average_starts_at_zero_and_the_threshold_is_strict() -> None:
    p = nn.Parameter(torch.ones(3))
    bop = Bop([p], lr=0.5, threshold=0.25)
    p.grad = torch.tensor([0.5, 0.5001, -1.0])
    bop.step()
    assert p.tolist() == [1, -1, 1]


def stage(**fields: object) -> Stage:
    return Stage(method="bnn", epochs=1, optimizer="adam", lr=0.01, schedule="constant", **fields)  # type: ignore[arg-type]


def network() -> nn.Module:
    hidden = [nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.Hardtanh(), nn.Linear(16, 16, bias=False), nn.BatchNorm1d(16)]
    return nn.Sequential(*hidden, nn.Hardtanh(), nn.Linear(16, 2))


def test_bnn_without_latent_weights_learns() -> None:
    torch.manual_seed(0)
    method = get("bnn", latent=False, adaptivity=0.003, threshold=1e-5)
    model = bitfold.apply(network(), method)
    optimizer = Optimizers(stage(), method, model)
    assert [type(part).__name__ for part in optimizer.parts] == ["Adam", "Bop"]
    x = torch.randn(256, 6)
    y = (x[:, 0] + x[:, 1] > 0).long()
    weights = [layer.weight for layer in quant_layers(model)]
    start = [w.detach().clone() for w in weights]
    losses = []
    for i in range(120):
        optimizer.set_lr(1 - i / 120, i / 120)
        loss = nn.functional.cross_entropy(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(model, 0.5)
        assert all(torch.equal(w.abs(), torch.ones_like(w)) for w in weights)
    assert all((w != s).any() for w, s in zip(weights, start, strict=True))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_schedule_moves_the_adaptivity() -> None:
    method = get("bnn", latent=False)
    optimizer = Optimizers(stage(weight_decay=1e-4), method, bitfold.apply(network(), method))
    optimizer.set_lr(0.1, 0.9)
    adam, bop = optimizer.param_groups
    assert (adam["lr"], adam["weight_decay"]) == (pytest.approx(1e-3), 1e-4)
    assert (bop["lr"], bop["weight_decay"], bop["threshold"]) == (pytest.approx(1e-5), 0.0, 1e-8)


def test_state_resumes() -> None:
    torch.manual_seed(0)
    p = nn.Parameter(torch.where(torch.randn(20) > 0, 1.0, -1.0))
    twin = nn.Parameter(p.detach().clone())
    first, second = Bop([p], lr=0.3, threshold=0.01), Bop([twin], lr=0.3, threshold=0.01)
    for i in range(6):
        if i == 3:
            twin = nn.Parameter(p.detach().clone())
            second = Bop([twin])
            second.load_state_dict(first.state_dict())
        p.grad = torch.randn(20)
        twin.grad = p.grad.clone()
        first.step()
        second.step()
    assert torch.equal(p, twin)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"other than -1 and \+1"):
        Bop([nn.Parameter(torch.zeros(2))])
    with pytest.raises(ConfigError, match="allowed: 0, binary"):
        Bop([{"params": [nn.Parameter(torch.ones(2))], "weight_decay": 1e-4}])
    with pytest.raises(ConfigError, match="allowed: lr from 0 to 1"):
        Bop([nn.Parameter(torch.ones(2))], lr=2.0)
    with pytest.raises(ConfigError, match="no closure"):
        Bop([nn.Parameter(torch.ones(2))]).step(lambda: 0)
