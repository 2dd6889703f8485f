"""The NumPy interpreter: what a graph means, in the plainest form. Every kernel of the engine is compared with it.

Integers are exact. float32 steps follow the order that ``docs/format.md`` states, each rounded once, so that results equal the
engine's bit for bit.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bitfold.errors import GraphError
from bitfold.ir import ops
from bitfold.ir.arithmetic import exp_not_positive, fma, ordered_sum, rounded_table
from bitfold.ir.encoding import Coded, Float, Uniform
from bitfold.ir.geometry import conv_classes, offset_sums, out_size, tap_counts, view_positions, weight_sums
from bitfold.ir.graph import Graph, TensorType
from bitfold.ir.unary import UNARY

Array = np.ndarray


def interpret(graph: Graph, *inputs: Array, values: dict[str, Array] | None = None) -> Array | tuple[Array, ...]:
    """Runs a graph on a batch.

    inputs: one array (N, *shape) for each input of the graph, in order: float32 for Float; for codes any integer dtype, entries in
        the alphabet (so uint8 pictures for ``Uniform(8, False)``). GraphError for anything else.
    values: a dict that receives the array of every value by name, inputs included.
    returns: the output, or a tuple if there are several: float32, int32 (accumulators) or int16 (codes).
    """
    known = values if values is not None else {}
    known.update(zip(graph.inputs, _checked(graph, inputs), strict=True))
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in ops.input_names(node)}
    for i, node in enumerate(graph.nodes):
        names = ops.input_names(node)
        known[node.output] = run_node(graph, node, *(known[name] for name in names))
        if values is None:
            for name in set(names) - set(graph.outputs):
                if last_use[name] == i:
                    del known[name]
    outputs = tuple(known[name] for name in graph.outputs)
    return outputs[0] if len(outputs) == 1 else outputs


def run_node(graph: Graph, node: ops.Node, *inputs: Array) -> Array:
    """One node on given inputs (batched; dtypes as ``interpret`` returns them)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return OPERATIONS[type(node)](node, graph, *inputs)


def _checked(graph: Graph, inputs: tuple[Array, ...]) -> list[Array]:
    if len(inputs) != len(graph.inputs):
        raise GraphError(f"graph {graph.name!r} takes {len(graph.inputs)} inputs, got {len(inputs)}")
    arrays = [_checked_input(name, tensor, np.asarray(x)) for (name, tensor), x in zip(graph.inputs.items(), inputs, strict=True)]
    if len({len(x) for x in arrays}) != 1:
        raise GraphError(f"inputs have batches of {[len(x) for x in arrays]}; they must be equal")
    return arrays


def _checked_input(name: str, tensor: TensorType, x: Array) -> Array:
    if x.ndim == 0 or x.shape[1:] != tensor.shape:
        raise GraphError(f"input {name!r} has shape {x.shape}; allowed: (N, {', '.join(map(str, tensor.shape))})")
    if isinstance(tensor.element, Float):
        if x.dtype != np.float32:
            raise GraphError(f"input {name!r} has dtype {x.dtype}; allowed: float32")
        return x
    encoding: Coded = tensor.element  # type: ignore[assignment]
    if not np.issubdtype(x.dtype, np.integer):
        raise GraphError(f"input {name!r} has dtype {x.dtype}; allowed: integers, the codes of {encoding}")
    inside = (x >= encoding.min_code) & (x <= encoding.max_code)
    if not isinstance(encoding, Uniform):
        inside &= np.isin(x, encoding.alphabet())
    if not inside.all():
        raise GraphError(f"input {name!r} holds {x[~inside].flat[0]}; allowed: the codes of {encoding}")
    return x.astype(np.int16)


# ---- convolution and linear -----------------------------------------------------------------------------------------------------


def _conv(node: ops.Conv, graph: Graph, x: Array) -> Array:
    return _product(node, graph, x, _weight(graph, node.weight))


def _linear(node: ops.Linear, graph: Graph, x: Array) -> Array:
    """A 1x1 convolution whose pixels are the samples of the batch."""
    return _product(ops.as_conv(node), graph, x.T[None, :, None, :], _weight(graph, node.weight)[:, :, None, None])[0, :, 0, :].T


