"""Functions of tensors with any axes: each operand is brought to a value whose channels are one of the axes, as the IR needs it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from bitfold.export import calls
from bitfold.export.steps import Call, Step, TorchFunction
from bitfold.export.views import Reader, View, channels_last, whole
from bitfold.ir import ops

Convert: TypeAlias = Callable[..., Step]


def of_image(reader: Reader, call: Call, convert: Convert, x: View, *more: Any, **options: Any) -> View:
    """A function of a vector or of an image with channels first; (C, L) is the image (C, L, 1)."""
    if len(x.shape) == 2:
        inner = replace(call, shape=(*call.shape, 1), torch=lambda v: call.torch(v.flatten(2)).unsqueeze(-1))
        return whole(convert(inner, reader.channels(x, 0, (x.shape[1], 1)), *more, **options), call.shape)
    if len(x.shape) not in (1, 3):
        raise call.refuse(
            f"the input has shape {x.shape} per sample; allowed: (channels, height, width), (channels, length) or (features,)"
        )
    return whole(convert(call, reader.value(x), *more, **options), call.shape)


def by_pixel(reader: Reader, call: Call, convert: Convert, axis: int | None, x: View, *more: Any, **options: Any) -> View:
    """A function of each pixel alone; ``axis`` of the tensor are its channels, None: it treats all numbers alike."""
    rank = len(x.shape)
    axis = axis % rank if axis is not None else _free_axis(reader, x)
    source = reader.channels(x, axis)
    last = axis == rank - 1 and rank > 1
    inner = replace(call, shape=source.shape, torch=_moved(call.torch, axis, rank), channels_last=last)
    made = convert(inner, source, *more, **options)
    return channels_last(made, axis, (*x.shape[:axis], made.shape[0], *x.shape[axis + 1 :]))


def _free_axis(reader: Reader, x: View) -> int:
    free = reader.free(x)
    return free if free is not None else len(x.shape) - 1 if len(x.shape) != 3 else 0


def _moved(function: TorchFunction, axis: int, rank: int) -> TorchFunction:
    """An elementwise function of a tensor with its channels at ``axis``, for (N, C, ...)."""
    if rank == 1 or (rank == 3 and axis == 0):
        return function

    def run(x: Tensor) -> Tensor:
        apart = x.reshape(*x.shape[:2], -1, *[1] * (rank - 2)).movedim(1, 1 + axis)
        return function(apart).movedim(1 + axis, 1).reshape(x.shape)

    return run


# ---- two operands


def arithmetic(reader: Reader, call: Call, convert: Convert, a: Any, b: Any, **options: Any) -> View:
    """add, sub, mul, div of tensors, or of a tensor and a constant."""
    if isinstance(a, View) and isinstance(b, View):
        return _of_two(reader, call, convert, a, b, **options)
    first = isinstance(b, View)  # the constant
    x: View = b if first else a
    rank = len(x.shape)
    constant = _one_sample(call, a if first else b, rank)
    if convert is calls.add:
        constant = _finite(constant)
    if constant.ndim > rank + 1:
        raise call.refuse(f"the constant has shape {constant.shape}, the data {x.shape} per sample; allowed: no more axes than the data")
    shape = np.broadcast_shapes(x.shape, constant.shape[1:])
    if shape != x.shape:
        x = View(x.step, np.broadcast_to(x.index, shape), x.path)
    axis = _free_axis(reader, x)
    front = np.moveaxis(constant, axis + 1, 1)
    if math.prod(front.shape) == front.shape[1]:  # one number, or one for each channel
        own = front.reshape(1, -1, *[1] * (len(reader.channels(x, axis).shape) - 1))
        return by_pixel(reader, call, _swapped(convert, torch.tensor(own), first=first), axis, x, **options)

    def by_position(inner: Call, source: Step, line: np.ndarray) -> Step:
        return _swapped(convert, torch.tensor(line[None]), first=first)(inner, source, **options)

    return _by_position(reader, call, x, axis, by_position, constant[0])


def _swapped(convert: Convert, constant: Tensor, *, first: bool) -> Convert:
    def run(call: Call, x: Step, **options: Any) -> Step:
        return convert(call, constant, x, **options) if first else convert(call, x, constant, **options)

    return run


def _one_sample(call: Call, operand: object, rank: int) -> np.ndarray:
    """A constant operand with all axes, batch in front, which must not matter."""
    array = call.float_tensor(operand, "the other operand")
    array = array.reshape((1,) * (rank + 1 - array.ndim) + array.shape)
    if array.shape[0] != 1:
        if not (array == array[:1]).all():
            raise call.refuse("a constant operand differs from sample to sample; allowed: one for all samples")
        array = array[:1]
    return array


def _by_position(reader: Reader, call: Call, x: View, axis: int, convert: Convert, *constants: np.ndarray) -> View:
    """A function with constants for every element: the tensor as one vector, in the order in which its value lies in memory."""
    index = np.moveaxis(x.index, axis, -1)
    lines = [np.moveaxis(np.broadcast_to(c, x.shape), axis, -1).reshape(-1) for c in constants]
    flat = View(x.step, index.reshape(-1), f"{call.path}.flat")

    def by_torch(v: Tensor) -> Tensor:
        back = v.reshape(-1, *index.shape).movedim(-1, axis + 1)
        return call.torch(back).movedim(axis + 1, -1).reshape(v.shape)

    made = convert(replace(call, shape=flat.shape, torch=by_torch), reader.value(flat), *lines)
    return View(made, np.moveaxis(np.arange(index.size).reshape(index.shape), -1, axis), call.path)


def masked_fill(reader: Reader, call: Call, x: View, mask: Any, value: Any) -> View:
    """With a constant mask."""
    chosen, fill = _one_sample(call, mask, len(x.shape))[0] != 0, float(call.float_tensor(value, "the value"))
    if np.broadcast_shapes(x.shape, chosen.shape) != x.shape:
        raise call.refuse(f"shapes {x.shape} and {chosen.shape} per sample; allowed: masks that broadcast to the data")
    return _by_position(
        reader, call, x, _free_axis(reader, x), calls.affine, np.where(chosen, 0.0, 1.0), np.where(chosen, _finite(fill), 0.0)
    )


def _finite(values: Any) -> np.ndarray:
    """Minus infinity as the lowest float32: softmax makes both 0."""
    limit = float(np.finfo(np.float32).max)
    return np.clip(np.asarray(values, np.float64), -limit, limit)


def _of_two(reader: Reader, call: Call, convert: Convert, a: View, b: View, **options: Any) -> View:
    shape = call.shape
    if len(a.shape) != len(b.shape):
        raise _unlike(call, a, b)
    if a.plain and b.plain and len(shape) in (1, 3):
        large, small = (a, b) if a.shape == shape else (b, a)
        c, *space = shape
        if large.shape == shape and (small.shape in (shape, (1,) * len(shape)) or (space and small.shape in ((c, 1, 1), (1, *space)))):
            return whole(convert(call, a.step, b.step, **options))
    a, b = (View(v.step, np.broadcast_to(v.index, shape), v.path) for v in (a, b))
    axes = [free for free in (reader.free(a), reader.free(b)) if free is not None]
    axis = axes[0] if axes else len(shape) - 1
    lead = b if reader.free(a) != axis and reader.free(b) == axis else a
    own = reader.channels(lead, axis)
    pixels = (own.shape[1], own.shape[2]) if len(own.shape) == 3 else None
    steps = [own if v is lead else reader.channels(v, axis, pixels) for v in (a, b)]
    made = convert(replace(call, shape=own.shape), *steps, **options)
    return channels_last(made, axis, shape)


def _unlike(call: Call, a: View, b: View) -> Exception:
    """PyTorch would lay the samples of one beside an axis of the other."""
    return call.refuse(f"{a.shape} and {b.shape} per sample have other numbers of axes; allowed: the same number, sizes that broadcast")


def cat(reader: Reader, call: Call, tensors: Sequence[Any], dim: int = 0) -> View:
    """Data and constants along one axis, which become the channels."""
    tensors, rank = list(tensors), len(call.shape)
    data = next(t for t in tensors if isinstance(t, View))
    axis = data.axis(dim)
    if axis < 0:
        raise call.refuse(f"dim={dim} are the samples; allowed: 1 to {rank}")
    views = [t if isinstance(t, View) else _constant(reader, call, _one_sample(call, t, rank)[0], data) for t in tensors]
    own = reader.channels(views[0], axis)
    pixels = (own.shape[1], own.shape[2]) if len(own.shape) == 3 else None
    for view in views:  # one that already lies as it must says how pixels are parted
        if pixels is not None and reader.free(view) == axis:
            pixels = (view.step.shape[1], view.step.shape[2])
    steps = [reader.channels(view, axis, pixels) for view in views]
    shape = (sum(s.shape[0] for s in steps), *steps[0].shape[1:])
    return channels_last(Step(ops.Concat, call.path, tuple(steps), shape), axis, call.shape)


def copied(reader: Reader, call: Call, x: View, source: Any, non_blocking: bool = False) -> View:
    """``x.copy_(source)``: later readers of ``x`` see the source."""
    if not isinstance(source, View) or source.shape != call.shape:
        raise call.refuse("fills a tensor with constants, or with fewer elements; allowed: data of the tensor's own shape")
    return source


def _constant(reader: Reader, call: Call, array: np.ndarray, data: View) -> View:
    """A constant as a value: the IR makes values of data only, so one of the data's numbers is made 0, copied, and added to."""
    size, path = array.size, f"{call.path}.constant"
    lone = reader.value(View(data.step, np.full(1, data.index.reshape(-1)[0]), f"{path}.any"))
    zero = Step(ops.Clamp, f"{path}.zero", (lone,), (1,), {"low": 0.0, "high": 0.0}, torch=lambda x: x.clamp(0, 0))
    zeros = reader.value(View(zero, np.zeros(size, np.int64), f"{path}.zeros"))
    values = array.reshape(-1)
    ones, bias = torch.ones(size), torch.from_numpy(values).float()
    fields = {"mul": np.ones(size), "bias": values}
    return whole(Step(ops.Affine, path, (zeros,), (size,), fields, torch=lambda x: x * ones + bias), array.shape)


