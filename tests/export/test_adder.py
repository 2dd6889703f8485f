"""A trained network of distances: exported, interpreted, run and verified."""

import numpy as np
import pytest
import torch
from torch import nn

import bitfold
from bitfold.errors import ExportError
from bitfold.ir import ops
from bitfold.ir.encoding import Uniform
from bitfold.layers.adder import AdderConv2d
from bitfold.quantizers.linear import LinearQuant


def adder(inputs: int, outputs: int, bits: int, **options: int) -> AdderConv2d:
    """Activations and weights on one grid, 0 to 1."""
    return AdderConv2d(inputs, outputs, 3, padding=1, act_quant=LinearQuant(bits, False), weight_quant=LinearQuant(bits, False), **options)


def trained(bits: int) -> nn.Sequential:
    """A few steps on random labels, so that no constant is what it was."""
    torch.manual_seed(bits)
    model = nn.Sequential(
        *(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
        *(adder(12, 16, bits), nn.BatchNorm2d(16), nn.ReLU()),
        *(adder(16, 8, bits, stride=2, groups=2), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    x, labels = torch.randn(32, 3, 8, 8), torch.randint(4, (32,))
    before = model[3].weight.detach().clone()  # type: ignore[union-attr, operator]
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    assert not torch.equal(before, model[3].weight)  # type: ignore[arg-type]
    return model.eval()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_trained_network_is_exact(bits: int) -> None:
    model, x = trained(bits), torch.randn(6, 3, 8, 8)
    graph = bitfold.export(model, x[:1])
    layers = [node for node in graph.nodes if isinstance(node, ops.Conv) and node.metric == ops.DISTANCE]
    assert [graph.types[node.x].element for node in layers] == [Uniform(bits, False, 1 / (2**bits - 1))] * 2
    report = bitfold.verify(model, graph, x)
    assert report.ok, str(report)
    assert {layer.name: layer.accumulators_differ for layer in report.layers} == {"3": 0, "6": 0}
    net = bitfold.load(graph)
    assert sum(k.kernel.startswith("adder_u8") for k in net.kernels) == 2
    assert np.array_equal(net(x.numpy()), bitfold.interpret(graph, x.numpy()))
    summary, of_model = bitfold.summary(graph), bitfold.summary(model, x[:1])
    assert summary.additions == of_model.additions == 2 * (16 * 12 * 9 * 64 + 8 * 8 * 9 * 16)
    assert summary.macs == of_model.macs


def test_thresholds_on_distances() -> None:
    """A layer that only feeds a quantiser ends in integer thresholds, which lie in the range of its distances."""
    torch.manual_seed(0)
    model = nn.Sequential(adder(4, 6, 4), nn.BatchNorm2d(6), adder(6, 5, 4)).eval()
    with torch.no_grad():
        model[1].running_mean.fill_(-15.0)  # type: ignore[union-attr, operator]
        model[1].running_var.fill_(9.0)  # type: ignore[union-attr, operator]
        model[1].bias.fill_(0.5)  # type: ignore[union-attr, operator]
    x = torch.rand(3, 4, 7, 7)
    graph = bitfold.export(model, x[:1])
    first = next(node for node in graph.nodes if isinstance(node, ops.Conv))
    assert first.epilogue is None
    codes: dict[str, np.ndarray] = {}
    bitfold.interpret(graph, x.numpy(), values=codes)
    quantised = next(node for node in graph.nodes if isinstance(node, ops.Quantize) and node.x == first.output)
    assert len(np.unique(codes[quantised.output])) > 4
    report = bitfold.verify(model, graph, x)
    assert report.ok, str(report)


def test_unequal_scales_are_refused() -> None:
    layer = AdderConv2d(3, 4, 3, act_quant=LinearQuant(4, False), weight_quant=LinearQuant(5, False))
    with pytest.raises(ExportError, match="one scale for both"):
        bitfold.export(layer, torch.rand(1, 3, 5, 5))
    with pytest.raises(ExportError, match="Uniform codes"):
        bitfold.export(AdderConv2d(3, 4, 3), torch.rand(1, 3, 5, 5))
