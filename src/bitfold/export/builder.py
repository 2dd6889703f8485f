"""Collects nodes and constants under unique names."""

from typing import Any

import numpy as np

from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.ops import Node


class Builder:
    """The graph while it grows. Values are named as the node that makes them; equal constants are stored once."""

    def __init__(self, inputs: dict[str, TensorType]) -> None:
        self.inputs = inputs
        self.nodes: list[Node] = []
        self.constants: dict[str, Constant] = {}
        self._names = set(inputs)
        self._stored: dict[tuple[object, ...], str] = {}

    def unique(self, path: str) -> str:
        """``path``, or ``path#2`` ... when a module is called more than once."""
        name, count = path, 1
        while name in self._names:
            count += 1
            name = f"{path}#{count}"
        self._names.add(name)
        return name

    def constant(self, name: str, constant: Constant) -> str:
        key = (constant.type, constant.data.tobytes())
        if key not in self._stored:
            self._stored[key] = self.unique(name)
            self.constants[self._stored[key]] = constant
        return self._stored[key]

    def array(self, name: str, array: np.ndarray) -> str:
        """A float or integer array; float64 is rounded to float32 here, once."""
        return self.constant(name, Constant.from_array(array))

    def add(self, op: type[Node], path: str, **fields: Any) -> str:
        """Appends a node and returns its value. Arrays among ``fields`` become constants."""
        name = self.unique(path)
        for field, value in fields.items():
            if isinstance(value, np.ndarray):
                fields[field] = self.array(f"{name}.{field}", value)
        self.nodes.append(op(name=name, output=name, **fields))
        return name

    def graph(self, outputs: tuple[str, ...], name: str, metadata: dict[str, str]) -> Graph:
        return Graph(self.inputs, tuple(self.nodes), outputs, self.constants, name, metadata)