# ---- means and products


def mean(reader: Reader, call: Call, x: View, dim: Any = None, keepdim: bool = False, *, dtype: object = None) -> View:
    """Over any axes: those that stay are the channels."""
    rank = len(x.shape)
    axes = sorted({x.axis(d) for d in ((dim,) if isinstance(dim, int) else dim or ())})
    if not axes or axes[0] < 0 or dtype is not None:
        raise call.refuse(f"dim={dim}, dtype={dtype} of {x.shape} per sample; allowed: axes of a sample, no dtype")
    if rank == 1 and not keepdim:
        raise call.refuse("of a vector; allowed: keepdim=True")
    if rank == 1 or (x.plain and rank == 3 and axes in ([1, 2], [0]) and (keepdim or axes == [1, 2])):
        return whole(calls.mean(call, reader.value(x), tuple(a + 1 for a in axes), keepdim), call.shape)
    if rank > 1 and axes == [rank - 1] and reader.free(x) == rank - 1:
        source = reader.channels(x, rank - 1)
        return whole(Step(ops.Mean, call.path, (source,), (1, *source.shape[1:]), {"over": "channels"}), call.shape)
    source = _apart(reader, x, axes)
    return whole(Step(ops.Mean, call.path, (source,), (source.shape[0], 1, 1), {"over": "space"}), call.shape)


