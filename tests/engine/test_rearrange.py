"""Rearrange and MatMul: the engine against the interpreter, bit for bit, and the runs that a view is cut into."""

from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import bitfold
from bitfold.engine.rearrange import runs
from bitfold.ir import ops
from bitfold.ir.encoding import Float
from bitfold.ir.graph import Graph, TensorType

View = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], int, tuple[int, bool], str]

VIEWS: dict[str, View] = {  # x, shape, sizes, strides, offset: the run's length and whether it goes across the pixels of y, the kernel
    "the same": ((33, 5, 4), (33, 5, 4), (660,), (1,), 0, (33, False), "copy_runs"),
    "tokens to channels": ((40, 13, 1), (13, 40, 1), (13, 40), (1, 13), 0, (40, True), "transpose"),
    "many tokens to channels": ((17, 100, 1), (100, 17, 1), (100, 17), (1, 100), 0, (17, True), "transpose"),
    "few tokens to channels": ((16, 3, 1), (3, 16, 1), (3, 16), (1, 3), 0, (16, True), "transpose"),
    "a lot of tokens": ((192, 197, 1), (197, 192, 1), (197, 192), (1, 197), 0, (192, True), "transpose"),
    "a lot of heads": ((192, 197, 1), (64, 3, 197), (64, 3, 197), (197, 12608, 1), 0, (64, False), "copy_runs"),
    "a lot of shuffling": ((240, 14, 14), (240, 14, 14), (80, 3, 196), (196, 15680, 1), 0, (1, False), "gather"),
    "heads": ((48, 19, 1), (16, 3, 19), (3, 16, 19), (304, 19, 1), 0, (1, False), "gather"),
    "heads as groups": ((48, 19, 1), (16, 3, 19), (16, 3, 19), (19, 304, 1), 0, (16, False), "copy_runs"),
    "keys as groups": ((48, 19, 1), (19, 3, 16), (19, 3, 16), (1, 304, 19), 0, (48, True), "transpose"),
    "keys of windows": ((32, 6, 6), (9, 8, 16), (3, 3, 2, 2, 2, 16), (6, 1, 18, 3, 576, 36), 0, (32, True), "transpose"),
    "shuffle": ((24, 3, 5), (24, 3, 5), (8, 3, 15), (15, 120, 1), 0, (1, False), "gather"),
    "shuffle of groups": ((24, 3, 5), (24, 3, 5), (3, 8, 15), (120, 15, 1), 0, (24, False), "copy_runs"),
    "windows": ((8, 6, 6), (8, 9, 4), (8, 3, 3, 2, 2), (36, 12, 2, 6, 1), 0, (8, False), "copy_runs"),
    "rows": ((3, 8, 2), (3, 4, 2), (3, 4, 2), (16, 4, 1), 2, (3, False), "copy_runs"),
    "flipped": ((16, 3, 5), (16, 3, 5), (16, 3, 5), (15, 5, -1), 4, (16, False), "copy_runs"),
    "flipped channels": ((16, 3, 5), (16, 3, 5), (16, 15), (-15, 1), 225, (1, False), "gather"),
    "repeated": ((8, 1, 1), (8, 3, 5), (8, 15), (1, 0), 0, (8, False), "copy_runs"),
    "repeated channel": ((1, 3, 5), (33, 3, 5), (33, 15), (0, 1), 0, (1, False), "gather"),
    "one number": ((7, 3, 1), (9, 1, 1), (9,), (0,), 11, (1, False), "gather"),
    "to a vector": ((4, 2, 3), (24,), (24,), (1,), 0, (1, False), "gather"),
    "of a vector": ((24,), (4, 2, 3), (6, 4), (1, 6), 0, (1, False), "gather"),
    "channels of a vector": ((24,), (8, 3, 1), (8, 3), (1, 8), 0, (8, False), "copy_runs"),
    "part of a vector": ((40,), (17,), (17,), (1,), 5, (17, False), "copy_runs"),
    "every second": ((40,), (17,), (17,), (2,), 5, (1, False), "gather"),
}


