from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ir.graphs import graphs, random_array, random_encoding, random_inputs

from bitfold.errors import GraphError
from bitfold.ir import ops
from bitfold.ir.encoding import Accumulator, Binary, Float, PowerOfTwo, Ternary, Uniform, values
from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.interpreter import interpret

EPSILON = float(np.finfo(np.float32).eps)


def conv_of_values(x, w, conv):
    """The definition, in float64, with a loop over everything but samples: padded taps contribute 0 after quantisation."""
    (sh, sw), (ph, pw), (dh, dw) = conv.stride, conv.padding, conv.dilation
    n, _, height, width = x.shape
    out_channels, group_channels, kh, kw = w.shape
    rows = (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    columns = (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((n, out_channels, rows, columns))
    for o, r, c, i, a, b in np.ndindex(out_channels, rows, columns, group_channels, kh, kw):
        h, v = r * sh - ph + a * dh, c * sw - pw + b * dw
        if 0 <= h < height and 0 <= v < width:
            y[:, o, r, c] += w[o, i, a, b] * x[:, o // (out_channels // conv.groups) * group_channels + i, h, v]
    return y


def one_node(node, inputs, constants):
    return Graph(inputs, (node,), (node.output,), constants)


def draw_conv(rng, coded_x=True, coded_w=True):
    """A random conv with a few channels, its input type and weight."""
    groups = int(rng.choice([1, 1, 2, 3]))
    channels, out = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    conv = ops.Conv(
        name="conv",
        output="y",
        x="x",
        weight="w",
        stride=(int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        padding=(int(rng.integers(0, 4)), int(rng.integers(0, 4))),
        dilation=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
        groups=groups,
    )
    size = [max(d * (k - 1) + 1 - 2 * p, 1) + int(rng.integers(0, 4)) for k, p, d in zip(kernel, conv.padding, conv.dilation, strict=True)]
    tensor = TensorType((channels, *size), random_encoding(rng) if coded_x else Float())
    encoding = random_encoding(rng)
    shape = (out, channels // groups, *kernel)
    weight = Constant.from_codes(rng.choice(encoding.alphabet(), shape), encoding)
    if not coded_w:
        weight = Constant.from_array(rng.standard_normal(shape).astype(np.float32))
    return conv, tensor, weight


def with_epilogue(conv, **names):
    return replace(conv, epilogue=ops.Epilogue(**names))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_accumulators_are_the_convolution_of_codes(seed):
    rng = np.random.default_rng(seed)
    conv, tensor, weight = draw_conv(rng)
    x = random_array(tensor, rng)
    graph = one_node(conv, {"x": tensor}, {"w": weight})
    y = interpret(graph, x)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, conv_of_values(x.astype(np.int64), weight.codes, conv))
    assert np.abs(y).max() <= graph.types["y"].element.bound


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_epilogue_gives_the_convolution_of_real_values(seed):
    """y = s_a s_w D + s_a o_w S_a + o_a s_w S_w + o_a o_w V, borders included."""
    rng = np.random.default_rng(seed)
    conv, tensor, weight = draw_conv(rng)
    out = weight.type.shape[0]
    s_w, o_w = rng.uniform(0.1, 1, out), rng.uniform(-1, 1, out)
    codes = rng.choice([-1, 1], weight.type.shape)
    weight = Constant.from_codes(codes, Binary(tuple(map(float, s_w)), tuple(map(float, o_w))))
    s_a, o_a = tensor.element.scale, tensor.element.offset
    terms = {"mul": s_a * s_w, "patch_mul": s_a * o_w, "weight_mul": o_a * s_w, "tap_mul": o_a * o_w, "bias": rng.uniform(-1, 1, out)}
    constants = {"w": weight, **{name: Constant.from_array(term.astype(np.float32)) for name, term in terms.items()}}
    x = random_array(tensor, rng)
    y = interpret(one_node(with_epilogue(conv, **{name: name for name in terms}), {"x": tensor}, constants), x)
    x_values, w_values = values(tensor.element, x.astype(np.int64)), values(weight.type.element, codes)
    expected = conv_of_values(x_values, w_values, conv) + terms["bias"][:, None, None]
    size = conv_of_values(np.abs(x_values) + abs(o_a), np.abs(w_values) + np.abs(o_w)[:, None, None, None], conv) + 1
    assert y.dtype == np.float32
    assert (np.abs(y - expected) <= 8 * EPSILON * size).all()


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_float_convolution(seed, coded_w):
    rng = np.random.default_rng(seed)
    conv, tensor, weight = draw_conv(rng, coded_x=False, coded_w=coded_w)
    bias = rng.standard_normal(weight.type.shape[0]).astype(np.float32)
    x = random_array(tensor, rng)
    constants = {"w": weight, "b": Constant.from_array(bias)}
    y = interpret(one_node(with_epilogue(conv, bias="b"), {"x": tensor}, constants), x)
    w = weight.codes if coded_w else weight.data
    expected = conv_of_values(x.astype(np.float64), w.astype(np.float64), conv) + bias[:, None, None]
    size = conv_of_values(np.abs(x).astype(np.float64), np.abs(w).astype(np.float64), conv) + np.abs(bias)[:, None, None]
    assert (np.abs(y - expected) <= (1 + w[0].size) * EPSILON * size).all()


def test_float_sum_runs_over_row_column_channel():
    """2^24 + 1 is 2^24 in float32, so the order shows; taps outside the image are skipped."""
    big = float(1 << 24)
    x = np.array([[[[big, -big]], [[1.0, 1.0]]]], np.float32)  # (1, 2 channels, 1, 2)
    weight = Constant.from_array(np.ones((1, 2, 1, 2), np.float32))
    conv = ops.Conv(name="conv", output="y", x="x", weight="w", padding=(0, 1))
    graph = one_node(conv, {"x": TensorType((2, 1, 2), Float())}, {"w": weight})
    assert interpret(graph, x).tolist() == [[[[big, 1.0, 1.0 - big]]]]  # middle: ((big + 1) - big) + 1, where big + 1 = big
    linear = ops.Linear(name="fc", output="y", x="x", weight="w")
    graph = one_node(linear, {"x": TensorType((4,), Float())}, {"w": Constant.from_array(np.ones((1, 4), np.float32))})
    assert interpret(graph, np.array([[big, 1, 1, -big], [1, 1, big, -big]], np.float32)).tolist() == [[0.0], [2.0]]


def test_linear_is_exact_beyond_float32(rng):
    """Sums above 2^24 need more than float32: with 16-bit codes they would be wrong by rounding."""
    x = np.array([[32767, 32767, 1]], np.int16)
    weight = Constant.from_codes(np.array([[1, 1, 1], [127, 127, 1]]), Uniform(8, True))
    node = ops.Linear(name="fc", output="y", x="x", weight="w")
    graph = one_node(node, {"x": TensorType((3,), Uniform(16, True))}, {"w": weight})
    assert interpret(graph, x).tolist() == [[65535, 2 * 127 * 32767 + 1]]


@pytest.mark.parametrize("integer", [False, True])
def test_quantize_counts_thresholds(integer):
    kind = np.int32 if integer else np.float32
    element = Accumulator(100) if integer else Float()
    thresholds = Constant.from_array(np.array([[-2, 0, 3], [5, 5, 7]], kind))
    node = ops.Quantize(name="q", output="y", x="d", thresholds="t", encoding=Uniform(2, True), descending="f")
    constants = {"t": thresholds, "f": Constant.from_codes(np.array([1, -1]), Binary())}
    if integer:  # an accumulator comes from a linear layer; here the identity
        first = ops.Linear(name="fc", output="d", x="x", weight="w")
        constants["w"] = Constant.from_codes(np.eye(2, dtype=int), Ternary())
        graph = Graph({"x": TensorType((2,), Uniform(8, True))}, (first, node), ("y",), constants)
    else:
        node = ops.Quantize(name="q", output="y", x="x", thresholds="t", encoding=Uniform(2, True), descending="f")
        graph = one_node(node, {"x": TensorType((2,), Float())}, constants)
    assert isinstance(graph.types[node.x].element, type(element))
    x = np.array([[-3, 4], [-2, 5], [0, 6], [2, 7], [3, 8]], np.int16 if integer else np.float32)
    assert interpret(graph, x).tolist() == [[-2, 1], [-1, -1], [0, -1], [0, -2], [1, -2]]


def test_quantize_edges():
    thresholds = np.array([[0.0]], np.float32)
    node = ops.Quantize(name="q", output="y", x="x", thresholds="t", encoding=Binary())
    graph = one_node(node, {"x": TensorType((1,), Float())}, {"t": Constant.from_array(thresholds)})
    x = np.array([[0.0], [-0.0], [-1e-45], [np.nan], [np.inf], [-np.inf]], np.float32)
    assert interpret(graph, x)[:, 0].tolist() == [1, 1, -1, -1, 1, -1], "sign(0) = +1; comparisons with NaN are false"
    never = one_node(node, {"x": TensorType((1,), Float())}, {"t": Constant.from_array(np.array([[np.inf]], np.float32))})
    assert interpret(never, x)[:, 0].tolist() == [-1, -1, -1, -1, 1, -1]


def test_element_operations():
    def run(op, x, constants=(), **fields):
        constants = {name: Constant.from_array(np.array(c, np.float32)) for name, c in dict(constants).items()}
        x = np.array(x, np.float32)
        node = op(name="n", output="y", x="x", **fields)
        return interpret(one_node(node, {"x": TensorType(x.shape[1:], Float())}, constants), x).tolist()

    assert run(ops.Affine, [[3, 5]], {"m": [2, -1], "b": [1, 0.5]}, mul="m", bias="b") == [[7, -4.5]]
    assert run(ops.Clamp, [[-2, 0.5, 9]], low=-1.0, high=1.0) == [[-1, 0.5, 1]]
    assert run(ops.Clamp, [[-2, 0.5, 9]], low=0.0) == [[0, 0.5, 9]]
    assert run(ops.Clamp, [[-2, 0.5, 9]]) == [[-2, 0.5, 9]]
    assert run(ops.TwoSlope, [[-2, 3]], {"n": [0.5]}, neg="n") == [[-1, 3]]
    slopes = {"n": [0.5, -1], "p": [2, 3], "i": [1, -4], "o": [10, 20]}
    assert run(ops.TwoSlope, [[-2, 3], [1, 6]], slopes, neg="n", pos="p", shift_in="i", shift_out="o") == [[9.5, 21], [14, 26]]
    assert run(ops.Abs, [[-2, 3]]) == [[2, 3]]
    assert run(ops.Softmax, [[0, 0, 0, 0]]) == [[0.25] * 4]
    assert run(ops.Softmax, [[1000, -1000]]) == [[1, 0]]
    assert run(ops.PadChannels, [[1, 2]], before=1, after=2) == [[0, 1, 2, 0, 0]]
    assert run(ops.Rearrange, [[0, 1, 2, 3, 4, 5]], shape=(4,), sizes=(2, 2), strides=(3, -2), offset=2) == [[2, 0, 5, 3]]
    picture = np.arange(8).reshape(1, 2, 2, 2)
    assert run(ops.Rearrange, picture, shape=(2, 1, 4), sizes=(2, 4), strides=(1, 2)) == [[[[0, 2, 4, 6]], [[1, 3, 5, 7]]]]
    assert run(ops.Flatten, picture) == [list(range(8))]
    assert run(ops.Mean, picture, over="space") == [[[[1.5]], [[5.5]]]]
    assert run(ops.Mean, picture, over="channels") == [[[[2, 3], [4, 5]]]]


def test_upsample_reads_zeros_outside(rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    tables = {"r": [-1, 0, 1, 2, 3, -1, -1], "c": [-1, -1, *range(5)]}
    constants = {name: Constant.from_array(np.array(table, np.int32)) for name, table in tables.items()}
    graph = one_node(ops.Upsample(name="n", output="y", x="x", rows="r", columns="c"), {"x": TensorType((3, 4, 5), Float())}, constants)
    y = interpret(graph, x)
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (0, 0), (1, 2), (2, 0))))
    assert not np.signbit(y[:, :, 0]).any()


@pytest.mark.parametrize(("op", "function"), [(ops.Add, np.add), (ops.Mul, np.multiply)])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 1), (1, 3, 4)])
def test_add_and_mul_broadcast(op, function, shape, rng):
    a, b = rng.standard_normal((2, 2, 3, 4)).astype(np.float32), rng.standard_normal((2, *shape)).astype(np.float32)
    graph = Graph(
        {"a": TensorType((2, 3, 4), Float()), "b": TensorType(shape, Float())}, (op(name="n", output="y", a="a", b="b"),), ("y",), {}
    )
    np.testing.assert_array_equal(interpret(graph, a, b), function(a, b))