def amax(reader: Reader, call: Call, x: View, dim: Any = None, keepdim: bool = False) -> View:
    """Over any axes likewise: one window of pooling."""
    axes = sorted({x.axis(d) for d in ((dim,) if isinstance(dim, int) else dim or ())})
    if not axes or axes[0] < 0:
        raise call.refuse(f"dim={dim} of {x.shape} per sample; allowed: axes of a sample")
    source = _apart(reader, x, axes)
    window = {"kernel": source.shape[1:], "stride": source.shape[1:]}
    return whole(Step(ops.MaxPool, call.path, (source,), (source.shape[0], 1, 1), window), call.shape)


def _apart(reader: Reader, x: View, axes: list[int]) -> Step:
    """An image for what is taken over axes: they are its pixels, all others its channels."""
    stay = [a for a in range(len(x.shape)) if a not in axes]
    index = np.transpose(x.index, [*stay, *axes])
    size = math.prod(index.shape[: len(stay)])
    return reader.channels(View(x.step, index.reshape(size, *index.shape[len(stay) :]), x.path), 0)


def total(reader: Reader, call: Call, x: View, dim: Any = None, keepdim: bool = False, *, dtype: object = None) -> View:
    """A sum: the mean times the number of what it is taken of."""
    made = mean(reader, replace(call, path=f"{call.path}.mean"), x, dim, keepdim, dtype=dtype)
    shape, n = made.step.shape, math.prod(x.shape) // math.prod(made.shape)
    scaled = Step(ops.Affine, call.path, (made.step,), shape, {"mul": np.full(shape[0], float(n)), "bias": np.zeros(shape[0])})
    return replace(made, step=scaled, path=call.path)


