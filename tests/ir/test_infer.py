from dataclasses import replace

import numpy as np
import pytest

from bitfold.errors import GraphError
from bitfold.ir import ops
from bitfold.ir.encoding import Accumulator, Binary, Float, PowerOfTwo, Ternary, Uniform
from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.infer import RULES
from bitfold.ir.interpreter import OPERATIONS

IMAGE, VECTOR = TensorType((4, 6, 6), Float()), TensorType((8,), Float())
CODES, SIGNS = TensorType((4, 6, 6), Binary()), TensorType((8,), Binary())
BYTES = TensorType((8,), Uniform(8, False))


def floats(*shape: int) -> Constant:
    return Constant.from_array(np.ones(shape, np.float32))


def codes(*shape: int, encoding=Binary()) -> Constant:  # noqa: B008  (frozen)
    return Constant.from_codes(np.ones(shape, np.int8), encoding)


def graph_of(*nodes, outputs=None, constants=(), **inputs):
    return Graph(inputs, nodes, outputs or (nodes[-1].output,), dict(constants))


def conv(**fields):
    return ops.Conv(**{"name": "conv", "output": "y", "x": "x", "weight": "w", **fields})


def linear(**fields):
    return ops.Linear(**{"name": "fc", "output": "y", "x": "x", "weight": "w", **fields})


def quantize(**fields):
    return ops.Quantize(**{"name": "q", "output": "y", "x": "x", "thresholds": "t", "encoding": Binary(), **fields})


def pool(op=ops.MaxPool, **fields):
    return op(**{"name": "pool", "output": "y", "x": "x", "kernel": (2, 2), "stride": (2, 2), **fields})


def integers(*values) -> Constant:
    return Constant.from_array(np.array(values, np.int32))


def upsample(**fields):
    return (ops.Upsample(**{"name": "u", "output": "y", "x": "x", "rows": "r", "columns": "c", **fields}),)


def depth_to_space(**fields):
    return ops.DepthToSpace(**{"name": "d", "output": "y", "x": "x", "factor": (2, 2), **fields})


def rearrange(**fields):
    return (ops.Rearrange(**{"name": "r", "output": "y", "x": "x", "shape": (8,), "sizes": (4, 2), "strides": (2, 1), **fields}),)


def matmul(**fields):
    return (ops.MatMul(**{"name": "m", "output": "y", "a": "x", "b": "z", **fields}),)


def image(*shape: int, element=Float()):  # noqa: B008  (frozen)
    return TensorType(shape, element)


UP = {"r": integers(0, 5), "c": integers(3, 0, 5)}
W2 = {"w": floats(2), "v": floats(3)}


def test_every_operation_has_a_rule_and_an_interpreter():
    assert set(RULES) == set(OPERATIONS) == set(ops.OPS.values())


def test_types_of_products():
    w = {"w": codes(5, 4, 3, 3, encoding=PowerOfTwo(2))}
    assert graph_of(conv(), constants=w, x=CODES).types["y"] == TensorType((5, 4, 4), Accumulator(4 * 9 * 4))
    bias = ops.Epilogue(bias="b")
    assert graph_of(conv(epilogue=bias), constants=w | {"b": floats(5)}, x=CODES).types["y"].element == Float()
    assert graph_of(conv(), constants=w, x=IMAGE).types["y"].element == Float()
    assert graph_of(linear(), constants={"w": codes(3, 8, encoding=Ternary())}, x=SIGNS).types["y"] == TensorType((3,), Accumulator(8))
    x = TensorType((8,), Uniform(3, True))
    assert graph_of(linear(), constants={"w": codes(3, 8)}, x=x).types["y"].element == Accumulator(32)


def test_types_list_every_value_in_order():
    graph = graph_of(quantize(output="c"), linear(x="c"), constants={"t": floats(1, 1), "w": codes(3, 8)}, x=VECTOR)
    assert list(graph.types) == ["x", "c", "y"]


def test_concat_of_accumulators_takes_the_larger_bound():
    first, second = linear(output="a", name="a"), linear(output="b", name="b", weight="v")
    both = ops.Concat(name="cat", output="y", xs=("a", "b", "a"))
    graph = graph_of(first, second, both, constants={"w": codes(3, 8), "v": codes(2, 8, encoding=PowerOfTwo(1))}, x=SIGNS)
    assert graph.types["y"] == TensorType((8,), Accumulator(16))


