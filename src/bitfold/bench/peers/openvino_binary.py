"""OpenVINO CPU plugin with its binary convolution: the low-bit network itself, built node by node from the exported graph.

Nothing exports to it, so the graph is made here: a sign becomes a FakeQuantize of two levels, 0 and 1, and a binary convolution a
``BinaryConvolution`` of opset 1 with ``u1`` weights (OIHW, least-significant bit first; 1 means +1), whose padding contributes nothing.
The plugin has no groups there, answers wrongly for 12 and 20 input channels, and has no binary linear layer: such networks are refused
or, where a linear layer is binary, run it in float32 on -1 and +1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from bitfold.bench.peers._base import Prepared, Subject, missing, no_telemetry
from bitfold.bench.peers.openvino_float32 import compiled
from bitfold.errors import ExportError
from bitfold.ir import ops
from bitfold.ir.encoding import Binary, Float
from bitfold.ir.graph import Graph

PRECISION = "low-bit"
PAIRS = (("binary", "binary"),)


def available() -> str | None:
    return missing("openvino")


def prepare(subject: Subject) -> Prepared:
    if subject.graph is None:
        raise ExportError("openvino_binary runs a low-bit graph; this subject is a float network alone")
    builder = _Builder(subject.graph, subject.x.shape[0])  # alive until the model is compiled: it holds the weights
    return compiled(builder.model(), subject, "BinaryConvolution, built from the exported graph")


class _Builder:
    """Values by name: an OpenVINO node with the batch in front. Binary values are 0 and 1."""

    def __init__(self, graph: Graph, batch: int) -> None:
        with no_telemetry():
            import openvino as ov
            import openvino.opset1 as opset1
            import openvino.opset13 as opset

        self.ov, self.opset1, self.opset = ov, opset1, opset
        self.graph, self.batch = graph, batch
        self.values: dict[str, Any] = {}
        self.signs: dict[str, tuple[Any, Any]] = {}  # of a binary value: what it is the sign of, and the threshold
        self.weights: list[np.ndarray] = []  # OpenVINO's constants of packed bits point into them

    def model(self) -> Any:
        inputs = []
        for name, kind in self.graph.inputs.items():
            if not isinstance(kind.element, Float):
                raise ExportError(f"openvino_binary: input {name!r} holds {kind.element}; allowed: float32")
            self.values[name] = self.opset.parameter([self.batch, *kind.shape], self.ov.Type.f32)
            inputs.append(self.values[name])
        for node in self.graph.live:
            make: Callable[[Any], Any] | None = getattr(self, f"_{type(node).__name__.lower()}", None)
            if make is None:
                raise ExportError(f"openvino_binary: {node.name} is a {type(node).__name__}, which this peer does not build")
            self.values[node.output] = make(node)
        return self.ov.Model([self.values[name] for name in self.graph.outputs], inputs, "bitfold")

    # nodes
    def _quantize(self, node: ops.Quantize) -> Any:
        if not isinstance(node.encoding, Binary) or node.descending is not None:
            raise ExportError(f"openvino_binary: {node.name} makes {node.encoding}; allowed: binary codes, rising in every channel")
        thresholds = self.graph.constants[node.thresholds].data.astype(np.float32).reshape(1, -1, *self._ones(node.output))
        below = np.nextafter(thresholds, np.float32(-np.inf))  # FakeQuantize asks x > t where ours asks x >= t
        below[thresholds == 0] = -np.finfo(np.float32).tiny  # a denormal would be flushed to zero
        self.signs[node.output] = (self.values[node.x], self._constant(below))
        return self._sign(*self.signs[node.output])

    def _sign(self, x: Any, threshold: Any) -> Any:
        return self.opset.fake_quantize(x, threshold, threshold, self._constant(np.float32(0)), self._constant(np.float32(1)), 2)

    def _conv(self, node: ops.Conv) -> Any:
        weight = self.graph.constants[node.weight]
        pads = list(node.padding)
        places: tuple[Any, ...] = (list(node.stride), pads, pads, list(node.dilation))
        if not isinstance(weight.type.element, Binary):
            w = weight.data if isinstance(weight.type.element, Float) else weight.codes.astype(np.float32)
            x = self._real(node.x)
            if node.groups == 1:
                y = self.opset.convolution(x, self._constant(w), *places)
            else:
                w = w.reshape(node.groups, -1, *w.shape[1:])
                y = self.opset.group_convolution(x, self._constant(w), *places)
            return self._scaled(node, y)
        if node.groups > 1 or not isinstance(self.graph.types[node.x].element, Binary) or weight.type.shape[1] in (12, 20):
            raise ExportError(
                f"openvino_binary: {node.name} has {node.groups} groups, inputs {self.graph.types[node.x].element} and "
                f"{weight.type.shape[1]} input channels; allowed: one group, binary inputs, not 12 or 20 channels"
            )
        bits = np.packbits((weight.codes > 0).reshape(-1), bitorder="little")
        self.weights.append(bits)
        u1 = self.ov.op.Constant(self.ov.Tensor(bits, self.ov.Shape(list(weight.type.shape)), self.ov.Type.u1))
        return self._scaled(
            node, self.opset1.binary_convolution(self.values[node.x], u1, places[0], pads, pads, places[3], "xnor-popcount", 0.0)
        )

    def _linear(self, node: ops.Linear) -> Any:
        weight = self.graph.constants[node.weight]
        w = weight.data if isinstance(weight.type.element, Float) else weight.codes.astype(np.float32)
        return self._scaled(node, self.opset.matmul(self._real(node.x), self._constant(w), False, True))

    def _affine(self, node: ops.Affine) -> Any:
        return self.opset.add(self.opset.multiply(self.values[node.x], self._channels(node.mul, node)), self._channels(node.bias, node))

    def _add(self, node: ops.Add) -> Any:
        return self.opset.add(self.values[node.a], self.values[node.b])

    def _clamp(self, node: ops.Clamp) -> Any:
        low, high = -np.inf if node.low is None else node.low, np.inf if node.high is None else node.high
        return self.opset.relu(self.values[node.x]) if (low, high) == (0, np.inf) else self.opset.clamp(self.values[node.x], low, high)

    def _twoslope(self, node: ops.TwoSlope) -> Any:
        if node.pos is not None:
            raise ExportError(f"openvino_binary: {node.name} has a slope for positive values too; allowed: PReLU with shifts")
        x = self.values[node.x]
        if node.shift_in is not None:
            x = self.opset.add(x, self._channels(node.shift_in, node))
        x = self.opset.prelu(x, self._constant(self.graph.constants[node.neg].data.reshape(-1)))
        return x if node.shift_out is None else self.opset.add(x, self._channels(node.shift_out, node))

    def _maxpool(self, node: ops.MaxPool) -> Any:
        top, left, bottom, right = node.padding
        if node.dilation != (1, 1):
            raise ExportError(f"openvino_binary: {node.name} has dilation {node.dilation}; allowed: 1")
        places = (list(node.stride), [top, left], [bottom, right], list(node.kernel), "floor")
        if node.x not in self.signs:
            return self.opset1.max_pool(self.values[node.x], *places)
        x, threshold = self.signs[node.x]  # the plugin cannot pool bits: the largest value's sign is the largest sign
        self.signs[node.output] = (self.opset1.max_pool(x, *places), threshold)
        return self._sign(*self.signs[node.output])

    def _avgpool(self, node: ops.AvgPool) -> Any:
        top, left, bottom, right = node.padding
        pool = self.opset1.avg_pool
        return pool(
            self.values[node.x], list(node.stride), [top, left], [bottom, right], list(node.kernel), not node.count_padding, "floor"
        )

    def _mean(self, node: ops.Mean) -> Any:
        axes = [2, 3] if node.over == "space" else [1]
        return self.opset.reduce_mean(self.values[node.x], self._constant(np.array(axes, np.int64)), True)

    def _flatten(self, node: ops.Flatten) -> Any:
        return self.opset.reshape(self.values[node.x], self._constant(np.array([self.batch, -1], np.int64)), False)

    def _padchannels(self, node: ops.PadChannels) -> Any:
        begin, end = np.array([0, node.before, 0, 0], np.int64), np.array([0, node.after, 0, 0], np.int64)
        return self.opset.pad(self.values[node.x], self._constant(begin), self._constant(end), "constant", self._constant(np.float32(0)))

    # parts
    def _scaled(self, node: ops.Conv | ops.Linear, y: Any) -> Any:
        epilogue = node.epilogue
        if epilogue is None:
            return y
        if (epilogue.patch_mul, epilogue.weight_mul, epilogue.tap_mul) != (None, None, None):
            raise ExportError(f"openvino_binary: {node.name} has codes with an offset; allowed: -1 and +1")
        if epilogue.mul is not None:
            y = self.opset.multiply(y, self._channels(epilogue.mul, node))
        return y if epilogue.bias is None else self.opset.add(y, self._channels(epilogue.bias, node))

    def _real(self, name: str) -> Any:
        """A value as real numbers: -1 and +1 for binary codes. Outside binary convolutions FakeQuantize of two levels divides by zero."""
        element = self.graph.types[name].element
        if isinstance(element, Float):
            return self.values[name]
        if name not in self.signs:
            raise ExportError(f"openvino_binary: value {name!r} holds {element}; allowed: float32, binary codes of a quantiser or pool")
        x, threshold = self.signs[name]
        return self.opset.select(self.opset.greater(x, threshold), self._constant(np.float32(1)), self._constant(np.float32(-1)))

    def _channels(self, name: str, node: ops.Node) -> Any:
        return self._constant(self.graph.constants[name].data.astype(np.float32).reshape(1, -1, *self._ones(node.output)))

    def _ones(self, value: str) -> tuple[int, ...]:
        return (1,) * (len(self.graph.types[value].shape) - 1)

    def _constant(self, array: Any) -> Any:
        array = np.asarray(array)
        return self.opset.constant(array if array.dtype == np.int64 else array.astype(np.float32, order="C"))
