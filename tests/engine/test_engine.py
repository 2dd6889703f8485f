"""The engine against the interpreter, and against itself: threads, batches, Python threads. Everything is equal to the last bit."""

import threading
from typing import Any

import numpy as np
import pytest
from tests.engine.resnet import binary_resnet18
from tests.ir.graphs import random_graph, random_inputs

import bitfold
from bitfold.engine.engine import Engine
from bitfold.errors import EngineError, GraphError
from bitfold.ir import ops
from bitfold.ir.encoding import Binary, Float, PowerOfTwo, Ternary, Uniform
from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.interpreter import interpret
from bitfold.ir.unary import UNARY

GRAPHS = 60


def outputs(result: Any) -> tuple[np.ndarray, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_equal(got: Any, want: Any, what: str) -> None:
    """Same integers, same floats (0.0 and -0.0 are equal; NaN equals NaN)."""
    for i, (g, w) in enumerate(zip(outputs(got), outputs(want), strict=True)):
        assert g.shape == w.shape, what
        assert np.array_equal(g, w, equal_nan=w.dtype == np.float32), f"{what}: output {i}: {(g != w).sum()} of {w.size} differ"


def every_value(graph: Graph) -> Graph:
    """The same graph with every value as an output: nothing can be fused away."""
    return Graph(graph.inputs, graph.nodes, tuple(node.output for node in graph.nodes), graph.constants)


@pytest.mark.parametrize("count", [GRAPHS, pytest.param(2000, marks=pytest.mark.slow)])
def test_random_graphs_equal_the_interpreter(rng: np.random.Generator, count: int) -> None:
    for seed in rng.integers(0, 2**32, count):
        draw = np.random.default_rng(seed)
        graph = random_graph(draw)
        inputs = random_inputs(graph, draw, batch=int(draw.integers(1, 5)))
        values: dict[str, np.ndarray] = {}
        want = bitfold.interpret(graph, *inputs, values=values)
        assert_equal(bitfold.load(graph)(*inputs), want, f"random_graph(seed {seed}), fused")
        everything = tuple(values[node.output] for node in graph.nodes)
        assert_equal(bitfold.load(every_value(graph))(*inputs), everything, f"random_graph(seed {seed}), unfused")


def test_results_do_not_depend_on_threads_or_batch_split(rng: np.random.Generator) -> None:
    for seed in rng.integers(0, 2**32, GRAPHS // 4):
        draw = np.random.default_rng(seed)
        graph = random_graph(draw)
        inputs = random_inputs(graph, draw, batch=5)
        want = bitfold.load(graph)(*inputs)
        for threads in (2, 3):
            assert_equal(bitfold.load(graph, threads=threads)(*inputs), want, f"seed {seed}, {threads} threads")
        net = bitfold.load(graph, threads=2)
        for cut in (1, 3):
            parts = [outputs(net(*(x[a:b] for x in inputs))) for a, b in ((0, cut), (cut, 5))]
            joined = tuple(np.concatenate(pieces) for pieces in zip(*parts, strict=True))
            assert_equal(joined, want, f"seed {seed}, batch cut at {cut}")


def test_resnet_with_threads(rng: np.random.Generator) -> None:
    """Large enough for the work to be split over rows and channels; 9 images are more than one chunk."""
    graph = binary_resnet18(rng, size=64, classes=10)
    x = rng.standard_normal((9, 3, 64, 64)).astype(np.float32)
    want = bitfold.load(graph)(x)
    assert_equal(want[:1], bitfold.interpret(graph, x[:1]), "interpreter")
    for threads in (2, 3, 16):  # with 16, more than there are cores: some shares are taken by other threads than their own
        assert_equal(bitfold.load(graph, threads=threads)(x), want, f"{threads} threads")
    assert_equal(np.concatenate([bitfold.load(graph)(x[i : i + 1]) for i in range(9)]), want, "one by one")


def test_python_threads_share_an_engine(rng: np.random.Generator) -> None:
    graph = binary_resnet18(rng, size=32, classes=10)
    net = bitfold.load(graph, threads=2)
    xs = [rng.standard_normal((2, 3, 32, 32)).astype(np.float32) for _ in range(4)]
    want = [net(x) for x in xs]
    failures: list[int] = []

    def work(i: int) -> None:
        for _ in range(10):
            if not np.array_equal(net(xs[i]), want[i]):
                failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_a_call_allocates_no_arena(rng: np.random.Generator) -> None:
    graph = random_graph(rng)
    net = bitfold.load(graph)
    for batch in (1, 4, 2):
        net(*random_inputs(graph, rng, batch))
    assert net._native.allocations == 1


def test_empty_batch(rng: np.random.Generator) -> None:
    graph = random_graph(rng)
    for y, name in zip(outputs(bitfold.load(graph)(*random_inputs(graph, rng, 0))), graph.outputs, strict=True):
        assert y.shape == (0, *graph.types[name].shape)


# ---- single operations on every element type -------------------------------------------------------------------------------------

ENCODINGS = [
    Binary(0.5, 0.25),
    Ternary(0.5),
    PowerOfTwo(3, 1, 0.5),
    Uniform(2, False),
    Uniform(8, False),
    Uniform(5, True, 0.1, 3),
    Uniform(16, True),
]


def single(node: ops.Node, constants: dict[str, Constant] | None = None, *inputs: TensorType) -> Graph:
    return Graph({f"x{i}": t for i, t in enumerate(inputs)}, (node,), (node.output,), constants or {})


@pytest.mark.parametrize("shape", [(8, 2, 4), (16, 3, 3), (19, 5, 5), (33, 1, 7), (7, 9, 8), (40, 13, 11)], ids=str)
def test_floats_are_turned_around_at_the_doors(rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    """Whole squares of eight channels and pixels, and what is left of them on both sides."""
    graph = single(ops.Abs(name="a", output="y", x="x0"), {}, TensorType(shape, Float()))
    x = rng.standard_normal((2, *shape)).astype(np.float32)
    assert_equal(bitfold.load(graph)(x), np.abs(x), str(shape))


@pytest.mark.parametrize("channels", [1, 8, 33])
def test_upsample_reads_zeros_outside(rng: np.random.Generator, channels: int) -> None:
    """Padding in rows and columns, and zeros between pixels."""
    for rows, columns in (([-1, 0, 1, 2, -1], [-1, -1, 0, 1]), ([2, -1, 0], [1, -1, 0, -1]), ([-1], [0, 1])):
        tables = {"rows": Constant.from_array(np.array(rows, np.int32)), "columns": Constant.from_array(np.array(columns, np.int32))}
        node = ops.Upsample(name="u", output="y", x="x0", rows="rows", columns="columns")
        graph = single(node, tables, TensorType((channels, 3, 2), Float()))
        x = rng.standard_normal((2, channels, 3, 2)).astype(np.float32)
        got = bitfold.load(graph)(x)
        assert_equal(got, bitfold.interpret(graph, x), str((rows, columns)))
        assert not np.signbit(got[:, :, np.array(rows) < 0]).any()


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
@pytest.mark.parametrize("shape", [(33, 5, 4), (1, 1, 1), (7, 3, 1)], ids=str)
def test_moving_codes(rng: np.random.Generator, encoding: Any, shape: tuple[int, int, int]) -> None:
    x = rng.choice(encoding.alphabet(), (3, *shape))
    tensor = TensorType(shape, encoding)
    name = {"name": "n", "output": "y"}
    for node in (
        ops.MaxPool(**name, x="x0", kernel=(min(2, shape[1]), 1), stride=(1, 2)),
        ops.Flatten(**name, x="x0"),
        ops.Upsample(**name, x="x0", rows="rows", columns="columns"),
        ops.Concat(**name, xs=("x0", "x0", "x0")),
        ops.Dequantize(**name, x="x0"),
    ):
        tables = {"rows": rng.integers(0, shape[1], 9), "columns": rng.integers(0, shape[2], 7)} if isinstance(node, ops.Upsample) else {}
        graph = single(node, {key: Constant.from_array(table) for key, table in tables.items()}, tensor)
        assert_equal(bitfold.load(graph)(x), bitfold.interpret(graph, x), type(node).__name__)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_quantize_counts_thresholds(rng: np.random.Generator, encoding: Any) -> None:
    """Values on, beside and beyond thresholds, infinities and NaN, rising and falling channels."""
    channels, levels = 35, len(encoding.alphabet())
    rows = np.sort(rng.integers(-40, 40, (channels, levels - 1)), axis=1).astype(np.float32)
    falling = rng.integers(0, 2, channels) * 2 - 1
    constants = {"t": Constant.from_array(rows), "d": Constant.from_codes(falling, Binary())}
    node = ops.Quantize(name="q", output="y", x="x0", thresholds="t", encoding=encoding, descending="d")
    graph = single(node, constants, TensorType((channels, 3, 3), Float()))
    x = rng.integers(-45, 45, (2, channels, 3, 3)).astype(np.float32)
    x[0, :, 0, 0], x[0, :, 0, 1], x[0, :, 0, 2] = np.nan, np.inf, -np.inf
    assert_equal(bitfold.load(graph)(x), bitfold.interpret(graph, x), str(encoding))


def off_the_line(rng: np.random.Generator, rows: int, count: int, jitter: float) -> np.ndarray:
    """Up to ``jitter`` steps for each threshold but the first and the last, all in one direction."""
    noise = jitter * rng.random((rows, count))
    noise[:, [0, -1]] = 0
    return noise


@pytest.mark.parametrize("rows", [1, 35])
@pytest.mark.parametrize("jitter", [0.0, 0.4, 1.2, -1.2, 3.0])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_quantize_many_levels_near_a_line(rng: np.random.Generator, rows: int, jitter: float, scale: float) -> None:
    """Rows on a line, near it and not: values on every threshold and the numbers next to it, in channels of any offset."""
    channels, count = 35, 255
    steps = np.arange(count) + off_the_line(rng, rows, count, jitter) + rng.choice([-127, 0, 1e4], (rows, 1))
    t = np.sort(steps * scale, axis=1).astype(np.float32)
    ends = np.broadcast_to(np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32), (rows, 5))
    x = np.concatenate([t, np.nextafter(t, np.float32(-np.inf)), np.nextafter(t, np.float32(np.inf)), ends], axis=1)
    node = ops.Quantize(name="q", output="y", x="x0", thresholds="t", encoding=Uniform(8, signed=True))
    graph = single(node, {"t": Constant.from_array(t)}, TensorType((channels,), Float()))
    batch = np.ascontiguousarray(np.broadcast_to(x, (channels, x.shape[1])).T)
    assert_equal(bitfold.load(graph)(batch), bitfold.interpret(graph, batch), f"jitter {jitter}")


@pytest.mark.parametrize("jitter", [0.0, 0.4, 1.2, -1.2, 3.0])
def test_quantize_integers_to_many_levels(rng: np.random.Generator, jitter: float) -> None:
    """The same for the sums of a product, here the codes themselves."""
    channels, count = 35, 255
    t = np.sort(np.rint((np.arange(-127, 128) + off_the_line(rng, channels, count, jitter)) * 40), axis=1).astype(np.int32)
    nodes = (
        ops.Conv(name="c", output="d", x="x", weight="w", groups=channels),
        ops.Quantize(name="q", output="y", x="d", thresholds="t", encoding=Uniform(8, signed=True)),
    )
    constants = {"w": Constant.from_codes(np.ones((channels, 1, 1, 1), np.int16), Binary()), "t": Constant.from_array(t)}
    graph = Graph({"x": TensorType((channels, 1, 1), Uniform(16, signed=True))}, nodes, ("y",), constants)
    x = np.concatenate([t, t - 1, t + 1, np.broadcast_to([-(2**15), 2**15 - 1], (channels, 2))], axis=1).T[..., None, None].astype(np.int16)
    assert_equal(bitfold.load(graph)(x), bitfold.interpret(graph, x), f"jitter {jitter}")


def test_non_finite_values_are_computed_with(rng: np.random.Generator) -> None:
    graph = binary_resnet18(rng, size=32, classes=10)
    x = rng.standard_normal((1, 3, 32, 32)).astype(np.float32)
    x[0, 0, 5, 5], x[0, 1, 20, 20] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        assert_equal(bitfold.load(graph)(x), bitfold.interpret(graph, x), "non-finite input")


@pytest.mark.parametrize("kind", UNARY)
def test_functions_of_one_number(rng: np.random.Generator, kind: str) -> None:
    """Any bit pattern: the engine's bits are the interpreter's."""
    graph = single(ops.Unary(name="a", output="y", x="x0", kind=kind), {}, TensorType((37,), Float()))
    anything = rng.integers(0, 2**32, (300, 37), dtype=np.uint32).view(np.float32)
    for x in (anything, rng.normal(0, 4, (300, 37)).astype(np.float32)):
        with np.errstate(all="ignore"):
            assert_equal(bitfold.load(graph)(x), bitfold.interpret(graph, x), kind)


# ---- the door --------------------------------------------------------------------------------------------------------------------


def door_graph() -> Graph:
    nodes = (ops.Abs(name="a", output="y", x="image"), ops.Dequantize(name="d", output="z", x="codes"))
    inputs = {"image": TensorType((3, 4, 4), Float()), "codes": TensorType((5,), PowerOfTwo(2))}
    return Graph(inputs, nodes, ("y", "z"), {})


IMAGE, CODES = np.zeros((2, 3, 4, 4), np.float32), np.ones((2, 5), np.int8)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((IMAGE,), r"takes 2 inputs \(image, codes\), got 1"),
        ((IMAGE[0], CODES), r"'image' has shape \(3, 4, 4\); allowed: \(N, 3, 4, 4\)"),
        ((IMAGE.astype(np.float64), CODES), "'image' has dtype float64; allowed: float32"),
        ((IMAGE, CODES.astype(np.float32)), "'codes' has dtype float32; allowed: integers"),
        ((IMAGE, CODES * 3), "'codes' holds 3; allowed: the codes of PowerOfTwo"),
        ((IMAGE, CODES * 127), "'codes' holds 127"),
        ((IMAGE, CODES[:1]), r"batches of \[2, 1\]"),
        (([[0.0]], CODES), "'image' is list; allowed: a NumPy array"),
    ],
)
def test_wrong_inputs_are_refused(inputs: tuple[Any, ...], message: str) -> None:
    net = bitfold.load(door_graph())
    with pytest.raises(EngineError, match=message):
        net(*inputs)


