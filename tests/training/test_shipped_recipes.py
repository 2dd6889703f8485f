"""Every shipped recipe is complete, named after what it does, and its networks can be built and trained by one step."""

import pytest
import torch

from bitfold.data.augment import Augment
from bitfold.training.optim import Optimizers
from bitfold.training.recipe import load_recipe, names
from bitfold.training.run import build_model, make_method
from bitfold.training.state import carry_over

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32), "folder": (3, 64, 64)}
SMALLER = {  # large networks, the same in a small size
    "qnn_mlp_mnist": ["model.options.width=16"],
    "repbnn_reactnet_a_folder": ["model.options.width=8", "model.options.num_classes=10"],
}


@pytest.mark.parametrize("name", names())
def test_recipe_builds(name: str) -> None:
    recipe = load_recipe(name, SMALLER.get(name, []))
    method, _, rest = name.partition(f"_{recipe.model.name}_")
    assert recipe.name == name and method == recipe.stage[-1].method and rest == recipe.data.name
    Augment(recipe.data.augment)
    previous = None
    for i, stage in enumerate(recipe.stage):
        model = build_model(recipe, i)
        if previous is not None and stage.init == "previous":
            carry_over(previous.state_dict(), model, stage.init_except, f"stage.{i}")
        Optimizers(stage, make_method(stage, f"stage.{i}"), model)
        previous = model
    assert previous is not None
    outputs = previous(torch.randn(2, *SHAPES[recipe.data.name]))
    assert outputs.shape == (2, recipe.model.options["num_classes"]) and torch.isfinite(outputs).all()


def test_the_official_adabin_recipe() -> None:
    recipe = load_recipe("adabin_resnet20_cifar10")
    (stage,) = recipe.stage
    assert (stage.epochs, recipe.data.batch_size, stage.lr, stage.momentum, stage.weight_decay) == (400, 128, 0.1, 0.9, 1e-4)
    assert (stage.optimizer, stage.schedule, recipe.data.normalize) == ("sgd", "cosine", "imagenet")
    groups = Optimizers(stage, make_method(stage, ""), build_model(recipe, 0)).param_groups
    assert {g["weight_decay"] for g in groups} == {1e-4}  # on all parameters, alpha, beta, BatchNorm and Maxout included
