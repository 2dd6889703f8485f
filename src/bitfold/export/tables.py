"""Which functions, methods and modules of PyTorch are known, and how each sees its operands. Anything else is refused by name."""

import inspect
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from bitfold.export import calls, cells, modules, norms, operands, resize
from bitfold.export.operands import Convert, by_pixel, of_image
from bitfold.export.steps import Call, Step
from bitfold.export.views import Reader, View, positions, whole
from bitfold.layers.activations import RPReLU, TwoSlope
from bitfold.layers.adder import AdderConv2d
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.layers.scale_map import ScaleMap
from bitfold.layers.shift_norm import ShiftNorm
from bitfold.quantizers.base import Quantizer

BATCH = 3  # samples that run while tracing: a number that no model has written into it
Handler: TypeAlias = Callable[..., Any]  # (reader, call, [module,] what the user wrote) -> a View, or several


# Handlers that also take views whose samples are folded into their first axis: to them it is one more axis of each sample.
FOLDED: set[Handler] = {
    operands.matmul,
    operands.attention,
    operands.masked_fill,
    operands.mean,
    operands.amax,
    operands.total,
    operands.cat,
}


def _folding(handle: Handler) -> Handler:
    FOLDED.add(handle)
    return handle


def _checked(call: Call, convert: Convert, *args: Any, **kwargs: Any) -> None:
    try:
        inspect.signature(convert).bind(call, *args, **kwargs)
    except TypeError as error:
        raise call.refuse(f"these arguments are not supported: {error}") from error


# ---- functions


def move(reader: Reader, call: Call, x: View, *args: Any, **kwargs: Any) -> View | tuple[View, ...]:
    """view, permute, roll ...: whatever was written, the positions that come out decide."""
    found = tuple(
        replace(reader.padded(x, index, call.path), batch=batch, folded=folded)
        if (index < 0).any()
        else x.moved(index, call.path, batch, folded)
        for index, batch, folded in positions(call, call.torch, x, BATCH)
    )
    return found if call.parts else found[0]


def pixel(convert: Convert, dim: int | None = None) -> Handler:
    """``dim`` of PyTorch's tensor are the channels; None: any axis serves."""

    def handle(reader: Reader, call: Call, x: View, *args: Any, **kwargs: Any) -> View:
        _checked(call, convert, x, *args, **kwargs)
        return by_pixel(reader, call, convert, None if dim is None else x.axis(dim), x, *args, **kwargs)

    return _folding(handle)


def image(convert: Convert) -> Handler:
    def handle(reader: Reader, call: Call, x: View, *args: Any, **kwargs: Any) -> View:
        _checked(call, convert, x, *args, **kwargs)
        return of_image(reader, call, convert, x, *args, **kwargs)

    return handle


def two(convert: Convert) -> Handler:
    def handle(reader: Reader, call: Call, a: Any, b: Any, **kwargs: Any) -> View:
        _checked(call, convert, a, b, **kwargs)
        return operands.arithmetic(reader, call, convert, a, b, **kwargs)

    return _folding(handle)


def softmax(reader: Reader, call: Call, x: View, dim: int | None = None, _stacklevel: int = 3, dtype: object = None) -> View:
    axis = x.axis(dim) if dim is not None else -1
    if axis < 0 or dtype is not None:
        raise call.refuse(f"dim={dim}, dtype={dtype}; allowed: an axis of the sample (1 to {len(x.shape)}), no dtype")
    return by_pixel(reader, call, calls.softmax, axis, x)