def test_views_are_taken(rng: np.random.Generator) -> None:
    net = bitfold.load(door_graph())
    image = rng.standard_normal((4, 4, 3, 2)).astype(np.float32).T
    y, z = net(image, np.asfortranarray(CODES.astype(np.int64)))
    assert np.array_equal(y, np.abs(image)) and (z == 1).all()


def test_the_caller_may_give_the_output(rng: np.random.Generator) -> None:
    net = bitfold.load(door_graph())
    image = rng.standard_normal((2, 3, 4, 4)).astype(np.float32)
    for x in (image, image[::-1]):  # as it is, and converted at the door
        out = (np.empty_like(image), np.empty((2, 5), np.float32))
        assert net(x, CODES, out=out) is out
        assert np.array_equal(out[0], np.abs(x)) and (out[1] == 1).all()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (IMAGE, "out is ndarray; allowed: a tuple of 2 arrays"),
        ((IMAGE.copy(),), "out is tuple; allowed: a tuple of 2 arrays"),
        ((IMAGE.copy(), [0]), r"out is list; allowed: a writable C-ordered array \(2, 5\) of float32"),
        ((IMAGE.copy(), np.zeros((3, 5), np.float32)), r"out has shape \(3, 5\)"),
        ((IMAGE.copy(), np.zeros((2, 5))), "dtype float64"),
        ((IMAGE[::-1].copy()[::-1], np.zeros((2, 5), np.float32)), "strides"),
        ((IMAGE, np.zeros((2, 5), np.float32)), "shares memory with an input"),
    ],
)
def test_wrong_outputs_are_refused(out: Any, message: str) -> None:
    net = bitfold.load(door_graph())
    with pytest.raises(EngineError, match=message):
        net(IMAGE, CODES, out=out)


