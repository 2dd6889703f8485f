"""IR-Net as a method: what is put where, its schedule, its deployment (dir-net.md 8.9)."""

import numpy as np
import pytest
import torch
from torch import nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantConv2d
from bitfold.methods import get
from bitfold.models.vgg import VGGSmall
from bitfold.quantizers.ede import EDE
from bitfold.training.recipe import load_recipe
from bitfold.training.run import make_method
from bitfold.training.schedule import progress


def test_slots_and_schedule() -> None:
    method = get("ir_net")
    model = bitfold.apply(bitfold.models.create("resnet20"), method)
    binary = [m for m in model.modules() if isinstance(m, QuantConv2d)]
    estimators = [m for m in model.modules() if isinstance(m, EDE)]
    assert len(binary) == 18 and len(estimators) == 36  # the stem and the classifier stay in float
    for at, t in [(0.0, 1e-3), (0.5, 0.1), (0.75, 1.0), (399 / 400, 9.772372)]:
        method.before_step(model, at)
        assert [m.t.item() for m in estimators] == pytest.approx([t] * 36)


@pytest.mark.parametrize(
    ("name", "epochs", "t_min", "lr"), [("ir_net_resnet20_cifar10", 400, 1e-3, 0.1), ("ir_net_vgg_small_cifar10", 300, 1e-1, 0.007)]
)
def test_recipes_move_t_once_an_epoch(name: str, epochs: int, t_min: float, lr: float) -> None:
    recipe = load_recipe(name)
    (stage,) = recipe.stage
    assert (stage.epochs, stage.lr, stage.schedule, recipe.data.batch_size) == (epochs, lr, "cosine", 128)
    assert make_method(stage, "") == get("ir_net", t_min=t_min)
    assert progress(stage, 0, 390) == 0 and progress(stage, 389, 390) == 0 and progress(stage, 390, 390) == 1 / epochs


def test_refuses_what_has_no_deviation() -> None:
    with pytest.raises(ConfigError, match="one weight per filter"):
        bitfold.apply(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1, groups=2), nn.Linear(2, 2)), "ir_net")
    with pytest.raises(ConfigError, match="allowed: 0 < t_min <= t_max"):
        get("ir_net", t_min=20.0)


def with_statistics(model: nn.Module, rng: np.random.Generator) -> nn.Module:
    """BatchNorms as after a training: any mean, variance, slope (negative, too) and shift."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            for t, value in [
                (m.weight, rng.normal(0.5, 0.5, m.num_features)),
                (m.bias, rng.normal(0, 0.5, m.num_features)),
                (m.running_mean, rng.normal(0, 3, m.num_features)),
                (m.running_var, rng.uniform(50, 300, m.num_features)),
            ]:
                t.data.copy_(torch.tensor(value))
    return model.eval()


@pytest.mark.native
@pytest.mark.parametrize("net", ["vgg", "resnet20"])
def test_export(net: str, rng: np.random.Generator) -> None:
    """Thresholds reproduce every activation bit of the float model; logits within 1e-4."""
    torch.manual_seed(0)
    plain = VGGSmall(num_classes=10, in_channels=3, image_size=16, act="hardtanh") if net == "vgg" else bitfold.models.create("resnet20")
    model = with_statistics(bitfold.apply(plain, "ir_net"), rng)
    x = torch.tensor(rng.normal(size=(1, 3, 16, 16)), dtype=torch.float32)
    graph = bitfold.export(model, x)
    report = bitfold.verify(model, graph, x)
    assert report.accumulators_differ == 0 and report.accumulators > 0
    assert sum(layer.flipped for layer in report.layers) == 0 and sum(layer.codes for layer in report.layers) > 0
    np.testing.assert_allclose(bitfold.load(graph)(x.numpy()), model(x).detach().numpy(), rtol=0, atol=1e-4)