def rearranged(x: tuple[int, ...], shape: tuple[int, ...], sizes: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Graph:
    node = ops.Rearrange(name="r", output="y", x="x", shape=shape, sizes=sizes, strides=strides, offset=offset)
    return Graph({"x": TensorType(x, Float())}, (node,), ("y",), {})


@pytest.mark.parametrize("name", VIEWS)
def test_views(rng: np.random.Generator, name: str) -> None:
    *view, run, kernel = VIEWS[name]
    graph = rearranged(*view)
    found = runs(graph, graph.nodes[0])  # type: ignore[arg-type]
    assert (found.length, found.across) == run
    x = rng.standard_normal((3, *graph.inputs["x"].shape)).astype(np.float32)
    flat, (_, shape, sizes, strides, offset) = x.reshape(3, -1), view
    want = as_strided(flat[:, offset:], (3, *sizes), (flat.strides[0], *(4 * s for s in strides))).reshape(3, *shape)
    assert np.array_equal(bitfold.interpret(graph, x), want)
    for threads in (1, 2):
        net = bitfold.load(graph, threads)
        assert np.array_equal(net(x), want)
    assert net.kernels[0].kernel == kernel


def test_a_view_of_part_of_a_value(rng: np.random.Generator) -> None:
    """A Slice stays in the memory of the whole, so its pixels lie farther apart than its channels; likewise what a Concat puts together."""
    nodes = (
        ops.Slice(name="part", output="part", x="x", start=16, stop=33),
        ops.Rearrange(name="turn", output="turn", x="part", shape=(12, 17, 1), sizes=(12, 17), strides=(1, 12)),
        ops.Rearrange(name="flip", output="flip", x="part", shape=(16, 4, 3), sizes=(16, 4, 3), strides=(12, -3, 1), offset=9),
        ops.Concat(name="both", output="both", xs=("flip", "part")),
    )
    graph = Graph({"x": TensorType((40, 4, 3), Float())}, nodes, ("turn", "both"), {})
    x = rng.standard_normal((5, 40, 4, 3)).astype(np.float32)
    part = x[:, 16:33]
    for got in (bitfold.interpret(graph, x), bitfold.load(graph)(x)):
        assert np.array_equal(got[0][..., 0], part.reshape(5, 17, 12).transpose(0, 2, 1))
        assert np.array_equal(got[1], np.concatenate([part[:, :16, ::-1], part], axis=1))


SHAPES = [
    *((1, 1, 1, 1), (3, 2, 5, 8), (17, 3, 6, 16), (8, 1, 1, 33), (16, 2, 13, 17), (33, 4, 7, 3)),
    *((64, 3, 20, 70), (5, 2, 1, 200), (300, 2, 1, 75), (517, 1, 25, 20)),
]


@pytest.mark.parametrize(("terms", "groups", "rows", "channels"), SHAPES)
def test_products(rng: np.random.Generator, terms: int, groups: int, rows: int, channels: int) -> None:
    """Equal to the interpreter to the last bit, which is close to the exact sum."""
    tensors = {"a": TensorType((terms, groups, rows), Float()), "b": TensorType((channels, groups, terms), Float())}
    graph = Graph(tensors, (ops.MatMul(name="m", output="y", a="a", b="b"),), ("y",), {})
    a, b = (rng.standard_normal((3, *t.shape)).astype(np.float32) for t in tensors.values())
    got = bitfold.interpret(graph, a, b)
    exact, size = (np.einsum("ikgm,ingk->ingm", f(a).astype(float), f(b).astype(float)) for f in (np.array, np.abs))
    assert (np.abs(got - exact) <= (1 + terms) * 2.0**-24 * size).all()
    for threads in (1, 2):
        net: Any = bitfold.load(graph, threads)
        assert np.array_equal(net(a, b), got)
    assert net.kernels[0].kernel == "matmul"


def test_products_are_summed_in_rising_order() -> None:
    """2^24 + 1 is 2^24 in float32, so the order shows; and an fma does not round its product."""
    tensors = {"a": TensorType((3, 1, 1), Float()), "b": TensorType((1, 1, 3), Float())}
    graph = Graph(tensors, (ops.MatMul(name="m", output="y", a="a", b="b"),), ("y",), {})
    near = np.float32(1 + 2.0**-12)
    a = np.array([[2.0**24, 1, -(2.0**24)], [1, 2.0**24, -(2.0**24)], [1, near, 0], [-0.0, 0, 0]], np.float32).reshape(4, 3, 1, 1)
    b = np.array([[1, 1, 1], [1, 1, 1], [-1, near, 0], [1, 0, 0]], np.float32).reshape(4, 1, 1, 3)
    for got in (bitfold.interpret(graph, a, b), bitfold.load(graph)(a, b)):
        assert got.reshape(-1).tolist() == [0, 0, 2.0**-11 + 2.0**-24, 0]
        assert not np.signbit(got).any()


def test_products_in_the_profile(rng: np.random.Generator) -> None:
    tensors = {"a": TensorType((8, 2, 5), Float()), "b": TensorType((7, 2, 8), Float())}
    graph = Graph(tensors, (ops.MatMul(name="m", output="y", a="a", b="b"),), ("y",), {})
    a, b = (rng.standard_normal((1, *t.shape)).astype(np.float32) for t in tensors.values())
    assert bitfold.load(graph).profile(a, b, repeats=1)[1].operations == 7 * 2 * 5 * 8
