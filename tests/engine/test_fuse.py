"""Which nodes become one kernel call."""

import numpy as np
import pytest
from tests.engine.resnet import binary_resnet18

import bitfold
from bitfold.engine.cost import Shape, choose
from bitfold.engine.fuse import Product, fuse
from bitfold.ir import ops
from bitfold.ir.encoding import Accumulator, Binary, Coded, Element, Float, PowerOfTwo, Ternary, Uniform
from bitfold.ir.graph import Constant, Graph, TensorType


def products(graph: Graph) -> dict[str, Product]:
    return {unit.node.name: unit for unit in fuse(graph) if isinstance(unit, Product)}


def test_resnet(rng: np.random.Generator) -> None:
    found = products(binary_resnet18(rng, size=32, classes=10))
    first, down, last = found["layer1.0"], found["layer2.0.down"], found["layer4.3"]
    assert [type(n).__name__ for n in first.absorbed] == ["Add", "TwoSlope", "Quantize"]
    assert first.stream == "layer1.0.prelu", "the shortcut of the next layer needs the float stream"
    assert first.residual == "maxpool"
    assert down.residual == "layer2.0", "the convolution that runs last takes the addition"
    assert found["layer2.0"].absorbed == ()
    assert last.quantize is None and last.stream == "layer4.3.prelu"


def test_integer_thresholds_write_bits_alone(rng: np.random.Generator) -> None:
    graph = chain(rng)
    unit = products(graph)["c"]
    assert unit.stream is None and unit.quantize is not None
    x = rng.choice([-1, 1], (2, 40, 5, 5))
    assert np.array_equal(bitfold.load(graph)(x), bitfold.interpret(graph, x))
    assert [k.op for k in bitfold.load(graph).kernels] == ["convert", "Conv+Quantize", "Conv"]


def chain(rng: np.random.Generator, *more: ops.Node, outputs: tuple[str, ...] = ("y",)) -> Graph:
    """Binary conv without epilogue -> integer thresholds, some falling -> binary conv."""
    constants = {
        "w": Constant.from_codes(rng.choice([-1, 1], (33, 40, 3, 3)), Binary()),
        "v": Constant.from_codes(rng.choice([-1, 1], (5, 33, 1, 1)), Binary()),
        "t": Constant.from_array(rng.integers(-9, 9, (33, 1))),
        "d": Constant.from_codes(rng.choice([-1, 1], 33), Binary()),
    }
    nodes = (
        ops.Conv(name="c", output="acc", x="x", weight="w", padding=(1, 1)),
        ops.Quantize(name="q", output="bits", x="acc", thresholds="t", encoding=Binary(), descending="d"),
        ops.Conv(name="e", output="y", x="bits", weight="v"),
        *more,
    )
    return Graph({"x": TensorType((40, 5, 5), Binary())}, nodes, outputs, constants)


def test_a_value_that_someone_else_reads_is_written(rng: np.random.Generator) -> None:
    graph = chain(rng, outputs=("y", "acc"))
    assert products(graph)["c"].stream == "acc"
    x = rng.choice([-1, 1], (2, 40, 5, 5))
    for got, want in zip(bitfold.load(graph)(x), bitfold.interpret(graph, x), strict=True):
        assert np.array_equal(got, want)


def test_what_no_output_needs_is_left_out(rng: np.random.Generator) -> None:
    dead = ops.MaxPool(name="dead", output="dead", x="acc", kernel=(2, 2), stride=(2, 2))
    graph = chain(rng, dead)
    assert "dead" not in {k.layer for k in bitfold.load(graph).kernels}
    assert products(graph)["c"].stream is None


