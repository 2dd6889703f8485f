"""Rows of the method specifications that are about deployment: dot products of codes and folded thresholds, interpreter and engine."""

import numpy as np
import pytest

import bitfold
from bitfold.ir.encoding import Binary, Coded, PowerOfTwo, Uniform
from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.ops import Conv, Linear, Quantize

ROWS = [  # activations, their encoding, weights, their encoding, dot product, source
    ([1, -1, 1, 1, -1], Binary(), [1, 1, -1, 1, -1], Binary(), 1, "xnor-net row 3"),
    ([200, 17, 255, 0], Uniform(8, False), [1, -1, -1, 1], Binary(), -72, "qnn row 6"),
    ([3, 0, 2, 1], Uniform(2, False), [-4, 3, -1, 2], Uniform(3, True), -12, "qnn row 7"),
    ([127, -128, 5, 3], Uniform(8, True), [4, -4, 0, 1], PowerOfTwo(2), 1023, "s3 row 6, by hand"),
]


def both(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The interpreter's answer, after checking that the engine gives the same."""
    want = bitfold.interpret(graph, x)
    got = bitfold.load(graph)(x)
    assert np.array_equal(want, got)
    return want  # type: ignore[no-any-return]


@pytest.mark.parametrize(("a", "a_encoding", "w", "w_encoding", "dot", "source"), ROWS, ids=[row[-1] for row in ROWS])
def test_dot_products(a: list[int], a_encoding: Coded, w: list[int], w_encoding: Coded, dot: int, source: str) -> None:
    weight = Constant.from_codes(np.array([w]), w_encoding)
    graph = Graph({"x": TensorType((len(a),), a_encoding)}, (Linear(name="fc", output="y", x="x", weight="w"),), ("y",), {"w": weight})
    dtype = np.uint8 if a_encoding == Uniform(8, False) else np.int16
    assert both(graph, np.array([a], dtype=dtype)).tolist() == [[dot]], source


def test_a_corner_an_edge_and_the_centre_count_their_valid_taps() -> None:
    """baselines row 9: all-ones 3x3 binary convolution with padding 1: corner 4, edge 6, centre 9."""
    weight = Constant.from_codes(np.ones((1, 1, 3, 3), dtype=int), Binary())
    conv = Conv(name="conv", output="y", x="x", weight="w", padding=(1, 1))
    graph = Graph({"x": TensorType((1, 3, 3), Binary())}, (conv,), ("y",), {"w": weight})
    assert both(graph, np.ones((1, 1, 3, 3), dtype=np.int16))[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


def test_a_falling_threshold() -> None:
    """qnn row 9: gamma = -0.5, mu = 2, sigma = 1.5, beta = 0.3 gives +1 exactly for sums <= 2.9."""
    ones = Constant.from_codes(np.ones((1, 5), dtype=int), Binary())
    limit = Constant.from_array(np.array([[3]], dtype=np.int32))  # the first integer above 2.9
    falling = Constant.from_codes(np.array([-1]), Binary())
    nodes = (
        Linear(name="fc", output="s", x="x", weight="w"),
        Quantize(name="sign", output="y", x="s", thresholds="t", encoding=Binary(), descending="d"),
    )
    graph = Graph({"x": TensorType((5,), Binary())}, nodes, ("y",), {"w": ones, "t": limit, "d": falling})
    x = np.array([[1 if i < plus else -1 for i in range(5)] for plus in range(6)], dtype=np.int16)
    sums = x.sum(axis=1)
    want = np.where(-0.5 * (sums - 2) / 1.5 + 0.3 >= 0, 1, -1)
    assert both(graph, x)[:, 0].tolist() == want.tolist() == np.where(sums <= 2.9, 1, -1).tolist()
