"""Networks of few-bit codes: held in bytes between layers, int8 kernels, equal to the interpreter."""

from typing import Any

import numpy as np
import pytest

import bitfold
from bitfold import _core
from bitfold.ir import ops
from bitfold.ir.encoding import Binary, Coded, Float, PowerOfTwo, Ternary, Uniform
from bitfold.ir.graph import Constant, Graph, TensorType

PAIRS = [
    (Uniform(4, False), Uniform(4, True)),
    (Uniform(4, True), PowerOfTwo(2)),
    (Uniform(8, False), Uniform(7, True)),
    (Uniform(8, True), Ternary()),
    (PowerOfTwo(6), Uniform(4, True)),
    (PowerOfTwo(5, 2), Uniform(3, False)),
    (Uniform(3, True), Uniform(5, True)),
]


def network(rng: np.random.Generator, x: Coded, weight: Coded, channels: int, groups: int) -> Graph:
    """Quantize -> Conv -> Quantize -> MaxPool -> Conv with a patch sum -> Quantize -> Flatten -> Linear."""
    levels = len(x.alphabet()) - 1

    def codes(*shape: int) -> Constant:
        return Constant.from_codes(rng.choice(np.array(weight.alphabet(), np.int16), shape), weight)

    constants = {
        "t": Constant.from_array(np.sort(rng.standard_normal((1, levels)).astype(np.float32))),
        "ti": Constant.from_array(np.sort(rng.integers(-300, 300, (1, levels)).astype(np.int32))),
        "w1": codes(channels, channels // groups, 3, 3),
        "w2": codes(24, channels, 3, 3),
        "w3": codes(5, 24 * 4),
        "mul": Constant.from_array(np.full(24, 1e-3, np.float32)),
        "patch": Constant.from_array(rng.standard_normal(24).astype(np.float32)),
    }
    epilogue = ops.Epilogue(mul="mul", patch_mul="patch")
    nodes = (
        ops.Quantize(name="q0", output="c0", x="x", thresholds="t", encoding=x),
        ops.Conv(name="conv1", output="d1", x="c0", weight="w1", padding=(1, 1), groups=groups),
        ops.Quantize(name="q1", output="c1", x="d1", thresholds="ti", encoding=x),
        ops.MaxPool(name="pool", output="p1", x="c1", kernel=(2, 2), stride=(2, 2)),
        ops.Conv(
            name="conv2",
            output="d2",
            x="p1",
            weight="w2",
            padding=(1, 1),
            stride=(2, 2),
            epilogue=epilogue,
        ),
        ops.Quantize(name="q2", output="c2", x="d2", thresholds="t", encoding=x),
        ops.Flatten(name="flat", output="f2", x="c2"),
        ops.Linear(name="fc", output="y", x="f2", weight="w3"),
    )
    return Graph({"x": TensorType((channels, 8, 8), Float())}, nodes, ("y",), constants)


@pytest.mark.parametrize(("x", "weight"), PAIRS, ids=str)
@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (33, 1), (32, 2), (12, 3)])
def test_equal_to_the_interpreter(rng: np.random.Generator, x: Coded, weight: Coded, channels: int, groups: int) -> None:
    graph = network(rng, x, weight, channels, groups)
    picture = rng.standard_normal((5, channels, 8, 8)).astype(np.float32)
    net = bitfold.load(graph)
    assert np.array_equal(net(picture), bitfold.interpret(graph, picture))


def test_codes_stay_in_bytes(rng: np.random.Generator) -> None:
    net = bitfold.load(network(rng, Uniform(4, False), PowerOfTwo(2), 32, 1))
    names = [kernel.kernel for kernel in net.kernels]
    assert [name.split("_s32")[0] for name in names] == [
        "quantize_f32_u8", "conv_i8", "max_pool_u8", "conv_i8", "flatten", "dense_packed",
    ]  # fmt: skip
    assert [kernel.op for kernel in net.kernels if kernel.layer.startswith("conv")] == ["Conv+Quantize"] * 2


