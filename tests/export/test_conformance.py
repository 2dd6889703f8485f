"""Every method, found by itself: export -> interpreter -> engine give PyTorch's codes and outputs on random networks."""

import numpy as np
import pytest
import torch
from tests.export.nets import ViT, inputs
from torch import Tensor, nn

import bitfold
from bitfold.errors import ConfigError

# Random weights and slopes make some sums much larger than the outputs; float32 errors are relative to them.
TOLERANCE = 1e-3


class ConvNet(nn.Module):
    """Groups, dilation, bias, odd sizes, pooling in both places, a linear layer behind a flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10), nn.Hardtanh()),
            *(nn.Conv2d(10, 15, 3, padding=1, groups=5, bias=True), nn.MaxPool2d(2), nn.BatchNorm2d(15), nn.Hardtanh()),
            *(nn.Conv2d(15, 12, (3, 2), padding=(2, 1), dilation=2, bias=True), nn.BatchNorm2d(12), nn.MaxPool2d(2, ceil_mode=True)),
            *(nn.Conv2d(12, 9, 1, stride=2, bias=False), nn.BatchNorm2d(9), nn.Hardtanh(), nn.Flatten()),
        )
        self.hidden, self.bn, self.last = nn.Linear(36, 17), nn.BatchNorm1d(17), nn.Linear(17, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.bn(self.hidden(self.features(x))))


class DoubleSkip(nn.Module):
    """One shortcut per conv, option A where the width changes, as in ResNet-20."""

    def __init__(self) -> None:
        super().__init__()
        net = bitfold.models.create("resnet20")
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.block1, self.block2 = net.layer1[0], net.layer2[0]
        self.last = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block2(self.block1(self.bn1(self.conv1(x)))).mean((2, 3)))


def mlp() -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(75, 33), nn.BatchNorm1d(33), nn.ReLU(), nn.Linear(33, 20), nn.BatchNorm1d(20), nn.Hardtanh()]
    return nn.Sequential(*layers, nn.Dropout(), nn.Linear(20, 18), nn.BatchNorm1d(18), nn.Hardtanh(), nn.Linear(18, 5))


MODELS = {"conv_net": (ConvNet, (3, 15, 13)), "double_skip": (DoubleSkip, (3, 7, 7)), "mlp": (mlp, (3, 5, 5)), "vit": (ViT, (3, 16, 16))}

FIELDS: dict[str, list[dict[str, object]]] = {  # beside the defaults: what leads to other encodings or other operations
    "adabin": [{"center_mode": "paper"}, {"first": True, "last": True}],
    "bireal": [{"activation": "keep"}],
    "qnn": [{"weight_bits": 2, "act_bits": 2}, {"weight_bits": 8, "act_bits": 8}, {"weight_bits": 4, "act_bits": 3, "kind": "log"}],
    "xnor_net": [{"mode": "bwn"}, {"input_scale": "K"}, {"act_bits": 3}],
}


def cases() -> list[tuple[str, dict[str, object]]]:
    return [(name, fields) for name in bitfold.methods.names() for fields in [{}, *FIELDS.get(name, [])]]


def case_id(value: object) -> str:
    return value if isinstance(value, str) else "-".join(map(str, value.values()))


def randomise(model: nn.Module, x: Tensor, rng: np.random.Generator) -> None:
    """BatchNorm that has seen data, then slopes of both signs; every learned scale, shift and slope moved off its start."""
    with torch.no_grad():
        model.train()
        for _ in range(3):
            model(x)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                channels = module.num_features
                module.weight.copy_(torch.from_numpy(rng.uniform(0.3, 1.5, channels) * rng.choice([-1, 1, 1], channels)))
                module.weight[0] = 0
                module.bias.copy_(torch.from_numpy(rng.normal(size=channels) / 2))
            elif not isinstance(module, nn.Conv2d | nn.Linear):
                for parameter in module.parameters(recurse=False):
                    if parameter.ndim <= 1:
                        parameter.add_(torch.as_tensor(rng.normal(size=tuple(parameter.shape)) / 3))
        model.eval()


@pytest.mark.native
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("method", "fields"), cases(), ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values()))
)
def test_every_method_exports_to_the_same_network(method: str, fields: dict[str, object], name: str, rng: np.random.Generator) -> None:
    torch.manual_seed(int(rng.integers(1 << 30)))
    make, shape = MODELS[name]
    try:
        model = bitfold.apply(make(), bitfold.methods.get(method, **fields))
    except ConfigError as error:  # a method may refuse a layer; it says so by name
        assert "allowed" in str(error) or "keep_float" in str(error)
        return
    x = inputs(rng, 6, *shape)
    randomise(model, x, rng)
    graph = bitfold.export(model, x, name=f"{method}_{name}")
    report = bitfold.verify(model, graph, x, layer_images=3)
    assert report.accumulators_differ == 0 and report.ok, str(report)
    assert method == "float" or report.layers, "something is quantised"
    expected = model(x).detach().numpy()
    by_oracle, by_engine = bitfold.interpret(graph, x.numpy()), bitfold.load(graph)(x.numpy())
    np.testing.assert_allclose(by_engine, by_oracle, rtol=0, atol=1e-5 * np.abs(by_oracle).max())
    if report.flipped == 0:
        np.testing.assert_allclose(by_oracle, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
