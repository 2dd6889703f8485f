"""Linear layers of 1, 2 and 4-bit weights on 8-bit activations: equal to the interpreter, hostile plans refused."""

from typing import Any

import numpy as np
import pytest

import bitfold
from bitfold import _core
from bitfold.ir import ops
from bitfold.ir.encoding import Binary, Coded, PowerOfTwo, Ternary, Uniform
from bitfold.ir.graph import Constant, Graph, TensorType

S8, U8 = Uniform(8, True), Uniform(8, False)
WEIGHTS = [Binary(), Ternary(), Uniform(2, True), Uniform(2, False), Uniform(3, True), Uniform(4, True), PowerOfTwo(2)]


def two_layers(rng: np.random.Generator, x: Coded, weight: Coded, sizes: tuple[int, int, int]) -> Graph:
    """Codes of the caller -> Linear -> Quantize to the same codes -> Linear with per-channel scales and a patch sum."""

    def codes(*shape: int) -> Constant:
        return Constant.from_codes(rng.choice(np.array(weight.alphabet(), np.int16), shape), weight)

    inputs, hidden, outputs = sizes
    constants = {
        "w1": codes(hidden, inputs),
        "w2": codes(outputs, hidden),
        "t": Constant.from_array(np.sort(rng.integers(-9999, 9999, (1, 255)).astype(np.int32))),
        "mul": Constant.from_array(rng.uniform(0.01, 0.02, outputs).astype(np.float32)),
        "bias": Constant.from_array(rng.standard_normal(outputs).astype(np.float32)),
        "patch": Constant.from_array(rng.standard_normal(outputs).astype(np.float32)),
    }
    nodes = (
        ops.Linear(name="fc1", output="d", x="x", weight="w1"),
        ops.Quantize(name="q", output="c", x="d", thresholds="t", encoding=x),
        ops.Linear(name="fc2", output="y", x="c", weight="w2", epilogue=ops.Epilogue(mul="mul", bias="bias", patch_mul="patch")),
    )
    return Graph({"x": TensorType((inputs,), x)}, nodes, ("d", "y"), constants)


@pytest.mark.parametrize("x", [S8, U8], ids=str)
@pytest.mark.parametrize("weight", WEIGHTS, ids=str)
@pytest.mark.parametrize(("sizes", "batch"), [((5, 3, 5), 1), ((67, 45, 130), 7), ((700, 33, 16), 70)])
def test_equal_to_the_interpreter(rng: np.random.Generator, x: Uniform, weight: Coded, sizes: tuple[int, int, int], batch: int) -> None:
    graph = two_layers(rng, x, weight, sizes)
    codes = rng.integers(x.min_code, x.max_code + 1, (batch, sizes[0])).astype(np.int8 if x.signed else np.uint8)
    codes[0] = x.min_code
    want = bitfold.interpret(graph, codes)
    for threads in (1, 3):
        net = bitfold.load(graph, threads=threads)
        assert [k.kernel.split("_s32")[0] for k in net.kernels if k.op == "Linear"] == ["dense_packed"] * 2
        for got, expected in zip(net(codes), want, strict=True):
            assert np.array_equal(got, expected), f"{threads} threads"


def linear(**changes: Any) -> None:
    """A valid Linear of ternary weights, changed."""
    plan = _core.Plan(1, 1, 1 << 16)
    x, y = plan.value("u8", (1, 1, 16), 16, 0), plan.value("i32", (1, 1, 16), 16, 1 << 12)
    sums = plan.value("i32", (1, 1, 1), 1, 1 << 13)
    plan.input(x, "u8")
    arguments: dict[str, Any] = {"weight_format": ("ternary", 1, False, 0), "patch_sums": sums} | changes
    planes = {"ternary": 2, "uniform": arguments["weight_format"][1], "power_of_two": 1 + arguments["weight_format"][1]}
    weights = np.zeros(planes[arguments["weight_format"][0]] * 16 * 2, np.uint8)
    fixed = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "x_format": ("uniform", 8, False, 0), "out_i32": y}
    plan.conv("dense_packed", x, weights=weights, weight_shape=(16, 16, 1, 1), **fixed, **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_sums": -1}, "needs patch sums"),
        ({"weight_format": ("uniform", 5, True, 0)}, "at most 4 bits"),
        ({"weight_format": ("power_of_two", 3, False, 0)}, "at most 4 bits"),
    ],
)
def test_wrong_plans_are_refused(changes: dict[str, Any], message: str) -> None:
    linear()
    with pytest.raises(ValueError, match=message):
        linear(**changes)
