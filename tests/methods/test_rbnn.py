"""RBNN on a model: when rotations are fitted, the schedule of its estimator, centred inputs."""

import pytest
import torch
from torch import nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.methods import get
from bitfold.methods.rbnn import CentredInput
from bitfold.quantizers.rotate import Rotate
from bitfold.training.state import carry_over


def small() -> nn.Module:
    body = [nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.Hardtanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), *body, nn.Linear(6, 4))


def test_rotations_are_fitted_at_even_intervals() -> None:
    method = get("rbnn", fits=4)
    model = bitfold.apply(small(), method)
    rotate = model[1].weight_quant.normalize
    counts = []
    for step in range(12):
        method.before_step(model, step / 12)
        counts.append(rotate.fits)
    assert counts == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    resumed = bitfold.apply(small(), method)
    resumed.load_state_dict(model.state_dict())
    before = resumed[1].weight_quant.normalize.r1.clone()
    method.before_step(resumed, 11 / 12)  # as if the run had not been interrupted
    assert torch.equal(resumed[1].weight_quant.normalize.r1, before)
    later = bitfold.apply(small(), method)  # a next stage
    carry_over(model.state_dict(), later, (), "stage.1")
    assert later[1].weight_quant.normalize.fits == 0 and torch.equal(later[1].weight_quant.normalize.r1, before)


def test_schedule() -> None:
    method = get("rbnn")
    model = bitfold.apply(small(), method)
    for progress, t, act in [(0.0, 0.01, 1.0), (2 / 3, 1.0, 1.0), (1.0, 10.0, 10.0)]:
        method.before_step(model, progress)
        assert model[1].weight_quant.estimator.t.item() == pytest.approx(t)
        assert model[1].act_quant.t.item() == pytest.approx(act)


def test_weights() -> None:
    torch.manual_seed(0)
    plain = small()
    mean = plain[1].weight.detach().abs().mean((1, 2, 3))
    layer = bitfold.apply(plain, "rbnn")[1]
    rotate = layer.weight_quant.normalize
    assert isinstance(rotate, Rotate) and torch.equal(layer.weight_quant.scale.flatten(), mean)
    signs = torch.where(rotate(layer.weight) >= 0, 1.0, -1.0)
    assert torch.equal(layer.weight_quant(layer.weight), mean.view(-1, 1, 1, 1) * signs)
    flipped = (signs != torch.where(layer.weight >= 0, 1.0, -1.0)).double().mean().item()
    assert 0.3 < flipped < 0.7  # about half, as the paper's abstract says


def test_centred_inputs() -> None:
    torch.manual_seed(0)
    model = bitfold.apply(small(), get("rbnn", center_inputs=True))
    wrapped = model[1]
    assert isinstance(wrapped, CentredInput)
    x = torch.randn(3, 4, 5, 5) + 0.7
    centred = x - x.mean((1, 2, 3), keepdim=True)
    y = wrapped(x)
    assert torch.equal(y, wrapped.layer(centred)) and not torch.equal(y, wrapped.layer(x))
    assert torch.equal(wrapped.eval()(x), y)


def test_refusals() -> None:
    for fields in ({"t_min": 0.0}, {"fits": 0}, {"t_min": 20.0}):
        with pytest.raises(ConfigError, match="allowed"):
            get("rbnn", **fields)
    with pytest.raises(ConfigError, match="one weight per filter"):
        bitfold.apply(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1, groups=2), nn.Linear(2, 2)), "rbnn")
