"""The step of a Conv or Linear with its fused epilogue."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from bitfold import _core
from bitfold.engine.cost import DISTANCE, Choice, Shape, choose, code_format, serving
from bitfold.engine.forced import Forced
from bitfold.engine.fuse import Product, repeated_weights
from bitfold.engine.step import Buffer, Ids, Names, Slot, Step, hwc
from bitfold.ir import ops
from bitfold.ir.arithmetic import rounded_table
from bitfold.ir.encoding import Binary, Coded, Element, Float, Uniform
from bitfold.ir.geometry import conv_classes, offset_sums, tap_counts, weight_sums
from bitfold.ir.graph import Constant, Graph
from bitfold.ir.ops import as_conv


def weight_shape(graph: Graph, node: ops.Conv | ops.Linear) -> tuple[int, int, int, int]:
    shape = graph.constants[node.weight].type.shape
    return (shape[0], shape[1], *(shape[2:] or (1, 1)))  # type: ignore[return-value]


def choice_for(graph: Graph, node: ops.Conv | ops.Linear, forced: Forced) -> Choice:
    x, weight, shape = _pair(graph, node)
    distance = node.metric == ops.DISTANCE
    family = forced.family(node.name, serving_families(graph, node), fixed=distance or isinstance(x, Float))
    if family is not None:
        return Choice(family, f"forced by {forced.by}")
    return DISTANCE if distance else choose(x, weight, shape)


def serving_families(graph: Graph, node: ops.Conv | ops.Linear) -> list[str]:
    """Every kernel family that serves a product."""
    return [DISTANCE.family] if node.metric == ops.DISTANCE else serving(*_pair(graph, node))


def _pair(graph: Graph, node: ops.Conv | ops.Linear) -> tuple[Element, Element, Shape]:
    """The encodings of the activations and of the weights, and the sizes."""
    conv, shape = as_conv(node), weight_shape(graph, node)
    x, weight = graph.types[node.x].element, graph.constants[node.weight].type.element
    is_linear, is_dilated = isinstance(node, ops.Linear), conv.dilation[1] > 1
    return x, weight, Shape(shape[1] * conv.groups, shape[0], shape[2:], conv.groups, is_linear, is_dilated)


def patch_sum_buffer(graph: Graph, product: Product, choice: Choice) -> Buffer | None:
    """The memory for S_a, where the epilogue or the kernel needs it."""
    node = product.node
    weight = graph.constants[node.weight].type.element
    base_needs = choice.family == "conv_planes" and (isinstance(weight, Binary) or (isinstance(weight, Uniform) and weight.signed))
    base_needs |= choice.family == "dense_packed" and weight.min_code < 0  # type: ignore[union-attr]
    if not base_needs and (node.epilogue is None or node.epilogue.patch_mul is None):
        return None
    height, width, _ = hwc(graph.types[node.output].shape)
    groups = as_conv(node).groups
    return Buffer("i32", (height, width, groups), groups)


def product_step(graph: Graph, product: Product, choice: Choice, sums: bool, slot: Callable[[str, str], Slot]) -> Step:
    """``slot`` names the memory of a value in a form; ``sums``: there is memory for the patch sums."""
    node, name = product.node, product.node.output
    x = slot(node.x, choice.form)
    slots: dict[str, Slot] = {}
    arguments = _scaling(graph, product) | _activation(graph, product) | _shape_arguments(graph, product, choice)
    if product.stream is not None:
        exact = not isinstance(graph.types[product.stream].element, Float)
        slots["out_i32" if exact else "out_f32"] = Slot(product.stream, "i32" if exact else "f32")
    if product.quantize is not None:
        form = codes_form(product.quantize)
        slots[f"out_{form}"] = Slot(product.quantize.output, form)
        arguments |= _thresholds(graph, product.quantize)
    if sums:
        slots["patch_sums"] = Slot(name, "sums")
    writes = tuple(slots.values())
    reads: tuple[Slot, ...] = (x,)
    if product.residual is not None:
        slots["residual"] = slot(product.residual, "f32")
        reads = (x, slots["residual"])
    shape = weight_shape(graph, node)
    height, width, _ = hwc(graph.types[name].shape)

    def emit(plan: Any, ids: Ids) -> Names:
        return plan.conv(choice.family, ids[x], **arguments, **{key: ids[s] for key, s in slots.items()})  # type: ignore[no-any-return]

    return Step(
        layer=node.name,
        op="+".join(type(n).__name__ for n in (node, *product.absorbed)),
        reads=reads,
        writes=writes,
        emit=emit,
        in_place=(slots["residual"],) if "residual" in slots and "out_f32" in slots else (),
        reason=choice.reason,
        macs=height * width * prod(shape),
        weight_bytes=graph.constants[node.weight].data.nbytes,
    )


def _shape_arguments(graph: Graph, product: Product, choice: Choice) -> dict[str, Any]:
    node = product.node
    conv, constant, shape = as_conv(node), graph.constants[node.weight], weight_shape(graph, node)
    coded, x = constant.type.element, graph.types[node.x].element
    repeats = repeated_weights(shape[0], product.copies)
    return {
        "weights": np.require(_repeated(constant, repeats), requirements=["C", "A"]).reshape(-1),
        "weight_shape": (repeats * shape[0], *shape[1:]),
        "copies": product.copies // repeats,
        "weight_format": code_format(coded) if isinstance(coded, Coded) else None,
        "x_format": code_format(x) if isinstance(x, Coded) and choice.form in ("bits", "u8") else None,
        "x_zero": x.zero_point if isinstance(x, Uniform) and node.metric == ops.DISTANCE else 0,
        "stride": conv.stride,
        "padding": conv.padding,
        "dilation": conv.dilation,
        "groups": conv.groups,
    }


def codes_form(quantize: ops.Quantize) -> str:
    """The form in which an epilogue writes codes."""
    return "bits" if isinstance(quantize.encoding, Binary) else "u8"


def _repeated(weight: Constant, times: int) -> np.ndarray:
    """Stored weights with ``times`` copies of the output channels."""
    axis = 1 if isinstance(weight.type.element, Coded) else 0  # behind the bit planes
    return weight.data if times == 1 else np.concatenate([weight.data] * times, axis=axis)


def _thresholds(graph: Graph, quantize: ops.Quantize) -> dict[str, Any]:
    constant = graph.constants[quantize.thresholds]
    kind = "f32" if isinstance(constant.type.element, Float) else "i32"
    arguments: dict[str, Any] = {f"threshold_{kind}": constant.data.reshape(-1).copy()}
    if codes_form(quantize) == "u8":
        per_channel = constant.data.shape[0] == graph.types[quantize.output].shape[0]
        arguments = {f"levels_{kind}": constant.data.reshape(-1).copy(), "levels_per_channel": per_channel}
    if quantize.descending is not None:
        arguments["descending"] = (graph.constants[quantize.descending].codes < 0).astype(np.uint8)
    return arguments


def _activation(graph: Graph, product: Product) -> dict[str, Any]:
    node = product.activation
    if node is None:
        return {}
    if isinstance(node, ops.Clamp):
        return {"clamp": clamp_bounds(node)}
    names = {"neg": node.neg, "pos": node.pos, "shift_in": node.shift_in, "shift_out": node.shift_out}
    return {key: floats(graph, name) for key, name in names.items() if name is not None}


def clamp_bounds(node: ops.Clamp) -> tuple[float, float]:
    return (-np.inf if node.low is None else node.low, np.inf if node.high is None else node.high)


def floats(graph: Graph, name: str) -> np.ndarray:
    """A float32 constant, aligned (the file's mapping need not be)."""
    return np.require(graph.constants[name].data, requirements=["C", "A"])


def _scaling(graph: Graph, product: Product) -> dict[str, Any]:
    """mul, table of T by border class, patch_mul: see the epilogue of ``ir.ops``."""
    if product.affine is not None:
        return {"mul": floats(graph, product.affine.mul), "table": floats(graph, product.affine.bias)}
    epilogue, conv, shape = product.node.epilogue, as_conv(product.node), weight_shape(graph, product.node)
    if epilogue is None:
        return {}
    height, width, _ = hwc(graph.types[conv.x].shape)

    def constant(name: str | None) -> np.ndarray:
        data = np.zeros(shape[0], np.float32) if name is None else graph.constants[name].data
        return data.astype(np.float64)[:, None, None]

    table = constant(epilogue.bias)  # (O, row classes, column classes) after broadcasting
    if epilogue.weight_mul is not None:
        sums = weight_sums(_tap_sums(graph.constants[conv.weight], shape), (height, width), conv)
        table = table + constant(epilogue.weight_mul) * sums
    if epilogue.tap_mul is not None:
        table = table + constant(epilogue.tap_mul) * tap_counts(shape, (height, width), conv)
    if epilogue.x_offset is not None:
        codes = graph.constants[conv.weight].codes.reshape(shape)
        mul = constant(epilogue.mul) if epilogue.mul is not None else 1.0
        table = table + mul * offset_sums(codes, graph.constants[epilogue.x_offset].data, (height, width), conv)
    arguments = {
        "mul": np.tile(np.ones(shape[0], np.float32) if epilogue.mul is None else floats(graph, epilogue.mul), product.copies),
        "table": np.moveaxis(rounded_table(np.tile(table, (product.copies, 1, 1)), conv.name), 0, -1).reshape(-1),
    }
    if table.shape[1:] != (1, 1):
        rows, columns = conv_classes(conv, (height, width), shape[2:])
        arguments |= {"row_class": rows.index, "col_class": columns.index}
    if epilogue.patch_mul is not None:
        arguments["patch_mul"] = np.tile(floats(graph, epilogue.patch_mul), product.copies)
    return arguments


def _tap_sums(weight: Constant, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Sums of codes over the input channels, (O, 1, KH, KW): what ``weight_sums`` needs of the weights."""
    encoding: Any = weight.type.element
    data = np.require(weight.data, requirements=["C", "A"]).reshape(-1)
    sums = _core.tap_sums(data, shape, code_format(encoding))
    return np.asarray(sums, dtype=np.int64).reshape(shape[0], 1, shape[2], shape[3])
