import numpy as np
from hypothesis import given, settings
from tests.ir.graphs import graphs

from bitfold.ir import ops
from bitfold.ir.encoding import Binary, Float, PowerOfTwo, Uniform
from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.summary import summarize


def network() -> Graph:
    """Float stem 3 -> 8 at 6x6, binary grouped conv with stride 2, 3-bit classifier that shares a vector."""
    constants = {
        "stem": Constant.from_array(np.ones((8, 3, 3, 3), np.float32)),
        "t": Constant.from_array(np.zeros((1, 1), np.float32)),
        "b": Constant.from_codes(np.ones((4, 4, 3, 3), int), Binary()),
        "v": Constant.from_array(np.ones(4, np.float32)),
        "fc": Constant.from_codes(np.ones((5, 36), int), PowerOfTwo(2)),
    }
    nodes = (
        ops.Conv(name="stem", output="s", x="x", weight="stem", padding=(1, 1)),
        ops.Quantize(name="sign", output="c", x="s", thresholds="t", encoding=Binary()),
        ops.Conv(
            name="conv", output="d", x="c", weight="b", stride=(2, 2), padding=(1, 1), groups=2, epilogue=ops.Epilogue(mul="v", bias="v")
        ),
        ops.TwoSlope(name="act", output="e", x="d", neg="v"),
        ops.Flatten(name="flat", output="f", x="e"),
        ops.Quantize(name="sign2", output="g", x="f", thresholds="t", encoding=Binary()),
        ops.Linear(name="fc", output="y", x="g", weight="fc"),
    )
    return Graph({"x": TensorType((3, 6, 6), Float())}, nodes, ("y",), constants, "network")


def test_counts():
    summary = summarize(network())
    rows = {row.name: row for row in summary.rows}
    assert summary.macs == {(1, 1): 4 * 9 * 36, (1, 3): 180, (32, 32): 8 * 36 * 27}
    assert (summary.bops, summary.flops) == (4 * 9 * 36 + 3 * 180, 8 * 36 * 27)
    assert summary.ops == summary.flops + summary.bops / 64
    assert summary.parameters == 8 * 27 + 1 + 144 + 4 + 180
    assert (rows["conv"].activation_bits, rows["conv"].weight_bits, rows["conv"].out_shape) == (1, 1, (4, 3, 3))
    assert (rows["conv"].parameters, rows["conv"].size_bytes) == (144 + 4, 4 * 9 + 16), "a shared constant counts once"
    assert (rows["act"].parameters, rows["act"].macs, rows["act"].weight_bits) == (0, 0, None)
    assert rows["fc"].size_bytes == 3 * 5 * 5


@given(graphs())
@settings(max_examples=15, deadline=None)
def test_bytes_are_those_of_the_file(tmp_path_factory, drawn):
    _, graph = drawn
    path = tmp_path_factory.mktemp("summary") / "m.bitfold"
    graph.save(path)
    summary = summarize(graph)
    assert summary.size_bytes == path.stat().st_size
    assert summary == summarize(Graph.load(path))


def test_products_of_two_values_are_float_products():
    tensors = {"a": TensorType((8, 2, 5), Float()), "b": TensorType((7, 2, 8), Float())}
    summary = summarize(Graph(tensors, (ops.MatMul(name="m", output="y", a="a", b="b"),), ("y",), {}))
    assert summary.macs == {(32, 32): 7 * 2 * 5 * 8} and summary.flops == 7 * 2 * 5 * 8


def test_table_is_plain_aligned_text():
    text = str(summarize(network()))
    lines = text.splitlines()
    assert len({len(line) for line in lines[:9]}) == 1
    assert text.isascii() and "stem" in lines[2] and "7,776" in lines[2]
    assert "1x1: 1,296, 1x3: 180, 32x32: 7,776" in text
    assert "BOPs 1,836, FLOPs 7,776" in text


def test_distances_are_counted_apart():
    weight = Constant.from_codes(np.ones((5, 8), int), Uniform(4, True))
    node = ops.Linear(name="fc", output="y", x="x", weight="w", metric=ops.DISTANCE)
    summary = summarize(Graph({"x": TensorType((8,), Uniform(4, False))}, (node,), ("y",), {"w": weight}))
    assert (summary.additions, summary.macs, summary.bops, summary.flops) == (2 * 5 * 8, {}, 0, 0)
    assert (summary.rows[0].activation_bits, summary.rows[0].weight_bits) == (4, 4)
    assert "additions of distances: 80" in str(summary) and "additions" not in str(summarize(network()))
