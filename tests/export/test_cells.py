"""Recurrent cells: the state goes in and comes out."""

import numpy as np
import pytest
import torch
from tests.export.nets import inputs, kinds
from torch import Tensor, nn

import bitfold
from bitfold.errors import ExportError


class Cell(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return self.cell(x, (h, c))


class Gated(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:  # type: ignore[override]
        return self.cell(x, h)


class ByHand(nn.Module):
    """An LSTM cell as users write it, which the trace looks into."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(5 + 7, 4 * 7)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = self.gates(torch.cat((x, h), 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


def check(model: nn.Module, state: int, rng: np.random.Generator) -> list[str]:
    """Three steps, each with the state of the one before."""
    model.eval()
    example = (inputs(rng, 2, 5), *(inputs(rng, 2, 7) for _ in range(state)))
    graph = bitfold.export(model, example)
    net = bitfold.load(graph)
    torch_state, own_state, state_of = example[1:], tuple(t.numpy() for t in example[1:]), lambda y: y if isinstance(y, tuple) else (y,)
    for _ in range(3):
        x = inputs(rng, 2, 5)
        with torch.no_grad():
            torch_state = state_of(model(x, *torch_state))
        exact = state_of(bitfold.interpret(graph, x.numpy(), *own_state))
        own_state = state_of(net(x.numpy(), *own_state))
        for own, oracle, expected in zip(own_state, exact, torch_state, strict=True):
            np.testing.assert_array_equal(own, oracle)
            np.testing.assert_allclose(own, expected.numpy(), rtol=2e-6, atol=2e-6)
    return kinds(graph)


@pytest.mark.native
@pytest.mark.parametrize("bias", [True, False])
def test_cells(rng: np.random.Generator, bias: bool) -> None:
    assert "Slice" in check(Cell(nn.LSTMCell(5, 7, bias)), 2, rng)
    assert "Unary" in check(Gated(nn.GRUCell(5, 7, bias)), 1, rng)


@pytest.mark.native
def test_a_cell_written_by_hand(rng: np.random.Generator) -> None:
    assert check(ByHand(), 2, rng).count("Slice") == 4


@pytest.mark.parametrize(("cell", "message"), [(nn.LSTMCell(5, 7), r"cell\(x, \(h, c\)\)"), (nn.GRUCell(5, 7), r"cell\(x, h\)")])
def test_a_cell_without_state_is_refused(cell: nn.Module, message: str) -> None:
    with pytest.raises(ExportError, match=f"has no state; allowed: {message}"):
        bitfold.export(cell, torch.zeros(1, 5))
