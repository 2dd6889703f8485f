"""Tensors of a trace as views of the IR's values: transposed, reshaped, sliced and padded without a node until somebody reads them.

PyTorch's tensors have any number of axes in any order; the IR has vectors (C,) and images (C, H, W). A ``View`` says of every element of a
tensor which position of a step's value it is. Functions that only move elements (``view``, ``permute``, ``roll`` ...) make another view;
what they do is found by running them on the positions themselves. Only a reader that needs another order than the value has costs a node.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bitfold.export.steps import Call, Step
from bitfold.ir import ops

MOST_AXES = 8  # of a Rearrange


@dataclass(frozen=True, eq=False)
class View:
    """``index``: int64, the shape per sample; the position in the step's value in PyTorch's order (channel slowest), -1 for a zero."""

    step: Step
    index: np.ndarray
    path: str  # of the last function that moved elements
    batch: int = 0  # the axis of PyTorch's tensor that counts the samples
    folded: bool = False  # that axis counts the samples times ``shape[batch]``, as in (samples * heads, ...), samples slowest

    @property
    def shape(self) -> tuple[int, ...]:
        return self.index.shape

    @property
    def plain(self) -> bool:
        """The step's value as it is."""
        return self.shape == self.step.shape and _counts(self.index)

    def moved(self, index: np.ndarray, path: str, batch: int = 0, folded: bool = False) -> "View":
        """What a function makes of it whose result reads these positions of the view."""
        own = np.append(self.index.reshape(-1), -1)  # so that -1 stays a zero
        return View(self.step, own[index], path, batch, folded)

    def axis(self, dim: int) -> int:
        """The axis of a sample that is PyTorch's ``dim``; -1: that of the samples. They lie in front."""
        at = dim % (len(self.shape) + (not self.folded))
        return at - (not self.folded) if at else -1


def whole(step: Step, shape: tuple[int, ...] | None = None) -> View:
    """A step's value in PyTorch's own order, perhaps with other sizes."""
    return View(step, np.arange(math.prod(step.shape)).reshape(step.shape if shape is None else shape), step.path)


def channels_last(step: Step, axis: int, shape: tuple[int, ...]) -> View:
    """A value whose channels are the axis ``axis`` of a tensor of ``shape``, whose pixels all its other axes in order."""
    others = [n for i, n in enumerate(shape) if i != axis % len(shape)]
    index = np.arange(math.prod(shape)).reshape(shape[axis], *others)
    return View(step, np.moveaxis(index, 0, axis), step.path)


def positions(call: Call, function: Callable[[Tensor], object], view: View, samples: int) -> tuple[tuple[np.ndarray, int, bool], ...]:
    """For each tensor of the function's result: the positions of its argument that it reads (-1: it has a zero), the axis of samples, and
    whether that axis is folded.

    Raises ExportError where the result is no mere movement of each sample's own elements.
    """
    size = math.prod(view.shape)
    numbers = torch.arange(1, samples * size + 1, dtype=torch.float64).view(samples, *view.shape).movedim(0, view.batch).contiguous()
    numbers = numbers.flatten(view.batch, view.batch + 1) if view.folded else numbers
    once, twice = _several(function(numbers)), _several(function(2 * numbers))
    found = []
    for one, two in zip(once, twice, strict=True):
        at = one.numpy().astype(np.int64) if isinstance(one, Tensor) else np.zeros(0, np.int64)
        if not np.array_equal(two.numpy(), 2 * at):
            raise call.refuse(f"does more than move the elements of {view.shape} about; allowed: positions and zeros")
        axes = [axis for axis in range(at.ndim) if at.shape[axis] == samples and _counts_samples(np.moveaxis(at, axis, 0), size)]
        if axes:
            found.append((np.moveaxis(at, axes[0], 0)[0] - 1, axes[0], False))
            continue
        parted = {axis: _parted(at, axis, samples) for axis in range(at.ndim) if at.shape[axis] % samples == 0}
        folded = [axis for axis, apart in parted.items() if _counts_samples(apart, size)]
        if not folded:
            got = f"gives {at.shape} for {samples} samples of {view.shape}"
            raise call.refuse(f"mixes samples or has a batch size written into it: it {got}")
        found.append((parted[folded[0]][0] - 1, folded[0], True))
    return tuple(found)


