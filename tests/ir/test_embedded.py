"""The counts of a hand-made network, each from its rule."""

import numpy as np

from bitfold.ir import ops
from bitfold.ir.embedded import embedded_cost, peak_activation_bytes
from bitfold.ir.encoding import Binary, Float
from bitfold.ir.graph import Constant, Graph, TensorType

PIXELS = 4 * 4


def network() -> Graph:
    """stem 3 -> 8, sign, 1x1 conv to thresholds, 1x1 conv + shortcut, hardtanh, mean."""
    constants = {
        "stem": Constant.from_array(np.ones((8, 3, 1, 1), np.float32)),
        "t": Constant.from_array(np.zeros((1, 1), np.float32)),
        "ti": Constant.from_array(np.zeros((8, 1), np.int32)),
        "b": Constant.from_codes(np.ones((8, 8, 1, 1), int), Binary()),
        "c": Constant.from_codes(-np.ones((8, 8, 1, 1), int), Binary()),
        "v": Constant.from_array(np.ones(8, np.float32)),
    }
    nodes = (
        ops.Conv(name="stem", output="s", x="x", weight="stem"),
        ops.Quantize(name="q1", output="k1", x="s", thresholds="t", encoding=Binary()),
        ops.Conv(name="conv1", output="d", x="k1", weight="b"),
        ops.Quantize(name="q2", output="k2", x="d", thresholds="ti", encoding=Binary()),
        ops.Conv(name="conv2", output="e", x="k2", weight="c", epilogue=ops.Epilogue(mul="v", bias="v")),
        ops.Add(name="sum", output="u", a="e", b="s"),
        ops.Clamp(name="act", output="w", x="u", low=-1.0, high=1.0),
        ops.Mean(name="pool", output="y", x="w", over="space"),
        ops.TwoSlope(name="unused", output="z", x="w", neg="v"),
    )
    return Graph({"x": TensorType((3, 4, 4), Float())}, nodes, ("y",), constants, "network")


def test_counts() -> None:
    cost = embedded_cost(network())
    assert (cost.binary_macs, cost.float_macs) == (2 * 64 * PIXELS, 24 * PIXELS)
    per_element = 1 + 1 + 2 + 1  # conv2's epilogue, the sum, two bounds, the mean
    assert cost.float_elementwise == per_element * 8 * PIXELS
    assert (cost.packed_weight_bytes, cost.threshold_bytes, cost.float_parameter_bytes) == (2 * 8, 4 + 32, 4 * (24 + 8))
    assert (cost.threshold_layers, cost.coded_layers) == (1, 2)


def behind_the_stem(*last: ops.Node) -> Graph:
    """The stream is the input; ``last`` takes the place of the pooling and what follows."""
    plain = network()
    constants = {name: c for name, c in plain.constants.items() if name != "stem"}
    return Graph({"s": TensorType((8, 4, 4), Float())}, (*plain.nodes[1:-2], *(last or plain.nodes[-2:-1])), ("y",), constants, "part")


def test_peak_memory() -> None:
    """While conv1 runs: the stream (8 x 16 numbers), the bits it reads and those it writes. conv2's sum goes over the stream."""
    for bits in (32, 16, 8):
        assert peak_activation_bytes(behind_the_stem(), bits) == 8 * PIXELS * bits // 8 + 2 * PIXELS
    cost = embedded_cost(network())  # the stem reads 3 channels and writes 8
    assert (cost.peak_activation_bytes, cost.peak_activation_bytes_16, cost.peak_activation_bytes_8) == (
        44 * PIXELS, 22 * PIXELS, 11 * PIXELS,
    )  # fmt: skip


def test_a_stream_that_is_needed_twice_is_not_written_over() -> None:
    means = [ops.Mean(name=f"mean of {v}", output=f"m{v}", x=v, over="space") for v in ("w", "s")]
    graph = behind_the_stem(*means, ops.Add(name="both", output="y", a="mw", b="ms"))
    assert peak_activation_bytes(graph) == 2 * 8 * PIXELS * 4 + 8 * 4  # both streams and the first mean
