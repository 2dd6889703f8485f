"""Validates a graph and infers the type of every value: one rule per operation.

Every message names the node, the attribute, what came and what is allowed. Nothing here is larger than the graph: a hostile
file cannot make it allocate or run long.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from bitfold.errors import GraphError
from bitfold.ir import ops
from bitfold.ir.encoding import Accumulator, Binary, Coded, Element, Float, Uniform
from bitfold.ir.geometry import out_size
from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.pack import check_packed, packed_shape
from bitfold.ir.schema import check, short
from bitfold.ir.unary import UNARY

MAX_ELEMENTS = 1 << 31  # of one value (a sample) or constant
MAX_NODES = 1 << 14
MAX_NAME = 512  # characters
MAX_STEP = 1 << 16  # kernel, stride, dilation
MAX_DISTANCE_BITS = 8  # of activations whose L1 distance to weights is taken: engines hold them as bytes
MAX_VIEW = 8  # axes of a Rearrange
MAX_PADDING = 1 << 10  # so that a padded copy of a small image stays small


def infer(graph: Graph) -> dict[str, TensorType]:
    """The type of every value, inputs included, in the order of definition. GraphError if anything is wrong."""
    _check_outside(graph)
    types: dict[str, TensorType] = {}
    for name, tensor in graph.inputs.items():
        with _inside("input", name):
            _check_input(tensor)
        types[name] = tensor
    thresholds = {node.thresholds for node in graph.nodes if isinstance(node, ops.Quantize) and isinstance(node.thresholds, str)}
    for name, constant in graph.constants.items():
        with _inside("constant", name):
            _check_constant(constant, name in thresholds)

    layers: set[str] = set()
    used: set[str] = set()
    for node in graph.nodes:
        types[node.output] = infer_node(node, types, graph.constants)
        if node.name in layers:
            raise GraphError(f"{type(node).__name__} {node.name!r}: name is taken by an earlier node; allowed: unique names")
        layers.add(node.name)
        used.update(ops.constant_names(node))

    if unused := graph.constants.keys() - used:
        raise GraphError(f"constant {min(unused)!r} is used by no node")
    for name in graph.outputs:
        if name in graph.inputs or name not in types:
            raise GraphError(f"output {name!r} is not made by a node")
    return types


def infer_node(node: ops.Node, types: Mapping[str, TensorType], constants: Mapping[str, Constant]) -> TensorType:
    """The type of the value that one node makes from the values defined so far. GraphError if anything about it is wrong."""
    if type(node) not in RULES:
        raise GraphError(f"node {short(node)}: {type(node).__name__} is not an operation; allowed: {', '.join(ops.OPS)}")
    scope = _Scope(types, constants, node)
    with _inside(type(node).__name__, node.name):
        check(node, type(node))
        _check_node_names(scope)
        result = RULES[type(node)](node, scope)
        _check_shape(result.shape, (1, 3))
    return result


@contextmanager
def _inside(kind: str, name: Any) -> Iterator[None]:
    """Puts the place in front of an error's text."""
    try:
        yield
    except GraphError as error:
        raise GraphError(f"{kind} {short(name)}: {error}") from None


# ---- what is checked before the nodes -----------------------------------------------------------------------------------------


def _check_outside(graph: Graph) -> None:
    """Names, counts and free text."""
    for key, text in graph.metadata.items():
        with _inside("metadata", key):
            _check_text(key)
            _check_text(text)
    for what, items in (("inputs", graph.inputs), ("nodes", graph.nodes), ("outputs", graph.outputs)):
        if not 1 <= len(items) <= MAX_NODES:
            raise GraphError(f"graph has {len(items)} {what}; allowed: 1 to {MAX_NODES}")
    for kind, names in (("graph", [graph.name]), ("input", graph.inputs), ("constant", graph.constants), ("output", graph.outputs)):
        for name in names:
            _check_name(kind, name)
    if len(set(graph.outputs)) != len(graph.outputs):
        raise GraphError("outputs: a name stands twice")
    if both := graph.inputs.keys() & graph.constants.keys():
        raise GraphError(f"{short(min(both))} is both an input and a constant")


def _check_name(kind: str, name: Any) -> None:
    """Names are printed and are keys of the file's tensor table, where "__metadata__" is taken; see ``ir.shorthand`` for dot and brace."""
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= MAX_NAME
        or not name.isprintable()
        or name.startswith(("__", "."))
        or name[-1] == "}"
    ):
        allowed = f"1 to {MAX_NAME} printable characters that begin with neither a dot nor two underscores and do not end in a brace"
        raise GraphError(f"{kind} name {short(name)}: allowed: {allowed}")


