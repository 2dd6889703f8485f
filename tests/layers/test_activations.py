"""Learned activations: adabin.md 1.3, baselines.md 10.6, and the walk that places them."""

import pytest
import torch
from torch import nn

from bitfold.errors import ConfigError
from bitfold.layers.activations import RPReLU, TwoSlope, replace_activations
from bitfold.layers.quant import QuantConv2d
from bitfold.layers.tile import Tile
from bitfold.quantizers.normalized import Normalized
from bitfold.quantizers.sign import Sign


def set_to(module: nn.Module, **values: float) -> nn.Module:
    for name, value in values.items():
        nn.init.constant_(getattr(module, name), value)
    return module


def test_rprelu_row() -> None:
    m = set_to(RPReLU(1), shift_in=-1.0, neg=0.25, shift_out=0.5)  # gamma = 1, beta = 0.25, zeta = 0.5
    x = torch.tensor([[-2.0], [0.0], [1.0], [3.0]])
    assert m(x).flatten().tolist() == [-0.25, 0.25, 0.5, 2.5]


def test_two_slope() -> None:
    m = TwoSlope(2)
    x = torch.tensor([[2.0, -2.0], [-0.0, 0.5]], requires_grad=True)
    y = m(x)
    assert y.tolist() == [[2, -0.5], [0, 0.5]]
    y.sum().backward()
    assert x.grad.tolist() == [[1, 0.25], [0.25, 1]]
    assert m.pos.grad.tolist() == [2, 0.5] and m.neg.grad.tolist() == [0, -2]
    # gp relu(x) - gn relu(-x), negative slopes too
    set_to(m, pos=-0.6, neg=-0.9)
    z = torch.randn(50, 2)
    assert torch.allclose(m(z), -0.6 * z.relu() + 0.9 * (-z).relu())


@pytest.mark.parametrize("make", [TwoSlope, RPReLU])
def test_channels_lie_along_their_axis(make: type[nn.Module]) -> None:
    for axis, shape in [(1, (2, 3, 4, 5)), (1, (2, 3)), (-1, (2, 5, 3))]:
        m = make(3, axis)  # type: ignore[call-arg]
        nn.init.zeros_(m.get_parameter("neg"))
        with torch.no_grad():
            m.get_parameter("neg")[1] = 1.0
        y = m(torch.full(shape, -2.0)).movedim(axis, 0).flatten(1)
        assert y[:, 0].tolist() == [0, -2, 0]


def test_replacement_finds_channels() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6()),
        nn.Conv2d(8, 5, 1),
        nn.BatchNorm2d(5),
        nn.PReLU(),
        nn.MaxPool2d(2),
        relu,
        relu,
        nn.Flatten(),
        nn.Linear(5, 7),
        nn.Hardtanh(),
        nn.GELU(),
    ).double()
    model.eval()
    assert replace_activations(model, TwoSlope) == 4
    found = [(name, m.pos.numel(), m.channel_axis) for name, m in model.named_modules() if isinstance(m, TwoSlope)]
    assert found == [("0.1", 8, 1), ("3", 5, 1), ("5", 5, 1), ("9", 7, -1)]
    assert model[5] is model[6]  # one module in two places stays one
    assert isinstance(model[10], nn.GELU)
    assert {p.dtype for p in model.parameters()} == {torch.float64} and not model[3].training
    assert model(torch.randn(2, 3, 4, 4, dtype=torch.float64)).shape == (2, 7)


def test_activation_without_a_width_is_refused_and_nothing_changes() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 1), nn.ReLU())
    with pytest.raises(ConfigError, match="activation '0' has no BatchNorm, conv or linear layer before it"):
        replace_activations(model, TwoSlope)
    assert type(model[2]) is nn.ReLU


def test_channels_of_a_prelu_and_behind_a_tile() -> None:
    """A PReLU with a slope per channel knows its channels (behind a concatenation, say); a Tile multiplies those of the layer before."""
    model = nn.Sequential(nn.BatchNorm2d(4), nn.PReLU(8), nn.Conv2d(8, 3, 1), Tile(4), nn.ReLU(), nn.Linear(5, 2), Tile(2, -1), nn.ReLU())
    assert replace_activations(model, RPReLU) == 3
    assert [(m.neg.numel(), m.channel_axis) for m in model if isinstance(m, RPReLU)] == [(8, 1), (12, 1), (4, -1)]


def test_modules_inside_quantisers_do_not_count() -> None:
    layer = QuantConv2d(3, 5, 1, act_quant=Normalized(Sign(), nn.BatchNorm2d(3)), weight_quant=Sign())
    model = nn.Sequential(layer, nn.ReLU())
    assert replace_activations(model, RPReLU) == 1
    assert model[1].neg.shape == (5,)