def test_arrays_of_other_classes_are_taken(tmp_path: Any) -> None:
    net = bitfold.load(single(ops.Abs(name="a", output="y", x="x0"), {}, TensorType((5,), Float())))
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(2, 5))
    x[:] = -3
    assert (net(x) == 3).all() and type(net(x)) is np.ndarray


def test_uint8_pictures(rng: np.random.Generator) -> None:
    node = ops.MaxPool(name="p", output="y", x="x0", kernel=(2, 2), stride=(2, 2))
    graph = single(node, {}, TensorType((3, 6, 6), Uniform(8, False)))
    x = rng.integers(0, 256, (2, 3, 6, 6), dtype=np.uint8)
    y = bitfold.load(graph)(x)
    assert isinstance(y, np.ndarray) and y.dtype == np.uint8
    assert np.array_equal(y, bitfold.interpret(graph, x))


@pytest.mark.parametrize("threads", [0, -1, 1025, True, 1.5])
def test_wrong_thread_counts_are_refused(threads: Any) -> None:
    with pytest.raises(EngineError, match="threads="):
        bitfold.load(door_graph(), threads=threads)


def test_kernels_and_profile_name_every_step(rng: np.random.Generator) -> None:
    graph = binary_resnet18(rng, size=32, classes=10)
    net = bitfold.load(graph)
    assert {k.layer for k in net.kernels} <= {node.name for node in graph.nodes}
    conv = next(k for k in net.kernels if k.layer == "layer1.0")
    assert conv.op == "Conv+Add+TwoSlope+Quantize" and conv.kernel.startswith("conv_b1_") and "binary x binary" in conv.reason
    rows = net.profile(rng.standard_normal((2, 3, 32, 32)).astype(np.float32), repeats=3)
    assert [r.layer for r in rows[1:-1]] == [k.layer for k in net.kernels]
    assert rows[0].layer == "(input)" and rows[-1].layer == "(output)"
    assert sum(r.operations for r in rows) == 2 * sum(macs(graph, node) for node in graph.nodes)
    assert all(r.microseconds >= 0 and (r.gmacs > 0) == (r.operations > 0) and r.bytes > 0 for r in rows)


