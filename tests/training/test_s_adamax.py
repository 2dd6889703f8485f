"""Shift-based AdaMax: qnn.md 11.4, and its v that never decays."""

import pytest
import torch
from torch import nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.methods import get
from bitfold.quantizers.rounding import ap2
from bitfold.training.optim import Optimizers
from bitfold.training.recipe import Stage
from bitfold.training.s_adamax import SAdaMax


def test_row() -> None:
    """lr 2^-6: step AP2(.15625) = .125, v = (.25, .015625, 0, 2), change (.015, -.016, 0, .009375), then clipped."""
    p = nn.Parameter(torch.tensor([0.99, 0.5, -0.2, -0.9999]))
    optimizer = SAdaMax([p], lr=2.0**-6)
    p.grad = torch.tensor([0.3, -0.02, 0.0, 1.5])
    before = p.detach().clone()
    optimizer.step()
    assert optimizer.state[p]["v"].tolist() == pytest.approx([0.25, 0.015625, 0, 2], abs=1e-8)
    assert (before - p).tolist() == pytest.approx([0.015, -0.016, 0, 0.009375], abs=1e-6)
    assert p.detach().clamp(-1, 1).tolist() == pytest.approx([0.975, 0.516, -0.2, -1.0], abs=1e-6)


def test_v_decays_only_when_kept_exactly() -> None:
    kept = {}
    for quantised in (True, False):
        p = nn.Parameter(torch.zeros(1))
        optimizer = SAdaMax([p], store_quantised_v=quantised)
        for g in [1.0] + [0.0] * 200:
            p.grad = torch.tensor([g])
            optimizer.step()
        kept[quantised] = optimizer.state[p]["v"].item()
    assert kept[True] == pytest.approx(1.0, abs=1e-6)
    assert kept[False] == pytest.approx(0.999**200, rel=1e-3)


def test_steps_are_powers_of_two() -> None:
    """From m = g the change of one step is a power of two times g."""
    p = nn.Parameter(torch.zeros(64))
    optimizer = SAdaMax([p], lr=0.003, betas=(0.0, 0.999))
    p.grad = torch.linspace(0.01, 3, 64)
    optimizer.step()
    ratio = -p.detach() / p.grad
    assert torch.allclose(ratio, ap2(ratio), rtol=1e-5)


def test_as_the_optimizer_of_a_recipe() -> None:
    torch.manual_seed(0)
    stage = Stage(method="qnn", epochs=1, optimizer="s_adamax", lr=2.0**-6, betas=(0.8, 0.99), schedule="constant")
    method = get("qnn", norm="shift", lr_scale="pow2", loss_kind="task", init="uniform")
    hidden = [nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Hardtanh(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.Hardtanh()]
    model = bitfold.apply(nn.Sequential(*hidden, nn.Linear(32, 2)), method)
    assert model[0].weight.abs().max() > 0.9
    optimizer = Optimizers(stage, method, model)
    assert isinstance(optimizer.parts[0], SAdaMax) and optimizer.param_groups[0]["betas"] == (0.8, 0.99)
    x = torch.randn(256, 6)
    y = (x.sum(1) > 0).long()
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(model, 0.5)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    twin = Optimizers(stage, method, model)
    twin.load_state_dict(optimizer.state_dict())
    assert twin.parts[0].state[model[0].weight]["step"] == 60


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="allowed: lr >= 0"):
        SAdaMax([nn.Parameter(torch.ones(2))], betas=(0.9, 1.0))
    with pytest.raises(ConfigError, match="no closure"):
        SAdaMax([nn.Parameter(torch.ones(2))]).step(lambda: 0)
