"""Rows of the layer table: what the file stores for each step of the engine, joined with the engine's profile."""

from collections.abc import Iterable
from typing import Protocol

from bitfold.ir.encoding import Accumulator, Float
from bitfold.ir.graph import Graph, TensorType
from bitfold.ir.ops import Node, constant_names, input_names
from bitfold.report.content import Layer


class Step(Protocol):
    """What is read of a row of ``Engine.profile``."""

    @property
    def layer(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def kernel(self) -> str: ...
    @property
    def microseconds(self) -> float: ...


def layers(graph: Graph, profile: Iterable[Step], reasons: dict[str, str]) -> tuple[Layer, ...]:
    """``reasons``: layer -> why this kernel. A node that the engine fused into another step counts with that step; a constant that
    several nodes share counts where it comes first."""
    steps = list(profile)
    nodes = {node.name: node for node in graph.nodes}
    owned = _constants(graph, {step.layer for step in steps})
    rows = []
    for step in steps:
        constants = [graph.constants[name] for name in owned.get(step.layer, ())]
        parameters = sum(c.data.size if isinstance(c.type.element, Float) else c.codes.size for c in constants if _is_number(c.type))
        node = nodes.get(step.layer)
        bits = _bits(graph, node) if node is not None else ""
        size = sum(c.data.nbytes for c in constants)
        rows.append(Layer(step.layer, step.op, bits, parameters, size, step.microseconds, step.kernel, reasons.get(step.layer, "")))
    return tuple(rows)


def _constants(graph: Graph, named: set[str]) -> dict[str, list[str]]:
    """Layer of the profile -> the constants stored for it."""
    order = {node.output: i for i, node in enumerate(graph.nodes)}
    owner: dict[str, str] = {}  # value -> layer of the profile that makes it
    place: dict[str, int] = {}  # layer -> its place in the graph
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for node in graph.nodes:
        if node.name in named:
            layer = node.name
            place[layer] = order[node.output]
        else:  # fused into the step that runs last among those it reads
            made = [owner[v] for v in input_names(node) if v in owner]
            layer = max(made, key=lambda name: place[name]) if made else node.name
        owner[node.output] = layer
        for constant in constant_names(node):
            if constant not in seen:
                seen.add(constant)
                found.setdefault(layer, []).append(constant)
    return found


def _is_number(tensor: TensorType) -> bool:
    return not isinstance(tensor.element, Accumulator)  # integer thresholds are derived, not trained


def _bits(graph: Graph, node: Node) -> str:
    """Bits of the input and of the weights, for nodes that have weights."""
    weight = getattr(node, "weight", None)
    if weight is None:
        return ""
    return f"{_width(graph.types[input_names(node)[0]])} \N{MULTIPLICATION SIGN} {_width(graph.constants[weight].type)}"


def _width(tensor: TensorType) -> int:
    return 32 if isinstance(tensor.element, Float | Accumulator) else tensor.element.planes