def _check_text(text: Any) -> None:
    check(text, str)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GraphError(f"not valid Unicode: {error.reason}") from None


def _check_shape(shape: tuple[int, ...], ranks: tuple[int, ...]) -> None:
    if len(shape) not in ranks or min(shape) < 1 or prod(shape) > MAX_ELEMENTS:
        raise GraphError(
            f"shape is {short(shape)}; allowed: rank {' or '.join(map(str, ranks))}, sizes of 1 or more, {MAX_ELEMENTS} elements at most"
        )


def _check_input(tensor: TensorType) -> None:
    check(tensor, TensorType)
    _check_shape(tensor.shape, (1, 3))
    if isinstance(tensor.element, Accumulator):
        raise GraphError("element is Accumulator; allowed: Float or an encoding with codes")
    _check_scalar_scale(tensor.element)


def _check_scalar_scale(element: Element) -> None:
    """Activations have one scale and offset; only weights may have one per output channel."""
    for part in ("scale", "offset"):
        if isinstance(getattr(element, part, 0.0), tuple):
            raise GraphError(f"{part} of {type(element).__name__} is per channel; allowed for activations: one number")


def _check_constant(constant: Constant, is_threshold: bool) -> None:
    check(constant.type, TensorType)
    shape, element, data = constant.type.shape, constant.type.element, constant.data
    coded = not isinstance(element, (Float, Accumulator))
    _check_shape(shape, (1, 2, 4))
    stored = packed_shape(shape, element) if coded else shape  # type: ignore[arg-type]
    dtype = np.dtype(np.uint8 if coded else np.float32 if isinstance(element, Float) else np.int32)
    if not isinstance(data, np.ndarray) or data.dtype != dtype or data.shape != stored or not data.flags.c_contiguous:
        got = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise GraphError(f"data is {got}; allowed: contiguous {dtype} {stored} for {type(element).__name__} {shape}")
    if coded:
        _check_codes(constant)
    else:
        _check_numbers(constant, is_threshold)


def _check_codes(constant: Constant) -> None:
    for part in ("scale", "offset"):
        value = getattr(constant.type.element, part)
        if isinstance(value, tuple) and len(value) != constant.type.shape[0]:
            raise GraphError(f"{part} has {len(value)} entries; allowed: 1 or {constant.type.shape[0]}")
    check_packed(constant.data, constant.type)


def _check_numbers(constant: Constant, is_threshold: bool) -> None:
    data, element = constant.data, constant.type.element
    low, high = data.min(), data.max()  # NaN if any entry is NaN
    if isinstance(element, Accumulator):
        if not max(-int(low), int(high)) <= element.bound <= 1 << 31:
            raise GraphError(f"entries {low} to {high} with bound {element.bound}; allowed: |entry| <= bound <= 2^31")
    elif np.isnan(low) or (not is_threshold and not (np.isfinite(low) and np.isfinite(high))):
        raise GraphError("an entry is not finite; allowed: finite numbers (thresholds may be +-inf)")
    if is_threshold and data.ndim == 2 and not (data[:, 1:] >= data[:, :-1]).all():
        raise GraphError("thresholds of a row do not rise")


def _check_node_names(scope: "_Scope") -> None:
    node = scope.node
    for kind, name in (("node", node.name), ("value", node.output)):
        _check_name(kind, name)
    if node.output in scope.types or node.output in scope.constants:
        raise scope.error("output", f"{node.output!r} is already defined", "unique names")
    for name in ops.input_names(node):
        if name not in scope.types:
            raise scope.error("inputs", f"{name!r} is not defined before this node", "inputs and outputs of earlier nodes")
    for name in ops.constant_names(node):
        if name not in scope.constants:
            raise scope.error("constants", f"{name!r} does not exist", "names of constants")