def _weight(graph: Graph, name: str) -> Array:
    constant = graph.constants[name]
    return constant.data if isinstance(constant.type.element, Float) else constant.codes


def _product(conv: ops.Conv, graph: Graph, x: Array, weight: Array) -> Array:
    exact = x.dtype != np.float32 and weight.dtype != np.float32
    if conv.metric == ops.DISTANCE:
        zero: Any = graph.types[conv.x].element
        total = _distances(conv, x.astype(np.int32) - zero.zero_point, weight.astype(np.int32) - zero.zero_point)
    else:
        total = _exact_taps(conv, x, weight) if exact else _float_taps(conv, x, weight.astype(np.float32))
    if conv.epilogue is None:
        return total.astype(np.int32) if exact else total
    return _epilogue(conv, conv.epilogue, graph, x, weight, total)


def _taps(conv: ops.Conv, x: Array, kernel: tuple[int, ...]) -> Iterator[tuple[int, int, Array]]:
    """(tap row, tap column, the pixels they read: (N, C, OH, OW)), in row-major order. Zeros stand for pixels outside the image."""
    (ph, pw), (sh, sw), (dh, dw) = conv.padding, conv.stride, conv.dilation
    rows, columns = (
        out_size(x.shape[2 + i], kernel[i], conv.stride[i], conv.padding[i], conv.padding[i], conv.dilation[i]) for i in (0, 1)
    )
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    for kh in range(kernel[0]):
        for kw in range(kernel[1]):
            top, left = kh * dh, kw * dw
            yield kh, kw, padded[:, :, top : top + (rows - 1) * sh + 1 : sh, left : left + (columns - 1) * sw + 1 : sw]