def normalize(reader: Reader, call: Call, x: View, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> View:
    axis = x.axis(dim)
    if p != 2 or axis < 0:
        raise call.refuse(f"p={p}, dim={dim}; allowed: p=2, an axis of the sample")
    return by_pixel(reader, call, norms.unit_length, axis, x, eps)


# ---- modules: with what a converter gets in front of its operand


def _of_module(lift: Callable[[Convert], Handler], convert: Handler) -> Handler:
    def handle(reader: Reader, call: Call, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        def bound(inner: Call, x: Step, *more: Any, **options: Any) -> Any:
            _checked(inner, convert, module, x, *more, **options)
            return convert(inner, module, x, *more, **options)

        return lift(bound)(reader, call, *args, **kwargs)

    return handle


def _images(convert: Handler) -> Handler:
    return _of_module(image, convert)


def _pixels(convert: Handler, dim: int | None = None) -> Handler:
    return _folding(_of_module(lambda bound: pixel(bound, dim), convert))


def _moves(reader: Reader, call: Call, module: nn.Module, x: View, *args: Any) -> Any:
    return move(reader, call, x)


FOLLOWED = (nn.Fold, nn.Unfold, nn.Upsample)  # modules of PyTorch's whose forward is known, rather than themselves
MOVES = (move, _moves)  # which leave the batch where it is, or say where they put it


def _own_axis(convert: Handler) -> Handler:
    """For modules that may have channels: ``channel_axis`` says which axis, without it they have none."""

    def handle(reader: Reader, call: Call, module: nn.Module, x: View) -> View:
        axis = getattr(module, "channel_axis", None)
        return by_pixel(
            reader, call, lambda inner, s: convert(inner, module, s), x.axis(axis) if axis is not None and axis > 0 else axis, x
        )

    return _folding(handle)


def _prelu(reader: Reader, call: Call, module: nn.PReLU, x: View) -> View:
    axis = None if module.num_parameters == 1 else x.axis(1)
    return by_pixel(reader, call, lambda inner, s: calls.prelu(inner, s, module.weight), axis, x)


def _cell(convert: Handler) -> Handler:
    """A recurrent cell: vectors in, vectors out."""

    def value(reader: Reader, given: Any) -> Any:
        if isinstance(given, tuple | list):
            return type(given)(value(reader, item) for item in given)
        return reader.value(given) if isinstance(given, View) else given

    def handle(reader: Reader, call: Call, module: nn.Module, x: View, state: Any = None) -> Any:
        made = convert(call, module, reader.value(x), value(reader, state))
        return tuple(whole(step) for step in made) if isinstance(made, tuple) else whole(made)

    return handle


def _softmax(reader: Reader, call: Call, module: nn.Softmax, x: View) -> View:
    return softmax(reader, call, x, module.dim)


def _log_softmax(reader: Reader, call: Call, module: nn.Module, x: View) -> View:
    raise call.refuse(REFUSED["log_softmax"])


FOLDED |= {softmax, _softmax, _prelu, normalize}


def handler(module: nn.Module) -> Handler | None:
    """The handler of a module; None if its class, or a forward of its own, is not known."""
    for known, handle in MODULES.items():
        if isinstance(module, known) and (known is Quantizer or type(module).forward is known.forward):
            return handle
    return None


def names() -> list[str]:
    return sorted(known.__name__ for known in MODULES)


MODULES: dict[Any, Handler] = {
    Quantizer: _own_axis(modules.quantizer),
    AdderConv2d: _images(modules.conv),
    QuantConv2d: _images(modules.conv),
    QuantLinear: _pixels(modules.linear, -1),
    nn.Conv2d: _images(modules.conv),
    nn.Linear: _pixels(modules.linear, -1),
    nn.BatchNorm1d: _pixels(modules.batch_norm, 1),
    nn.BatchNorm2d: _pixels(modules.batch_norm, 1),
    nn.LayerNorm: _pixels(lambda call, m, x: norms.layer_norm(call, x, m.normalized_shape, m.weight, m.bias, m.eps), -1),
    nn.RMSNorm: _pixels(lambda call, m, x: norms.rms_norm(call, x, m.normalized_shape, m.weight, m.eps), -1),
    nn.GroupNorm: _images(lambda call, m, x: norms.group_norm(call, x, m.num_groups, m.weight, m.bias, m.eps)),
    nn.InstanceNorm2d: _images(norms.instance_norm),
    ShiftNorm: _pixels(modules.shift_norm, 1),
    nn.ReLU: _pixels(lambda call, m, x: calls.relu(call, x)),
    nn.ReLU6: _pixels(lambda call, m, x: calls.relu6(call, x)),
    nn.Hardtanh: _pixels(lambda call, m, x: calls.hardtanh(call, x, m.min_val, m.max_val)),
    nn.LeakyReLU: _pixels(lambda call, m, x: calls.leaky_relu(call, x, m.negative_slope)),
    nn.PReLU: _prelu,
    nn.Sigmoid: _pixels(lambda call, m, x: calls.unary("sigmoid")(call, x)),
    nn.Tanh: _pixels(lambda call, m, x: calls.unary("tanh")(call, x)),
    nn.SiLU: _pixels(lambda call, m, x: calls.unary("silu")(call, x)),
    nn.GELU: _pixels(lambda call, m, x: calls.gelu(call, x, approximate=m.approximate)),
    nn.Hardsigmoid: _pixels(lambda call, m, x: calls.unary("hardsigmoid")(call, x)),
    nn.Hardswish: _pixels(lambda call, m, x: calls.unary("hardswish")(call, x)),
    TwoSlope: _own_axis(modules.two_slope),
    RPReLU: _own_axis(modules.rprelu),
    ScaleMap: _images(modules.scale_map),
    nn.LSTMCell: _cell(cells.lstm),
    nn.GRUCell: _cell(cells.gru),
    nn.Conv1d: _images(modules.conv),
    nn.MaxPool1d: _images(modules.max_pool1d),
    nn.AvgPool1d: _images(modules.avg_pool1d),
    nn.AdaptiveAvgPool1d: _images(lambda call, m, x: calls.adaptive_avg_pool2d(call, x, m.output_size)),
    nn.AdaptiveMaxPool1d: _images(lambda call, m, x: calls.adaptive_max_pool2d(call, x, m.output_size, m.return_indices)),
    nn.MaxPool2d: _images(modules.max_pool),
    nn.AvgPool2d: _images(modules.avg_pool),
    nn.AdaptiveAvgPool2d: _images(lambda call, m, x: calls.adaptive_avg_pool2d(call, x, m.output_size)),
    nn.AdaptiveMaxPool2d: _images(lambda call, m, x: calls.adaptive_max_pool2d(call, x, m.output_size, m.return_indices)),
    nn.PixelShuffle: _images(lambda call, m, x: resize.pixel_shuffle(call, x, m.upscale_factor)),
    nn.ConvTranspose2d: _images(resize.conv_transpose),
    nn.Softmax: _softmax,
    nn.LogSoftmax: _log_softmax,
    **dict.fromkeys((nn.Flatten, nn.Unflatten, nn.Identity, nn.ChannelShuffle, nn.PixelUnshuffle), _moves),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout), _moves),
    **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d, nn.CircularPad1d, nn.CircularPad2d), _moves),
    **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d), _moves),
}