W43, W48 = {"w": codes(8, 4, 3, 3)}, {"w": codes(3, 8)}
T = {"t": floats(1, 1)}
WRONG = {
    # name: (nodes, constants, inputs, text that the message must have)
    "no node": ((), {}, {"x": IMAGE}, "0 nodes"),
    "undefined value": ((conv(x="z"),), W43, {"x": CODES}, "Conv 'conv': inputs 'z' is not defined before"),
    "used before defined": (
        (ops.Abs(name="a", output="a", x="b"), ops.Abs(name="b", output="b", x="a")),
        {},
        {"x": IMAGE},
        "Abs 'a': inputs 'b'",
    ),
    "reads itself": ((ops.Abs(name="a", output="a", x="a"),), {}, {"x": IMAGE}, "'a' is not defined"),
    "missing constant": ((conv(weight="v"),), {}, {"x": CODES}, "constants 'v' does not exist"),
    "unused constant": ((conv(),), W43 | {"v": floats(1)}, {"x": CODES}, "'v' is used by no node"),
    "value twice": ((quantize(output="x"),), T, {"x": VECTOR}, "'x' is already defined"),
    "constant taken": ((quantize(output="t"),), T, {"x": VECTOR}, "'t' is already defined"),
    "node name twice": (
        (ops.Abs(name="a", output="a", x="x"), ops.Abs(name="a", output="b", x="x")),
        {},
        {"x": IMAGE},
        "name is taken",
    ),
    "empty name": ((ops.Abs(name="", output="y", x="x"),), {}, {"x": IMAGE}, "node name ''"),
    "long name": ((ops.Abs(name="n" * 600, output="y", x="x"),), {}, {"x": IMAGE}, "1 to 512"),
    "control character": ((ops.Abs(name="a\nb", output="y", x="x"),), {}, {"x": IMAGE}, "printable"),
    "reserved name": ((ops.Abs(name="a", output="__metadata__", x="x"),), {}, {"x": IMAGE}, "underscores"),
    "input and constant": ((quantize(),), T, {"x": VECTOR, "t": VECTOR}, "both an input and a constant"),
    "rank 2 input": ((ops.Abs(name="a", output="y", x="x"),), {}, {"x": TensorType((2, 2), Float())}, "rank 1 or 3"),
    "size 0": ((ops.Abs(name="a", output="y", x="x"),), {}, {"x": TensorType((0,), Float())}, "sizes of 1"),
    "huge": ((ops.Abs(name="a", output="y", x="x"),), {}, {"x": TensorType((1 << 20, 64, 64), Float())}, "elements at most"),
    "input accumulator": ((ops.Flatten(name="a", output="y", x="x"),), {}, {"x": TensorType((4,), Accumulator(3))}, "Accumulator"),
    "input scales": ((conv(),), W43, {"x": TensorType((4, 6, 6), Binary((1.0, 2.0)))}, "per channel"),
    "quantize scales": ((quantize(encoding=Binary((1.0, 2.0))),), T, {"x": VECTOR}, "Quantize 'q': scale of Binary is per channel"),
    "conv of a vector": ((conv(),), W43, {"x": SIGNS}, "x has shape"),
    "conv weight rank": ((conv(),), W48, {"x": CODES}, "(O, C / groups, KH, KW)"),
    "conv channels": ((conv(),), {"w": codes(8, 3, 3, 3)}, {"x": CODES}, "allowed: 4 (C / groups)"),
    "groups 0": ((conv(groups=0),), W43, {"x": CODES}, "groups is 0"),
    "groups 3": ((conv(groups=3),), W43, {"x": CODES}, "divisors of both 4 input and 8 output channels"),
    "groups of out": ((conv(groups=4),), {"w": codes(6, 1, 3, 3)}, {"x": CODES}, "groups is 4"),
    "stride 0": ((conv(stride=(1, 0)),), W43, {"x": CODES}, "stride is (1, 0)"),
    "dilation 0": ((conv(dilation=(0, 1)),), W43, {"x": CODES}, "dilation"),
    "negative padding": ((conv(padding=(-1, 1)),), W43, {"x": CODES}, "padding"),
    "huge padding": ((conv(padding=(1025, 1)),), W43, {"x": CODES}, "padding"),
    "kernel too large": ((conv(dilation=(3, 1)),), W43, {"x": CODES}, "does not fit"),
    "float weight": ((conv(),), {"w": floats(8, 4, 3, 3)}, {"x": CODES}, "insert Dequantize"),
    "int32 weight": ((linear(),), {"w": Constant.from_array(np.ones((3, 8), np.int32))}, {"x": VECTOR}, "weight is int32"),
    "int32 x": (
        (linear(output="a"), linear(name="b", x="a", weight="v")),
        W48 | {"v": codes(3, 3)},
        {"x": SIGNS},
        "Linear 'b': x is int32",
    ),
    "metric": ((linear(metric="l2"),), W48, {"x": SIGNS}, "metric is 'l2'; allowed: 'product' or 'distance'"),
    "distance of floats": ((linear(metric="distance"),), {"w": floats(3, 8)}, {"x": VECTOR}, "x is float32 but the metric is 'distance'"),
    "distance of signs": ((linear(metric="distance"),), W48, {"x": SIGNS}, "allowed: Uniform codes of 1 to 8 bits"),
    "distance of 9 bits": ((linear(metric="distance"),), W48, {"x": TensorType((8,), Uniform(9, False))}, "x is 9-bit Uniform codes"),
    "distance to signs": ((linear(metric="distance"),), W48, {"x": BYTES}, "weight is Binary codes but the metric is 'distance'"),
    "distance of zero points": (
        (linear(metric="distance"),),
        {"w": codes(3, 8, encoding=Uniform(2, True, 1.0, -2))},
        {"x": BYTES},
        "has the zero point -2 but x has 0",
    ),
    "distance with patch sums": (
        (linear(metric="distance", epilogue=ops.Epilogue(patch_mul="v")),),
        {"w": codes(3, 8, encoding=Uniform(2, True)), "v": floats(3)},
        {"x": BYTES},
        "epilogue.patch_mul is 'v' but the metric is 'distance'",
    ),
    "distance bound": (
        (linear(metric="distance"),),
        {"w": codes(1, 1 << 16, encoding=Uniform(16, True))},
        {"x": TensorType((1 << 16,), Uniform(8, True))},
        "accumulators up to",
    ),
    "accumulator bound": (
        (linear(),),
        {"w": codes(1, 4, encoding=PowerOfTwo(14))},
        {"x": TensorType((4,), Uniform(16, True))},
        "accumulators up to 2147483648",
    ),
    "epilogue size": ((conv(epilogue=ops.Epilogue(mul="m")),), W43 | {"m": floats(7)}, {"x": CODES}, "epilogue.mul 'm' is float32 (7,)"),
    "epilogue codes": ((conv(epilogue=ops.Epilogue(mul="m")),), W43 | {"m": codes(8)}, {"x": CODES}, "Binary codes (8,)"),
    "patch_mul of float": (
        (conv(epilogue=ops.Epilogue(patch_mul="m")),),
        W43 | {"m": floats(8)},
        {"x": IMAGE},
        "epilogue.patch_mul",
    ),
    "linear weight": ((linear(),), {"w": codes(3, 9)}, {"x": SIGNS}, "allowed: (O, 8)"),
    "thresholds count": ((quantize(encoding=Ternary()),), T, {"x": VECTOR}, "(8, 2) or (1, 2)"),
    "thresholds type": ((quantize(),), {"t": Constant.from_array(np.zeros((1, 1), np.int32))}, {"x": VECTOR}, "int32 (1, 1)"),
    "thresholds fall": (
        (quantize(encoding=Ternary()),),
        {"t": Constant.from_array(np.array([[1.0, 0.0]]))},
        {"x": VECTOR},
        "constant 't': thresholds of a row do not rise",
    ),
    "threshold nan": ((quantize(),), {"t": Constant.from_array(np.array([[np.nan]]))}, {"x": VECTOR}, "not finite"),
    "descending": ((quantize(descending="d"),), T | {"d": codes(3)}, {"x": VECTOR}, "Binary codes (8,)"),
    "quantize codes": ((quantize(),), T, {"x": SIGNS}, "x is Binary codes"),
    "dequantize floats": ((ops.Dequantize(name="d", output="y", x="x"),), {}, {"x": VECTOR}, "x is float32"),
    "affine size": (
        (ops.Affine(name="a", output="y", x="x", mul="m", bias="m"),),
        {"m": floats(1)},
        {"x": VECTOR},
        "allowed: float32 (8,)",
    ),
    "infinite": (
        (ops.Affine(name="a", output="y", x="x", mul="m", bias="m"),),
        {"m": Constant.from_array(np.full(8, np.inf))},
        {"x": VECTOR},
        "constant 'm': an entry is not finite",
    ),
    "add shapes": ((ops.Add(name="a", output="y", a="x", b="z"),), {}, {"x": IMAGE, "z": TensorType((1, 1, 1), Float())}, "(4, 1, 1)"),
    "add codes": ((ops.Add(name="a", output="y", a="x", b="x"),), {}, {"x": CODES}, "insert Dequantize"),
    "clamp order": ((ops.Clamp(name="a", output="y", x="x", low=1.0, high=0.0),), {}, {"x": VECTOR}, "low <= high"),
    "clamp nan": ((ops.Clamp(name="a", output="y", x="x", low=float("nan")),), {}, {"x": VECTOR}, "low: got nan"),
    "slice of nothing": ((ops.Slice(name="a", output="y", x="x", start=2, stop=2),), {}, {"x": VECTOR}, "0 <= start < stop <= 8 (C)"),
    "slice beyond": ((ops.Slice(name="a", output="y", x="x", start=2, stop=9),), {}, {"x": VECTOR}, "start, stop are 2, 9"),
    "slice before": ((ops.Slice(name="a", output="y", x="x", start=-1, stop=2),), {}, {"x": VECTOR}, "start, stop are -1, 2"),
    "unary kind": ((ops.Unary(name="a", output="y", x="x", kind="erf"),), {}, {"x": VECTOR}, "kind is 'erf'; allowed: sigmoid, tanh"),
    "unary of codes": ((ops.Unary(name="a", output="y", x="x", kind="tanh"),), {}, {"x": CODES}, "insert Dequantize"),
    "rows beyond": (upsample(), UP | {"r": integers(0, 6)}, {"x": IMAGE}, "rows 'r' reads positions 0 to 6; allowed: 0 to 5"),
    "rows before": (
        upsample(),
        UP | {"r": integers(-2)},
        {"x": IMAGE},
        "rows 'r' reads positions -2 to -2; allowed: 0 to 5, or -1 for zeros",
    ),
    "zeros of codes": (upsample(), UP | {"r": integers(-1)}, {"x": CODES}, "rows 'r' reads positions -1 to -1; allowed: 0 to 5"),
    "zeros with weights": (
        upsample(row_weights="w", column_weights="v"),
        UP | W2 | {"c": integers(3, -1, 5)},
        {"x": IMAGE},
        "columns 'c' reads positions -1 to 5; allowed: 0 to 5",
    ),
    "columns beyond": (upsample(columns="r"), {"r": integers(7)}, {"x": IMAGE}, "rows 'r' reads positions 7 to 7"),
    "rows of floats": (upsample(rows="w"), {"w": floats(2), "c": UP["c"]}, {"x": IMAGE}, "rows 'w' is float32 (2,); allowed: int32"),
    "rows of rows": (upsample(), UP | {"r": integers([0, 1], [2, 3])}, {"x": IMAGE}, "rows 'r' is int32 (2, 2)"),
    "upsample a vector": (upsample(), UP, {"x": VECTOR}, "an image"),
    "weights of rows alone": (upsample(row_weights="w"), UP | {"w": floats(2)}, {"x": IMAGE}, "both or neither"),
    "weights of codes": (upsample(row_weights="w", column_weights="v"), UP | W2, {"x": CODES}, "insert Dequantize"),
    "weights beyond": (
        upsample(row_weights="w", column_weights="v"),
        UP | W2 | {"w": Constant.from_array(np.array([0, 1.5]))},
        {"x": IMAGE},
        "row_weights 'w' reaches from 0.0 to 1.5; allowed: 0 to 1",
    ),
    "weights' count": (
        upsample(row_weights="w", column_weights="w"),
        UP | {"w": floats(2)},
        {"x": IMAGE},
        "column_weights 'w' is float32 (2,)",
    ),
    "too large an image": (
        upsample(columns="r"),
        {"r": Constant.from_array(np.zeros(1 << 15, np.int32))},
        {"x": IMAGE},
        "2147483648 elements at most",
    ),
    "depth of codes": ((depth_to_space(),), {}, {"x": CODES}, "insert Dequantize"),
    "depth's factor": ((depth_to_space(factor=(3, 1)),), {}, {"x": IMAGE}, "factor is (3, 1) but x has 4 channels"),
    "depth's factor of nothing": ((depth_to_space(factor=(0, 1)),), {}, {"x": IMAGE}, "factor is (0, 1); allowed: 1 to"),
    "depth's groups": ((depth_to_space(groups=2),), {}, {"x": IMAGE}, "groups is 2; allowed: divisors of 1"),
    "depth's crop": ((depth_to_space(crop=(6, 0, 6, 0)),), {}, {"x": IMAGE}, "leaves nothing of (6, 6) times (2, 2)"),
    "depth's negative crop": ((depth_to_space(crop=(-1, 0, 0, 0)),), {}, {"x": IMAGE}, "crop is (-1, 0, 0, 0)"),
    "rearranged codes": (rearrange(), {}, {"x": SIGNS}, "insert Dequantize"),
    "view of rank 2": (rearrange(shape=(4, 2)), {}, {"x": VECTOR}, "shape is (4, 2); allowed: rank 1 or 3"),
    "view of nothing": (rearrange(shape=(0,)), {}, {"x": VECTOR}, "sizes of 1 or more"),
    "view of too much": (rearrange(shape=(1 << 16, 1 << 15, 2)), {}, {"x": VECTOR}, "2147483648 elements at most"),
    "view without sizes": (
        rearrange(shape=(1,), sizes=(), strides=()),
        {},
        {"x": VECTOR},
        "sizes are () but shape is (1,); allowed: 1 to 8 sizes",
    ),
    "view of nine axes": (rearrange(sizes=(8, *[1] * 8), strides=(1,) * 9), {}, {"x": VECTOR}, "allowed: 1 to 8 sizes"),
    "view of size 0": (rearrange(sizes=(0, 8)), {}, {"x": VECTOR}, "sizes are (0, 8) but shape is (8,)"),
    "view of negative sizes": (rearrange(sizes=(-4, -2)), {}, {"x": VECTOR}, "sizes are (-4, -2)"),
    "view of other sizes": (rearrange(sizes=(1 << 52, 1 << 52)), {}, {"x": VECTOR}, "whose product is the shape's"),
    "view without a stride": (rearrange(strides=(1,)), {}, {"x": VECTOR}, "strides are 1; allowed: 2, one for each size"),
    "view beyond": (rearrange(offset=1), {}, {"x": VECTOR}, "strides, offset read positions 1 to 8; allowed: 0 to 7"),
    "view far beyond": (rearrange(strides=(1 << 52, 1 << 52)), {}, {"x": VECTOR}, f"read positions 0 to {4 << 52}"),
    "view before": (rearrange(strides=(2, -1)), {}, {"x": VECTOR}, "read positions -1 to 6"),
    "view from before": (rearrange(offset=-1), {}, {"x": VECTOR}, "read positions -1 to 6"),
    "product of codes": (matmul(), {}, {"x": CODES, "z": image(2, 6, 4)}, "a is Binary codes"),
    "product with codes": (matmul(), {}, {"x": IMAGE, "z": image(2, 6, 4, element=Binary())}, "b is Binary codes"),
    "product of a vector": (matmul(), {}, {"x": VECTOR, "z": image(2, 6, 4)}, "a has shape (8,); allowed: an image"),
    "product with a vector": (matmul(), {}, {"x": IMAGE, "z": VECTOR}, "b has shape (8,); allowed: an image"),
    "product of other groups": (matmul(), {}, {"x": IMAGE, "z": image(2, 5, 4)}, "b has shape (2, 5, 4); allowed: (N, 6, 4) (N, G, K)"),
    "product of other terms": (matmul(), {}, {"x": IMAGE, "z": image(2, 6, 5)}, "b has shape (2, 6, 5)"),
    "slope size": ((ops.TwoSlope(name="a", output="y", x="x", neg="n"),), {"n": floats(2)}, {"x": VECTOR}, "(8,) or (1,)"),
    "pool of a vector": ((pool(),), {}, {"x": VECTOR}, "x has shape"),
    "pool padding": ((pool(padding=(2, 0, 0, 0)),), {}, {"x": IMAGE}, "without any pixel"),
    "pool beyond the end": ((pool(padding=(0, 0, 0, 2)),), {}, {"x": IMAGE}, "without any pixel"),
    "pool dilation": ((pool(dilation=(7, 1), padding=(3, 0, 3, 0)),), {}, {"x": IMAGE}, "without any pixel"),
    "average of codes": ((pool(ops.AvgPool),), {}, {"x": CODES}, "insert Dequantize"),
    "pool kernel": ((pool(kernel=(7, 1)),), {}, {"x": IMAGE}, "does not fit"),
    "mean over": ((ops.Mean(name="m", output="y", x="x", over="time"),), {}, {"x": IMAGE}, "'space' or 'channels'"),
    "flatten a vector": ((ops.Flatten(name="f", output="y", x="x"),), {}, {"x": VECTOR}, "image"),
    "concat nothing": ((ops.Concat(name="c", output="y", xs=()),), {}, {"x": VECTOR}, "empty"),
    "concat kinds": ((ops.Concat(name="c", output="y", xs=("x", "z")),), {}, {"x": VECTOR, "z": SIGNS}, "element type"),
    "concat sizes": (
        (ops.Concat(name="c", output="y", xs=("x", "z")),),
        {},
        {"x": IMAGE, "z": TensorType((4, 6, 5), Float())},
        "image size",
    ),
    "negative channels": ((ops.PadChannels(name="p", output="y", x="x", before=-1),), {}, {"x": IMAGE}, "before is -1"),
    "stride as a list": ((conv(stride=[1, 1]),), W43, {"x": CODES}, "stride: got [1, 1]"),
    "stride of three": ((conv(stride=(1, 1, 1)),), W43, {"x": CODES}, "stride: got 3 entries; allowed: 2"),
    "numpy integer": ((conv(groups=np.int64(1)),), W43, {"x": CODES}, "groups: got"),
    "bool as integer": ((conv(groups=True),), W43, {"x": CODES}, "groups: got True; allowed: int"),
    "not an operation": ((ops.Node(name="n", output="y"),), {}, {"x": VECTOR}, "Node is not an operation"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_graphs_are_refused(case):
    nodes, constants, inputs, message = WRONG[case]
    with pytest.raises(GraphError) as caught:
        graph_of(*nodes, constants=constants, outputs=("y",), **inputs)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "message"), [((), "0 outputs"), (("z",), "'z' is not made"), (("x",), "'x' is not"), (("y", "y"), "twice")]
)
def test_outputs_must_exist(outputs, message):
    with pytest.raises(GraphError, match=message):
        Graph({"x": VECTOR}, (ops.Abs(name="a", output="y", x="x"),), outputs, {})