# ---- rules ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scope:
    """What a rule sees: the node with its inputs' types and constants."""

    types: Mapping[str, TensorType]
    constants: Mapping[str, Constant]
    node: Any  # the rule's operation

    def error(self, attribute: str, got: str, allowed: str) -> GraphError:
        return GraphError(f"{attribute} {got}; allowed: {allowed}")

    def input(self, field: str = "x", *, rank: int | None = None) -> TensorType:
        tensor = self.types[getattr(self.node, field)]
        if rank is not None and len(tensor.shape) != rank:
            raise self.error(field, f"has shape {tensor.shape}", "an image (C, H, W)" if rank == 3 else "a vector (C,)")
        return tensor

    def float_input(self, field: str = "x", *, rank: int | None = None) -> TensorType:
        tensor = self.input(field, rank=rank)
        if not isinstance(tensor.element, Float):
            raise self.error(field, f"is {_kind(tensor.element)}", "float32; insert Dequantize after codes, Affine after accumulators")
        return tensor

    def range(self, attribute: str, values: tuple[int, ...], low: int, high: int = MAX_STEP) -> None:
        if not all(low <= value <= high for value in values):
            raise self.error(attribute, f"is {values if len(values) > 1 else values[0]}", f"{low} to {high}")

    def floats(self, attribute: str, name: str | None, *shapes: tuple[int, ...]) -> None:
        """A float32 constant (or None) of one of the shapes."""
        if name is None:
            return
        tensor = self.constants[name].type
        if not isinstance(tensor.element, Float) or tensor.shape not in shapes:
            allowed = " or ".join(map(str, shapes))
            raise self.error(attribute, f"{name!r} is {_kind(tensor.element)} {tensor.shape}", f"float32 {allowed}")


def _kind(element: Element) -> str:
    return {Float: "float32", Accumulator: "int32"}.get(type(element), f"{type(element).__name__} codes")


def _largest(element: Coded) -> int:
    return max(-element.min_code, element.max_code)


def _farthest(x: Coded, weight: Coded) -> int:
    """The largest |c_w - c_a|."""
    return max(x.max_code - weight.min_code, weight.max_code - x.min_code)


def _check_distance(s: _Scope, x: Element, weight: Element) -> None:
    """Distances of codes are distances of values only if both have one scale (which epilogues hold) and one code of the value 0."""
    if not isinstance(x, Uniform) or x.bits > MAX_DISTANCE_BITS:
        got = f"{x.bits}-bit Uniform codes" if isinstance(x, Uniform) else _kind(x)
        raise s.error("x", f"is {got} but the metric is {ops.DISTANCE!r}", f"Uniform codes of 1 to {MAX_DISTANCE_BITS} bits")
    if not isinstance(weight, Uniform):
        raise s.error("weight", f"is {_kind(weight)} but the metric is {ops.DISTANCE!r}", "Uniform codes")
    if weight.zero_point != x.zero_point:
        got = f"has the zero point {weight.zero_point} but x has {x.zero_point} and the metric is {ops.DISTANCE!r}"
        raise s.error("weight", got, "equal zero points")


def _levels(encoding: Coded) -> int:
    return 1 << encoding.bits if isinstance(encoding, Uniform) else len(encoding.alphabet())


def _core(s: _Scope, taps: int, out_channels: int) -> Element:
    """Element type of Conv and Linear: the sum over x and weight with ``taps`` terms, and the epilogue."""
    x, weight = s.types[s.node.x].element, s.constants[s.node.weight].type.element
    if s.node.metric not in (ops.PRODUCT, ops.DISTANCE):
        raise s.error("metric", f"is {short(s.node.metric)}", f"{ops.PRODUCT!r} or {ops.DISTANCE!r}")
    distance = s.node.metric == ops.DISTANCE
    if distance:
        _check_distance(s, x, weight)
    if isinstance(x, Accumulator):
        raise s.error("x", "is int32", "float32 or codes; insert Quantize or Affine")
    if isinstance(weight, Accumulator):
        raise s.error("weight", "is int32", "float32 or codes")
    if isinstance(weight, Float) and not isinstance(x, Float):
        raise s.error("weight", f"is float32 but x is {_kind(x)}", "codes with codes; insert Dequantize before this node")
    exact = not isinstance(x, Float) and not isinstance(weight, Float)
    epilogue = s.node.epilogue
    for field in ("mul", "bias", "patch_mul", "weight_mul", "tap_mul", "x_offset") if epilogue else ():
        name = getattr(epilogue, field)
        if name is not None and not exact and field not in ("mul", "bias"):
            raise s.error(f"epilogue.{field}", f"is {name!r} but x is {_kind(x)}", "None unless x and weight both have codes")
        if name is not None and distance and field not in ("mul", "bias"):
            raise s.error(
                f"epilogue.{field}", f"is {name!r} but the metric is {ops.DISTANCE!r}", "None: distances have no offsets to correct"
            )
        s.floats(f"epilogue.{field}", name, s.types[s.node.x].shape[:1] if field == "x_offset" else (out_channels,))
    if not exact:
        return Float()
    bound = taps * (_farthest(x, weight) if distance else _largest(x) * _largest(weight))  # type: ignore[arg-type]
    if bound >= 1 << 31:
        raise s.error("weight", f"and x make accumulators up to {bound}", "less than 2^31; use fewer bits or channels")
    return Float() if epilogue is not None else Accumulator(bound)


