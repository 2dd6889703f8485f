"""Converters of functions and tensor methods. Each takes the Call, then what the user wrote; Steps stand for data, channels first."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bitfold.export.steps import Call, Step
from bitfold.ir import ops

Size = int | tuple[int, int]


def pair(value: Size) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


# ---- elementwise


def clamp(call: Call, x: Step, min: float | None = None, max: float | None = None) -> Step:  # torch's own argument names
    for bound in (min, max):
        if bound is not None and not isinstance(bound, int | float):
            raise call.refuse(f"a bound is {bound!r}; allowed: numbers")
    return call.elementwise(ops.Clamp, x, low=None if min is None else float(min), high=None if max is None else float(max))


def relu(call: Call, x: Step, inplace: bool = False) -> Step:
    return clamp(call, x, 0.0)


def relu6(call: Call, x: Step, inplace: bool = False) -> Step:
    return clamp(call, x, 0.0, 6.0)


def hardtanh(call: Call, x: Step, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Step:
    return clamp(call, x, min_val, max_val)


def clamp_min(call: Call, x: Step, min: float) -> Step:
    return clamp(call, x, min)


def clamp_max(call: Call, x: Step, max: float) -> Step:
    return clamp(call, x, None, max)


def leaky_relu(call: Call, x: Step, negative_slope: float = 0.01, inplace: bool = False) -> Step:
    return call.elementwise(ops.TwoSlope, x, neg=np.array([negative_slope], np.float64))


def prelu(call: Call, x: Step, weight: object) -> Step:
    return call.elementwise(ops.TwoSlope, x, neg=call.float_tensor(weight, "the slope").reshape(-1))


def unary(kind: str) -> Callable[..., Step]:
    """The converter of a smooth activation."""

    def convert(call: Call, x: Step, inplace: bool = False) -> Step:
        return call.step(ops.Unary, x, kind=kind)

    return convert


def gelu(call: Call, x: Step, *, approximate: str = "none") -> Step:
    return call.step(ops.Unary, x, kind="gelu" if approximate == "none" else "gelu_tanh")


def absolute(call: Call, x: Step) -> Step:
    return call.step(ops.Abs, x)


def negative(call: Call, x: Step) -> Step:
    return affine(call, x, -1.0, 0.0)


def dropout(call: Call, x: Step, p: float = 0.5, training: bool = False, inplace: bool = False) -> Step:
    if training:
        raise call.refuse("has training=True written into it; pass training=self.training")
    return x


def softmax(call: Call, x: Step) -> Step:
    return call.step(ops.Softmax, x)


# ---- arithmetic of two operands


def affine(call: Call, x: Step, mul: np.ndarray | float, bias: np.ndarray | float) -> Step:
    channels = x.shape[0]
    return call.elementwise(ops.Affine, x, mul=np.broadcast_to(mul, channels), bias=np.broadcast_to(bias, channels))


def _per_channel(call: Call, x: Step, operand: object) -> np.ndarray:
    """A constant operand as float64 of shape (1,) or (C,)."""
    array = call.float_tensor(operand, "the other operand")
    rank = len(x.shape) + 1
    shape = (1,) * (rank - array.ndim) + array.shape
    if array.ndim > rank or shape[1] not in (1, x.shape[0]) or math.prod(shape) != shape[1]:
        raise call.refuse(f"the constant operand has shape {array.shape}; allowed: one number, or one per channel ({x.shape[0]})")
    return array.reshape(-1)


def _two_data(call: Call, op: type[ops.Node], a: Step, b: Step) -> Step:
    """a and b of one shape, or one of them (C, 1, 1), (1, H, W) or, beside a vector, (1,)."""
    if a.shape != call.shape:
        a, b = b, a
    c, *space = call.shape
    if math.prod(b.shape) == 1 and len(b.shape) == len(call.shape) and c > 1:
        # the IR has no such broadcast: a column of ones copies the number to every channel
        ones = np.ones((c, *b.shape))
        b = Step(ops.Conv if space else ops.Linear, f"{call.path}.broadcast", (b,), ones.shape[: len(b.shape)], {"weight": ones})
    if a.shape != call.shape or (b.shape != a.shape and (len(space) != 2 or b.shape not in ((c, 1, 1), (1, *space)))):
        raise call.refuse(f"shapes {a.shape} and {b.shape}; allowed: equal, or one of them (C, 1, 1) or (1, H, W)")
    return call.step(op, a, b)


def add(call: Call, a: Any, b: Any, *, alpha: float = 1) -> Step:
    if alpha != 1:
        raise call.refuse(f"alpha={alpha}; allowed: 1")
    if isinstance(a, Step) and isinstance(b, Step):
        return _two_data(call, ops.Add, a, b)
    x, constant = (a, b) if isinstance(a, Step) else (b, a)
    return affine(call, x, 1.0, _per_channel(call, x, constant))


def sub(call: Call, a: Any, b: Any, *, alpha: float = 1) -> Step:
    if alpha != 1:
        raise call.refuse(f"alpha={alpha}; allowed: 1")
    if isinstance(a, Step) and isinstance(b, Step):
        minus = Step(ops.Affine, f"{call.path}.negative", (b,), b.shape, {"mul": np.full(b.shape[0], -1.0), "bias": np.zeros(b.shape[0])})
        return _two_data(call, ops.Add, a, minus)
    if isinstance(a, Step):
        return affine(call, a, 1.0, -_per_channel(call, a, b))
    return affine(call, b, -1.0, _per_channel(call, b, a))


def mul(call: Call, a: Any, b: Any) -> Step:
    if isinstance(a, Step) and isinstance(b, Step):
        return _two_data(call, ops.Mul, a, b)
    x, constant = (a, b) if isinstance(a, Step) else (b, a)
    return affine(call, x, _per_channel(call, x, constant), 0.0)


def div(call: Call, a: Any, b: Any, *, rounding_mode: str | None = None) -> Step:
    if rounding_mode is not None:
        raise call.refuse(f"rounding_mode={rounding_mode!r}; allowed: None")
    if isinstance(b, Step):  # rounded twice, where PyTorch rounds once
        return mul(call, a, Step(ops.Unary, f"{call.path}.reciprocal", (b,), b.shape, {"kind": "reciprocal"}))
    return affine(call, a, 1.0 / _per_channel(call, a, b), 0.0)


# ---- pooling and means


def _image(call: Call, x: Step) -> tuple[int, int]:
    if len(x.shape) != 3:
        raise call.refuse(f"the input has shape {x.shape} per sample; allowed: (channels, height, width)")
    return x.shape[1], x.shape[2]


def _margins(call: Call, x: Step, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int], dilation: tuple[int, int]) -> Any:
    """(top, left, bottom, right): ceil mode reaches beyond the padding at the bottom and the right."""
    size = _image(call, x)
    reach = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(call.shape[1:], stride, dilation, kernel, strict=True)]
    end = [max(p, r - n - p) for p, r, n in zip(pad, reach, size, strict=True)]
    return (*pad, *end)


def max_pool2d(
    call: Call,
    x: Step,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Step:
    if return_indices:
        raise call.refuse("return_indices=True; allowed: False")
    kernel, step = pair(kernel_size), pair(stride if stride is not None else kernel_size)
    margins = _margins(call, x, kernel, step, pair(padding), pair(dilation))
    return call.step(ops.MaxPool, x, kernel=kernel, stride=step, padding=margins, dilation=pair(dilation))


def avg_pool2d(
    call: Call,
    x: Step,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Step:
    if divisor_override is not None:
        raise call.refuse(f"divisor_override={divisor_override}; allowed: None")
    kernel, step, pad = pair(kernel_size), pair(stride if stride is not None else kernel_size), pair(padding)
    margins = _margins(call, x, kernel, step, pad, (1, 1))
    if count_include_pad and any(pad) and margins[2:] != pad:
        raise call.refuse("ceil_mode, padding and count_include_pad together, with a last window beyond the padding; drop one of them")
    return call.step(ops.AvgPool, x, kernel=kernel, stride=step, padding=margins, count_padding=count_include_pad and any(pad))


def adaptive_avg_pool2d(call: Call, x: Step, output_size: Any) -> Step:
    if call.shape[1:] == (1, 1):
        _image(call, x)
        return call.step(ops.Mean, x, over="space")
    window = _even_window(call, x)
    return call.step(ops.AvgPool, x, kernel=window, stride=window)


def adaptive_max_pool2d(call: Call, x: Step, output_size: Any, return_indices: bool = False) -> Step:
    if return_indices:
        raise call.refuse("return_indices=True; allowed: False")
    window = _even_window(call, x)
    return call.step(ops.MaxPool, x, kernel=window, stride=window)


def _even_window(call: Call, x: Step) -> tuple[int, int]:
    (h, w), (oh, ow) = _image(call, x), call.shape[1:]
    if h % oh or w % ow:
        raise call.refuse(f"{h}x{w} does not divide evenly into {oh}x{ow}; allowed: sizes that divide")
    return h // oh, w // ow


def mean(call: Call, x: Step, dim: Any = None, keepdim: bool = False, *, dtype: object = None) -> Step:
    axes = tuple(sorted(d % (len(x.shape) + 1) for d in ((dim,) if isinstance(dim, int) else dim or ())))
    if len(x.shape) == 3 and dtype is None:
        if axes == (2, 3):
            space = Step(ops.Mean, call.path, (x,), (x.shape[0], 1, 1), {"over": "space"})
            return space if keepdim else Step(ops.Flatten, f"{call.path}.flatten", (space,), call.shape, torch=call.torch)
        if axes == (1,) and keepdim:
            return call.step(ops.Mean, x, over="channels")
    if len(x.shape) == 1 and axes == (1,) and keepdim and dtype is None:
        return call.step(ops.Linear, x, weight=np.full((1, x.shape[0]), 1.0 / x.shape[0]))
    raise call.refuse(f"dim={dim}, keepdim={keepdim} of {x.shape}; allowed: over height and width, or channels with keepdim=True")


# ---- channels


def channels(call: Call, x: Step, start: int, stop: int, path: str | None = None) -> Step:
    if (start, stop) == (0, x.shape[0]):
        return x
    return Step(ops.Slice, path or call.path, (x,), (stop - start, *x.shape[1:]), {"start": start, "stop": stop})