def test_a_shortcut_computed_later_is_fused(rng: np.random.Generator) -> None:
    """ResNet's option A: the convolution stands before the pooled shortcut in the trained network's order."""
    constants = {"w": Constant.from_array(rng.standard_normal((4, 4, 3, 3)).astype(np.float32))}
    nodes = (
        ops.Conv(name="c", output="c", x="x", weight="w", stride=(2, 2), padding=(1, 1)),
        ops.MaxPool(name="p", output="p", x="x", kernel=(1, 1), stride=(2, 2)),
        ops.Add(name="a", output="y", a="c", b="p"),
    )
    graph = Graph({"x": TensorType((4, 6, 6), Float())}, nodes, ("y",), constants)
    assert products(graph)["c"].residual == "p"
    x = rng.standard_normal((2, 4, 6, 6)).astype(np.float32)
    assert np.array_equal(bitfold.load(graph)(x), bitfold.interpret(graph, x))


def copied(
    rng: np.random.Generator, weight: np.ndarray, coded: Coded | None, times: int, stride: int = 1, **epilogue: str
) -> tuple[Graph, np.ndarray]:
    """A convolution whose channels are copied, an affine of its own for every copy, and a shortcut that comes later; with an input."""
    channels = times * len(weight)

    def floats(*shape: int) -> Constant:
        return Constant.from_array(rng.standard_normal(shape).astype(np.float32))

    constants = {"w": Constant.from_codes(weight, coded) if coded else Constant.from_array(weight.astype(np.float32))}
    constants |= {name: floats(len(weight)) for name in epilogue.values()}
    conv = ops.Conv(
        name="c",
        output="c",
        x="x",
        weight="w",
        stride=(stride, stride),
        padding=(1, 1),
        epilogue=ops.Epilogue(**epilogue) if epilogue else None,
    )
    nodes: list[ops.Node] = [conv, ops.Concat(name="copies", output="copies", xs=("c",) * times)]
    if coded and not epilogue:
        constants |= {"m": floats(channels), "b": floats(channels)}
        nodes.append(ops.Affine(name="bn", output="bn", x="copies", mul="m", bias="b"))
    constants |= {"neg": floats(channels), "t": floats(channels, 1), "v": floats(channels, weight.shape[1], 1, 1)}
    x = "x"
    if coded:
        x = "floats"
        nodes.append(ops.Dequantize(name="floats", output="floats", x="x"))
    nodes += [
        ops.Conv(name="shortcut", output="shortcut", x=x, weight="v", stride=(stride, stride)),
        ops.Abs(name="abs", output="abs", x="shortcut"),
        ops.Add(name="add", output="add", a=nodes[-1 if not coded else -2].output, b="abs"),
        ops.TwoSlope(name="act", output="act", x="add", neg="neg"),
        ops.Quantize(name="q", output="y", x="act", thresholds="t", encoding=Binary()),
    ]
    element = coded if coded else Float()
    values = rng.choice(coded.alphabet(), (2, weight.shape[1], 6, 5)) if coded else rng.standard_normal((2, weight.shape[1], 6, 5))
    graph = Graph({"x": TensorType((weight.shape[1], 6, 5), element)}, tuple(nodes), ("act", "y"), constants)
    return graph, values if coded else values.astype(np.float32)


@pytest.mark.parametrize("coded", [Binary(), Ternary(), Uniform(4, True), None], ids=str)
@pytest.mark.parametrize(
    "epilogue", [{}, {"mul": "e", "bias": "f"}, {"bias": "f", "patch_mul": "g", "weight_mul": "h", "tap_mul": "i"}], ids=str
)
@pytest.mark.parametrize(("channels", "times"), [(16, 3), (8, 4), (32, 2)])
def test_copies_of_channels_are_made_by_the_product(
    rng: np.random.Generator, coded: Coded | None, epilogue: dict[str, str], channels: int, times: int
) -> None:
    if coded is None and "patch_mul" in epilogue:
        epilogue = {"bias": "f"}
    weight = rng.choice((coded or Binary()).alphabet(), (channels, 20, 3, 3))
    graph, x = copied(rng, weight, coded, times, **epilogue)
    unit = products(graph)["c"]
    names = ["Concat", *(["Affine"] if coded and not epilogue else []), "Add", "TwoSlope", "Quantize"]
    assert [type(n).__name__ for n in unit.absorbed] == names and unit.copies == times
    for got, want in zip(bitfold.load(graph)(x), bitfold.interpret(graph, x), strict=True):
        assert np.array_equal(got, want)