def _conv(node: ops.Conv, s: _Scope) -> TensorType:
    channels, *size = s.input(rank=3).shape
    weight = s.constants[node.weight].type.shape
    if len(weight) != 4:
        raise s.error("weight", f"{node.weight!r} has shape {weight}", "(O, C / groups, KH, KW)")
    out_channels, in_channels, *kernel = weight
    s.range("stride", node.stride, 1)
    s.range("padding", node.padding, 0, MAX_PADDING)
    s.range("dilation", node.dilation, 1)
    s.range("kernel", tuple(kernel), 1)
    if node.groups < 1 or channels % node.groups or out_channels % node.groups:
        raise s.error("groups", f"is {node.groups}", f"divisors of both {channels} input and {out_channels} output channels")
    if in_channels != channels // node.groups:
        raise s.error("weight", f"{node.weight!r} has {in_channels} input channels", f"{channels // node.groups} (C / groups)")
    out = [out_size(size[i], kernel[i], node.stride[i], node.padding[i], node.padding[i], node.dilation[i]) for i in (0, 1)]
    if min(out) < 1:
        raise s.error("weight", f"kernel {tuple(kernel)} does not fit into the padded input {tuple(size)}", "kernels that fit")
    return TensorType((out_channels, *out), _core(s, prod(weight[1:]), out_channels))


def _linear(node: ops.Linear, s: _Scope) -> TensorType:
    (channels,) = s.input(rank=1).shape
    weight = s.constants[node.weight].type.shape
    if len(weight) != 2 or weight[1] != channels:
        raise s.error("weight", f"{node.weight!r} has shape {weight}", f"(O, {channels})")
    return TensorType((weight[0],), _core(s, channels, weight[0]))


def _quantize(node: ops.Quantize, s: _Scope) -> TensorType:
    x = s.input()
    if not isinstance(x.element, (Float, Accumulator)):
        raise s.error("x", f"is {_kind(x.element)}", "float32 or int32; insert Dequantize")
    _check_scalar_scale(node.encoding)
    thresholds = s.constants[node.thresholds].type
    shapes = [(rows, _levels(node.encoding) - 1) for rows in (x.shape[0], 1)]
    if type(thresholds.element) is not type(x.element) or thresholds.shape not in shapes:
        got = f"{node.thresholds!r} is {_kind(thresholds.element)} {thresholds.shape}"
        raise s.error("thresholds", got, f"{_kind(x.element)} {shapes[0]} or {shapes[1]}")
    if node.descending is not None:
        flags = s.constants[node.descending].type
        if not isinstance(flags.element, Binary) or flags.shape != (x.shape[0],):
            got = f"{node.descending!r} is {_kind(flags.element)} {flags.shape}"
            raise s.error("descending", got, f"Binary codes ({x.shape[0]},)")
    return TensorType(x.shape, node.encoding)


def _dequantize(node: ops.Dequantize, s: _Scope) -> TensorType:
    x = s.input()
    if isinstance(x.element, (Float, Accumulator)):
        raise s.error("x", f"is {_kind(x.element)}", "codes")
    return TensorType(x.shape, Float())


def _affine(node: ops.Affine, s: _Scope) -> TensorType:
    x = s.input()
    if not isinstance(x.element, (Float, Accumulator)):
        raise s.error("x", f"is {_kind(x.element)}", "float32 or int32; insert Dequantize")
    s.floats("mul", node.mul, x.shape[:1])
    s.floats("bias", node.bias, x.shape[:1])
    return TensorType(x.shape, Float())


def _add_or_mul(node: ops.Add | ops.Mul, s: _Scope) -> TensorType:
    a, b = s.float_input("a"), s.float_input("b")
    shapes = [a.shape]
    if len(a.shape) == 3:
        shapes += [(a.shape[0], 1, 1), (1, *a.shape[1:])]
    if b.shape not in shapes:
        raise s.error("b", f"has shape {b.shape}", " or ".join(map(str, shapes)))
    return a


