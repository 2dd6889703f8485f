"""Blocks and stages of networks that are not ours."""

import torch
from torch import Tensor, nn

import bitfold
from bitfold.methods._places import blocks, stages


class Net(nn.Module):
    """A stem, two kinds of bodies, a head."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.body = body
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))  # type: ignore[no-any-return]


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.MaxPool2d(1), nn.BatchNorm2d(4))


def quantised(model: nn.Module) -> nn.Module:
    model = bitfold.apply(model, "ir_net")
    assert model(torch.randn(2, 3, 6, 6)).shape == (2, 2)
    return model


def test_a_block_module_is_a_block_and_a_stage() -> None:
    model = quantised(Net(nn.Sequential(Pair(), nn.Sequential(Pair(), Pair()))))
    assert blocks(model) == ("body.0", "body.1.0", "body.1.1")
    assert stages(model) == ("body.0", "body.1")


def test_a_chain_is_cut_before_each_layer_with_weights() -> None:
    model = quantised(Net(chain()))
    assert blocks(model) == stages(model) == ("body.2", "body.5")


def test_one_quantised_layer_takes_the_float_ones_with_it() -> None:
    model = quantised(Net(nn.Conv2d(4, 4, 1)))
    assert blocks(model) == ("body",)
    assert stages(model) == ("stem", "body")  # not the classifier