@pytest.mark.parametrize("element", [Float(), Binary(), Uniform(4, True), PowerOfTwo(2)])
def test_max_pool_skips_taps_outside(element, rng):
    x = random_array(TensorType((3, 5, 6), element), rng)
    node = ops.MaxPool(name="p", output="y", x="x", kernel=(3, 2), stride=(2, 3), padding=(1, 0, 2, 1), dilation=(1, 2))
    y = interpret(one_node(node, {"x": TensorType((3, 5, 6), element)}, {}), x)
    assert y.shape == (2, 3, 3, 2)
    for r, c in np.ndindex(3, 2):
        taps = [(r * 2 - 1 + a, c * 3 + 2 * b) for a in range(3) for b in range(2)]
        inside = [x[:, :, h, w] for h, w in taps if 0 <= h < 5 and 0 <= w < 6]
        np.testing.assert_array_equal(y[:, :, r, c], np.max(inside, axis=0))


@pytest.mark.parametrize("count_padding", [False, True])
def test_avg_pool_counts_taps(count_padding, rng):
    x = rng.standard_normal((2, 3, 4, 4)).astype(np.float32)
    node = ops.AvgPool(name="p", output="y", x="x", kernel=(3, 3), stride=(2, 2), padding=(1, 1, 0, 0), count_padding=count_padding)
    y = interpret(one_node(node, {"x": TensorType((3, 4, 4), Float())}, {}), x)
    for r, c in np.ndindex(y.shape[2:]):
        inside = [x[:, :, h, w] for h in range(2 * r - 1, 2 * r + 2) for w in range(2 * c - 1, 2 * c + 2) if 0 <= h < 4 and 0 <= w < 4]
        expected = np.sum(inside, axis=0, dtype=np.float64) / (9 if count_padding else len(inside))
        np.testing.assert_allclose(y[:, :, r, c], expected, rtol=1e-5, atol=1e-6)


