"""ReActNet and AdamBNN in two steps: the second begins with all weights of the first (baselines.md 5 and trap 9.1), and its decay rule."""

from pathlib import Path

import pytest
import torch

import bitfold
from bitfold import models
from bitfold.layers.quant import quant_layers
from bitfold.methods import get
from bitfold.training.recipe import parse
from bitfold.training.state import carry_over

RECIPE = """
name = "two_steps"
[data]
name = "digits"
batch_size = 40
train_limit = 120
test_limit = 40
[model]
name = "digits_cnn"
[model.options]
width = 8
[[stage]]
method = "reactnet"
epochs = 1
optimizer = "adam"
lr = 0.01
schedule = "constant"
[stage.options]
weights = "real"
"""
SECOND = """
[[stage]]
method = "reactnet"
epochs = 1
optimizer = "adam"
lr = 1e-30
schedule = "constant"
[stage.options]
weights = "binary"
"""


@pytest.mark.parametrize("name", ["reactnet", "adambnn"])
def test_all_binary_tensors_of_reactnet_a_are_transferred(name: str) -> None:
    """Of the official MobileNet's 31 binary convs none is; here all are, and nothing is left over on either side."""
    torch.manual_seed(0)
    options = {"width": 4, "stem_stride": 1, "num_classes": 4}
    first = bitfold.apply(models.create("reactnet_a", **options), get(name, weights="real"))
    second = bitfold.apply(models.create("reactnet_a", **options), get(name))
    pairs = list(zip(quant_layers(first), quant_layers(second), strict=True))
    assert len(pairs) == 31 and not any(torch.equal(a.weight, b.weight) for a, b in pairs)
    carry_over(first.state_dict(), second, (), "stage.1")
    for a, b in pairs:
        assert torch.equal(a.weight, b.weight)
        assert torch.equal(b.weight_quant.codes(b.weight), torch.where(a.weight >= 0, 1, -1))


def test_a_run_transfers(tmp_path: Path) -> None:
    """With a rate too small to move anything, step 2 ends with step 1's parameters; its weights are binary nevertheless."""
    one = bitfold.train(parse(RECIPE, "one"), tmp_path / "one", quiet=True, accelerator="cpu").model()
    two = bitfold.train(parse(RECIPE + SECOND, "two"), tmp_path / "two", quiet=True, accelerator="cpu").model()
    fresh = dict(models.create("digits_cnn", width=8).named_parameters())
    for (name, p), (other, q) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        assert name == other and torch.equal(p, q) and (name not in fresh or not torch.equal(p, fresh[name]))
    for a, b in zip(quant_layers(one), quant_layers(two), strict=True):
        assert torch.equal(a.weight_quant(a.weight), a.weight)
        assert b.weight_quant(b.weight).abs().flatten(1).unique(dim=1).shape[1] == 1


def test_weight_decay_rules() -> None:
    """ReActNet: what the recipe says in either step. AdamBNN: 5e-6 in step 1, none in step 2."""
    for name, weights, expected in [
        ("reactnet", "binary", 5e-6),
        ("adambnn", "real", 5e-6),
        ("adambnn", "binary", 0.0),
    ]:
        method = get(name, weights=weights)
        model = bitfold.apply(models.create("digits_cnn", width=8), method)
        decayed, free = method.param_groups(model, 5e-6)
        assert decayed["weight_decay"] == expected and free["weight_decay"] == 0
        assert len(decayed["params"]) > 0 and len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))