_MOVED = (
    *("flatten", "unflatten", "reshape", "squeeze", "unsqueeze", "permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims"),
    *(
        "chunk",
        "split",
        "tensor_split",
        "unbind",
        "select",
        "narrow",
        "flip",
        "roll",
        "tile",
        "repeat_interleave",
        "broadcast_to",
        "index_select",
    ),
)
_NAMED: dict[str, Handler] = {
    **{"relu": pixel(calls.relu), "relu_": pixel(calls.relu), "abs": pixel(calls.absolute), "neg": pixel(calls.negative)},
    **dict.fromkeys(("clamp", "clamp_", "clip"), pixel(calls.clamp)),
    **{"clamp_min": pixel(calls.clamp_min), "clamp_max": pixel(calls.clamp_max), "prelu": pixel(calls.prelu, 1)},
    **{"add": two(calls.add), "add_": two(calls.add), "sub": two(calls.sub), "mul": two(calls.mul), "mul_": two(calls.mul)},
    **{
        "div": two(calls.div),
        "matmul": operands.matmul,
        "bmm": operands.matmul,
        "mean": operands.mean,
        "sum": operands.total,
        "amax": operands.amax,
    },
    **{"softmax": softmax, "masked_fill": operands.masked_fill},
    **dict.fromkeys(("sigmoid", "sigmoid_"), pixel(calls.unary("sigmoid"))),
    **dict.fromkeys(("tanh", "tanh_"), pixel(calls.unary("tanh"))),
    **{name: pixel(calls.unary(name)) for name in ("sqrt", "rsqrt", "reciprocal")},
    **dict.fromkeys(_MOVED, move),
}
METHODS: dict[Any, Handler] = {
    **_NAMED,
    "copy_": operands.copied,
    **dict.fromkeys(("view", "contiguous", "detach", "clone", "expand", "repeat", "to", "float", "unfold"), move),
}
FUNCTIONS: dict[Any, Handler] = {
    **{getattr(torch, name): handle for name, handle in _NAMED.items() if hasattr(torch, name)},
    **{F.relu: pixel(calls.relu), F.relu6: pixel(calls.relu6), F.hardtanh: pixel(calls.hardtanh), F.leaky_relu: pixel(calls.leaky_relu)},
    **{F.prelu: pixel(calls.prelu, 1), F.sigmoid: _NAMED["sigmoid"], F.tanh: _NAMED["tanh"], F.silu: pixel(calls.unary("silu"))},
    **{F.gelu: pixel(calls.gelu), F.hardsigmoid: pixel(calls.unary("hardsigmoid")), F.hardswish: pixel(calls.unary("hardswish"))},
    **{
        F.layer_norm: pixel(norms.layer_norm, -1),
        F.rms_norm: pixel(norms.rms_norm, -1),
        F.normalize: normalize,
        F.group_norm: image(norms.group_norm),
        F.softmax: softmax,
    },
    **{
        F.conv2d: image(modules.conv_function),
        F.conv_transpose2d: image(resize.conv_transpose_function),
        F.linear: pixel(modules.linear_function, -1),
        F.batch_norm: pixel(modules.batch_norm_function, 1),
    },
    **{F.dropout: pixel(calls.dropout), F.dropout2d: pixel(calls.dropout)},
    **{F.max_pool2d: image(calls.max_pool2d), F.avg_pool2d: image(calls.avg_pool2d)},
    **{F.adaptive_avg_pool2d: image(calls.adaptive_avg_pool2d), F.adaptive_max_pool2d: image(calls.adaptive_max_pool2d)},
    **{F.interpolate: image(resize.interpolate), F.pixel_shuffle: image(resize.pixel_shuffle)},
    **{F.pad: move, F.unfold: move, F.channel_shuffle: move, F.pixel_unshuffle: move, operator.getitem: move, getattr: move},
    **{operator.add: two(calls.add), operator.sub: two(calls.sub), operator.mul: two(calls.mul), operator.truediv: two(calls.div)},
    **{operator.neg: pixel(calls.negative), operator.abs: pixel(calls.absolute), operator.matmul: operands.matmul},
    **{torch.cat: operands.cat, torch.concat: operands.cat, F.scaled_dot_product_attention: operands.attention},
}
_HEAD = "is not part of deployment: export the logits (its largest entry is the same) and apply it to the engine's output"
_STATISTIC = (
    "computes statistics of its input at inference; allowed: nn.LayerNorm and nn.RMSNorm of the last axis, nn.GroupNorm and "
    "nn.InstanceNorm2d of images, BatchNorm"
)
_MASK = "merges masks computed from the model's input (attn_mask, key_padding_mask); allowed: constants, such as buffers"
# Functions and modules that users meet often, with a reason better than "is not supported".
REFUSED: dict[str, str] = {
    **{"log_softmax": _HEAD, "argmax": _HEAD, "sign": "has no codes; use a quantiser of bitfold.quantizers in a layer's slot"},
    **{"Transformer": "is not supported; call its encoder and its decoder, which are", "additive_mask": _MASK},
    **dict.fromkeys(("instance_norm", "InstanceNorm1d"), _STATISTIC),
    **{"einsum": "is written in a way that is not supported; allowed: two operands, letters, '->', sums over letters of both"},
    **{"pow": "has an exponent other than 1, 2, 3 and 4, which are allowed"},
}
