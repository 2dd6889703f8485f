"""verify: passes for what was exported, finds what was not, counts what rounding does."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.export.nets import Steps, adabin_activation, adabin_weight, batch_norm, inputs, sign_conv, sign_linear
from torch import nn

import bitfold
from bitfold.errors import BitfoldError, ExportError
from bitfold.ir import ops
from bitfold.ir.graph import Constant, Graph
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.quantizers.scaled_sign import ScaledSign

BACKENDS = ["interpreter", pytest.param("engine", marks=pytest.mark.native)]


@pytest.fixture
def network(rng: np.random.Generator) -> nn.Module:
    torch.manual_seed(int(rng.integers(1 << 30)))
    second = QuantConv2d(8, 6, 3, padding=1, act_quant=adabin_activation(rng), weight_quant=adabin_weight())
    parts = [nn.Conv2d(3, 4, 3), sign_conv(4, 8, padding=1), batch_norm(8, rng, 3.0), second, batch_norm(6, rng), nn.Flatten()]
    return nn.Sequential(*parts, sign_linear(6 * 36, 5))


def with_constant(graph: Graph, name: str, constant: Constant) -> Graph:
    return replace(graph, constants={**graph.constants, name: constant})


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_export_verifies(backend: Any, network: nn.Module, rng: np.random.Generator) -> None:
    x = inputs(rng, 11, 3, 8, 8)
    report = bitfold.verify(network, bitfold.export(network, x), x, labels=torch.zeros(11), layer_images=6, batch=4, backend=backend)
    assert report.ok and report.accumulators_differ == 0
    assert [layer.name for layer in report.layers] == ["1", "3", "6"]
    assert [layer.accumulators for layer in report.layers] == [6 * 8 * 36, 6 * 6 * 36, 6 * 5], "the first 6 images"
    assert [layer.codes for layer in report.layers] == [11 * 4 * 36, 11 * 8 * 36, 11 * 6 * 36]
    assert [layer.interpreter_accumulators for layer in report.layers] == [2 * 8 * 36, 2 * 6 * 36, 2 * 5]
    assert [layer.weights for layer in report.layers] == [8 * 4 * 9, 6 * 8 * 9, 5 * 216]
    assert report.images == 11 and report.top1_agree == 11 and report.accuracy == report.accuracy_torch
    text = str(report)
    assert "0 of 3,054 accumulators differ" in text and text.endswith("ok") and "top-1 class agrees on 11 of 11" in text
    saved = json.loads(json.dumps(report.to_dict()))
    assert saved["ok"] is True and saved["accumulators"] == 3054 and saved["layers"][1]["name"] == "3"


def test_float_activations_are_judged_by_their_weights(rng: np.random.Generator) -> None:
    conv = QuantConv2d(3, 4, 3, weight_quant=adabin_weight())
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), QuantLinear(4 * 16, 2, weight_quant=ScaledSign("swap")))
    x = inputs(rng, 3, 3, 6, 6)
    report = bitfold.verify(model, bitfold.export(model, x), x, backend="interpreter")
    assert report.ok and report.accumulators == 0 and report.codes == 0
    assert {layer.name: layer.weights for layer in report.layers} == {"0": 108, "3": 128}


def test_a_flipped_weight_is_found(network: nn.Module, rng: np.random.Generator) -> None:
    x = inputs(rng, 4, 3, 8, 8)
    graph = bitfold.export(network, x)
    codes = graph.constants["3.weight"].codes.copy()
    codes[2, 5, 1, 1] *= -1
    broken = with_constant(graph, "3.weight", Constant.from_codes(codes, graph.constants["3.weight"].type.element))
    report = bitfold.verify(network, broken, x, backend="interpreter")
    bad = next(layer for layer in report.layers if layer.name == "3")
    assert not report.ok and bad.weights_differ == 1 and bad.accumulators_differ == 4 * 36, "one centre weight: every position of a channel"
    assert "NOT OK: 3" in str(report)


def test_a_moved_threshold_is_found(network: nn.Module, rng: np.random.Generator) -> None:
    x = inputs(rng, 4, 3, 8, 8)
    graph = bitfold.export(network, x)
    quantize = next(n for n in graph.nodes if isinstance(n, ops.Quantize) and n.name == "3.act_quant")
    rows = graph.constants[quantize.thresholds].data.copy()
    rows += 6
    report = bitfold.verify(network, with_constant(graph, quantize.thresholds, Constant.from_array(rows)), x, backend="interpreter")
    bad = next(layer for layer in report.layers if layer.name == "3")
    assert not report.ok and report.accumulators_differ == 0 and bad.fresh > 10 and not bad.ok
    assert bad.unexplained > 10 and all(layer.fresh == 0 for layer in report.layers if layer.name == "6"), "later flips follow from it"


def test_a_wrong_epilogue_is_found(network: nn.Module, rng: np.random.Generator) -> None:
    x = inputs(rng, 4, 3, 8, 8)
    graph = bitfold.export(network, x)
    last: Any = graph.nodes[-1]
    mul = graph.constants[last.epilogue.mul].data * np.float32(1.01)
    report = bitfold.verify(network, with_constant(graph, last.epilogue.mul, Constant.from_array(mul)), x, backend="interpreter")
    assert not report.ok and report.flipped == 0 and str(report).endswith("NOT OK: outputs differ")


def test_flips_at_a_threshold_are_counted_and_forgiven(rng: np.random.Generator) -> None:
    """A threshold in the middle of PyTorch's rounding errors: the float64 network and the float32 one must disagree now and then."""
    x = inputs(rng, 64, 40)
    first = nn.Linear(40, 30, bias=False)
    with torch.no_grad():
        at = float(first(x)[7, 11])
    model = nn.Sequential(first, sign_linear(30, 4, Steps([at], scale=1.0)))
    report = bitfold.verify(model, bitfold.export(model, x), x, backend="interpreter")
    assert report.flipped == report.layers[0].fresh <= 2, "the one code whose value is the threshold itself, give or take"
    assert report.ok and report.images_without_flips >= 62


