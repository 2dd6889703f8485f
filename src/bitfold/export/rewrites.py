"""Calls that the trace writes with others, before anything is recorded of them; None: this one stays as it is."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bitfold.errors import ExportError
from bitfold.export.calls import pair


def _stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    return torch.cat([t.unsqueeze(dim) for t in tensors], dim=dim)


def _cat(tensors: Sequence[Any], dim: int = 0, *, out: None = None) -> Any:
    """Along the first axis: the samples may be on the second, as behind a ``stack`` of several outputs."""
    rank = tensors[0].ndim
    if rank < 2 or dim % rank:
        return None
    return torch.cat([t.transpose(0, 1) for t in tensors], dim=1).transpose(0, 1)


def _over_first(name: str) -> Callable[..., Any]:
    """A sum or mean over the first axis likewise."""

    def reduce(x: Any, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
        (axis,) = dim if isinstance(dim, tuple | list) and len(dim) == 1 else (dim,)
        if not isinstance(axis, int) or x.ndim < 2 or axis % x.ndim:
            return None
        y = getattr(x.transpose(0, 1), name)(1, keepdim, **kwargs)
        return y.transpose(0, 1) if keepdim else y

    return reduce


def _einsum(equation: str, *operands: Any) -> Any:
    """Of two operands: permuted axes and one ``matmul``. Letters of both that stay are its batch axes, those that go are summed over."""
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    left, _, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    letters = [*terms, out]
    if len(operands) != 2 or "->" not in equation or "." in equation or any(len(set(term)) < len(term) for term in letters):
        return None
    a, b = terms
    kept = [c for c in out if c in a and c in b]
    summed = [c for c in a if c in b and c not in out]
    own = [[c for c in term if c not in kept and c not in summed] for term in terms]
    if not summed or any(c not in out for term in own for c in term):
        return None
    size = {c: n for term, x in zip(terms, operands, strict=True) for c, n in zip(term, x.shape, strict=True)}

    def arranged(x: Any, term: str, order: list[str], tail: list[list[str]]) -> Any:
        """Axes in that order; of ``tail``'s groups those of other than one letter become one axis."""
        x = x.permute([term.index(c) for c in [*order, *(c for group in tail for c in group)]])
        if all(len(group) == 1 for group in tail):
            return x
        return x.reshape([*(size[c] for c in order), *(math.prod(size[c] for c in group) for group in tail)])

    if kept:
        y = arranged(operands[0], a, kept, [own[0], summed]) @ arranged(operands[1], b, kept, [summed, own[1]])
    else:  # axes of the first operand may stay apart
        y = arranged(operands[0], a, own[0], [summed]) @ arranged(operands[1], b, [], [summed, own[1]])
    made = [*kept, *own[0], *own[1]]
    y = y.reshape([size[c] for c in made]) if len(y.shape) != len(made) else y
    return y.permute([made.index(c) for c in out])


def _filled(name: str) -> Callable[..., Tensor | None]:
    """A method or function that reads no more than a tensor's shape and type: a constant."""

    def make(x: Any, *args: Any, **kwargs: Any) -> Tensor | None:
        if x.strange:
            return None
        function = getattr(x.now, name, None) or (lambda *a, **k: getattr(torch, name)(x.now, *a, **k))
        return function(*args, **kwargs)  # type: ignore[no-any-return]

    return make


def _power(x: Any, exponent: Any) -> Any:
    if not isinstance(exponent, int | float) or exponent not in (1, 2, 3, 4):
        return None
    y = x
    for _ in range(int(exponent) - 1):
        y = y * x
    return y


class _Maximum(NamedTuple):
    values: Any
    indices: Any


