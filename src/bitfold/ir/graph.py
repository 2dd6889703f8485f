"""The graph: what export makes, the file holds, the interpreter and the engine run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from bitfold.errors import GraphError
from bitfold.ir.encoding import Accumulator, Coded, Element, Float
from bitfold.ir.ops import Node, input_names


@dataclass(frozen=True)
class TensorType:
    """Shape per sample (batch not written) and element type."""

    shape: tuple[int, ...]
    element: Element


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor of the file. ``data``: float32 or int32 of ``type.shape``; for codes the packed planes, uint8 of
    (planes, *shape moved channel-last, bytes): see ``bitfold.ir.pack``. May be a read-only view of a mapped file."""

    type: TensorType
    data: np.ndarray

    @staticmethod
    def from_codes(codes: np.ndarray, encoding: Coded) -> "Constant":
        from bitfold.ir.pack import pack

        return Constant(TensorType(codes.shape, encoding), pack(codes, encoding))

    @staticmethod
    def from_array(array: np.ndarray) -> "Constant":
        """float32 (or float64, rounded) -> Float; any integer dtype -> Accumulator. GraphError for integers beyond int32."""
        if np.issubdtype(array.dtype, np.floating):
            return Constant(TensorType(array.shape, Float()), np.ascontiguousarray(array, dtype=np.float32))
        low, high = int(array.min(initial=0)), int(array.max(initial=0))
        if low < -(1 << 31) or high >= 1 << 31:
            raise GraphError(f"constant with entries {low} to {high}; allowed: int32, -2147483648 to 2147483647")
        bound = max(-low, high)
        return Constant(TensorType(array.shape, Accumulator(bound)), np.ascontiguousarray(array, dtype=np.int32))

    @cached_property
    def codes(self) -> np.ndarray:
        """Integer codes (int16) in the logical shape; only for coded constants."""
        from bitfold.ir.pack import unpack

        return unpack(self.data, self.type)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in execution order. Construction validates everything and infers every value's type; raises GraphError."""

    inputs: Mapping[str, TensorType]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Constant]
    name: str = "graph"
    metadata: Mapping[str, str] = field(default_factory=dict)  # free text: method, recipe, commit, class names ...

    def __post_init__(self) -> None:
        self.types  # noqa: B018  (validates)

    @cached_property
    def types(self) -> dict[str, TensorType]:
        """The type of every value, inputs included."""
        from bitfold.ir.infer import infer

        return infer(self)

    @property
    def takes_bytes(self) -> bool:
        """Whether an input is of codes, pictures as bytes, and not of floats."""
        return any(not isinstance(tensor.element, Float) for tensor in self.inputs.values())

    @cached_property
    def live(self) -> tuple[Node, ...]:
        """The nodes that an output depends on, in order."""
        needed = set(self.outputs)
        for node in reversed(self.nodes):
            if node.output in needed:
                needed.update(input_names(node))
        return tuple(node for node in self.nodes if node.output in needed)

    @cached_property
    def readers(self) -> Mapping[str, list[Node]]:
        """The live nodes that read a value, in order, by the value's name; a node stands there once for each time it reads it."""
        found: dict[str, list[Node]] = {name: [] for name in self.types}
        for node in self.live:
            for name in input_names(node):
                found[name].append(node)
        return found

    def save(self, path: str | Path) -> int:
        """Writes ``*.bitfold`` atomically; returns its size in bytes."""
        from bitfold.ir.file import save

        return save(self, path)

    @staticmethod
    def load(path: str | Path) -> "Graph":
        """Reads and validates; raises FormatError. Constants are views of the mapped file."""
        from bitfold.ir.file import load

        return load(path)