def test_dequantize_gives_the_values(rng):
    for element in (Binary(0.25, 0.5), Ternary(0.3), PowerOfTwo(3, 1, 0.7), Uniform(3, False, 0.4, 2)):
        tensor = TensorType((7,), element)
        x = random_array(tensor, rng)
        y = interpret(one_node(ops.Dequantize(name="n", output="y", x="x"), {"x": tensor}, {}), x)
        np.testing.assert_allclose(y, values(element, x.astype(np.int64)), rtol=4 * EPSILON, atol=EPSILON)


@given(graphs())
@settings(max_examples=25, deadline=None)
def test_random_graphs_have_the_inferred_types_and_do_not_mix_samples(drawn):
    seed, graph = drawn
    inputs = random_inputs(graph, np.random.default_rng(seed), batch=3)
    found: dict[str, np.ndarray] = {}
    outputs = interpret(graph, *inputs, values=found)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert list(found) == list(graph.types)
    for name, tensor in graph.types.items():
        assert found[name].shape == (3, *tensor.shape)
        if isinstance(tensor.element, Float):
            assert found[name].dtype == np.float32
        elif isinstance(tensor.element, Accumulator):
            assert found[name].dtype == np.int32 and np.abs(found[name].astype(np.int64)).max() <= tensor.element.bound
        else:
            assert found[name].dtype == np.int16 and np.isin(found[name], tensor.element.alphabet()).all()
    single = interpret(graph, *(x[1:2] for x in inputs))
    for y, name, s in zip(outputs, graph.outputs, single if isinstance(single, tuple) else (single,), strict=True):
        np.testing.assert_array_equal(y, found[name])
        np.testing.assert_array_equal(y[1:2], s)


