"""DIR-Net: reconstructions that say so, attention distillation against a teacher (dir-net.md 2.2, 2.3, 8.8)."""

import pytest
import torch
from torch import nn

import bitfold
from bitfold.commands.listing import methods as listed
from bitfold.errors import ConfigError
from bitfold.methods import get
from bitfold.methods._losses import attention, attention_loss
from bitfold.methods.base import Features, Forward
from bitfold.quantizers.dte import DTE
from bitfold.quantizers.ede import EDE

TEACHER = torch.tensor([[[[1.0, 2], [0, -1]], [[0, 1], [2, 0]]]])  # (1, 2, 2, 2)


def test_rbd_row() -> None:
    """dir-net.md 8.8."""
    student = torch.tensor([1.0, -1, 1, 1, -1, -1, 1, -1]).view(1, 2, 2, 2)
    assert torch.allclose(attention(TEACHER), torch.tensor([[1.0, 5, 4, 1]]) / 43**0.5)
    assert torch.allclose(attention(student), torch.full((1, 4), 0.5))
    assert attention_loss(student, TEACHER).item() == pytest.approx(0.322516, abs=1e-6)


def test_attention_is_a_mean_over_samples_and_takes_any_kind_of_features() -> None:
    both = torch.cat([TEACHER, torch.ones(1, 2, 2, 2)])
    assert attention_loss(torch.ones(2, 2, 2, 2), both).item() == pytest.approx(0.322516 / 2, abs=1e-6)
    tokens = TEACHER.flatten(2).mT  # (N, positions, C)
    assert torch.allclose(attention(tokens), attention(TEACHER))
    assert attention(torch.randn(3, 5)).tolist() == [[1.0]] * 3  # one position
    zero = torch.zeros(1, 2, 2, 2, requires_grad=True)
    attention_loss(zero, TEACHER).backward()
    assert zero.grad is not None and zero.grad.isfinite().all()


def test_loss_adds_every_block() -> None:
    method = get("dir_net", rbd=3.0)
    model = bitfold.apply(bitfold.models.create("resnet20"), method)
    paths = method.taps(model)
    assert paths == tuple(f"layer{i}.{j}" for i in (1, 2, 3) for j in range(3))
    student = {p: torch.ones(1, 2, 2, 2, requires_grad=True) for p in paths}
    teacher = dict.fromkeys(paths, TEACHER)
    task = torch.tensor(5.0)
    loss = method.loss(model, Forward(None, torch.zeros(1, 10), torch.zeros(1, 10), task, Features(student, teacher)))
    assert loss.item() == pytest.approx(5 + 3 * 9 * 0.322516, abs=1e-4)
    loss.backward()
    assert all(s.grad is not None and (s.grad != 0).any() for s in student.values())


def test_places_can_be_named_and_rbd_switched_off() -> None:
    model = bitfold.apply(bitfold.models.create("resnet20"), get("dir_net"))
    assert get("dir_net", places=["layer1", "layer3"]).taps(model) == ("layer1", "layer3")
    plain = get("dir_net", rbd=0.0)
    assert plain.taps(model) == () and not plain.needs_teacher
    task = torch.tensor(5.0)
    assert plain.loss(model, Forward(None, torch.zeros(1, 10), None, task)) is task


def test_without_a_teacher_it_is_refused() -> None:
    method = get("dir_net")
    assert method.needs_teacher
    with pytest.raises(ConfigError, match="there is none; give one, or set rbd=0"):
        method.loss(nn.Identity(), Forward(None, torch.zeros(1, 10), None, torch.tensor(1.0)))
    with pytest.raises(ConfigError, match="allowed: 0 or more"):
        get("dir_net", rbd=-1.0)


def test_estimator_is_dte_or_ede() -> None:
    for dte, kind in [(True, DTE), (False, EDE)]:
        model = bitfold.apply(bitfold.models.create("resnet20"), get("dir_net", dte=dte))
        conv = model.layer1[0].conv1
        assert type(conv.act_quant) is kind and type(conv.weight_quant.estimator) is kind


def test_the_list_says_reconstruction() -> None:
    (row,) = [row for row in listed() if row["name"] == "dir_net"]
    assert "reconstruction" in row["summary"]
    for thing in (type(get("dir_net")), DTE):
        assert "reconstruction" in (thing.__doc__ or "").lower()