def _clamp(node: ops.Clamp, s: _Scope) -> TensorType:
    if node.low is not None and node.high is not None and node.low > node.high:
        raise s.error("low", f"is {node.low}, above high, which is {node.high}", "low <= high")
    return s.float_input()


def _two_slope(node: ops.TwoSlope, s: _Scope) -> TensorType:
    x = s.float_input()
    for field in node.CONSTANTS:
        s.floats(field, getattr(node, field), x.shape[:1], (1,))
    return x


def _float_to_float(node: ops.Node, s: _Scope) -> TensorType:
    return s.float_input()


def _unary(node: ops.Unary, s: _Scope) -> TensorType:
    if node.kind not in UNARY:
        raise s.error("kind", f"is {short(node.kind)}", ", ".join(UNARY))
    return s.float_input()


def _pooled(node: ops.MaxPool | ops.AvgPool, s: _Scope, dilation: ops.Pair) -> tuple[int, ...]:
    channels, *size = s.input(rank=3).shape
    s.range("kernel", node.kernel, 1)
    s.range("stride", node.stride, 1)
    s.range("padding", node.padding, 0, MAX_PADDING)
    s.range("dilation", dilation, 1)
    out = []
    for i in (0, 1):
        before, after, reach = node.padding[i], node.padding[i + 2], dilation[i] * (node.kernel[i] - 1)
        count = out_size(size[i], node.kernel[i], node.stride[i], before, after, dilation[i])
        if count < 1:
            raise s.error("kernel", f"{node.kernel} does not fit into the padded input {tuple(size)}", "kernels that fit")
        if before > reach or (count - 1) * node.stride[i] - before >= size[i] or (before and dilation[i] > size[i]):
            raise s.error("padding", f"{node.padding} leaves a window without any pixel", "windows that each hold a pixel")
        out.append(count)
    return (channels, *out)


def _max_pool(node: ops.MaxPool, s: _Scope) -> TensorType:
    return TensorType(_pooled(node, s, node.dilation), s.input().element)


def _avg_pool(node: ops.AvgPool, s: _Scope) -> TensorType:
    return TensorType(_pooled(node, s, (1, 1)), s.float_input().element)


def _mean(node: ops.Mean, s: _Scope) -> TensorType:
    channels, height, width = s.float_input(rank=3).shape
    if node.over not in ("space", "channels"):
        raise s.error("over", f"is {short(node.over)}", "'space' or 'channels'")
    return TensorType((channels, 1, 1) if node.over == "space" else (1, height, width), Float())


def _flatten(node: ops.Flatten, s: _Scope) -> TensorType:
    x = s.input(rank=3)
    return TensorType((prod(x.shape),), x.element)


def _concat(node: ops.Concat, s: _Scope) -> TensorType:
    parts = [s.types[name] for name in node.xs]
    if not parts:
        raise s.error("xs", "is empty", "one value or more")
    first = parts[0]
    for name, part in zip(node.xs, parts, strict=True):
        same_kind = part.element == first.element or (isinstance(part.element, Accumulator) and isinstance(first.element, Accumulator))
        if not same_kind or part.shape[1:] != first.shape[1:] or len(part.shape) != len(first.shape):
            raise s.error("xs", f"{name!r} is {part}", f"the element type and image size of {node.xs[0]!r}, {first}")
    element: Element = first.element
    if isinstance(element, Accumulator):
        element = Accumulator(max(part.element.bound for part in parts if isinstance(part.element, Accumulator)))
    return TensorType((sum(part.shape[0] for part in parts), *first.shape[1:]), element)


def _pad_channels(node: ops.PadChannels, s: _Scope) -> TensorType:
    x = s.float_input()
    s.range("before", (node.before,), 0, MAX_ELEMENTS)
    s.range("after", (node.after,), 0, MAX_ELEMENTS)
    return TensorType((node.before + x.shape[0] + node.after, *x.shape[1:]), Float())


def _slice(node: ops.Slice, s: _Scope) -> TensorType:
    x = s.float_input()
    if not 0 <= node.start < node.stop <= x.shape[0]:
        raise s.error("start, stop", f"are {node.start}, {node.stop}", f"0 <= start < stop <= {x.shape[0]} (C)")
    return TensorType((node.stop - node.start, *x.shape[1:]), Float())