def _exact_taps(conv: ops.Conv, x: Array, weight: Array) -> Array:
    """D, int64 (N, O, OH, OW). The matrix product runs in the float type that holds every partial sum exactly."""
    bound = weight[0].size * int(np.abs(weight.astype(np.int64)).max()) * int(np.abs(x.astype(np.int64)).max(initial=0))
    exact = np.float32 if bound <= 1 << 24 else np.float64
    out_channels, groups = weight.shape[0], conv.groups
    weight = weight.reshape(groups, out_channels // groups, *weight.shape[1:]).astype(exact)
    total: Any = 0
    for kh, kw, pixels in _taps(conv, x.astype(exact), weight.shape[3:]):
        n, _, rows, columns = pixels.shape
        total = total + weight[:, :, :, kh, kw] @ pixels.reshape(n, groups, -1, rows * columns)
    return total.reshape(n, out_channels, rows, columns).astype(np.int64)  # type: ignore[no-any-return]


def _distances(conv: ops.Conv, x: Array, weight: Array) -> Array:
    """-(sum of |w - x| over all taps), int32 (N, O, OH, OW); x and weight count from the zero point, so a tap outside reads 0."""
    out_channels, group_channels, *kernel = weight.shape
    weight = weight.reshape(conv.groups, -1, group_channels, *kernel, 1)
    total: Any = None
    for kh, kw, pixels in _taps(conv, x, tuple(kernel)):
        n, _, rows, columns = pixels.shape
        pixels = pixels.reshape(n, conv.groups, group_channels, 1, rows * columns)
        if total is None:
            total = np.zeros((n, conv.groups, out_channels // conv.groups, rows * columns), dtype=np.int32)
        for sample, channel in np.ndindex(n, group_channels):  # one term of the sum at a time: no array is larger than the output
            total[sample] -= np.abs(weight[:, :, channel, kh, kw] - pixels[sample, :, channel])
    return total.reshape(n, out_channels, rows, columns)  # type: ignore[no-any-return]


def _float_taps(conv: ops.Conv, x: Array, weight: Array) -> Array:
    """The float32 sum over (tap row, tap column, channel), one fma a step; (N, O, OH, OW)."""
    out_channels, group_channels, *kernel = weight.shape
    pixels = np.stack([tap for _, _, tap in _taps(conv, x, tuple(kernel))], axis=1)  # (N, taps, C, OH, OW)
    n, taps, _, rows, columns = pixels.shape
    pixels = pixels.reshape(n, taps, conv.groups, group_channels, 1, rows * columns).astype(np.float32)
    weight = weight.reshape(conv.groups, -1, group_channels, taps, 1).transpose(3, 2, 0, 1, 4)  # (taps, I, g, O / g, 1)
    total = np.zeros((n, conv.groups, out_channels // conv.groups, rows * columns), dtype=np.float32)
    block = max(1, (1 << 15) // out_channels)  # columns at once: keeps the temporaries in the cache
    for sample in range(n):
        for first in range(0, rows * columns, block):
            part = total[sample, :, :, first : first + block]
            for tap, channel in np.ndindex(taps, group_channels):
                part[:] = fma(weight[tap, channel], pixels[sample, tap, :, channel, :, first : first + block], part)
    return total.reshape(n, out_channels, rows, columns)


def _epilogue(conv: ops.Conv, epilogue: ops.Epilogue, graph: Graph, x: Array, weight: Array, total: Array) -> Array:
    """y = fma(mul, D, fma(patch_mul, S_a, T)) with T from float64, as documented in ``ops``."""
    out_channels, hw = weight.shape[0], (x.shape[2], x.shape[3])

    def constant(name: str | None, default: float) -> Array:
        data = np.full(out_channels, default, np.float32) if name is None else graph.constants[name].data
        return data[:, None, None]

    table = constant(epilogue.bias, 0.0).astype(np.float64)
    if epilogue.weight_mul is not None:
        table = table + constant(epilogue.weight_mul, 0.0).astype(np.float64) * weight_sums(weight, hw, conv)
    if epilogue.tap_mul is not None:
        table = table + constant(epilogue.tap_mul, 0.0).astype(np.float64) * tap_counts(weight.shape, hw, conv)
    if epilogue.x_offset is not None:
        offsets = graph.constants[epilogue.x_offset].data
        table = table + constant(epilogue.mul, 1.0).astype(np.float64) * offset_sums(weight, offsets, hw, conv)
    offset = rounded_table(table, conv.name)
    if offset.shape[1:] != (1, 1):
        rows, columns = conv_classes(conv, hw, weight.shape[2:])
        offset = offset[:, rows.index][:, :, columns.index]
    if epilogue.patch_mul is not None:
        per_channel = np.repeat(_patch_sums(conv, x, weight.shape), out_channels // conv.groups, axis=1)
        offset = fma(constant(epilogue.patch_mul, 0.0), per_channel.astype(np.float32), offset)
    return fma(constant(epilogue.mul, 1.0), total.astype(np.float32), offset)


def _patch_sums(conv: ops.Conv, x: Array, weight_shape: tuple[int, ...]) -> Array:
    """S_a, int64 (N, groups, OH, OW)."""
    n, _, height, width = x.shape
    per_group = x.reshape(n, conv.groups, -1, height, width).sum(axis=2, dtype=np.int64)
    total: Any = sum(tap for _, _, tap in _taps(conv, per_group, weight_shape[2:]))
    return total  # type: ignore[no-any-return]


# ---- the other operations -------------------------------------------------------------------------------------------------------


def _per_channel(graph: Graph, name: str, x: Array) -> Array:
    """A constant of shape (C,) or (1,) shaped to broadcast over x (N, C, ...)."""
    return graph.constants[name].data.reshape(1, -1, *[1] * (x.ndim - 2))


def _quantize(node: ops.Quantize, graph: Graph, x: Array) -> Array:
    thresholds = graph.constants[node.thresholds].data
    channels = np.moveaxis(x, 1, 0)
    entries = np.empty(channels.shape, dtype=np.intp)
    for c, channel in enumerate(channels):
        entries[c] = np.searchsorted(thresholds[min(c, len(thresholds) - 1)], channel, side="right")
    entries = np.where(np.isnan(channels), 0, entries)  # comparisons with NaN are false
    if node.descending is not None:
        flip = graph.constants[node.descending].codes < 0
        entries[flip] = thresholds.shape[1] - entries[flip]
    return np.moveaxis(np.array(node.encoding.alphabet(), dtype=np.int16)[entries], 0, 1)


def _dequantize(node: ops.Dequantize, graph: Graph, x: Array) -> Array:
    encoding: Any = graph.types[node.x].element
    scale, offset = np.array([encoding.scale, encoding.offset], dtype=np.float32)
    return fma(scale, x.astype(np.float32), offset)


def _affine(node: ops.Affine, graph: Graph, x: Array) -> Array:
    return fma(_per_channel(graph, node.mul, x), x.astype(np.float32), _per_channel(graph, node.bias, x))


def _add(node: ops.Add, graph: Graph, a: Array, b: Array) -> Array:
    return np.add(a, b)


def _mul(node: ops.Mul, graph: Graph, a: Array, b: Array) -> Array:
    return np.multiply(a, b)


def _clamp(node: ops.Clamp, graph: Graph, x: Array) -> Array:
    if node.low is not None:
        x = np.where(x < np.float32(node.low), np.float32(node.low), x)
    if node.high is not None:
        x = np.where(x > np.float32(node.high), np.float32(node.high), x)
    return x


def _two_slope(node: ops.TwoSlope, graph: Graph, x: Array) -> Array:
    t = x if node.shift_in is None else x + _per_channel(graph, node.shift_in, x)
    pos = np.float32(1) if node.pos is None else _per_channel(graph, node.pos, x)
    y: Array = np.where(t > 0, pos, _per_channel(graph, node.neg, x)) * t
    return y if node.shift_out is None else y + _per_channel(graph, node.shift_out, x)


def _abs(node: ops.Abs, graph: Graph, x: Array) -> Array:
    return np.abs(x)


def _unary(node: ops.Unary, graph: Graph, x: Array) -> Array:
    return UNARY[node.kind](x)


def _softmax(node: ops.Softmax, graph: Graph, x: Array) -> Array:
    powers = exp_not_positive(x - x.max(axis=1, keepdims=True))
    return powers / ordered_sum(np.moveaxis(powers, 1, -1))[:, None]  # type: ignore[no-any-return]


def _window(node: ops.MaxPool | ops.AvgPool, x: Array, dilation: ops.Pair) -> Iterator[tuple[Array, Array]]:
    """For each tap in row-major order: (N, C, OH, OW) pixels and (OH, OW) whether they are inside the image."""
    rows, columns = [[_reads(node, x.shape[2 + i], i, k, dilation[i]) for k in range(node.kernel[i])] for i in (0, 1)]
    for row, row_valid in rows:
        for column, column_valid in columns:
            yield x[:, :, row[:, None], column], row_valid[:, None] & column_valid


def _reads(node: ops.MaxPool | ops.AvgPool, size: int, axis: int, tap: int, dilation: int) -> tuple[Array, Array]:
    """Per output position of an axis: the input position that a tap reads (clipped into the image) and whether it was inside."""
    before, after = node.padding[axis], node.padding[axis + 2]
    count = out_size(size, node.kernel[axis], node.stride[axis], before, after, dilation)
    at = np.arange(count) * node.stride[axis] - before + tap * dilation
    return np.clip(at, 0, size - 1), (at >= 0) & (at < size)


def _max_pool(node: ops.MaxPool, graph: Graph, x: Array) -> Array:
    best: Any = None
    for pixels, valid in _window(node, x, node.dilation):
        if best is None:
            best, seen = pixels, valid
        else:
            best = np.where(valid & (~seen | (pixels > best)), pixels, best)
            seen = seen | valid
    return best  # type: ignore[no-any-return]


def _avg_pool(node: ops.AvgPool, graph: Graph, x: Array) -> Array:
    total: Any = np.float32(0)
    count: Any = 0
    for pixels, valid in _window(node, x, (1, 1)):
        total = total + np.where(valid, pixels, np.float32(0))
        count = count + (1 if node.count_padding else valid)
    return total / np.float32(count)  # type: ignore[no-any-return]


def _mean(node: ops.Mean, graph: Graph, x: Array) -> Array:
    if node.over == "space":
        flat = x.reshape(*x.shape[:2], -1)
        return (ordered_sum(flat) / np.float32(flat.shape[2]))[:, :, None, None]
    return (ordered_sum(np.moveaxis(x, 1, -1)) / np.float32(x.shape[1]))[:, None]


def _flatten(node: ops.Flatten, graph: Graph, x: Array) -> Array:
    return x.reshape(len(x), -1)


def _concat(node: ops.Concat, graph: Graph, *xs: Array) -> Array:
    return np.concatenate(xs, axis=1)


def _pad_channels(node: ops.PadChannels, graph: Graph, x: Array) -> Array:
    return np.pad(x, [(0, 0), (node.before, node.after), *[(0, 0)] * (x.ndim - 2)])


def _slice(node: ops.Slice, graph: Graph, x: Array) -> Array:
    return x[:, node.start : node.stop]


def _upsample(node: ops.Upsample, graph: Graph, x: Array) -> Array:
    rows, columns = (graph.constants[name].data for name in (node.rows, node.columns))
    if node.row_weights is None or node.column_weights is None:
        inside = (rows >= 0)[:, None] & (columns >= 0)
        return x[:, :, rows[:, None], columns] if inside.all() else np.where(inside, x[:, :, rows[:, None], columns], np.float32(0))
    below, right = np.minimum(rows + 1, x.shape[2] - 1), np.minimum(columns + 1, x.shape[3] - 1)
    across, down = graph.constants[node.column_weights].data, graph.constants[node.row_weights].data[:, None]
    here, there = (_between(x[:, :, r[:, None], columns], x[:, :, r[:, None], right], across) for r in (rows, below))
    return _between(here, there, down)


def _between(a: Array, b: Array, w: Array) -> Array:
    return fma(w, b, (np.float32(1) - w) * a)


def _depth_to_space(node: ops.DepthToSpace, graph: Graph, x: Array) -> Array:
    n, _, height, width = x.shape
    (fh, fw), (top, left, bottom, right) = node.factor, node.crop
    phases = x.reshape(n, node.groups, fh, fw, -1, height, width)
    image = phases.transpose(0, 1, 4, 5, 2, 6, 3).reshape(n, -1, height * fh, width * fw)
    return image[:, :, top : height * fh - bottom, left : width * fw - right]


def _rearrange(node: ops.Rearrange, graph: Graph, x: Array) -> Array:
    return x.reshape(len(x), -1)[:, view_positions(node)].reshape(len(x), *node.shape)


def _matmul(node: ops.MatMul, graph: Graph, a: Array, b: Array) -> Array:
    total = np.zeros((len(a), b.shape[1], *a.shape[2:]), dtype=np.float32)
    for sample, k in np.ndindex(len(a), a.shape[1]):
        total[sample] = fma(a[sample, k], b[sample, :, :, k, None], total[sample])
    return total


OPERATIONS: dict[type[ops.Node], Callable[..., Array]] = {
    ops.Conv: _conv,
    ops.Linear: _linear,
    ops.Quantize: _quantize,
    ops.Dequantize: _dequantize,
    ops.Affine: _affine,
    ops.Add: _add,
    ops.Mul: _mul,
    ops.Clamp: _clamp,
    ops.TwoSlope: _two_slope,
    ops.Abs: _abs,
    ops.Unary: _unary,
    ops.Softmax: _softmax,
    ops.MaxPool: _max_pool,
    ops.AvgPool: _avg_pool,
    ops.Mean: _mean,
    ops.Flatten: _flatten,
    ops.Concat: _concat,
    ops.PadChannels: _pad_channels,
    ops.Slice: _slice,
    ops.Upsample: _upsample,
    ops.DepthToSpace: _depth_to_space,
    ops.Rearrange: _rearrange,
    ops.MatMul: _matmul,
}