def test_at_least_one_input():
    with pytest.raises(GraphError, match="0 inputs"):
        Graph({}, (ops.Abs(name="a", output="y", x="x"),), ("y",), {})


@pytest.mark.parametrize(
    ("constant", "message"),
    [
        (replace(floats(8), data=np.ones(8)), "data is float64"),
        (replace(floats(8), data=np.ones(7, np.float32)), r"data is float32 \(7,\)"),
        (replace(floats(8), data=np.ones(16, np.float32)[::2]), "contiguous"),
        (replace(floats(8), type=TensorType((8,), Binary())), r"contiguous uint8 \(1, 1\)"),
        (replace(floats(8), type=TensorType((2, 2, 2), Float())), "rank 1 or 2 or 4"),
        (Constant(TensorType((8,), Float()), [1.0] * 8), "data is list"),
    ],
)
def test_constants_must_hold_what_their_type_says(constant, message):
    with pytest.raises(GraphError, match=message):
        graph_of(ops.Affine(name="a", output="y", x="x", mul="m", bias="m"), constants={"m": constant}, x=VECTOR)


def test_stored_codes_are_checked():
    dirty = replace(codes(3, 7), data=codes(3, 7).data | 0x80)
    with pytest.raises(GraphError, match="constant 'w': padding bits"):
        graph_of(linear(), constants={"w": dirty}, x=TensorType((7,), Binary()))
    scales = codes(3, 8, encoding=Binary((1.0, 2.0)))
    with pytest.raises(GraphError, match="scale has 2 entries; allowed: 1 or 3"):
        graph_of(linear(), constants={"w": scales}, x=SIGNS)


def test_integer_constants_stay_within_their_bound():
    first, second = linear(output="a"), quantize(x="a", output="y")
    data = np.array([[9]], np.int32)
    for bound, good in ((9, True), (8, False)):
        constants = W48 | {"t": Constant(TensorType((1, 1), Accumulator(bound)), data)}
        if good:
            graph_of(first, second, constants=constants, x=SIGNS)
        else:
            with pytest.raises(GraphError, match="bound 8"):
                graph_of(first, second, constants=constants, x=SIGNS)


def test_from_array_refuses_what_int32_cannot_hold():
    assert Constant.from_array(np.array([-(2**31), 2**31 - 1])).data.dtype == np.int32
    with pytest.raises(GraphError, match="2147483648"):
        Constant.from_array(np.array([2**31]))
