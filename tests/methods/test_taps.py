"""Outputs of inner modules reach the loss, eager and compiled, from student and teacher."""

import pytest
import torch
from torch import nn

from bitfold.errors import ConfigError
from bitfold.methods._taps import Taps


@pytest.mark.parametrize("compiled", [False, True])
def test_values_are_the_outputs_and_carry_gradients(compiled: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    taps = Taps(model, ["0", "1"], "here")
    torch.compiler.reset()
    run = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
    for _ in range(2):
        x = torch.randn(5, 3)
        y = run(x)
        assert torch.allclose(taps.values["1"], model[0](x).relu())
        assert torch.allclose(model[2](taps.values["1"]), y)
        model.zero_grad()
        taps.values["0"].sum().backward()
        assert model[0].weight.grad is not None and model[2].weight.grad is None
    taps.remove()
    taps.values.clear()
    model(torch.randn(5, 3))
    assert not taps.values


def test_unknown_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="layer9"):
        Taps(nn.Sequential(nn.Linear(3, 4)), ["layer9"], "stage.0")