def test_the_model_keeps_its_mode_and_hooks(network: nn.Module, rng: np.random.Generator) -> None:
    network.train()
    x = inputs(rng, 2, 3, 8, 8)
    bitfold.verify(network, bitfold.export(network, x), x.numpy(), backend="interpreter")
    assert all(m.training and not m._forward_pre_hooks for m in network)


def test_mistakes_are_named(network: nn.Module, rng: np.random.Generator) -> None:
    x = inputs(rng, 2, 3, 8, 8)
    graph = bitfold.export(network, x)
    with pytest.raises(BitfoldError, match="unknown backend of verify 'enigne'; did you mean 'engine'"):
        bitfold.verify(network, graph, x, backend="enigne")
    with pytest.raises(ExportError, match="3 labels for 2 inputs"):
        bitfold.verify(network, graph, x, labels=torch.zeros(3))
    with pytest.raises(ExportError, match="batch=0"):
        bitfold.verify(network, graph, x, batch=0)
    with pytest.raises(ExportError, match="layer '1' is not in the model"):
        bitfold.verify(nn.Sequential(network[0]), graph, x)


def test_ties_on_a_threshold_are_explained_by_rounding(rng: np.random.Generator) -> None:
    """Fresh BatchNorm and one weight scale: many sums are exactly 0, which PyTorch's floats miss by a rounding error."""
    torch.manual_seed(0)
    model = bitfold.apply(bitfold.models.create("digits_cnn"), bitfold.methods.get("qnn", weight_bits=2))
    x = inputs(rng, 8, 1, 8, 8)
    report = bitfold.verify(model, bitfold.export(model, x), x, backend="interpreter")
    assert report.ok and all(layer.unexplained == 0 for layer in report.layers)
    assert report.flipped > 0, "the case this test is about"


@pytest.mark.native
def test_progress_is_told_after_every_batch() -> None:
    model = bitfold.apply(bitfold.models.create("digits_cnn"), "bireal").eval()
    x = torch.randn(10, 1, 8, 8)
    told: list[tuple[int, int]] = []
    bitfold.verify(model, bitfold.export(model, x[:1]), x, batch=4, progress=lambda done, of: told.append((done, of)))
    assert told == [(4, 10), (8, 10), (10, 10)]
