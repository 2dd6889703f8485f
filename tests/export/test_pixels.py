"""Pictures as bytes: an integer first layer with the normalisation folded in, against the float network."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.export.nets import batch_norm, sign_conv, sign_linear
from torch import nn

import bitfold
from bitfold.errors import ExportError, GraphError
from bitfold.export.pixels import most_bits
from bitfold.ir import ops
from bitfold.ir.encoding import Uniform
from bitfold.ir.graph import Constant, Graph

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.25)


def normalized(x: np.ndarray, mean: Any = MEAN, std: Any = STD, max_value: int = 255) -> torch.Tensor:
    shape = (-1,) + (1,) * (x.ndim - 2)
    return (torch.from_numpy(x).float() / max_value - torch.tensor(mean).reshape(shape)) / torch.tensor(std).reshape(shape)


def pictures(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def stem_net(rng: np.random.Generator, **conv: Any) -> nn.Module:
    torch.manual_seed(int(rng.integers(1 << 30)))
    return nn.Sequential(nn.Conv2d(3, 20, 5, **conv), batch_norm(20, rng)).eval()


@pytest.mark.parametrize(("bits", "allowed"), [(16, 1e-4), (8, 3e-2)])
@pytest.mark.parametrize("conv", [{"padding": 2, "stride": 2}, {"padding": 3, "dilation": 2, "bias": False}, {}], ids=str)
def test_the_stem_is_the_float_layer_up_to_its_bits(rng: np.random.Generator, bits: int, allowed: float, conv: dict[str, Any]) -> None:
    """Borders too: a padded tap adds neither the byte nor the mean. All-white and all-black pictures are among the images."""
    model, x = stem_net(rng, **conv), pictures(rng, 4, 3, 11, 9)
    x[0], x[1] = 0, 255
    floats = normalized(x)
    graph = bitfold.export(model, floats, input="uint8", mean=MEAN, std=STD, stem_bits=bits)
    (name,) = graph.inputs
    assert graph.inputs[name].element == Uniform(8, signed=False, scale=1 / 255)
    assert [type(node) for node in graph.nodes] == [ops.Conv], "one step, batch normalisation included"
    weight = graph.constants[graph.nodes[0].weight].type  # type: ignore[attr-defined]
    assert weight.element == Uniform(bits, signed=True) and graph.metadata["mean"] == "0.485 0.456 0.406"
    expected = model(floats).detach().numpy()
    got = bitfold.interpret(graph, x)
    assert np.abs(got - expected).max() <= allowed * np.abs(expected).max()
    assert np.array_equal(bitfold.load(graph)(x), got)


def test_groups_features_and_scalars(rng: np.random.Generator, tmp_path: Any) -> None:
    """A grouped stem, a flattened picture with another byte for 1.0, and the file's round trip."""
    torch.manual_seed(1)
    grouped = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2)).eval()
    x, mean, std = pictures(rng, 2, 4, 5, 6), (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)
    graph = bitfold.export(grouped, normalized(x, mean, std), input="uint8", mean=mean, std=std)
    np.testing.assert_allclose(bitfold.interpret(graph, x), grouped(normalized(x, mean, std)).detach().numpy(), atol=1e-4)

    features = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20, 5)).eval()
    x = rng.integers(0, 17, (3, 3, 4, 5), dtype=np.uint8)
    graph = bitfold.export(features, normalized(x, 0.4, 0.2, 16), input="uint8", mean=0.4, std=0.2, max_value=16)
    np.testing.assert_allclose(bitfold.interpret(graph, x), features(normalized(x, 0.4, 0.2, 16)).detach().numpy(), atol=1e-4)
    graph.save(tmp_path / "m.bitfold")
    loaded = Graph.load(tmp_path / "m.bitfold")
    assert loaded.nodes == graph.nodes and np.array_equal(bitfold.load(loaded)(x), bitfold.interpret(graph, x))


def test_classes_agree_end_to_end(rng: np.random.Generator) -> None:
    """A binary network behind the stem: verify compares it with the network that has the integers' values, and with the trained one."""
    torch.manual_seed(int(rng.integers(1 << 30)))
    parts = [nn.Conv2d(3, 16, 3, padding=1), batch_norm(16, rng), sign_conv(16, 16, padding=1), batch_norm(16, rng, 4.0)]
    model = nn.Sequential(*parts, nn.Flatten(), sign_linear(16 * 64, 10)).eval()
    x = pictures(rng, 24, 3, 8, 8)
    for bits, agreeing in ((16, 24), (8, 20)):
        graph = bitfold.export(model, normalized(x), input="uint8", mean=MEAN, std=STD, stem_bits=bits)
        report = bitfold.verify(model, graph, x, labels=torch.zeros(24))
        assert report.ok and report.layers[0].name == "0" and report.layers[0].weights == 16 * 27
        assert report.layers[0].accumulators == 16 * 16 * 64 and report.stem is not None
        assert report.top1_agree == 24 and report.stem.bits == bits and report.stem.top1_agree >= agreeing  # type: ignore[operator]
        assert f"replaced by {bits}-bit integers" in str(report)


