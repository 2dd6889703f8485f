"""The steps of all operations but Conv and Linear."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from bitfold.engine.product import clamp_bounds, floats
from bitfold.engine.rearrange import runs
from bitfold.engine.step import Ids, Names, Slot, Step, fits_byte, natural_form
from bitfold.ir import ops
from bitfold.ir.encoding import Float
from bitfold.ir.graph import Graph, TensorType
from bitfold.ir.summary import matmul_terms

Call: TypeAlias = Callable[..., Names]  # (native plan, ids of the inputs ..., id of the output) -> names


def reading_form(node: ops.Node, x: TensorType) -> str:
    """The form in which an operation reads an input."""
    if isinstance(node, ops.Dequantize):
        return "u8" if fits_byte(x.element) else "i16"
    return natural_form(x)


def node_step(graph: Graph, node: ops.Node, form: str, slot: Callable[[str, str], Slot]) -> Step:
    """``form``: in which the output is made. Element-wise float operations may work in place."""
    call = CALLS[type(node)](graph, node)
    reads = tuple(slot(name, reading_form(node, graph.types[name])) for name in ops.input_names(node))
    out = slot(node.output, form)

    def emit(plan: Any, ids: Ids) -> Names:
        return call(plan, *(ids[x] for x in reads), ids[out])

    in_place = tuple(x for x in reads if x.form in ("f32", "i32")) if isinstance(node, IN_PLACE) else ()
    if isinstance(node, ops.Add | ops.Mul) and graph.types[node.a].shape != graph.types[node.b].shape:
        in_place = reads[:1]
    macs = matmul_terms(graph, node) if isinstance(node, ops.MatMul) else 0
    return Step(node.name, type(node).__name__, reads, (out,), emit, in_place, macs=macs)


def convert_step(layer: str, x: Slot, out: Slot) -> Step:
    """Codes from one form to another."""

    def emit(plan: Any, ids: Ids) -> Names:
        return plan.convert(ids[x], ids[out])  # type: ignore[no-any-return]

    return Step(layer, "convert", (x,), (out,), emit)


IN_PLACE = (ops.Affine, ops.Add, ops.Mul, ops.Clamp, ops.TwoSlope, ops.Abs, ops.Unary, ops.Softmax)


def _quantize(graph: Graph, node: ops.Quantize) -> Call:
    thresholds = graph.constants[node.thresholds]
    alphabet = np.array(node.encoding.alphabet(), dtype=np.int16)
    data = np.require(thresholds.data, requirements=["C", "A"])
    f32, i32 = (data.reshape(-1), None) if isinstance(thresholds.type.element, Float) else (None, data.reshape(-1))
    descending = None if node.descending is None else (graph.constants[node.descending].codes < 0).astype(np.uint8)
    per_channel = data.shape[0] == graph.types[node.output].shape[0]
    return lambda plan, x, out: plan.quantize(x, out, len(alphabet), per_channel, f32, i32, descending, alphabet)


def _dequantize(graph: Graph, node: ops.Dequantize) -> Call:
    encoding: Any = graph.types[node.x].element
    return lambda plan, x, out: plan.dequantize(x, out, encoding.scale, encoding.offset)


def _affine(graph: Graph, node: ops.Affine) -> Call:
    mul, bias = floats(graph, node.mul), floats(graph, node.bias)
    return lambda plan, x, out: plan.affine(x, out, mul, bias)


def _clamp(graph: Graph, node: ops.Clamp) -> Call:
    low, high = clamp_bounds(node)
    return lambda plan, x, out: plan.clamp(x, out, low, high)


def _two_slope(graph: Graph, node: ops.TwoSlope) -> Call:
    neg, *rest = (None if n is None else floats(graph, n) for n in (node.neg, node.pos, node.shift_in, node.shift_out))
    return lambda plan, x, out: plan.two_slope(x, out, neg, *rest)


def _max_pool(graph: Graph, node: ops.MaxPool) -> Call:
    return lambda plan, x, out: plan.pool("max", x, out, node.kernel, node.stride, node.padding, node.dilation, False)


def _avg_pool(graph: Graph, node: ops.AvgPool) -> Call:
    return lambda plan, x, out: plan.pool("avg", x, out, node.kernel, node.stride, node.padding, (1, 1), node.count_padding)


def _upsample(graph: Graph, node: ops.Upsample) -> Call:
    rows, columns = (np.require(graph.constants[name].data, requirements=["C", "A"]) for name in (node.rows, node.columns))
    weights = [None if name is None else floats(graph, name) for name in (node.row_weights, node.column_weights)]
    return lambda plan, x, out: plan.upsample(x, out, rows, columns, *weights)


def _rearrange(graph: Graph, node: ops.Rearrange) -> Call:
    table, length, across = runs(graph, node)
    return lambda plan, x, out: plan.rearrange(x, out, table, length, across)


CALLS: dict[type[ops.Node], Callable[[Graph, Any], Call]] = {
    ops.Quantize: _quantize,
    ops.Dequantize: _dequantize,
    ops.Affine: _affine,
    ops.Add: lambda graph, node: lambda plan, a, b, out: plan.arithmetic("add", a, b, out),
    ops.Mul: lambda graph, node: lambda plan, a, b, out: plan.arithmetic("mul", a, b, out),
    ops.Clamp: _clamp,
    ops.TwoSlope: _two_slope,
    ops.Abs: lambda graph, node: lambda plan, x, out: plan.unary("abs", x, out),
    ops.Unary: lambda graph, node: lambda plan, x, out: plan.unary(node.kind, x, out),
    ops.Softmax: lambda graph, node: lambda plan, x, out: plan.unary("softmax", x, out),
    ops.MaxPool: _max_pool,
    ops.AvgPool: _avg_pool,
    ops.Mean: lambda graph, node: lambda plan, x, out: plan.mean(node.over, x, out),
    ops.Flatten: lambda graph, node: lambda plan, x, out: plan.flatten(x, out),
    ops.Concat: lambda graph, node: lambda plan, *ids: plan.concat(list(ids[:-1]), ids[-1]),
    ops.PadChannels: lambda graph, node: lambda plan, x, out: plan.pad_channels(x, out, node.before),
    ops.Slice: lambda graph, node: lambda plan, x, out: plan.slice(x, out, node.start),
    ops.Upsample: _upsample,
    ops.DepthToSpace: lambda graph, node: lambda plan, x, out: plan.depth_to_space(x, out, node.factor, node.groups, node.crop),
    ops.Rearrange: _rearrange,
    ops.MatMul: lambda graph, node: lambda plan, a, b, out: plan.matmul(a, b, out),
}