def matmul(reader: Reader, call: Call, a: Any, b: Any) -> View:
    """Data times data, or data times a constant matrix."""
    if isinstance(a, View) and not isinstance(b, View):
        matrix = call.float_tensor(b, "the matrix")
        if matrix.ndim != 2:
            raise call.refuse(f"the constant has shape {matrix.shape}; allowed: data @ matrix")
        return _by_matrix(reader, call, a, matrix)
    if not isinstance(a, View) or not isinstance(b, View) or min(len(a.shape), len(b.shape)) < 2:
        raise call.refuse("allowed: data @ matrix, and data @ data of two or more axes per sample")
    if len(a.shape) != len(b.shape):
        raise _unlike(call, a, b)
    batch, (m, n) = call.shape[:-2], call.shape[-2:]
    k = a.shape[-1]
    left = np.broadcast_to(a.index, (*batch, m, k)).reshape(-1, m, k)
    right = np.broadcast_to(b.index, (*batch, k, n)).reshape(-1, k, n)
    steps = [_image(reader, v, index) for v, index in ((a, left), (b, right))]
    made = Step(ops.MatMul, call.path, tuple(steps), (n, len(left), m))
    index = np.arange(n * len(left) * m).reshape(n, len(left), m).transpose(1, 2, 0)
    return View(made, index.reshape(call.shape), call.path)


def _image(reader: Reader, x: View, index: np.ndarray) -> Step:
    """(groups, rows, columns) of a product's operand as (columns, groups, rows)."""
    if x.step.shape == index.transpose(2, 0, 1).shape and reader.free(View(x.step, index, x.path)) == 2:
        return x.step
    return reader.value(View(x.step, index.transpose(2, 0, 1), x.path))


def _by_matrix(reader: Reader, call: Call, x: View, matrix: np.ndarray) -> View:
    weight = np.ascontiguousarray(matrix.T)

    def convert(inner: Call, source: Step) -> Step:
        image = len(source.shape) == 3
        shape = (len(weight), *source.shape[1:])
        return Step(
            ops.Conv if image else ops.Linear, call.path, (source,), shape, {"weight": weight[:, :, None, None] if image else weight}
        )

    return by_pixel(reader, call, convert, -1, x)


def attention(
    reader: Reader,
    call: Call,
    query: View,
    key: View,
    value: View,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> View:
    """softmax(q k^T / sqrt(width) + mask) v, as its parts; masks are constants."""
    if dropout_p or enable_gqa or isinstance(attn_mask, View):
        raise call.refuse(f"dropout_p={dropout_p}, enable_gqa={enable_gqa}; allowed: neither, and masks that are constants")
    factor = scale if scale is not None else 1 / math.sqrt(query.shape[-1])

    def part(name: str, shape: tuple[int, ...], function: TorchFunction = torch.clone) -> Call:
        return Call(f"{call.path}.{name}", call.name, shape, function)

    scaled = by_pixel(reader, part("scale", query.shape, lambda x: x * factor), lambda c, x: calls.affine(c, x, factor, 0.0), None, query)
    turned = View(key.step, np.swapaxes(key.index, -1, -2), f"{call.path}.transpose")
    scores = matmul(reader, part("scores", (*query.shape[:-1], key.shape[-2])), scaled, turned)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None:
        kept = attn_mask if attn_mask.dtype == torch.bool else None
        masked = part("mask", scores.shape, lambda x: x.masked_fill(~kept, -math.inf) if kept is not None else x + attn_mask)
        if kept is not None:
            scores = masked_fill(reader, masked, scores, ~kept, -math.inf)
        else:
            scores = arithmetic(reader, masked, calls.add, scores, attn_mask)
    shares = by_pixel(reader, part("softmax", scores.shape), calls.softmax, -1, scores)
    return matmul(reader, call, shares, value)