def _upsample(node: ops.Upsample, s: _Scope) -> TensorType:
    channels, *size = s.input(rank=3).shape
    zeros = isinstance(s.input().element, Float) and node.row_weights is None
    out = [_reads(s, field, size[i], zeros) for i, field in enumerate(("rows", "columns"))]
    if (node.row_weights is None) != (node.column_weights is None):
        raise s.error("row_weights, column_weights", f"are {node.row_weights!r}, {node.column_weights!r}", "both or neither")
    for field, count in zip(("row_weights", "column_weights"), out, strict=True):
        name = getattr(node, field)
        s.floats(field, name, (count,))
        if name is not None and not (0 <= (weights := s.constants[name].data).min() <= weights.max() <= 1):
            raise s.error(field, f"{name!r} reaches from {weights.min()} to {weights.max()}", "0 to 1")
    x = s.input() if node.row_weights is None else s.float_input()
    return TensorType((channels, *out), x.element)


def _reads(s: _Scope, field: str, size: int, zeros: bool) -> int:
    """The number of positions in a table of rows or columns, all of which the image has; ``zeros``: or -1, which reads zeros."""
    name = getattr(s.node, field)
    constant = s.constants[name]
    if not isinstance(constant.type.element, Accumulator) or len(constant.type.shape) != 1:
        raise s.error(
            field, f"{name!r} is {_kind(constant.type.element)} {constant.type.shape}", "int32, one entry for each output position"
        )
    low, high = constant.data.min(), constant.data.max()
    if low < (-1 if zeros else 0) or high >= size:
        raise s.error(field, f"{name!r} reads positions {low} to {high}", f"0 to {size - 1}" + (", or -1 for zeros" if zeros else ""))
    return constant.type.shape[0]


def _depth_to_space(node: ops.DepthToSpace, s: _Scope) -> TensorType:
    channels, *size = s.float_input(rank=3).shape
    s.range("factor", node.factor, 1)
    s.range("crop", node.crop, 0)
    out = channels // prod(node.factor)
    if out < 1 or channels % prod(node.factor):
        raise s.error("factor", f"is {node.factor} but x has {channels} channels", "factors whose product divides the channels")
    if node.groups < 1 or out % node.groups:
        raise s.error("groups", f"is {node.groups}", f"divisors of {out} (output channels)")
    cut = [size[i] * node.factor[i] - node.crop[i] - node.crop[i + 2] for i in (0, 1)]
    if min(cut) < 1:
        raise s.error("crop", f"is {node.crop} and leaves nothing of {tuple(size)} times {node.factor}", "less than the image")
    return TensorType((out, *cut), Float())


def _rearrange(node: ops.Rearrange, s: _Scope) -> TensorType:
    x = s.float_input()
    _check_shape(node.shape, (1, 3))
    if not 1 <= len(node.sizes) <= MAX_VIEW or min(node.sizes) < 1 or prod(node.sizes) != prod(node.shape):
        got = f"are {short(node.sizes)} but shape is {node.shape}"
        raise s.error("sizes", got, f"1 to {MAX_VIEW} sizes of 1 or more, whose product is the shape's")
    if len(node.strides) != len(node.sizes):
        raise s.error("strides", f"are {len(node.strides)}", f"{len(node.sizes)}, one for each size")
    reach = [(size - 1) * stride for size, stride in zip(node.sizes, node.strides, strict=True)]
    low, high = (node.offset + sum(f(0, r) for r in reach) for f in (min, max))
    if low < 0 or high >= prod(x.shape):
        raise s.error("strides, offset", f"read positions {low} to {high}", f"0 to {prod(x.shape) - 1}")
    return TensorType(node.shape, Float())


def _matmul(node: ops.MatMul, s: _Scope) -> TensorType:
    (terms, groups, rows), b = s.float_input("a", rank=3).shape, s.float_input("b", rank=3).shape
    if b[1:] != (groups, terms):
        raise s.error("b", f"has shape {b}", f"(N, {groups}, {terms}) (N, G, K)")
    return TensorType((b[0], groups, rows), Float())


RULES: dict[type[ops.Node], Callable[[Any, _Scope], TensorType]] = {
    ops.Conv: _conv,
    ops.Linear: _linear,
    ops.Quantize: _quantize,
    ops.Dequantize: _dequantize,
    ops.Affine: _affine,
    ops.Add: _add_or_mul,
    ops.Mul: _add_or_mul,
    ops.Clamp: _clamp,
    ops.TwoSlope: _two_slope,
    ops.Abs: _float_to_float,
    ops.Unary: _unary,
    ops.Softmax: _float_to_float,
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