@pytest.mark.parametrize(("channels", "times"), [(20, 2), (8, 3), (12, 4)])
def test_copies_of_parts_of_blocks_stay(rng: np.random.Generator, channels: int, times: int) -> None:
    graph, x = copied(rng, rng.choice([-1, 1], (channels, 4, 3, 3)), Binary(), times)
    assert products(graph)["c"].copies == 1
    for got, want in zip(bitfold.load(graph)(x), bitfold.interpret(graph, x), strict=True):
        assert np.array_equal(got, want)


def ghost(rng: np.random.Generator, first: int, second: int) -> Graph:
    """Two layers put together, twice, and the first of them taken out again."""
    f32 = TensorType((3, 5, 6), Float())

    def weight(*shape: int) -> Constant:
        return Constant.from_array(rng.standard_normal(shape).astype(np.float32))

    constants = {"w": weight(first, 3, 3, 3), "v": weight(second, first, 1, 1), "u": weight(7, first + second, 1, 1)}
    nodes = (
        ops.Conv(name="a", output="a", x="x", weight="w", padding=(1, 1)),
        ops.Conv(name="b", output="b", x="a", weight="v"),
        ops.Concat(name="both", output="both", xs=("a", "b")),
        ops.Concat(name="again", output="again", xs=("b", "a")),
        ops.Slice(name="part", output="part", x="both", start=first, stop=first + second),
        ops.Clamp(name="relu", output="relu", x="both", low=0.0),
        ops.Conv(name="c", output="c", x="relu", weight="u"),
    )
    return Graph({"x": f32}, nodes, ("c", "again", "part"), constants)


@pytest.mark.parametrize(
    ("first", "second", "copied"),
    [(16, 16, {"again"}), (32, 5, {"again"}), (16, 33, {"again"}), (5, 16, {"both", "part"}), (20, 12, {"both", "again", "part"})],
)
def test_parts_that_begin_at_blocks_are_not_copied(rng: np.random.Generator, first: int, second: int, copied: set[str]) -> None:
    graph = ghost(rng, first, second)
    net = bitfold.load(graph, threads=2)
    assert {row.layer for row in net.kernels if row.kernel == "copy_channels"} == copied
    x = rng.standard_normal((5, 3, 5, 6)).astype(np.float32)
    for got, want in zip(net(x), bitfold.interpret(graph, x), strict=True):
        assert np.array_equal(got, want)


def test_an_output_before_its_copies_is_written(rng: np.random.Generator) -> None:
    graph, x = copied(rng, rng.choice([-1, 1], (5, 4, 3, 3)), Binary(), 2)
    graph = Graph(graph.inputs, graph.nodes, (*graph.outputs, "c"), graph.constants)
    for got, want in zip(bitfold.load(graph)(x), bitfold.interpret(graph, x), strict=True):
        assert np.array_equal(got, want)


@pytest.mark.parametrize(
    ("x", "weight", "family"),
    [
        (Float(), Float(), "conv_f32"),
        (Float(), Binary(), "conv_f32"),
        (Binary(), Binary(), "conv_b1"),
        (Binary(), Ternary(), "conv_planes"),
        (Uniform(2, False), Binary(), "conv_planes"),
        (Uniform(8, False), Uniform(9, True), "conv_i16"),
        (Uniform(4, False), PowerOfTwo(2), "conv_i8"),
    ],
    ids=str,
)
def test_families(x: Element, weight: Element, family: str) -> None:
    assert not isinstance(x, Accumulator)
    choice = choose(x, weight, Shape(64, 64, (3, 3), 1))
    assert choice.family == family and choice.reason