def _parted(at: np.ndarray, axis: int, samples: int) -> np.ndarray:
    """The samples of a folded axis as the first axis."""
    return np.moveaxis(at.reshape(*at.shape[:axis], samples, -1, *at.shape[axis + 1 :]), axis, 0)


def _counts_samples(at: np.ndarray, size: int) -> bool:
    """Whether each sample reads its own elements, the same ones in all."""
    first = at[0]
    later = at - size * np.arange(len(at)).reshape(-1, *[1] * first.ndim)
    return bool(((later == first) | ((at == 0) & (first == 0))).all() and first.min(initial=0) >= 0 and first.max(initial=0) <= size)


def _several(result: object) -> tuple[Tensor, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)  # type: ignore[return-value]


def _counts(index: np.ndarray) -> bool:
    return bool((index.reshape(-1) == np.arange(index.size)).all())


class Reader:
    """Makes the values that readers ask for; the same one only once."""

    def __init__(self) -> None:
        self._made: dict[tuple[Step, tuple[int, ...], bytes], Step] = {}

    def channels(self, view: View, axis: int, pixels: tuple[int, int] | None = None) -> Step:
        """The value with that axis of the tensor as channels, all others as pixels in their order.

        (C,) for a tensor of one axis, else (C, H, W), of size ``pixels`` where that matters.
        """
        index = np.moveaxis(view.index, axis, 0)
        c, *others = index.shape
        shape = (c,) if not others else (c, others[0], 1) if len(others) == 1 else (c, math.prod(others[:-1]), others[-1])
        if pixels is not None:
            shape = (c, *pixels)
        own = view.step.shape
        free = own[0] == c and math.prod(own) == view.index.size and len(own) == len(shape) and pixels in (None, own[1:])
        if free and _counts(index):
            return view.step
        return self.value(View(view.step, index.reshape(shape), view.path))

    def free(self, view: View) -> int | None:
        """The axis that are the channels of the step's own value, so that ``channels`` costs nothing; None if there is none."""
        return next((a for a in range(len(view.shape)) if self._is_free(view, a)), None)

    @staticmethod
    def _is_free(view: View, axis: int) -> bool:
        own = view.step.shape
        same = own[0] == view.shape[axis] and math.prod(own) == view.index.size and (len(own) == 1) == (len(view.shape) == 1)
        return same and _counts(np.moveaxis(view.index, axis, 0))

    def padded(self, view: View, index: np.ndarray, path: str) -> View:
        """A view with zeros is a value at once: ``index`` are positions of ``view``, whose channels are the first axis that serves."""
        rank, free = len(view.shape), self.free(view)
        serves = rank in (1, 2, 3) and index.ndim == rank
        for axis in range(rank) if serves and free is None else [free] if serves and free is not None else []:
            others = [n for i, n in enumerate(view.shape) if i != axis]
            source = self.channels(view, axis, (others[0], others[1] if rank == 3 else 1) if others else None)
            front = np.moveaxis(channels_last(source, axis, view.shape).moved(index, path).index, axis, 0)
            parts = _separate(front if rank != 2 else front[..., None], source.shape)
            if parts is not None:
                return channels_last(_by_axes(source, path, *parts), axis, index.shape)
        raise _refuse(View(view.step, index, path), "zeros among moved elements; allowed: zeros around the elements of axes")

    def value(self, view: View) -> Step:
        """A step that has the view's elements as its own value; (C,) or (C, H, W)."""
        if view.plain:
            return view.step
        key = (view.step, view.shape, view.index.tobytes())
        if key not in self._made:
            self._made[key] = self._make(view)
        return self._made[key]

    def _make(self, view: View) -> Step:
        source, index, path = view.step, view.index, view.path
        if index.ndim == 1 and len(source.shape) == 3 and index.size == math.prod(source.shape) and _counts(index):
            return Step(ops.Flatten, path, (source,), view.shape)
        if index.ndim == len(source.shape) and (parts := _separate(index, source.shape)) is not None:
            return _by_axes(source, path, *parts)
        found = _loops(index)
        if found is None:
            return self._gathered(view)
        sizes, strides = zip(*found, strict=True)
        fields = {"shape": view.shape, "sizes": sizes, "strides": strides, "offset": int(index.flat[0])}
        return Step(ops.Rearrange, path, (source,), view.shape, fields)

    def _gathered(self, view: View) -> Step:
        """Pixels in any order, zeros among them, as of shifted windows; then perhaps other axes of them, as of heads in such windows."""
        source, channels = view.step, view.shape[0]
        size = math.prod(source.shape[1:])
        lines = view.index.reshape(channels, -1)
        starts = size * np.arange(channels)[:, None]
        whole_pixels = channels == source.shape[0] and lines[0].max() < size
        if whole_pixels and ((lines == lines[:1] + starts) | ((lines < 0) & (lines[:1] < 0))).all():
            column = View(source, np.arange(starts.size * size).reshape(channels, size, 1), f"{view.path}.pixels")
            return self._picked(column, lines[0], view.shape)
        pixels, first, number = np.unique(view.index % size, return_index=True, return_inverse=True)
        order = np.argsort(first)  # as the pixels come up
        if (view.index >= 0).all() and not _counts(pixels[order]):
            place = np.argsort(order)[number].reshape(view.shape)
            axes = view.index // size * len(pixels) + place
            if _loops(axes) is not None:
                column = View(source, np.arange(math.prod(source.shape)).reshape(source.shape[0], size, 1), f"{view.path}.pixels")
                picked = self._picked(column, pixels[order], (source.shape[0], len(pixels), 1))
                return self.value(View(picked, axes, f"{view.path}.axes"))
        rows = np.argsort(lines[0])
        column = View(source, lines[:, rows][..., None], f"{view.path}.pixels")  # a vector, say, in which pixels lie one behind the other
        if _loops(column.index) is not None and (lines == lines[:1] + (lines[:, :1] - lines[0, 0])).all():
            return self._picked(column, np.argsort(rows), view.shape)
        raise _refuse(
            view,
            f"positions that are no view with {MOST_AXES} strides, nor one of whole pixels in another order; allowed: permuted, sliced, "
            "copied or flipped axes, pixels in any order",
        )

    def _picked(self, column: View, rows: np.ndarray, shape: tuple[int, ...]) -> Step:
        """Pixels of a column (channels, pixels, 1) that a table names, in the shape that is wanted."""
        source, path = self.value(column), column.path.removesuffix(".pixels")
        tables = {"rows": rows.astype(np.int32), "columns": np.zeros(1, np.int32)}
        picked = Step(ops.Upsample, path, (source,), (source.shape[0], len(rows), 1), tables)
        return self.value(View(picked, np.arange(math.prod(shape)).reshape(shape), f"{path}.shape"))


