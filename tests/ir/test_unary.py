"""Functions of one number against float64, over the whole range of float32."""

import math

import numpy as np
import pytest

import bitfold
from bitfold.ir import ops
from bitfold.ir.encoding import Float
from bitfold.ir.graph import Graph, TensorType
from bitfold.ir.interpreter import interpret
from bitfold.ir.unary import UNARY

TINY, HUGE = 1.4e-45, 3.4028235e38
EDGES = [0.0, -0.0, TINY, -TINY, 1e-38, -1e-38, 0.625, -0.625, 3, -3, 15, -15, 88.8, -88.8, 104.1, -104.1, 1e20, -1e20, HUGE, -HUGE]


def reference(kind: str, x: float) -> float:
    def sigmoid(v: float) -> float:
        return 1 / (1 + math.exp(-v)) if v > -700 else 0.0

    return {
        "sigmoid": sigmoid,
        "tanh": math.tanh,
        "silu": lambda v: v * sigmoid(v),
        "gelu": lambda v: v * math.erfc(-v * math.sqrt(0.5)) / 2,
        "gelu_tanh": lambda v: v * sigmoid(math.sqrt(8 / math.pi) * (v + 0.044715 * v**3)),
        "rsqrt": lambda v: v**-0.5 if v > 0 else math.inf if v == 0 else math.nan,
        "sqrt": lambda v: math.sqrt(v) if v >= 0 else math.nan,
        "reciprocal": lambda v: 1 / v if v else math.inf,
        "hardsigmoid": lambda v: min(max(v + 3, 0), 6) / 6,
        "hardswish": lambda v: v * min(max(v + 3, 0), 6) / 6,
    }[kind](x)


def samples(rng: np.random.Generator) -> np.ndarray:
    """Every size of number, and the middle closely."""
    bits = rng.integers(0, 2**32, 4000, dtype=np.uint32).view(np.float32)
    middle = np.linspace(-20, 20, 8001, dtype=np.float32)
    return np.concatenate([np.array(EDGES, np.float32), bits[np.isfinite(bits)], middle])


@pytest.mark.parametrize("kind", UNARY)
def test_close_to_the_exact_function(kind: str, rng: np.random.Generator) -> None:
    x = samples(rng)
    x = np.abs(x[x != 0]) if "sqrt" in kind or kind == "reciprocal" else x
    x = x[x > 1e-38] if kind == "reciprocal" else x  # smaller ones are beyond float32's range
    with np.errstate(over="ignore"):
        got = UNARY[kind](x).astype(np.float64)
    want = np.array([reference(kind, float(v)) for v in x])
    relative = 6e-7
    if kind == "gelu_tanh":  # the exponent's own rounding
        relative = 6e-7 * np.maximum(1, np.abs(x.astype(np.float64)).clip(max=8) ** 3 * (x < 0))
    if kind.startswith("hard"):  # the rounding of x + 3
        relative = np.where(x < -2, 1e-6 / np.maximum(np.abs(x.astype(np.float64) + 3), 1e-6), 6e-7)
    subnormal = 110 * TINY  # what a last place of e^x is worth there, times x
    assert (np.abs(got - want) <= relative * np.abs(want) + subnormal).all(), x[np.argmax(np.abs(got - want) - relative * np.abs(want))]


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("sigmoid", 0, 1), ("tanh", -1, 1), ("hardsigmoid", 0, 1), *((k, np.nan, np.inf) for k in UNARY if "lu" in k)]
)
def test_not_a_number_and_infinities(kind: str, low: float, high: float) -> None:
    with np.errstate(invalid="ignore"):
        got = UNARY[kind](np.array([-np.inf, np.inf, np.nan], np.float32))
    np.testing.assert_array_equal(got, np.array([low, high, np.nan], np.float32))


@pytest.mark.native
@pytest.mark.parametrize("kind", ["rsqrt", "reciprocal"])
def test_the_sign_of_a_zero_does_not_matter(kind: str) -> None:
    graph = Graph({"x": TensorType((2,), Float())}, (ops.Unary(name="u", output="y", x="x", kind=kind),), ("y",), {})
    x = np.array([[0.0, -0.0]], np.float32)
    assert interpret(graph, x).tolist() == bitfold.load(graph)(x).tolist() == [[math.inf, math.inf]]
