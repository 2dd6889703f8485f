"""What the trace makes of a forward's options."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.export.nets import compare, inputs
from torch import Tensor, nn

import bitfold


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(
        self, x: Tensor, state: Tensor | None = None, sizes: tuple[int, ...] = (2, 2), *, activate: bool = True, by: Any = 3
    ) -> Any:
        y = self.layer(x).unflatten(1, sizes).flatten(1)
        if activate:
            y = y.relu()
        return y * by if state is None else y + self.layer(state)


@pytest.mark.native
def test_branches_on_options_take_their_defaults(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    model, x, state = Optional().eval(), inputs(rng, 3, 4), inputs(rng, 3, 4)
    compare(model, x)
    got = bitfold.load(bitfold.export(model, (x, state)))(x.numpy(), state.numpy())
    np.testing.assert_allclose(got, model(x, state).detach().numpy(), rtol=0, atol=1e-6)