def _refuse(view: View, reason: str) -> Exception:
    return Call(view.path, "a movement of elements", view.shape, torch.clone).refuse(f"gives {reason}")


def _separate(index: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, ...] | None:
    """The positions along each axis of the source that the axes of ``index`` read (-1: zeros), if each reads one; else None."""
    if index.size == 0:
        return None
    valid = index >= 0
    if not valid.any():
        return None
    corner = [int(i) for i in np.argwhere(valid)[0]]
    found = []
    for axis, size in enumerate(shape):
        at = [slice(i, i + 1) for i in corner]
        at[axis] = slice(None)
        line = index[tuple(at)].reshape(-1)
        found.append(np.where(line >= 0, line // math.prod(shape[axis + 1 :]) % size, -1))
    want, zero = np.zeros(index.shape, np.int64), np.zeros(index.shape, bool)
    for axis, line in enumerate(found):
        along = line.reshape([-1 if i == axis else 1 for i in range(index.ndim)])
        want, zero = want + along * math.prod(shape[axis + 1 :]), zero | (along < 0)
    return tuple(found) if np.array_equal(np.where(zero, -1, want), index) else None


def _by_axes(step: Step, path: str, channels: np.ndarray, *space: np.ndarray) -> Step:
    """Channels first, where there are fewer of them behind; then rows and columns."""
    if len(channels) <= step.shape[0]:
        return _by_space(_by_channels(step, path, channels), path, *space)
    return _by_channels(_by_space(step, path, *space), path, channels)


def _by_channels(step: Step, path: str, read: np.ndarray) -> Step:
    size, shape = step.shape[0], (len(read), *step.shape[1:])
    if np.array_equal(read, np.arange(size)):
        return step
    kept = np.flatnonzero(read >= 0)
    first, last = int(kept[0]), int(kept[-1]) + 1
    start, stop = int(read[first]), int(read[last - 1]) + 1
    if np.array_equal(read[first:last], np.arange(start, stop)):
        if (start, stop) != (0, size):
            step = Step(ops.Slice, path, (step,), (stop - start, *shape[1:]), {"start": start, "stop": stop})
        if (first, last) == (0, len(read)):
            return step
        return Step(ops.PadChannels, path, (step,), shape, {"before": first, "after": len(read) - last})
    pixels = np.arange(math.prod(step.shape)).reshape(step.shape)
    if len(kept) != len(read) or (found := _strides(pixels[read].reshape(-1))) is None:
        raise Call(path, "a movement of channels", shape, torch.clone).refuse("gives channels in an order without strides")
    sizes, strides = zip(*found, strict=True)
    fields = {"shape": shape, "sizes": sizes, "strides": strides, "offset": int(pixels[read].flat[0])}
    return Step(ops.Rearrange, path, (step,), shape, fields)


def _by_space(step: Step, path: str, *read: np.ndarray) -> Step:
    """Rows and columns: subsampled, or gathered by tables."""
    if all(np.array_equal(line, np.arange(n)) for line, n in zip(read, step.shape[1:], strict=True)):
        return step
    shape = (step.shape[0], *(len(line) for line in read))
    steps = [int(line[1]) if len(line) > 1 else n for line, n in zip(read, step.shape[1:], strict=True)]
    if all(s > 0 and np.array_equal(line, np.arange(0, n, s)) for s, line, n in zip(steps, read, step.shape[1:], strict=True)):
        return Step(ops.MaxPool, path, (step,), shape, {"kernel": (1, 1), "stride": (steps[0], steps[1])})
    rows, columns = (line.astype(np.int32) for line in read)
    return Step(ops.Upsample, path, (step,), shape, {"rows": rows, "columns": columns})


def _loops(index: np.ndarray) -> list[tuple[int, int]] | None:
    """``_strides`` of positions of elements alone, if a Rearrange can have as many."""
    found = _strides(index.reshape(-1)) if (index >= 0).all() else None
    return found if found is not None and len(found) <= MOST_AXES else None


def _strides(flat: np.ndarray) -> list[tuple[int, int]] | None:
    """(size, stride) of nested loops, slowest first, that count ``flat`` out; None if there are none."""
    if flat.size == 1:
        return [(1, 1)]
    found: list[tuple[int, int]] = []
    while flat.size > 1:
        stride = int(flat[1] - flat[0])
        breaks = np.flatnonzero(np.diff(flat) != stride)
        run = int(breaks[0]) + 1 if breaks.size else flat.size
        run = next((r for r in range(run, 1, -1) if flat.size % r == 0 and _repeats(flat, r, stride)), 0)
        if run == 0:
            return None
        found.append((run, stride))
        flat = flat[::run]
    return found[::-1]


def _repeats(flat: np.ndarray, run: int, stride: int) -> bool:
    rows = flat.reshape(-1, run)
    return bool((rows == rows[:, :1] + stride * np.arange(run)).all())