@pytest.mark.parametrize("others", [(Binary(),), (Uniform(9, True),)], ids=str)
def test_readers_that_want_other_forms(rng: np.random.Generator, others: tuple[Coded, ...]) -> None:
    """A value that one convolution reads as bytes and another as bits, or that is an output too."""
    x = Ternary()
    constants = {
        "t": Constant.from_array(np.array([[-0.5, 0.5]], np.float32)),
        "w": Constant.from_codes(rng.choice(np.array(PowerOfTwo(2).alphabet(), np.int16), (4, 5, 1, 1)), PowerOfTwo(2)),
        "v": Constant.from_codes(rng.choice(np.array(others[0].alphabet(), np.int16), (4, 5, 1, 1)), others[0]),
    }
    nodes = (
        ops.Quantize(name="q", output="c", x="x", thresholds="t", encoding=x),
        ops.Conv(name="a", output="y", x="c", weight="w"),
        ops.Conv(name="b", output="z", x="c", weight="v"),
    )
    graph = Graph({"x": TensorType((5, 4, 4), Float())}, nodes, ("c", "y", "z"), constants)
    picture = rng.standard_normal((2, 5, 4, 4)).astype(np.float32)
    for got, want in zip(bitfold.load(graph)(picture), bitfold.interpret(graph, picture), strict=True):
        assert np.array_equal(got, want)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_bytes_from_the_caller(rng: np.random.Generator, batch: int) -> None:
    """A uint8 picture is read as it is, without int16 in between."""
    weight = Constant.from_codes(rng.choice(np.array(Uniform(4, True).alphabet(), np.int16), (20, 3, 3, 3)), Uniform(4, True))
    nodes = (ops.Conv(name="stem", output="y", x="x", weight="w", padding=(1, 1), stride=(2, 2)),)
    graph = Graph({"x": TensorType((3, 9, 7), Uniform(8, False))}, nodes, ("y",), {"w": weight})
    picture = rng.integers(0, 256, (batch, 3, 9, 7), dtype=np.uint8)
    net = bitfold.load(graph)
    assert len(net.kernels) == 1 and net.kernels[0].kernel.startswith("conv_i8")
    assert np.array_equal(net(picture), bitfold.interpret(graph, picture))


def byte_conv(**changes: Any) -> None:
    """A valid 1x1 convolution of signed 4-bit codes, changed."""
    plan = _core.Plan(1, 1, 1 << 16)
    x = plan.value("u8", (4, 4, 16), 16, 0, 1, "binary", changes.pop("min_code", -8))
    y = plan.value("i32", (4, 4, 16), 16, 1 << 13)
    source = plan.value("f32", (4, 4, 16), 16, 1 << 14)
    plan.input(source, "f32")
    alphabet = np.arange(16, dtype=np.int16) + changes.pop("first", -8)
    plan.quantize(source, x, 16, False, np.zeros(15, np.float32), None, None, alphabet)
    arguments: dict[str, Any] = {"weight_format": ("uniform", 4, True, 0), "x_format": ("uniform", 4, True, 0), "out_i32": y}
    fixed = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    arguments |= changes
    weights = np.full(arguments["weight_format"][1] * 16 * 2, 255, np.uint8)
    plan.conv("conv_i8", x, weights=weights, weight_shape=(16, 16, 1, 1), **fixed, **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_code": -129}, "not a code"),
        ({"min_code": 1}, "not a code"),
        ({"first": -9}, "code -9 does not fit"),
        ({"x_format": ("uniform", 3, True, 0)}, "does not fit their bytes"),
        ({"x_format": ("uniform", 17, True, 0)}, "out of range"),
        ({"weight_format": ("uniform", 8, False, 0)}, "a weight code is 255"),
        ({"out_i32": -1}, "no output"),
    ],
)
def test_wrong_plans_are_refused(changes: dict[str, Any], message: str) -> None:
    byte_conv()
    with pytest.raises(ValueError, match=message):
        byte_conv(**changes)
