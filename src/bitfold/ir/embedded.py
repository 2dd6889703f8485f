"""What a graph costs on a small device: the columns that papers on binary networks for embedded systems compare.

Rules of counting, for one sample:

- MACs as in ``ir.summary``: products of codes times both numbers of bits, products with a float32 on either side one each.
- Element-wise float operations: one for the epilogue that turns a coded layer's sum into a float, or that a float layer adds to its
  own; one for Affine, Add, Mul, Abs, Unary and Dequantize; Clamp one a bound, TwoSlope one and one more for each shift; pools and means one
  for each value that they read; Softmax three; Upsample between pixels six. Quantize compares and computes nothing.
- Memory: a value that only one pointwise node reads stays in a register, and so do sums that only thresholds read; everything else is
  kept from where it is made to where it is read last, codes at their bits and float values at ``stream_bits``. A pointwise node may
  write over a value of the same kind that it reads last.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from math import prod
from typing import NamedTuple

from bitfold.ir import ops
from bitfold.ir.encoding import Accumulator, Float
from bitfold.ir.graph import Graph
from bitfold.ir.ops import Node
from bitfold.ir.summary import summarize

_POINTWISE = (ops.Affine, ops.Add, ops.Mul, ops.Clamp, ops.TwoSlope, ops.Abs, ops.Unary, ops.Quantize, ops.Dequantize)


@dataclass(frozen=True)
class EmbeddedCost:
    """Counts of one sample, bytes of the network. ``stored_values`` are in ``peak_activation_bytes``.

    ``threshold_layers`` of the ``coded_layers`` (codes with codes) end in integer comparisons alone, without any real number.
    """

    binary_macs: int
    float_macs: int
    float_elementwise: int
    packed_weight_bytes: int
    threshold_bytes: int  # of all quantisers
    float_parameter_bytes: int  # float weights and constants, thresholds apart
    peak_activation_bytes: int  # float values at 32 bits
    peak_activation_bytes_16: int
    peak_activation_bytes_8: int
    threshold_layers: int
    coded_layers: int

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


def embedded_cost(graph: Graph) -> EmbeddedCost:
    """Counts a graph; nothing is executed."""
    total, nodes = summarize(graph), graph.live
    coded = [n for n in nodes if isinstance(n, ops.Conv | ops.Linear) and not isinstance(graph.types[n.x].element, Float)]
    coded = [n for n in coded if not isinstance(graph.constants[n.weight].type.element, Float)]
    sizes = _constant_bytes(graph)
    return EmbeddedCost(
        binary_macs=total.bops,
        float_macs=total.flops,
        float_elementwise=sum(_elementwise(graph, node) for node in nodes),
        packed_weight_bytes=sizes["weights"],
        threshold_bytes=sizes["thresholds"],
        float_parameter_bytes=sizes["floats"],
        peak_activation_bytes=peak_activation_bytes(graph),
        peak_activation_bytes_16=peak_activation_bytes(graph, 16),
        peak_activation_bytes_8=peak_activation_bytes(graph, 8),
        threshold_layers=sum(_only_thresholds(graph, n.output) for n in coded),
        coded_layers=len(coded),
    )


def peak_activation_bytes(graph: Graph, stream_bits: int = 32) -> int:
    """The most memory that the values of one sample need at a time; float values and sums take ``stream_bits`` each."""
    steps = _steps(graph)
    last = {name: i for i, step in enumerate(steps) for name in step.reads}
    last.update(dict.fromkeys(graph.outputs, len(steps)))
    live = {name: _bytes(graph, name, stream_bits) for name in graph.inputs}
    peak = sum(live.values())
    for i, step in enumerate(steps):
        same = [name for name in step.pointwise if last[name] == i and graph.types[name] == graph.types[step.output]]
        live[step.output] = 0 if same else _bytes(graph, step.output, stream_bits)
        peak = max(peak, sum(live.values()))
        live[step.output] = _bytes(graph, step.output, stream_bits)
        live = {name: size for name, size in live.items() if last.get(name, -1) > i}
    return peak


class _Step(NamedTuple):
    """A node and those before it whose values stay in registers. ``pointwise``: stored values that are read where they are needed."""

    output: str
    reads: frozenset[str]
    pointwise: frozenset[str]


def _steps(graph: Graph) -> list[_Step]:
    held: dict[str, _Step] = {}  # by the value in a register
    steps = []
    for node in graph.live:
        inputs = ops.input_names(node)
        inner = [held[name] for name in inputs if name in held]
        stored = {name for name in inputs if name not in held}
        here = stored if isinstance(node, _POINTWISE) else set()
        step = _Step(node.output, frozenset(stored.union(*(s.reads for s in inner))), frozenset(here.union(*(s.pointwise for s in inner))))
        if _in_register(graph, node):
            held[node.output] = step
        else:
            steps.append(step)
    return steps


def _in_register(graph: Graph, node: Node) -> bool:
    """Whether a layer or pointwise node hands its value straight to the next pointwise node."""
    found = graph.readers[node.output]
    if node.output in graph.outputs or not isinstance(node, (ops.Conv, ops.Linear, *_POINTWISE)):
        return False
    if isinstance(graph.types[node.output].element, Accumulator):
        return all(isinstance(r, ops.Quantize) for r in found)
    return len(found) == 1 and isinstance(found[0], _POINTWISE) and graph.types[found[0].output].shape == graph.types[node.output].shape


def _bytes(graph: Graph, name: str, stream_bits: int) -> int:
    kind = graph.types[name]
    bits = stream_bits if isinstance(kind.element, Float | Accumulator) else kind.element.planes
    return -(-prod(kind.shape) * bits // 8)


def _constant_bytes(graph: Graph) -> Counter[str]:
    """Every constant once, by what it is for."""
    kinds: dict[str, str] = {}
    for node in graph.live:
        for name in ops.constant_names(node):
            if isinstance(node, ops.Quantize):
                kinds.setdefault(name, "thresholds")
            else:
                kinds[name] = (
                    "floats" if isinstance(graph.constants[name].type.element, Float) or isinstance(node, ops.Upsample) else "weights"
                )
    total: Counter[str] = Counter()
    for name, kind in kinds.items():
        total[kind] += graph.constants[name].data.nbytes
    return total


def _elementwise(graph: Graph, node: Node) -> int:
    made = graph.types[node.output]
    size = prod(made.shape)
    match node:
        case ops.Conv() | ops.Linear():
            if isinstance(made.element, Accumulator):
                return 0
            coded = not isinstance(graph.types[node.x].element, Float)
            patch = node.epilogue is not None and node.epilogue.patch_mul is not None
            return size * ((coded or node.epilogue is not None) + patch)
        case ops.Affine() | ops.Add() | ops.Mul() | ops.Abs() | ops.Unary() | ops.Dequantize():
            return size
        case ops.Clamp():
            return size * sum(bound is not None for bound in (node.low, node.high))
        case ops.TwoSlope():
            return size * (1 + (node.shift_in is not None) + (node.shift_out is not None))
        case ops.Softmax():
            return 3 * size
        case ops.MaxPool() | ops.AvgPool():
            return size * prod(node.kernel) if isinstance(made.element, Float) and node.kernel != (1, 1) else 0
        case ops.Upsample():
            return 6 * size if node.row_weights is not None else 0
        case ops.Mean():
            return prod(graph.types[node.x].shape)
        case _:
            return 0


def _only_thresholds(graph: Graph, name: str) -> bool:
    """Whether a sum of codes goes to integer thresholds alone, at most through a pooling of integers."""
    found = graph.readers[name]
    if not isinstance(graph.types[name].element, Accumulator) or not found or name in graph.outputs:
        return False
    return all(isinstance(r, ops.Quantize) or (isinstance(r, ops.MaxPool) and _only_thresholds(graph, r.output)) for r in found)