def _max(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return _Maximum(x.amax(dim, keepdim), x.argmax(dim, keepdim)) if isinstance(dim, int) else None


def _norm(x: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, out: None = None, dtype: None = None) -> Any:
    return (x * x).sum(dim, keepdim).sqrt() if p in (2, "fro") and dim is not None else None


def _pad(x: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """A border of one number is a border of zeros plus a constant."""
    if mode != "constant" or not value:
        return None
    border = F.pad(torch.zeros_like(x.now[:1]), pad, value=value)
    return F.pad(x, pad) + border


def _unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Patches of an image with its border of zeros: without it they are a mere movement of elements."""
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    return F.unfold(F.pad(x, (columns, columns, rows, rows)), kernel_size, dilation, 0, stride) if rows or columns else None


def _fold(x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Sums of overlapping patches: the transposed convolution with a weight of 1 for each element of a patch."""
    if x.ndim != 3:
        return None
    size, kernel, dilation, padding, stride = (pair(v) for v in (output_size, kernel_size, dilation, padding, stride))
    reach = [dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i] for i in (0, 1)]
    patches = [(size[i] - reach[i]) // stride[i] + 1 for i in (0, 1)]
    rest = [size[i] - reach[i] - (patches[i] - 1) * stride[i] for i in (0, 1)]
    taps = kernel[0] * kernel[1]
    channels = x.shape[1] // taps
    weight = torch.eye(taps).view(taps, 1, *kernel).repeat(channels, 1, 1, 1)
    return F.conv_transpose2d(x.unflatten(2, patches), weight, None, stride, padding, rest, channels, dilation)


def _matmul(a: Any, b: Any) -> Any:
    """The tables know data @ matrix; of matrix @ data the other way round."""
    matrix = isinstance(a, Tensor) and a.ndim == 2 and b.ndim > 2
    return (b.transpose(-1, -2) @ a.T).transpose(-1, -2) if matrix else None


def _interpolate(
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """Other than nearest and bilinear: a matrix for each axis, which is what PyTorch makes of the unit vectors."""
    axes = x.ndim - 2
    if axes not in (1, 2) or (mode in ("nearest", "nearest-exact", "bilinear") and not antialias):
        return None

    def resized(data: Tensor, size: Any, scale_factor: Any) -> Tensor:
        return F.interpolate(data, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)

    target = resized(x.now[:1, :1], size, scale_factor).shape[2:]
    factors = list(scale_factor) if isinstance(scale_factor, tuple | list) else [scale_factor] * axes
    matrices = []
    for axis, (n, m) in enumerate(zip(x.shape[2:], target, strict=True)):
        goal, other = (m, n) if size is not None else (float(factors[axis]), 1.0)
        wanted = [goal] if axes == 1 else [other, goal] if axis else [goal, other]
        eye = torch.eye(n, device=x.now.device).view(*(1,) * axes, n, n)
        made = resized(eye, *(wanted, None) if size is not None else (None, wanted))
        matrices.append(made.reshape(n, m) if axis or axes == 1 else made.reshape(m, n).T)
    y = x.now @ matrices[-1]
    y = matrices[0].T @ y if axes == 2 else y
    if not torch.allclose(y, resized(x.now, size, scale_factor), rtol=0, atol=1e-5 * float(1 + x.now.abs().max())):
        return None  # PyTorch's antialias goes wrong where an image is one pixel wide
    y = x @ matrices[-1]
    return matrices[0].T @ y if axes == 2 else y


def assigned(x: Any, key: Any, value: Any) -> Any:
    """``x`` after ``x[key] = value``: its parts and the value, put together along one axis after the other."""
    key = key if isinstance(key, tuple) else (key,)
    if Ellipsis in key:
        at = key.index(Ellipsis)
        key = (*key[:at], *(slice(None),) * (x.ndim - len(key) + 1), *key[at + 1 :])
    if not all(isinstance(k, int) or (isinstance(k, slice) and k.step in (None, 1)) for k in key):
        raise ExportError(f"export: an assignment to the items {key} of a tensor; allowed: numbers and slices without a step")
    key = (*key, *(slice(None),) * (x.ndim - len(key)))
    ranges = [(k % n, k % n + 1) if isinstance(k, int) else k.indices(n)[:2] for k, n in zip(key, x.shape, strict=True)]
    shape = x.now[key].shape
    value = value if hasattr(value, "expand") else torch.tensor(float(value))
    value = value if value.shape == shape else value.expand(shape)
    for axis in [i for i, k in enumerate(key) if isinstance(k, int)]:
        value = value.unsqueeze(axis)

    def put(part: Any, axis: int) -> Any:
        if axis == x.ndim:
            return value
        (start, stop), size = ranges[axis], x.shape[axis]
        middle = put(part.narrow(axis, start, stop - start), axis + 1) if (start, stop) != (0, size) else put(part, axis + 1)
        before = [part.narrow(axis, 0, start)] if start else []
        after = [part.narrow(axis, stop, size - stop)] if stop < size else []
        return torch.cat([*before, middle, *after], axis) if before or after else middle

    return put(x, 0)


METHODS: dict[str, Callable[..., Any]] = {
    "expand_as": lambda x, other: x.expand(other.shape),
    "reshape_as": lambda x, other: x.reshape(other.shape),
    "view_as": lambda x, other: x.view(other.shape),
    "type_as": lambda x, other: x.to(other.dtype),
    **{"matmul": _matmul, "__matmul__": _matmul, "norm": _norm, "max": _max, "pow": _power, "square": lambda x: x * x},
    **{name: _over_first(name) for name in ("sum", "mean")},
    **{name: _filled(name) for name in ("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor")},
}
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    torch.stack: _stack,
    **{torch.cat: _cat, torch.concat: _cat, torch.sum: _over_first("sum"), torch.mean: _over_first("mean")},
    torch.einsum: _einsum,
    F.pad: _pad,
    **{F.unfold: _unfold, F.fold: _fold},
    F.interpolate: _interpolate,
    **{torch.matmul: _matmul, operator.matmul: _matmul},
    torch.addcmul: lambda x, a, b, value=1, out=None: x + a * b * value,
    **{torch.pow: _power, operator.pow: _power, torch.square: METHODS["square"]},
    **{torch.norm: _norm, torch.linalg.vector_norm: _norm, torch.max: _max},
    **{getattr(torch, name): _filled(name) for name in ("zeros_like", "ones_like", "full_like")},
}
