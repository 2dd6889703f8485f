"""ONNX Runtime's ``MatMulNBits`` with 2-bit weights: one linear layer of the low-bit graph, activations made int8 by the runtime itself.

The operator, as a comparison with NumPy on small cases shows (the test repeats one): B is uint8 (outputs, blocks, block / 4), four weights
a byte, the first in the lowest bits; a weight is (code - 2) times the scale of its block, scales are float32 (outputs * blocks).
``accuracy_level`` 4 asks for int8 products; from blocks of 256 on the runtime computes in float32 nevertheless, so those are not tried.
The runtime finds its own range of each block of activations; the graph's quantiser has one for all and cuts off what lies beyond.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bitfold.bench.peers._base import Prepared, Subject, missing
from bitfold.bench.peers.onnxruntime_float32 import session
from bitfold.bench.timing import compare
from bitfold.errors import ExportError
from bitfold.ir import ops
from bitfold.ir.encoding import Coded, Ternary, Uniform
from bitfold.ir.graph import Constant, Graph

PRECISION = "low-bit"
PAIRS = (("2 bit", "8 bit"), ("ternary", "8 bit"))  # of weights and activations, as bench.shapes names them

BLOCKS = (32, 64, 128)
WAYS = {"products": "0", "tables": "1"}  # tables only where the runtime allows them: outputs in multiples of 128
ZERO = 2  # the code that stands for 0 where the node has no zero points


def available() -> str | None:
    return missing("onnx", "onnxruntime")


def prepare(subject: Subject) -> Prepared:
    """The block size that is fastest here, with products or with tables of sums."""
    if subject.graph is None:
        raise ExportError("onnxruntime_2bit runs a low-bit graph; this subject is a float network alone")
    layer = _Layer(subject.graph)
    calls = {}
    for block in BLOCKS:
        path = layer.save(subject.folder, block)
        for way, setting in WAYS.items():
            calls[f"blocks of {block}, {way}"] = session(path, subject, config={"mlas.use_lut_gemm": setting}).call
    times = compare(calls, repeats=9, max_time=5.0)
    best = min(times, key=lambda name: times[name].median_us)
    return Prepared(calls[best], f"MatMulNBits, accuracy_level 4, {best}")


class _Layer:
    """weights: codes (outputs, inputs); y = (x @ weights.T) * mul + bias on the float input of the graph's quantiser."""

    def __init__(self, graph: Graph) -> None:
        match tuple(graph.live):
            case (ops.Quantize() as quantize, ops.Linear() as linear):
                pass
            case nodes:
                kinds = ", ".join(type(node).__name__ for node in nodes)
                raise ExportError(f"onnxruntime_2bit: the graph has {kinds}; allowed: Quantize, Linear")
        self.weights = graph.constants[linear.weight].codes.astype(np.int64)
        step, offset = _line(quantize.encoding, graph.constants[quantize.thresholds].data)
        element = graph.constants[linear.weight].type.element
        if not isinstance(element, Ternary | Uniform) or self.weights.min() < -ZERO or self.weights.max() > 3 - ZERO:
            raise ExportError(f"onnxruntime_2bit: {linear.name} has weights {element}; allowed: codes from {-ZERO} to {3 - ZERO}")
        epilogue = linear.epilogue or ops.Epilogue()
        if (epilogue.patch_mul, epilogue.weight_mul, epilogue.tap_mul) != (None, None, None) or linear.metric != ops.PRODUCT:
            raise ExportError(f"onnxruntime_2bit: {linear.name} has codes with an offset or distances; allowed: products of codes")
        mul = _vector(graph.constants, epilogue.mul, 1.0)
        self.mul = np.broadcast_to(mul / step, len(self.weights)).astype(np.float32)
        self.bias = (_vector(graph.constants, epilogue.bias, 0.0) + mul * offset * self.weights.sum(axis=1)).astype(np.float32)

    def save(self, folder: Path, block: int) -> Path:
        """An ONNX file with blocks of so many inputs."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        outputs, inputs = self.weights.shape
        blocks = -(-inputs // block)
        codes = np.full((outputs, blocks * block), ZERO, np.uint8)
        codes[:, :inputs] = self.weights + ZERO
        packed = np.bitwise_or.reduce(codes.reshape(outputs, blocks, block // 4, 4) << np.arange(0, 8, 2, dtype=np.uint8), axis=-1)
        constants = {"weights": packed, "scales": np.repeat(self.mul, blocks), "bias": self.bias}
        names = ["x", "weights", "scales", "", "", "bias"]  # no zero points, no reordering of inputs
        facts = {"K": inputs, "N": outputs, "bits": 2, "block_size": block, "accuracy_level": 4}
        node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", **facts)
        doors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", n]) for name, n in (("x", inputs), ("y", outputs))]
        kept = [numpy_helper.from_array(array, name) for name, array in constants.items()]
        sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        path = folder / f"blocks{block}.onnx"
        onnx.save(
            helper.make_model(helper.make_graph([node], "linear", doors[:1], doors[1:], kept), opset_imports=sets, ir_version=8), path
        )
        return path


def _line(encoding: Coded, thresholds: np.ndarray) -> tuple[float, float]:
    """(step, offset): code c stands for the middle between its thresholds, about (c - offset) * step."""
    rows = thresholds.astype(np.float64)
    steps = np.diff(rows, axis=1)
    if len(rows) != 1 or not isinstance(encoding, Uniform) or encoding.bits != 8 or not np.allclose(steps, steps[0, 0], rtol=1e-3):
        raise ExportError(f"onnxruntime_2bit: activations are {encoding}; allowed: 8 bits, one row of thresholds with even steps")
    step = float(steps.mean())
    return step, encoding.min_code + 0.5 - float(rows[0, 0]) / step


def _vector(constants: Mapping[str, Constant], name: str | None, default: float) -> np.ndarray:
    return np.array([default]) if name is None else constants[name].data.astype(np.float64)