def test_verify_finds_a_wrong_weight(rng: np.random.Generator) -> None:
    model, x = stem_net(rng, padding=2), pictures(rng, 3, 3, 8, 8)
    graph = bitfold.export(model, normalized(x), input="uint8", mean=MEAN, std=STD)
    codes = graph.constants["0.weight"].codes.copy()
    codes[1, 2, 3, 3] ^= 1
    broken = Constant.from_codes(codes, graph.constants["0.weight"].type.element)  # type: ignore[arg-type]
    report = bitfold.verify(model, replace(graph, constants={**graph.constants, "0.weight": broken}), x)
    assert not report.ok and report.layers[0].weights_differ == 1 and report.layers[0].accumulators_differ > 0
    with pytest.raises(ExportError, match=r"x is torch\.float32; allowed for a graph that takes pictures as bytes: torch\.uint8"):
        bitfold.verify(model, graph, normalized(x))
    with pytest.raises(ExportError, match="metadata do not say their mean and std"):
        bitfold.verify(model, replace(graph, metadata={}), x)


def test_what_cannot_be_is_refused(rng: np.random.Generator) -> None:
    model, x = stem_net(rng), normalized(pictures(rng, 1, 3, 8, 8))
    stated: dict[str, Any] = {"input": "uint8", "mean": MEAN, "std": STD}
    refused: list[tuple[nn.Module, dict[str, Any], str]] = [
        (model, {**stated, "mean": None}, r"mean=None; allowed with input='uint8': 1 or 3 finite numbers"),
        (model, {**stated, "std": (1.0, 1.0)}, r"std=\(1\.0, 1\.0\); allowed with input='uint8': 1 or 3 positive numbers"),
        (model, {**stated, "std": 0.0}, "std=0.0; allowed"),
        (model, {**stated, "stem_bits": 17}, "stem_bits=17; allowed: 2 to 16"),
        (model, {**stated, "max_value": 256}, "max_value=256; allowed: 1 to 255"),
        (model, {"mean": MEAN}, "mean and std belong to input='uint8'"),
        (nn.Sequential(nn.ReLU(), model), stated, "'0' reads the picture's bytes; allowed"),
        (nn.Sequential(sign_conv(3, 4), nn.ReLU()), stated, "'0"),
        (nn.Sequential(nn.ConvTranspose2d(3, 4, 2)), stated, "'0.phases' reads the picture's bytes; allowed"),
    ]
    for net, arguments, message in refused:
        with pytest.raises(ExportError, match=message):
            bitfold.export(net, x, **arguments)
    wide = nn.Conv2d(3, 2, 11)
    with pytest.raises(ExportError, match="363 products of bytes and 16-bit weights do not fit an int32; allowed: stem_bits <= 15"):
        bitfold.export(wide, torch.zeros(1, 3, 16, 16), **stated)
    graph = bitfold.export(wide, torch.zeros(1, 3, 16, 16), **stated, stem_bits=15)
    assert bitfold.interpret(graph, np.full((1, 3, 16, 16), 255, np.uint8)).shape == (1, 2, 6, 6)


def test_the_most_bits_are_the_most() -> None:
    for products in (1, 2, 27, 147, 257, 258, 363, 784, 100_000):
        bits = most_bits(products)
        assert products * 255 * (1 << (bits - 1)) < 1 << 31 <= products * 255 * (1 << bits)


def test_a_hostile_offset_is_refused(rng: np.random.Generator) -> None:
    model, x = stem_net(rng), pictures(rng, 1, 3, 8, 8)
    graph = bitfold.export(model, normalized(x), input="uint8", mean=MEAN, std=STD)

    def with_offset(values: Any) -> None:
        replace(graph, constants={**graph.constants, "0.x_offset": Constant.from_array(np.array(values, dtype=np.float32))})

    with pytest.raises(GraphError, match=r"epilogue\.x_offset '0\.x_offset' is float32 \(4,\); allowed: float32 \(3,\)"):
        with_offset([1.0, 2.0, 3.0, 4.0])
    with pytest.raises(GraphError, match="not finite"):
        with_offset([1.0, 2.0, np.inf])
    node = replace(graph.nodes[0], weight="f")
    floats = Constant.from_array(np.zeros((20, 3, 5, 5), np.float32))
    constants = {k: v for k, v in graph.constants.items() if k != "0.weight"} | {"f": floats}
    with pytest.raises(GraphError, match=r"epilogue\.x_offset is '0\.x_offset' but x is float32"):
        inputs = {name: replace(t, element=bitfold.ir.encoding.Float()) for name, t in graph.inputs.items()}
        replace(graph, inputs=inputs, nodes=(node,), constants=constants)
    huge = {"0.x_offset": Constant.from_array(np.full(3, 3e38, np.float32)), "0.mul": Constant.from_array(np.ones(20, np.float32))}
    large = replace(graph, constants={**graph.constants, **huge})
    with pytest.raises(GraphError, match="x_offset add up to"):
        bitfold.interpret(large, x)
    with pytest.raises(GraphError, match="x_offset add up to"):
        bitfold.load(large)