def macs(graph: Graph, node: ops.Node) -> int:
    if not isinstance(node, ops.Conv | ops.Linear):
        return 0
    weight, out = graph.constants[node.weight].type.shape, graph.types[node.output].shape
    return int(np.prod(weight)) * int(np.prod(out[1:]))


def test_repr(rng: np.random.Generator) -> None:
    assert repr(bitfold.load(door_graph())) == (
        "Engine('graph': image: Float (3, 4, 4), codes: PowerOfTwo (5,) -> Float (3, 4, 4), Float (5,); 3 steps, threads=1)"
    )


def test_load_takes_a_path(tmp_path: Any, rng: np.random.Generator) -> None:
    graph = random_graph(rng)
    graph.save(tmp_path / "m.bitfold")
    inputs = random_inputs(graph, rng)
    net = bitfold.load(tmp_path / "m.bitfold")
    assert isinstance(net, Engine)
    assert_equal(net(*inputs), bitfold.interpret(graph, *inputs), "loaded from a file")


@pytest.mark.parametrize("run", [interpret, lambda graph, x: bitfold.load(graph)(x)], ids=["interpreter", "engine"])
def test_epilogue_constants_that_add_up_beyond_float32_are_refused(run: Any) -> None:
    huge = Constant.from_array(np.full(2, 3e38, np.float32))
    node = ops.Linear(name="fc", output="y", x="x", weight="w", epilogue=ops.Epilogue(bias="b", weight_mul="b"))
    weight = Constant.from_codes(np.ones((2, 4), int), Binary())
    graph = Graph({"x": TensorType((4,), Binary())}, (node,), ("y",), {"w": weight, "b": huge})
    with pytest.raises(GraphError, match=r"'fc': the epilogue's bias, weight_mul, tap_mul and x_offset add up to 1\.5e\+39"):
        run(graph, np.ones((1, 4), np.int16))


def test_a_batch_reads_its_weights_once(rng: np.random.Generator) -> None:
    constants = {
        "w": Constant.from_codes(rng.choice(np.array([-1, 1], np.int16), (64, 64)), Binary()),
        "t": Constant.from_array(np.zeros((1, 1))),
    }
    nodes = (
        ops.Quantize(name="sign", output="codes", x="x", thresholds="t", encoding=Binary()),
        ops.Linear(name="linear", output="y", x="codes", weight="w"),
    )
    net = bitfold.load(Graph({"x": TensorType((64,), Float())}, nodes, ("y",), constants))
    one, eight = (next(r.bytes for r in net.profile(np.zeros((n, 64), np.float32), repeats=1) if r.layer == "linear") for n in (1, 8))
    weights = 64 * 64 // 8
    assert eight - weights == 8 * (one - weights)
