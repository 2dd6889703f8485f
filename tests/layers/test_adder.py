"""AdderNet's convolution: published numbers, the definition, and what it refuses."""

import pytest
import torch
from torch import Tensor

from bitfold.errors import ConfigError
from bitfold.layers.adder import AdderConv2d, adder_conv2d

# one 1x1 image of three channels at two positions, two filters
W = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
X = torch.tensor([[2.0, -1.0], [0.0, -4.0], [0.5, 1.0]])
G = torch.tensor([[1.0, 0.5], [-1.0, 2.0]])


def run(x: Tensor, w: Tensor) -> Tensor:
    return adder_conv2d(x[None, :, None, :], w[:, :, None, None])[0, :, 0, :]


def test_published_rows() -> None:
    x, w = X.clone().requires_grad_(), W.clone().requires_grad_()
    y = run(x, w)
    assert torch.equal(y, torch.tensor([[-3.0, -4.5], [-6.5, -10.0]]))
    y.backward(G)
    assert torch.equal(x.grad, torch.tensor([[0.0, 2.5], [-2.0, 2.5], [1.0, -2.25]]))
    expected = torch.tensor([[0.0, 0.040781, 0.010195], [-0.163122, -0.448587, 0.101952]])
    assert torch.allclose(w.grad, expected, atol=2e-6)
    assert w.grad.norm().item() == pytest.approx(6**0.5 / 5)


def test_zero_gradient_gives_no_step() -> None:
    w = W.clone().requires_grad_()
    run(X, w).backward(torch.zeros(2, 2))
    assert torch.equal(w.grad, torch.zeros_like(W))


@pytest.mark.parametrize("groups", [1, 2])
def test_padding_stride_dilation_and_groups(groups: int) -> None:
    """A tap in the padding costs |w|."""
    torch.manual_seed(groups)
    x, w = torch.randint(-9, 10, (2, 4, 6, 5)).double(), torch.randint(-9, 10, (6, 4 // groups, 3, 2)).double()
    y = adder_conv2d(x, w, (2, 1), (2, 1), (1, 2), groups)
    image = torch.nn.functional.pad(x, (1, 1, 2, 2))
    assert y.shape == (2, 6, 4, 5)
    for o in range(6):
        first = o // (6 // groups) * (4 // groups)
        for r in range(4):
            for c in range(5):
                patch = image[:, first : first + 4 // groups, 2 * r : 2 * r + 3, c : c + 3 : 2]
                assert torch.equal(y[:, o, r, c], -(w[o] - patch).abs().sum((1, 2, 3)))


def test_layer() -> None:
    layer = AdderConv2d(3, 5, 3, padding=1, bias=True)
    with torch.no_grad():
        layer.bias.fill_(2.0)  # type: ignore[union-attr]
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(layer(x), adder_conv2d(x, layer.weight, padding=(1, 1)) + 2)
    assert AdderConv2d(3, 64, 3).weight.std().item() == pytest.approx(1.0, abs=0.1)
    with pytest.raises(ConfigError, match="padding='same'"):
        AdderConv2d(3, 5, 3, padding="same")  # type: ignore[arg-type]
