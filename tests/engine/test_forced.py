"""BITFOLD_KERNEL and ``load(kernel=)``: every family that serves a layer gives the same results; others are refused by name."""

import numpy as np
import pytest
from tests.ir.graphs import random_graph, random_inputs

import bitfold
from bitfold import _core
from bitfold.engine.engine import SERVES, Engine, kernels
from bitfold.engine.product import serving_families
from bitfold.errors import EngineError
from bitfold.ir import ops
from bitfold.ir.encoding import Binary, Element, Float, Ternary
from bitfold.ir.graph import Constant, Graph, TensorType

FAMILIES = list(dict.fromkeys(family for _, family, *_ in _core.kernels()))


def two_layers(rng: np.random.Generator, x: Element, weight: Element) -> Graph:
    """Two Linear layers a and b that read one input."""
    if isinstance(weight, Float):
        data = rng.standard_normal((20, 33)).astype(np.float32)
        constants = {f"w{k}": Constant(TensorType((20, 33), weight), data) for k in "ab"}
    else:
        codes = rng.choice(np.array(weight.alphabet()), (20, 33))  # type: ignore[union-attr]
        constants = {f"w{k}": Constant.from_codes(codes, weight) for k in "ab"}
    nodes = tuple(ops.Linear(name=k, output=f"y{k}", x="x", weight=f"w{k}") for k in "ab")
    return Graph({"x": TensorType((33,), x)}, nodes, ("ya", "yb"), constants)


def families(net: Engine) -> dict[str, str]:
    family = {name: f for name, f, *_ in _core.kernels()}
    return {k.layer: family[k.kernel] for k in net.kernels if k.kernel in family}


def test_every_family_gives_the_same(rng: np.random.Generator) -> None:
    tried: set[str] = set()
    for seed in rng.integers(0, 2**32, 16):
        draw = np.random.default_rng(seed)
        graph = random_graph(draw)
        inputs = random_inputs(graph, draw, batch=3)
        want = bitfold.interpret(graph, *inputs)
        for node in graph.nodes:
            if not isinstance(node, ops.Conv | ops.Linear):
                continue
            for family in serving_families(graph, node):
                net = bitfold.load(graph, kernel=f"{node.name}={family}")
                assert families(net)[node.name] == family
                assert next(k for k in net.kernels if k.layer == node.name).reason.startswith("forced by kernel")
                for got, w in zip(_outputs(net(*inputs)), _outputs(want), strict=True):
                    assert np.array_equal(got, w, equal_nan=w.dtype == np.float32), f"seed {seed}, {node.name} by {family}"
                tried.add(family)
    assert {"conv_b1", "conv_planes", "conv_i8", "conv_i16", "conv_f32"} <= tried


def _outputs(result: object) -> tuple[np.ndarray, ...]:
    return result if isinstance(result, tuple) else (result,)  # type: ignore[return-value]


def test_the_environment_and_the_argument(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = two_layers(rng, Binary(), Ternary())
    monkeypatch.setenv("BITFOLD_KERNEL", "conv_i16")
    net = bitfold.load(graph)
    assert families(net) == {"a": "conv_i16", "b": "conv_i16"}
    assert {k.reason for k in net.kernels if k.layer in "ab"} >= {"forced by BITFOLD_KERNEL"}
    monkeypatch.setenv("BITFOLD_KERNEL", "conv_i8, b=conv_planes")
    assert families(bitfold.load(graph)) == {"a": "conv_i8", "b": "conv_planes"}
    assert families(bitfold.load(graph, kernel="a=conv_i16")) == {"a": "conv_i16", "b": families(bitfold.load(graph, kernel=""))["b"]}


def test_float_layers_are_left_alone_unless_named(rng: np.random.Generator) -> None:
    graph = two_layers(rng, Float(), Float())
    assert families(bitfold.load(graph, kernel="conv_i16")) == {"a": "conv_f32", "b": "conv_f32"}
    with pytest.raises(EngineError, match=r"layer 'a': kernel asks for conv_i16, which does not serve .*; allowed: conv_f32"):
        bitfold.load(graph, kernel="a=conv_i16")


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("conv_b1", r"layer 'a': BITFOLD_KERNEL asks for conv_b1, which does not serve .*; allowed: conv_planes, conv_i8"),
        ("a=conv_f32", r"layer 'a': BITFOLD_KERNEL asks for conv_f32"),
        ("conv_x", r"got 'conv_x'; allowed: a family or layer=family, with conv_b1, conv_planes"),
        ("=conv_i16", r"got '=conv_i16'; allowed"),
        ("a=", r"got 'a='; allowed"),
        ("c=conv_i16", r"names layer 'c'; allowed, the Conv and Linear of this graph: a, b"),
        ("conv_i16,conv_i8", r"names two families for all layers, conv_i16 and conv_i8; allowed: one"),
    ],
)
def test_what_is_refused(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, kernel: str, message: str) -> None:
    monkeypatch.setenv("BITFOLD_KERNEL", kernel)
    with pytest.raises(EngineError, match=message):
        bitfold.load(two_layers(rng, Binary(), Ternary()))


def test_the_list_says_what_every_family_serves() -> None:
    assert set(FAMILIES) <= set(SERVES)
    assert all(row["serves"] == SERVES[row["family"]] and row["isa"] for row in kernels())
