"""bitfold_best is the row of the study that it is said to be."""

import torch

import bitfold
from bitfold import methods
from bitfold.layers.activations import RPReLU, TwoSlope
from bitfold.quantizers.adabin import AdaBinActivation
from bitfold.quantizers.rbonn import RBONNWeight
from bitfold.training.study import load_study


def test_it_is_the_best_pair_of_its_study() -> None:
    study = load_study("cifar10-resnet20-best")
    (row,) = study.find(["rbonn+adabin+rprelu"])
    stage = study.recipe(row, 0, "short", None, [], None).stage[0]
    pair, best = methods.get(stage.method, **stage.options), methods.get("bitfold_best")
    models = []
    for method in (pair, best):
        torch.manual_seed(0)
        models.append(bitfold.apply(bitfold.models.create("resnet20"), method))
    assert str(models[0]) == str(models[1])
    assert all(torch.equal(a, b) for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True))
    groups = [
        [(g["weight_decay"], g.get("lr_scale", 1), len(g["params"])) for g in method.param_groups(model, 1e-4)]
        for method, model in zip((pair, best), models, strict=True)
    ]
    assert groups[0] == groups[1]


def test_its_parts() -> None:
    block = bitfold.apply(bitfold.models.create("resnet20"), "bitfold_best").layer1[0]
    assert isinstance(block.conv1.weight_quant, RBONNWeight) and isinstance(block.conv1.act_quant, AdaBinActivation)
    assert isinstance(block.act1, RPReLU) and not isinstance(block.act1, TwoSlope)
