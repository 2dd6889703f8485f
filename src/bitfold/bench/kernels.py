"""Layers alone: the convolutions of a binary ImageNet ResNet-18, its float stem and a large linear layer, each as a small graph.

Timed is the one fused step that holds the product, by the engine's own profile, without the doors through which arrays go in and
out. The result of the whole graph is compared with the NumPy interpreter's first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bitfold.bench import rows
from bitfold.bench.rows import Row
from bitfold.bench.timing import Timing, collector_off
from bitfold.engine.engine import Engine, LayerProfile, load
from bitfold.errors import unknown
from bitfold.ir.encoding import Binary, Float
from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.interpreter import interpret
from bitfold.ir.ops import Add, Conv, Epilogue, Linear, Node, Quantize, TwoSlope

TOLERANCE = 1e-4  # of the largest output: float epilogues may differ from the interpreter by a few ulp


@dataclass(frozen=True)
class Shape:
    """One benchmark: ``kernel`` 0 means a linear layer. Binary layers are fused as in a Bi-Real block (affine, residual, PReLU)."""

    name: str
    in_channels: int
    out_channels: int
    size: int
    kernel: int
    stride: int
    binary: bool


SHAPES = (
    Shape("binary 3x3 64x56x56", 64, 64, 56, 3, 1, True),
    Shape("binary 3x3 128x28x28", 128, 128, 28, 3, 1, True),
    Shape("binary 3x3 256x14x14", 256, 256, 14, 3, 1, True),
    Shape("binary 3x3 512x7x7", 512, 512, 7, 3, 1, True),
    Shape("binary linear 2048x2048", 2048, 2048, 1, 0, 1, True),
    Shape("float 7x7/2 3x224x224 to 64", 3, 64, 224, 7, 2, False),
    Shape("float 3x3 64x56x56", 64, 64, 56, 3, 1, False),
    Shape("float linear 512x1000", 512, 1000, 1, 0, 1, False),
)


def run(
    names: Sequence[str] | None = None, batch: int = 1, threads: int = 1, repeats: int = 15, say: Callable[[str], None] = lambda words: None
) -> list[Row]:
    """Rows of all SHAPES, or of those whose names are given, timed in turn."""
    chosen = SHAPES if names is None else tuple(_named(name) for name in names)
    nets: dict[Shape, tuple[Engine, np.ndarray]] = {}
    reasons: dict[Shape, str | None] = {}
    for shape in chosen:
        say(f"{shape.name}: checking against the interpreter")
        graph, x = build(shape, batch)
        nets[shape] = load(graph, threads=threads), x
        reasons[shape] = _problem(graph, *nets[shape])
    say(f"timing {len(chosen)} layers")
    samples: dict[Shape, list[LayerProfile]] = {shape: [] for shape in chosen}
    with collector_off():
        for _ in range(repeats):
            for shape, (net, x) in nets.items():
                samples[shape].append(max(net.profile(x, repeats=5), key=lambda step: step.operations))
    stamp = rows.stamp()
    return [_row(shape, samples[shape], nets[shape][0], reasons[shape], batch, threads, stamp) for shape in chosen]


def build(shape: Shape, batch: int) -> tuple[Graph, np.ndarray]:
    """The graph of one layer with random weights, and an input (batch, ...)."""
    rng = np.random.default_rng(0)
    out = shape.out_channels
    size = (shape.in_channels, shape.size, shape.size) if shape.kernel else (shape.in_channels,)
    weights = (out, shape.in_channels, shape.kernel, shape.kernel) if shape.kernel else (out, shape.in_channels)
    constants = {"mul": Constant.from_array(rng.uniform(0.01, 0.02, out)), "bias": Constant.from_array(rng.standard_normal(out))}
    nodes: list[Node] = []
    x = "x"
    if shape.binary:
        constants["weight"] = Constant.from_codes(rng.choice(np.array([-1, 1], np.int16), weights), Binary())
        constants["zero"] = Constant.from_array(np.zeros((1, 1)))
        nodes.append(Quantize(name="sign", output="codes", x="x", thresholds="zero", encoding=Binary()))
        x = "codes"
    else:
        constants["weight"] = Constant.from_array(0.05 * rng.standard_normal(weights))
    epilogue = Epilogue(mul="mul", bias="bias")
    if shape.kernel:
        pad = (shape.kernel // 2, shape.kernel // 2)
        stride = (shape.stride, shape.stride)
        nodes.append(Conv(name="product", output="y", x=x, weight="weight", padding=pad, stride=stride, epilogue=epilogue))
    else:
        nodes.append(Linear(name="product", output="y", x=x, weight="weight", epilogue=epilogue))
    if shape.binary and shape.kernel:
        constants["neg"] = Constant.from_array(rng.uniform(0.1, 0.3, out))
        nodes += [Add(name="add", output="sum", a="y", b="x"), TwoSlope(name="prelu", output="z", x="sum", neg="neg")]
    graph = Graph({"x": TensorType(size, Float())}, tuple(nodes), (nodes[-1].output,), constants, name=shape.name)
    return graph, rng.standard_normal((batch, *size)).astype(np.float32)


def _named(name: str) -> Shape:
    for shape in SHAPES:
        if shape.name == name:
            return shape
    raise unknown("kernel benchmark", name, [s.name for s in SHAPES])


def _problem(graph: Graph, net: Engine, x: np.ndarray) -> str | None:
    """None where the engine computes what the interpreter does."""
    got, want = net(x[:1]), interpret(graph, x[:1])
    assert isinstance(got, np.ndarray) and isinstance(want, np.ndarray)
    worst = float(np.abs(got - want).max() / np.abs(want).max())
    return None if worst <= TOLERANCE else f"wrong result: differs from the interpreter by {worst:.2e} of its range"


def _row(
    shape: Shape, samples: list[LayerProfile], net: Engine, reason: str | None, batch: int, threads: int, stamp: dict[str, object]
) -> Row:
    step = samples[0]
    timing = None if reason else Timing.of((s.microseconds for s in samples), loops=5)
    isa = next(k.isa for k in net.kernels if k.layer == step.layer)
    details = {"kernel": step.kernel, "isa": isa, "fused": step.op}
    if timing is not None:
        details["gmacs_per_s"] = step.operations / timing.median_us / 1e3  # type: ignore[assignment]
    fields = {"bench": "kernels", "subject": shape.name, "contestant": "bitfold", "threads": threads, "batch": batch}
    return Row(**fields, timing=timing, reason=reason, details=details, **stamp)  # type: ignore[arg-type]