def test_inputs_are_checked():
    flatten = ops.Flatten(name="f", output="y", x="x")
    graph = one_node(flatten, {"x": TensorType((1, 2, 2), Uniform(8, False))}, {})
    picture = np.array([[[[0, 255], [7, 8]]]], np.uint8)
    assert interpret(graph, picture).tolist() == [[0, 255, 7, 8]]
    for bad, message in (
        ((picture, picture), "takes 1 inputs, got 2"),
        ((picture[0],), "shape"),
        ((picture.astype(np.float32),), "dtype"),
        ((picture.astype(np.int16) - 1,), "-1"),
        ((picture.astype(np.uint64) + 2**40,), "1099511627"),
    ):
        with pytest.raises(GraphError, match=message):
            interpret(graph, *bad)
    binary = one_node(flatten, {"x": TensorType((1, 1, 2), Binary())}, {})
    with pytest.raises(GraphError, match="holds 0"):
        interpret(binary, np.array([[[[1, 0]]]], np.int8))
    real = one_node(flatten, {"x": TensorType((1, 1, 2), Float())}, {})
    with pytest.raises(GraphError, match="float64"):
        interpret(real, np.zeros((1, 1, 1, 2)))
    two = Graph({n: TensorType((2,), Float()) for n in "ab"}, (ops.Add(name="n", output="y", a="a", b="b"),), ("y",), {})
    with pytest.raises(GraphError, match="batches"):
        interpret(two, np.zeros((1, 2), np.float32), np.zeros((2, 2), np.float32))


def test_empty_batch():
    graph = one_node(ops.Abs(name="n", output="y", x="x"), {"x": TensorType((2,), Float())}, {})
    assert interpret(graph, np.zeros((0, 2), np.float32)).shape == (0, 2)


def test_distance_of_published_codes():
    """Activations of 4 bits; weights of 4 bits have twice their step, so their codes are doubled: the sum is 101."""
    x = np.array([[0, 11, 10, 15, 0, 6, 4, 8, 15]], np.uint8)
    weight = Constant.from_codes(2 * np.array([[2, 6, -3, -6, 2, -4, 5, 6, -5]]), Uniform(5, True))
    node = ops.Linear(name="fc", output="y", x="x", weight="w", metric=ops.DISTANCE)
    assert interpret(one_node(node, {"x": TensorType((9,), Uniform(4, False))}, {"w": weight}), x).tolist() == [[-101]]


def test_distance_is_that_of_the_values_with_zeros_around(rng):
    """The definition, in float64 values, with a loop over everything but samples; a tap outside the image costs |w|."""
    for _ in range(20):
        kind = Uniform(int(rng.integers(2, 9)), bool(rng.integers(2)))
        step = float(2.0 ** rng.integers(-6, 1))
        kind = Uniform(kind.bits, kind.signed, step, int(rng.integers(kind.min_code, kind.max_code + 1)))
        groups, stride, padding, dilation = int(rng.integers(1, 3)), (int(rng.integers(1, 3)), 1), (1, int(rng.integers(3))), (1, 2)
        x, w = (rng.integers(kind.min_code, kind.max_code + 1, shape) for shape in ((2, 2 * groups, 5, 6), (2 * groups, 2, 2, 3)))
        node = ops.Conv(
            name="c", output="y", x="x", weight="w", stride=stride, padding=padding, dilation=dilation, groups=groups, metric=ops.DISTANCE
        )
        got = interpret(one_node(node, {"x": TensorType(x.shape[1:], kind)}, {"w": Constant.from_codes(w, kind)}), x)
        image = np.pad(values(kind, x), ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
        weight = values(kind, w)
        for o, r, c in np.ndindex(got.shape[1:]):
            first = o // 2 * 2
            patch = image[:, first : first + 2, r * stride[0] : r * stride[0] + 2, c : c + 5 : 2]
            assert np.array_equal(step * got[:, o, r, c], -np.abs(weight[o] - patch).sum(axis=(1, 2, 3))), (kind, node)
